// The inner loops behind microkernel_table.h, for one vector level. Included once by each microkernel_<level>.cpp, which is
// compiled with that level's flags and defines
//
//   FLEX_MICRO_TABLE    name of the table
//   FLEX_MICRO_LANES    f32 lanes of a vector: 4, 8 or 16
//   FLEX_MICRO_ROWS     rows of the register block
//   FLEX_MICRO_VECTORS  vectors across it
//
// Both products are C[R][V vectors] += A[R][depth] * B[depth][V vectors], with all of C in registers: one step of depth
// loads V vectors of B and R broadcast scalars of A for R * V multiply-adds. R * V must cover latency times ports (8 to
// 10), and V + R + 1 of the rest must fit beside it: 12 x 2 of 32 registers, 6 x 2 of 16.
//
// Everything has internal linkage and no header with inline functions is used: code built for one level must never be
// picked by the linker for another.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "runtime/cpu/convert.h"
#include "runtime/cpu/microkernel_table.h"

namespace flex::cpu {
namespace {

constexpr int kLanes = FLEX_MICRO_LANES;
constexpr int kRows = FLEX_MICRO_ROWS;
constexpr int kVectors = FLEX_MICRO_VECTORS;
constexpr int kWidth = kLanes * kVectors;

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef float VecUnaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef uint32_t UintVec __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfVec __attribute__((vector_size(kLanes * 2)));

struct F16 {
    uint16_t bits;
};
struct BF16 {
    uint16_t bits;
};

float widen(float x) {
    return x;
}
float widen(F16 x) {
    return f16_to_f32(x.bits);
}
float widen(BF16 x) {
    return bf16_to_f32(x.bits);
}
void narrow(float x, float* out) {
    *out = x;
}
void narrow(float x, F16* out) {
    out->bits = f32_to_f16(x);
}
void narrow(float x, BF16* out) {
    out->bits = f32_to_bf16(x);
}

Vec load(const float* p) {
    return *reinterpret_cast<const VecUnaligned*>(p);
}
void store(float* p, Vec x) {
    *reinterpret_cast<VecUnaligned*>(p) = x;
}

Vec load(const BF16* p) {
    HalfVec h;
    memcpy(&h, p, sizeof h);
    const UintVec wide = __builtin_convertvector(h, UintVec) << 16;
    Vec x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

Vec load(const F16* p) {
#if defined(__F16C__) && FLEX_MICRO_LANES == 16
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__) && FLEX_MICRO_LANES == 8
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    Vec x;
    for (int i = 0; i < kLanes; ++i) x[i] = f16_to_f32(p[i].bits);
    return x;
#endif
}

/// The first n < kLanes elements, then zeros.
template <class T>
Vec load_tail(const T* p, int n) {
    T buffer[kLanes] = {};
    for (int i = 0; i < kLanes; ++i)
        if (i < n) buffer[i] = p[i];
    return load(buffer);
}

/// Element `n` of a row in vectors, zeros past `count` elements.
template <class T>
Vec load_within(const T* row, int n, int count) {
    return count - n >= kLanes ? load(row + n) : load_tail(row + n, count - n);
}

/// All bits set in the lanes that are infinite or NaN.
IntVec not_finite(Vec x) {
    IntVec bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7f800000) == 0x7f800000;
}

bool any(IntVec x) {
    int32_t all = 0;
    for (int i = 0; i < kLanes; ++i) all |= x[i];
    return all != 0;
}

/// Calls f(T*) with the pointer typed as `type` says.
template <class F>
auto with_type(const void* data, DType type, F f) {
    if (type == DType::F16) return f(static_cast<const F16*>(data));
    if (type == DType::BF16) return f(static_cast<const BF16*>(data));
    return f(static_cast<const float*>(data));
}

// ---- packing

#if FLEX_MICRO_LANES == 16
#define FLEX_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define FLEX_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif FLEX_MICRO_LANES == 8
#define FLEX_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define FLEX_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define FLEX_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define FLEX_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

/// Transposes in place: log2(kLanes) rounds, each interleaving row i with row i + kLanes / 2.
inline void transpose(Vec (&x)[kLanes]) {
    for (int round = 1; round < kLanes; round *= 2) {
        Vec y[kLanes];
        for (int i = 0; i < kLanes / 2; ++i) {
            y[2 * i] = FLEX_ZIP_LOW(x[i], x[i + kLanes / 2]);
            y[2 * i + 1] = FLEX_ZIP_HIGH(x[i], x[i + kLanes / 2]);
        }
        for (int i = 0; i < kLanes; ++i) x[i] = y[i];
    }
}

template <class T>
void pack_keys_of(const T* k, int64_t stride, int keys, int depth, float* panels) {
    for (int key = 0; key < keys; key += kWidth) {
        float* panel = panels + static_cast<int64_t>(key) * depth;
        for (int v = 0; v < kVectors; ++v) {
            const int first = key + v * kLanes;
            const int count = keys - first < kLanes ? keys - first : kLanes;
            float* out = panel + v * kLanes;
            for (int d = 0; d < depth; d += kLanes) {
                const int columns = depth - d < kLanes ? depth - d : kLanes;
                Vec x[kLanes];
                for (int i = 0; i < kLanes; ++i) {
                    const T* row = k + (first + i) * stride + d;
                    if (i >= count)
                        x[i] = Vec{};
                    else
                        x[i] = columns == kLanes ? load(row) : load_tail(row, columns);
                }
                transpose(x);
                for (int i = 0; i < columns; ++i) store(out + static_cast<int64_t>(d + i) * kWidth, x[i]);
            }
        }
    }
}

void pack_keys(Rows k, int keys, int depth, float* panels) {
    with_type(k.data, k.type, [&](auto* data) { pack_keys_of(data, k.stride, keys, depth, panels); });
}

/// Calls f(panel, vectors across it, first column) for each panel of V: full panels, panel_stride apart, then single vectors.
template <class P, class F>
void each_value_panel(P* panels, int64_t panel_stride, int columns, F f) {
    const int vectors = (columns + kLanes - 1) / kLanes;
    int first = 0;
    for (; first + kVectors <= vectors; first += kVectors) {
        f(panels, kVectors, first * kLanes);
        panels += panel_stride;
    }
    for (; first < vectors; ++first) {
        f(panels, 1, first * kLanes);
        panels += panel_stride / kVectors;
    }
}

template <class T>
bool pack_values_of(const T* v, int64_t stride, int keys, int columns, float* panels, int64_t panel_stride, int first_key) {
    IntVec bad{};
    each_value_panel(panels, panel_stride, columns, [&](float* panel, int across, int first) {
        panel += static_cast<int64_t>(first_key) * across * kLanes;
        for (int key = 0; key < keys; ++key) {
            for (int part = 0; part < across; ++part) {
                const int column = first + part * kLanes;
                const Vec x = load_within(v + key * stride, column, columns);
                bad |= not_finite(x);
                store(panel, x);
                panel += kLanes;
            }
        }
    });
    return any(bad);
}

bool pack_values(Rows v, int keys, int columns, float* panels, int64_t panel_stride, int first_key) {
    return with_type(v.data, v.type,
                     [&](auto* data) { return pack_values_of(data, v.stride, keys, columns, panels, panel_stride, first_key); });
}

template <class T>
void load_row_of(const T* row, int n, float scale, float* out) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, load(row + i) * scale);
    for (; i < n; ++i) out[i] = widen(row[i]) * scale;
}

void load_row(const void* row, DType type, int n, float scale, float* out) {
    with_type(row, type, [&](auto* data) { load_row_of(data, n, scale, out); });
}

// ---- products of packed tiles

// An array stays in registers only if the loops over it are unrolled early; both compilers give up near a dozen rows.
#if defined(__clang__)
#define FLEX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FLEX_UNROLL _Pragma("GCC unroll 16")
#endif

/// V vectors of a panel that is kStep floats wide.
template <int R, int V, int kStep, bool kAccumulate>
void product_block(const float* a, int64_t lda, const float* b, int depth, float* c, int64_t ldc) {
    Vec acc[R][V];
    FLEX_UNROLL
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) acc[r][v] = kAccumulate ? load(c + r * ldc + v * kLanes) : Vec{};
    // Three rows share a pointer: an x86 address is base + {0, 4, 8} * lda, so fewer additions compete for issue slots.
    const float* group[(R + 2) / 3];
    FLEX_UNROLL
    for (int r = 0; r < R; r += 3) group[r / 3] = a + r * lda;
    for (int d = 0; d < depth; ++d) {
        Vec x[V];
        for (int v = 0; v < V; ++v) x[v] = load(b + v * kLanes);
        FLEX_UNROLL
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) acc[r][v] += group[r / 3][r % 3 * lda] * x[v];
        FLEX_UNROLL
        for (const float*& first : group) ++first;
        b += kStep;
    }
    FLEX_UNROLL
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
}

void fetch(Ahead& ahead) {
    for (int i = 0; i < ahead.lines_a_block && ahead.rows > 0; ++i) {
        __builtin_prefetch(ahead.row + ahead.offset, 0, 2);
        ahead.offset += 64;
        if (ahead.offset < ahead.row_bytes) continue;
        ahead.offset = 0;
        ahead.row += ahead.stride_bytes;
        --ahead.rows;
    }
}

template <int R>
struct Height {
    static constexpr int value = R;
};

/// Cuts rows into blocks of nearly equal height and calls f(first row, Height<R>) for each.
template <class F>
void each_block(int rows, F f) {
    int first = 0;
    for (int blocks = (rows + kRows - 1) / kRows; blocks > 0; --blocks) {
        const int height = (rows - first + blocks - 1) / blocks;
        switch (height) {
#define FLEX_CASE(R)                                     \
    case R:                                              \
        if constexpr (R <= kRows) f(first, Height<R>{}); \
        break
            FLEX_CASE(1);
            FLEX_CASE(2);
            FLEX_CASE(3);
            FLEX_CASE(4);
            FLEX_CASE(5);
            FLEX_CASE(6);
            FLEX_CASE(7);
            FLEX_CASE(8);
            FLEX_CASE(9);
            FLEX_CASE(10);
            FLEX_CASE(11);
            FLEX_CASE(12);
            FLEX_CASE(13);
            FLEX_CASE(14);
#undef FLEX_CASE
            default: break;
        }
        first += height;
    }
}
static_assert(kRows <= 14, "each_block lists the heights of a block");

/// One panel against all rows.
template <int V, int kStep, bool kAccumulate>
void product_panel(const float* a, int64_t lda, int rows, const float* b, int depth, float* c, int64_t ldc, Ahead& ahead) {
    each_block(rows, [&](int first, auto height) {
        fetch(ahead);
        product_block<decltype(height)::value, V, kStep, kAccumulate>(a + first * lda, lda, b, depth, c + first * ldc, ldc);
    });
}

void scores(const float* q, int64_t ldq, int rows, int depth, const float* panels, int keys, float* s, int64_t ld, Ahead& ahead) {
    for (int key = 0; key < keys; key += kWidth) {
        const float* panel = panels + static_cast<int64_t>(key) * depth;
        if (keys - key <= kLanes)  // a single vector reaches to the end
            product_panel<1, kWidth, false>(q, ldq, rows, panel, depth, s + key, ld, ahead);
        else
            product_panel<kVectors, kWidth, false>(q, ldq, rows, panel, depth, s + key, ld, ahead);
    }
}

void accumulate(Weights p, int rows, int keys, ValuePanels v, int columns, float* o, int64_t ldo, Ahead& ahead) {
    each_value_panel(v.panels, v.panel_stride, columns, [&](const float* panel, int across, int column) {
        panel += static_cast<int64_t>(v.first_key) * across * kLanes;
        if (across == kVectors)
            product_panel<kVectors, kWidth, true>(p.data, p.ld, rows, panel, keys, o + column, ldo, ahead);
        else
            product_panel<1, kLanes, true>(p.data, p.ld, rows, panel, keys, o + column, ldo, ahead);
    });
}

/// Whether a weight says "does not attend": only -0.0 does.
bool attends(float weight) {
    return float_bits(weight) != 0x80000000u;
}

void accumulate_exact(Weights p, int rows, int keys, ValuePanels v, int columns, float* o, int64_t ldo) {
    each_value_panel(v.panels, v.panel_stride, columns, [&](const float* panel, int across, int column) {
        panel += static_cast<int64_t>(v.first_key) * across * kLanes;
        for (int r = 0; r < rows; ++r) {
            for (int part = 0; part < across; ++part) {
                float* out = o + r * ldo + column + part * kLanes;
                Vec acc = load(out);
                for (int key = 0; key < keys; ++key) {
                    const float weight = p.data[r * p.ld + key];
                    if (attends(weight)) acc += weight * load(panel + (static_cast<int64_t>(key) * across + part) * kLanes);
                }
                store(out, acc);
            }
        }
    });
}

// ---- products of transposed weights

/// c[r][n] += sum over d of a[d][r] * b[d][n]: both operands are read a row a step.
template <int R, int V>
void transposed_block(const float* a, int64_t lda, const float* b, int64_t ldb, int depth, float* c, int64_t ldc) {
    Vec acc[R][V];
    FLEX_UNROLL
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) acc[r][v] = load(c + r * ldc + v * kLanes);
    for (int d = 0; d < depth; ++d) {
        Vec x[V];
        for (int v = 0; v < V; ++v) x[v] = load(b + v * kLanes);
        FLEX_UNROLL
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) acc[r][v] += a[r] * x[v];
        a += lda;
        b += ldb;
    }
    FLEX_UNROLL
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
}

template <int V>
void transposed_panel(Weights p, int rows, int keys, const float* b, int64_t ldb, float* c, int64_t ldc) {
    each_block(keys, [&](int first, auto height) {
        transposed_block<decltype(height)::value, V>(p.data + first, p.ld, b, ldb, rows, c + first * ldc, ldc);
    });
}

void accumulate_transposed(Weights p, int rows, int keys, const float* b, int64_t ldb, int columns, float* out, int64_t ldo) {
    const int vectors = (columns + kLanes - 1) / kLanes;
    int first = 0;
    for (; first + kVectors <= vectors; first += kVectors)
        transposed_panel<kVectors>(p, rows, keys, b + first * kLanes, ldb, out + first * kLanes, ldo);
    for (; first < vectors; ++first) transposed_panel<1>(p, rows, keys, b + first * kLanes, ldb, out + first * kLanes, ldo);
}

void accumulate_transposed_exact(Weights p, int rows, int keys, const float* b, int64_t ldb, int columns, float* out, int64_t ldo) {
    for (int key = 0; key < keys; ++key)
        for (int r = 0; r < rows; ++r) {
            const float weight = p.data[r * p.ld + key];
            if (!attends(weight)) continue;
            for (int c = 0; c < columns; c += kLanes)
                store(out + key * ldo + c, load(out + key * ldo + c) + weight * load(b + r * ldb + c));
        }
}

bool all_finite(const float* rows, int64_t ld, int count, int columns) {
    IntVec bad{};
    for (int r = 0; r < count; ++r)
        for (int c = 0; c < columns; c += kLanes) bad |= not_finite(load(rows + r * ld + c));
    return !any(bad);
}

float dot(const float* a, const float* b, int n) {
    Vec sum{};
    for (int i = 0; i < n; i += kLanes) sum += load(a + i) * load(b + i);
    float lanes[kLanes];
    store(lanes, sum);
    float total = 0.0f;
    for (const float lane : lanes) total += lane;
    return total;
}

// ---- products that stream K and V

/// Lane i of the result is the sum of the lanes of x[i]. Each round adds the halves of two vectors, interleaved.
inline Vec sums(Vec (&x)[kLanes]) {
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] = FLEX_ZIP_LOW(x[i], x[i + half]) + FLEX_ZIP_HIGH(x[i], x[i + half]);
    return x[0];
}

constexpr int kStreamAhead = 16;  // keys: far enough to hide memory, near enough to stay in the first level

/// Asks for element d of the row `keys` further on; rows past the end of the array cost nothing.
template <class T>
inline void fetch_ahead(const T* row, int64_t stride, int d) {
    const auto at =
        reinterpret_cast<uintptr_t>(row) + static_cast<uintptr_t>((kStreamAhead * stride + d) * static_cast<int64_t>(sizeof(T)));
    __builtin_prefetch(reinterpret_cast<const void*>(at));
}

/// R rows, a power of two: dot products of kLanes pairs at a time, R rows by kLanes / R keys.
template <int R, class T>
void stream_scores_of(const float* q, int64_t ldq, int rows, const T* k, int64_t stride, int keys, int depth, float* s, int64_t ld) {
    constexpr int kKeys = R < kLanes ? kLanes / R : 1;
    constexpr int kPart = kLanes / kKeys;  // rows of one block; fewer than R only where vectors are short
    for (int key = 0; key < keys; key += kKeys) {
        const T* k_row[kKeys];
        for (int i = 0; i < kKeys; ++i) k_row[i] = k + (key + i < keys ? key + i : keys - 1) * stride;
        for (int first = 0; first < rows; first += kPart) {
            const float* q_row[kPart];
            for (int r = 0; r < kPart; ++r) q_row[r] = q + (first + r < rows ? first + r : rows - 1) * ldq;
            Vec acc[kLanes] = {};
            const auto step = [&](auto element, int d) {
                Vec x[kKeys];
                for (int i = 0; i < kKeys; ++i) {
                    x[i] = element(k_row[i], d);
                    if (first == 0) fetch_ahead(k_row[i], stride, d);
                }
                for (int r = 0; r < kPart; ++r) {
                    const Vec y = element(q_row[r], d);
                    for (int i = 0; i < kKeys; ++i) acc[r * kKeys + i] += y * x[i];
                }
            };
            int d = 0;
            for (; d + kLanes <= depth; d += kLanes) step([](auto* row, int at) { return load(row + at); }, d);
            if (d < depth) step([depth](auto* row, int at) { return load_tail(row + at, depth - at); }, d);
            float sum[kLanes];
            store(sum, sums(acc));
            for (int r = 0; r < kPart && first + r < rows; ++r)
                for (int i = 0; i < kKeys && key + i < keys; ++i) s[(first + r) * ld + key + i] = sum[r * kKeys + i];
        }
    }
}

void stream_scores(const float* q, int64_t ldq, int rows, Rows k, int keys, int depth, float* s, int64_t ld) {
    with_type(k.data, k.type, [&](auto* data) {
        if (rows == 1)
            stream_scores_of<1>(q, ldq, rows, data, k.stride, keys, depth, s, ld);
        else if (rows == 2)
            stream_scores_of<2>(q, ldq, rows, data, k.stride, keys, depth, s, ld);
        else if (rows <= 4)
            stream_scores_of<4>(q, ldq, rows, data, k.stride, keys, depth, s, ld);
        else
            stream_scores_of<8>(q, ldq, rows, data, k.stride, keys, depth, s, ld);
    });
}

constexpr int kStreamKeys = 4;                     // keys added at once, so that o is read and written less
constexpr int kWeightRows = kLanes == 16 ? 4 : 2;  // kWeightRows * kStreamKeys weights stay in registers

template <int R, int N, class T>
void stream_add(Weights p, const T* v, int64_t stride, int columns, float* o, int64_t ldo) {
    float weight[R][N];
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < N; ++i) weight[r][i] = p.data[r * p.ld + i];
    for (int c = 0; c < columns; c += kLanes) {
        Vec x[N];
        for (int i = 0; i < N; ++i) {
            x[i] = load_within(v + i * stride, c, columns);
            fetch_ahead(v + i * stride, stride, c);
        }
        for (int r = 0; r < R; ++r) {
            Vec acc = load(o + r * ldo + c);
            for (int i = 0; i < N; ++i) acc += weight[r][i] * x[i];
            store(o + r * ldo + c, acc);
        }
    }
}

template <int N, class T>
void stream_add_rows(Weights p, int rows, const T* v, int64_t stride, int columns, float* o, int64_t ldo) {
    int r = 0;
    for (; r + kWeightRows <= rows; r += kWeightRows)
        stream_add<kWeightRows, N>({p.data + r * p.ld, p.ld}, v, stride, columns, o + r * ldo, ldo);
    for (; r < rows; ++r) stream_add<1, N>({p.data + r * p.ld, p.ld}, v, stride, columns, o + r * ldo, ldo);
}

template <class T>
bool finite(const T* v, int64_t stride, int keys, int columns) {
    IntVec bad{};
    for (int key = 0; key < keys; ++key)
        for (int c = 0; c < columns; c += kLanes) bad |= not_finite(load_within(v + key * stride, c, columns));
    return !any(bad);
}

template <class T>
void stream_accumulate_of(Weights p, int rows, const T* v, int64_t stride, int keys, int columns, float* o, int64_t ldo) {
    for (int key = 0; key < keys; key += kStreamKeys) {
        const int count = keys - key < kStreamKeys ? keys - key : kStreamKeys;
        const Weights w{p.data + key, p.ld};
        const T* row = v + key * stride;
        bool all = true;
        for (int r = 0; r < rows; ++r)
            for (int i = 0; i < count; ++i) all = all && attends(w.data[r * w.ld + i]);
        if (!all && !finite(row, stride, count, columns)) {
            for (int r = 0; r < rows; ++r)
                for (int i = 0; i < count; ++i)
                    if (attends(w.data[r * w.ld + i]))
                        stream_add<1, 1>({w.data + r * w.ld + i, w.ld}, row + i * stride, stride, columns, o + r * ldo, ldo);
        } else if (count == kStreamKeys) {
            stream_add_rows<kStreamKeys>(w, rows, row, stride, columns, o, ldo);
        } else {
            for (int i = 0; i < count; ++i) stream_add_rows<1>({w.data + i, w.ld}, rows, row + i * stride, stride, columns, o, ldo);
        }
    }
}

void stream_accumulate(Weights p, int rows, Rows v, int keys, int columns, float* o, int64_t ldo) {
    with_type(v.data, v.type, [&](auto* data) { stream_accumulate_of(p, rows, data, v.stride, keys, columns, o, ldo); });
}

// ---- rows of the output

void scale_row(float* row, int n, float factor) {
    for (int i = 0; i < n; i += kLanes) store(row + i, load(row + i) * factor);
}

template <class T>
void store_row_of(const float* row, int n, float factor, T* out) {
    for (int i = 0; i < n; ++i) narrow(row[i] * factor, out + i);
}

void store_row(const float* row, int n, float factor, DType type, void* out) {
    if (type == DType::F16)
        store_row_of(row, n, factor, static_cast<F16*>(out));
    else if (type == DType::BF16)
        store_row_of(row, n, factor, static_cast<BF16*>(out));
    else
        store_row_of(row, n, factor, static_cast<float*>(out));
}

// ---- the machine's peak

constexpr int kChains = kRows * kVectors;  // as many as the product kernels hold

float fma_loop(int64_t steps, float x, float y) {
    Vec acc[kRows][kVectors];
    const Vec a = Vec{} + x;
    const Vec b = Vec{} + y;
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) acc[r][v] = a * static_cast<float>(r * kVectors + v);
    for (int64_t step = 0; step < steps; ++step) {
        FLEX_UNROLL
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) acc[r][v] = acc[r][v] * a + b;
    }
    Vec total{};
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) total += acc[r][v];
    float lanes[kLanes];
    store(lanes, total);
    float result = 0.0f;
    for (const float lane : lanes) result += lane;
    return result;
}

}  // namespace

const MicroKernels FLEX_MICRO_TABLE = {kLanes,
                                       kVectors,
                                       kRows,
                                       load_row,
                                       pack_keys,
                                       pack_values,
                                       scores,
                                       accumulate,
                                       accumulate_exact,
                                       accumulate_transposed,
                                       accumulate_transposed_exact,
                                       all_finite,
                                       dot,
                                       stream_scores,
                                       stream_accumulate,
                                       scale_row,
                                       store_row,
                                       fma_loop,
                                       kChains* kLanes};

}  // namespace flex::cpu
