// What a skeleton calls and the compiler generates from the IR of a variant, and what the skeleton offers to generated code.
//
// Hooks read captured arguments only, and are inlined into the loops of the skeleton. A row is one (b, h, q): what depends on these
// alone is computed by flex_hook_row into the row's slots, once, and the vector hooks take it from there; the slots
// live in registers after inlining. `active` lanes of a vector are keys below K: generated code reads no memory for the others. In
// main loops it is the constant kLanes, and every trace of it is folded away.
#pragma once

#include "backend/skeletons/cpu/lanes.h"
#include "runtime/abi.h"

constexpr int kRowSlots = 128;
struct RowState {
    uint32_t slot[kRowSlots];
};
constexpr int kRowSums = 8;

extern "C" {
void flex_hook_row(const flex_args* args, int32_t b, int32_t h, int32_t q, RowState* row);
F flex_hook_score(const flex_args* args, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, int32_t active, F score);
/// -1 or 0 a lane; of inactive lanes anything.
I flex_hook_mask(const flex_args* args, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, int32_t active);
float flex_hook_scale(const flex_args* args, int32_t b, int32_t h, int32_t q);
float flex_hook_sink(const flex_args* args, int32_t b, int32_t h, int32_t q);
/// Elements d, d + 1, ... of a row in a clause: of `output` from the same elements, of `query` and `key` from the whole row.
F flex_hook_output(const flex_args* args, int32_t b, int32_t h, int32_t q, int32_t d, int32_t active, F o);
F flex_hook_query(const flex_args* args, int32_t b, int32_t h, int32_t q, int32_t d, int32_t active, const float* row);
F flex_hook_key(const flex_args* args, int32_t b, int32_t h, int32_t k, int32_t d, int32_t active, const float* row);
/// For the two last: row[index] a lane, 0 outside of [0, n).
F flex_row_lanes(const float* row, int32_t n, I index);
/// The derivative of the score clause by `score`.
F flex_hook_score_gradient(const flex_args* args, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, int32_t active, F score);
/// Adds ds times the adjoints of the score clause's reads: to d_tensors or, for reads at one place for the whole row, to row_sums. Lanes that do not
/// attend have keep = 0.
void flex_hook_scatter(const flex_args* args, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, int32_t active, F score,
                       F ds, I keep, F* row_sums, float* const* d_tensors);
/// Adds the row sums where they belong.
void flex_hook_scatter_row(const flex_args* args, int32_t b, int32_t h, int32_t q, const F* row_sums, float* const* d_tensors);
void flex_hook_scatter_scale(const flex_args* args, int32_t b, int32_t h, int32_t q, float d_scale, float* const* d_tensors);
void flex_hook_scatter_sink(const flex_args* args, int32_t b, int32_t h, int32_t q, float d_sink, float* const* d_tensors);

/// For these hooks: to[offset[i]] += value[i] in the lanes of `keep`, offset aligned as a vector; and to[offset] += the sum of the lanes.
void flex_add_lanes(float* to, const int64_t* offset, F value, I keep);
void flex_add_sum(float* to, int64_t offset, F value);

/// Flags of a summary, or -1.
int32_t flex_hook_summary_flags(int32_t index);
I flex_hook_key_summary(const flex_args* args, int32_t index, int32_t b, int32_t h, int32_t k, int32_t active);
int32_t flex_hook_query_summary(const flex_args* args, int32_t index, int32_t b, int32_t h, int32_t q);
/// A flex_tile_state_value for inclusive bounds.
int32_t flex_hook_tile_state(const flex_args* args, int32_t b, int32_t h, int32_t q_lo, int32_t q_hi, int32_t k_lo, int32_t k_hi);

/// For the hook of the tile state: least value of a summary in the low half, greatest in the high half, over positions [lo, hi].
int64_t flex_summary_range(const flex_args* args, int32_t index, int32_t b, int32_t h, int32_t lo, int32_t hi) __attribute__((pure));
}
