// Function multiversioning: one binary per platform, the widest vectors the machine has.
#pragma once

// The attribute needs GCC's or Clang's dispatcher and glibc's ifunc; elsewhere (aarch64: NEON is always there) the
// plain function is right. The versions are levels or features: a version by the name of a processor would serve that
// one processor alone and no newer one.
#ifdef FACEMESH_MULTIVERSION // given from outside: ThreadSanitizer does not work in glibc's dispatcher
#elif defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12
#define FACEMESH_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__x86_64__) && defined(__GLIBC__) && (!defined(__clang__) || __clang_major__ >= 14)
#define FACEMESH_MULTIVERSION __attribute__((target_clones("avx512bw", "avx2", "default")))
#else
#define FACEMESH_MULTIVERSION
#endif

// For the parts of a multiversioned function: compiled anew into each version.
#define FACEMESH_INLINE inline __attribute__((always_inline))

// For code with vectors of fixed size, which is compiled several times: the functions between BEGIN and END may use the
// instruction set, has_… says if the machine has it.
#if defined(__x86_64__)
#define FACEMESH_X86_LEVELS
#define FACEMESH_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define FACEMESH_BEGIN(features)                                                                                       \
    FACEMESH_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define FACEMESH_END_LEVEL FACEMESH_PRAGMA(clang attribute pop)
#else
#define FACEMESH_BEGIN(features) FACEMESH_PRAGMA(GCC push_options) FACEMESH_PRAGMA(GCC target(features))
#define FACEMESH_END_LEVEL FACEMESH_PRAGMA(GCC pop_options)
#endif
#define FACEMESH_BEGIN_AVX2 FACEMESH_BEGIN("avx2,fma")
#define FACEMESH_BEGIN_AVX512 FACEMESH_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")

namespace facemesh {
inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}
} // namespace facemesh
#endif

namespace facemesh {
inline bool has_wide_vectors() { // AVX2 or more
#ifdef FACEMESH_X86_LEVELS
    return has_avx2();
#else
    return false;
#endif
}
} // namespace facemesh
