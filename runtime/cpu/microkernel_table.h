// The inner loops of the CPU attention, one table for each vector width. The bodies are in microkernel.h, compiled
// once per level. Everything here works on f32; arrays of other types are converted as they are packed.
//
// A panel holds `vectors * lanes` columns of a matrix, one depth step after another: [depth][vectors * lanes], padded
// with zeros. The product kernels read panels as B, and rows of queries or weights as A.
//
// So bf16 arrays have the products of f32, at the speed of f32 and without rounding the weights. The bf16 dot product of AVX512-BF16 is not used: on
// Sapphire and Emerald Rapids it takes both multipliers for two cycles, half the multiply-adds of f32 in that time
// (bench/bf16_dot.h measures it).
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace flex::cpu {

/// Rows of one array: element (i, j) at data + i * stride + j, counted in elements of `type`.
struct Rows {
    const void* data;
    DType type;  // F32, F16 or BF16
    int64_t stride;
};

/// Weights: element (row, key) at data[row * ld + key].
struct Weights {
    const float* data;
    int64_t ld;
};

/// What pack_values wrote, from key `first_key` on.
struct ValuePanels {
    const float* panels;
    int64_t panel_stride;
    int first_key;
};

/// Rows of the next tile, fetched into the cache a few lines for every register block, so that packing finds them there.
/// A burst of fetches would fill the line buffers and stall; spread out they cost nothing.
struct Ahead {
    const char* row = nullptr;
    int64_t row_bytes = 0, stride_bytes = 0;
    int rows = 0;        // not yet fetched
    int64_t offset = 0;  // within the first of these
    int lines_a_block = 0;
};

/// Few rows or few keys take the path that streams K and V without packing them. Where rows of K are long, the sums across lanes at their
/// ends weigh less than packing even for some more rows.
inline bool streams(int64_t rows, int keys, int depth) {
    return rows <= (depth >= 192 ? 24 : 8) || keys <= 4;
}

struct MicroKernels {
    int lanes;    // f32 lanes of a vector
    int vectors;  // vectors across a panel
    int rows;     // rows of the register block

    /// out[i] = scale * row[i]
    void (*load_row)(const void* row, DType type, int n, float scale, float* out);
    /// Rows [0, keys) of K as panels [depth][width], for ceil(keys / width) panels.
    void (*pack_keys)(Rows k, int keys, int depth, float* panels);
    /// Rows [0, keys) of V as keys from first_key on of panels [key][width], panel_stride apart; the columns that do not fill a panel follow as panels
    /// of a single vector, panel_stride / vectors apart. Returns whether any value is infinite or NaN.
    bool (*pack_values)(Rows v, int keys, int columns, float* panels, int64_t panel_stride, int first_key);

    /// s[r][n] = sum over d of q[r][d] * k[n][d], q with ldq floats a row, for n in [0, keys) and up to the end of the last panel, where s holds anything afterwards.
    void (*scores)(const float* q, int64_t ldq, int rows, int depth, const float* panels, int keys, float* s, int64_t ld, Ahead& ahead);
    /// o[r][n] += sum over k in [0, keys) of p[r][k] * v[k][n], n in [0, columns rounded up to vectors).
    void (*accumulate)(Weights p, int rows, int keys, ValuePanels v, int columns, float* o, int64_t ldo, Ahead& ahead);
    /// The same, but a weight of -0.0 contributes nothing even where V is not finite.
    void (*accumulate_exact)(Weights p, int rows, int keys, ValuePanels v, int columns, float* o, int64_t ldo);

    /// out[key][n] += sum over r in [0, rows) of p[r][key] * b[r][n], key in [0, keys), n in [0, columns rounded up to lanes).
    void (*accumulate_transposed)(Weights p, int rows, int keys, const float* b, int64_t ldb, int columns, float* out, int64_t ldo);
    /// The same, but a weight of -0.0 contributes nothing even where b is not finite.
    void (*accumulate_transposed_exact)(Weights p, int rows, int keys, const float* b, int64_t ldb, int columns, float* out, int64_t ldo);
    /// Rows and vectors padded to lanes.
    bool (*all_finite)(const float* rows, int64_t ld, int count, int columns);
    float (*dot)(const float* a, const float* b, int n);

    /// As `scores` and `accumulate_exact`, for few rows or few keys, reading K and V where they lie. q has ldq floats a row.
    void (*stream_scores)(const float* q, int64_t ldq, int rows, Rows k, int keys, int depth, float* s, int64_t ld);
    void (*stream_accumulate)(Weights p, int rows, Rows v, int keys, int columns, float* o, int64_t ldo);

    /// row[i] *= factor, n a multiple of lanes.
    void (*scale_row)(float* row, int n, float factor);
    /// out[i] = row[i] * factor, rounded to `type`.
    void (*store_row)(const float* row, int n, float factor, DType type, void* out);

    /// Runs `steps` rounds of independent multiply-adds; one round is fma_round lanes' worth. Returns a value that depends on all.
    float (*fma_loop)(int64_t steps, float x, float y);
    int fma_round;  // multiply-adds (of one lane) in a round
};

/// The table for generated code of this many lanes (4, 8, 16).
const MicroKernels& micro_kernels(int lanes);

extern const MicroKernels kGenericKernels;
extern const MicroKernels kAvx2Kernels;
extern const MicroKernels kAvx512Kernels;

}  // namespace flex::cpu
