/* Loaded before the C library (LD_PRELOAD): lets the n-th call of one kind fail once, as SQLite's tests do.

   Files count if their path begins with one of two folders; memory counts from `least_bytes` on. Nothing fails before
   `arm` is called. `counted` says how many calls of a kind there were since. Between `pause_counting(1)` and
   `pause_counting(-1)` calls of a thread pass, but for those of the device: a stand-in makes them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, RENAME, FSYNC, MEMORY, INFERENCE, DEVICE, KINDS };
enum { MOST_FILES = 4096, MOST_PATH = 4096, MOST_CALLERS = 32 };

static const int errors[KINDS] = {EACCES, EIO, ENOSPC, EIO, EIO, ENOMEM, 0, 0};
static long counts[KINDS];
static int failing_kind = -1, is_armed;
static long failing_number;
static size_t least_bytes = (size_t)-1;
static char folders[2][MOST_PATH];
static char is_counted[MOST_FILES];
static __thread int paused;
static __thread int is_asked_again;

void pause_counting(int step) { paused += step; }

/* Tell whether code of one library asks for memory, called by that of another one (NULL: by any). */
static int is_asked_by(const char *library, const char *other) {
    void *callers[MOST_CALLERS];
    Dl_info own, found;
    int is_armed_now = is_armed, is_found = 0, answer = 0;
    is_armed = 0;
    dladdr((void *)is_asked_by, &own);
    for (int number = 0, count = backtrace(callers, MOST_CALLERS); number < count; ++number) {
        if (!dladdr(callers[number], &found) || found.dli_fbase == own.dli_fbase) continue;
        if (strstr(found.dli_fname, library)) {
            is_found = 1;
            if (other) continue;
        }
        answer = is_found && (!other || strstr(found.dli_fname, other));
        break;
    }
    is_armed = is_armed_now;
    return answer;
}

void arm(const char *first, const char *second, size_t least, int kind, long number) {
    strncpy(folders[0], first, MOST_PATH - 1);
    strncpy(folders[1], second, MOST_PATH - 1);
    memset(counts, 0, sizeof counts);
    least_bytes = least;
    failing_kind = kind;
    failing_number = number;
    void *caller[1];
    backtrace(caller, 1); /* loads what it needs */
    is_armed = 1;
}

void disarm(void) { is_armed = 0; }

long counted(int kind) { return counts[kind]; }

/* Count a call; return 1 if it is the one to fail. Python asks for calls of ONNX Runtime and of the stand-in device. */
int call_fails(int kind) {
    if (!is_armed || (paused && kind != DEVICE)) return 0;
    long number = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_RELAXED);
    if (kind != failing_kind || number != failing_number) return 0;
    errno = errors[kind];
    return 1;
}

static int is_ours(const char *path) {
    char whole[MOST_PATH];
    if (!is_armed || !path) return 0;
    if (path[0] != '/' && getcwd(whole, sizeof whole / 2)) {
        strncat(whole, "/", 2);
        strncat(whole, path, sizeof whole / 2 - 2);
        path = whole;
    }
    return !strncmp(path, folders[0], strlen(folders[0])) || !strncmp(path, folders[1], strlen(folders[1]));
}

static int is_file_ours(int file) { return is_armed && file >= 0 && file < MOST_FILES && is_counted[file]; }

static void remember(int file, int ours) {
    if (file >= 0 && file < MOST_FILES) is_counted[file] = (char)ours;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int ours = is_ours(path); \
        if (ours && call_fails(OPEN)) return -1; \
        int file = real(path, flags, mode); \
        remember(file, ours); \
        return file; \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int ours = is_ours(path); \
        if (ours && call_fails(OPEN)) return -1; \
        int file = real(folder, path, flags, mode); \
        remember(file, ours); \
        return file; \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

#define OPENS_STREAM(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        int ours = is_ours(path); \
        if (ours && call_fails(OPEN)) return NULL; \
        FILE *stream = real(path, mode); \
        if (stream) remember(fileno(stream), ours); \
        return stream; \
    }
OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)

int close(int file) {
    REAL(close);
    remember(file, 0);
    return real(file);
}

#define TRANSFERS(kind, result, name, parameters, arguments) \
    result name parameters { \
        REAL(name); \
        if (is_file_ours(file) && call_fails(kind)) return -1; \
        return real arguments; \
    }
TRANSFERS(READ, ssize_t, read, (int file, void *data, size_t size), (file, data, size))
TRANSFERS(READ, ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
TRANSFERS(READ, ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
TRANSFERS(READ, ssize_t, readv, (int file, const struct iovec *parts, int count), (file, parts, count))
TRANSFERS(WRITE, ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
TRANSFERS(WRITE, ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
TRANSFERS(WRITE, ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
TRANSFERS(WRITE, ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
TRANSFERS(FSYNC, int, fsync, (int file), (file))
TRANSFERS(FSYNC, int, fdatasync, (int file), (file))

size_t fread(void *data, size_t size, size_t count, FILE *stream) {
    REAL(fread);
    if (is_file_ours(fileno(stream)) && call_fails(READ)) {
        stream->_flags |= 0x20; /* what ferror looks at */
        return 0;
    }
    return real(data, size, count, stream);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    REAL(fwrite);
    if (is_file_ours(fileno(stream)) && call_fails(WRITE)) {
        stream->_flags |= 0x20;
        return 0;
    }
    return real(data, size, count, stream);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (is_ours(to) && call_fails(RENAME)) return -1;
    return real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(renameat);
    if (is_ours(to) && call_fails(RENAME)) return -1;
    return real(from_folder, from, to_folder, to);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* Where NumPy has no memory for an array that OpenCV returns, OpenCV asks for it again, by an allocator of its own. It
   would end the process if that were given: its binding expects an array of NumPy there. A lack of memory refuses both. */
static int is_refused(size_t size) {
    if (!is_armed || size < least_bytes) return 0;
    if (is_asked_again) {
        is_asked_again = 0;
        if (is_asked_by("/cv2", NULL)) return 1;
    }
    if (!call_fails(MEMORY)) return 0;
    is_asked_again = is_asked_by("_multiarray_umath", "/cv2");
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return is_refused(size) ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) {
    return size && count < (size_t)-1 / size && is_refused(count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) { return is_refused(size) ? NULL : __libc_realloc(old, size); }

void *memalign(size_t alignment, size_t size) { return is_refused(size) ? NULL : __libc_memalign(alignment, size); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
    if (is_refused(size)) return ENOMEM;
    void *memory = __libc_memalign(alignment, size);
    if (!memory && size) return ENOMEM;
    *result = memory;
    return 0;
}
