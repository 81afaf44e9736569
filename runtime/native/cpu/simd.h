// Function multiversioning: one binary per platform, the widest vectors the machine has.
#pragma once

// The attribute needs GCC's or Clang's dispatcher and glibc's ifunc; elsewhere (aarch64: NEON is always there) the
// plain function is right. The versions are levels or features: a version by the name of a processor would serve that
// one processor alone and no newer one.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12
#define FACEMESH_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__x86_64__) && defined(__GLIBC__) && (!defined(__clang__) || __clang_major__ >= 14)
#define FACEMESH_MULTIVERSION __attribute__((target_clones("avx512bw", "avx2", "default")))
#else
#define FACEMESH_MULTIVERSION
#endif

// For the parts of a multiversioned function: compiled anew into each version.
#define FACEMESH_INLINE inline __attribute__((always_inline))
