// mean + basis * coefficients for all vertices, then model units -> frame px. No include guard: coefficients.cpp
// includes this file once per instruction set, with FACEMESH_VECTOR_BYTES, the size of its vectors, in a namespace of
// its own.

typedef float Vector __attribute__((vector_size(FACEMESH_VECTOR_BYTES))); // GCC and Clang
constexpr int WIDTH = FACEMESH_VECTOR_BYTES / 4;
// Two vectors for each axis and face: enough sums at a time to hide the latency of an addition, and twelve registers
// for two faces, which every instruction set has.
constexpr int TILE = 2 * WIDTH;

FACEMESH_INLINE void load(const float *values, Vector &vector) { std::memcpy(&vector, values, sizeof vector); }

#if FACEMESH_VECTOR_BYTES == 64
// Masks that leave nothing out: GCC warns of its own header in the functions without.
FACEMESH_INLINE void load(const int16_t *values, Vector &vector) {
    const __m512i wide = _mm512_maskz_cvtepi16_epi32(0xffff, _mm256_loadu_si256((const __m256i *)values));
    vector = Vector(_mm512_maskz_cvtepi32_ps(0xffff, wide));
}
FACEMESH_INLINE void load(const int8_t *values, Vector &vector) {
    const __m512i wide = _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128((const __m128i *)values));
    vector = Vector(_mm512_maskz_cvtepi32_ps(0xffff, wide));
}
#elif FACEMESH_VECTOR_BYTES == 32
FACEMESH_INLINE void load(const int16_t *values, Vector &vector) {
    vector = Vector(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)values))));
}
FACEMESH_INLINE void load(const int8_t *values, Vector &vector) {
    vector = Vector(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)values))));
}
#endif

// weights: (FACES, count, 3). places: (FACES, 3, LANES), model units.
template <int FACES, typename Stored>
FACEMESH_INLINE void sum_tile(const Stored *basis, const float *mean, const float *weights, int count, float *places) {
    Vector sums[FACES][3][2];
    for (int face = 0; face < FACES; ++face) {
        for (int axis = 0; axis < 3; ++axis) {
            load(mean + axis * LANES, sums[face][axis][0]);
            load(mean + axis * LANES + WIDTH, sums[face][axis][1]);
        }
    }
    for (int k = 0; k < count; ++k) {
        for (int axis = 0; axis < 3; ++axis) {
            Vector left, right;
            load(basis + (3 * k + axis) * LANES, left);
            load(basis + (3 * k + axis) * LANES + WIDTH, right);
            for (int face = 0; face < FACES; ++face) {
                const float weight = weights[3 * (face * count + k) + axis];
                sums[face][axis][0] += weight * left;
                sums[face][axis][1] += weight * right;
            }
        }
    }
    for (int face = 0; face < FACES; ++face) {
        for (int axis = 0; axis < 3; ++axis) {
            std::memcpy(places + (3 * face + axis) * LANES, &sums[face][axis][0], sizeof(Vector));
            std::memcpy(places + (3 * face + axis) * LANES + WIDTH, &sums[face][axis][1], sizeof(Vector));
        }
    }
}

FACEMESH_INLINE void place(const float *places, const float *a, int count, float *out) {
#pragma omp simd
    for (int i = 0; i < count; ++i) {
        const float x = places[i], y = places[LANES + i], z = places[2 * LANES + i];
        out[3 * i] = a[0] * x + a[1] * y + a[2] * z + a[3];
        out[3 * i + 1] = a[4] * x + a[5] * y + a[6] * z + a[7];
        out[3 * i + 2] = a[8] * x + a[9] * y + a[10] * z + a[11];
    }
}

template <int FACES, typename Stored> void sum_faces(const Sums<Stored> &task, const Face *faces) {
    const int count = task.coefficient_count, group_size = 3 * LANES * count;
    float places[FACES * 3 * LANES];
    for (size_t first = 0; first < task.vertex_count; first += LANES) {
        const size_t group = first / LANES;
        if (group % GROUPS == 0 && (group == 0 || task.scales != nullptr)) {
            const float *scales = task.scales == nullptr ? nullptr : task.scales + 3 * count * (group / GROUPS);
            for (int face = 0; face < FACES; ++face) {
                for (int i = 0; i < 3 * count; ++i)
                    task.weights[3 * face * count + i] =
                        faces[face].coefficients[i / 3] * (scales == nullptr ? 1 : scales[i]);
            }
        }
#if FACEMESH_VECTOR_BYTES > 16
        const Stored *basis = task.basis + group * group_size;
#else // such short vectors are not worth code of their own: the group becomes floats that stay in the cache
        for (int i = 0; i < group_size; ++i) task.buffer[i] = float(task.basis[group * group_size + i]);
        const float *basis = task.buffer;
#endif
        for (int lane = 0; lane < LANES; lane += TILE)
            sum_tile<FACES>(basis + lane, task.mean + 3 * LANES * group + lane, task.weights, count, places + lane);
        const int points = int(task.vertex_count - first < size_t(LANES) ? task.vertex_count - first : LANES);
        for (int face = 0; face < FACES; ++face)
            place(places + 3 * face * LANES, faces[face].affine, points, faces[face].vertices + 3 * first);
    }
}
