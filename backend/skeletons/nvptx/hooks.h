// What a GPU skeleton calls and the compiler generates from the IR of a variant. The same hooks as on the CPU, one element at a time.
//
// Every hook is inlined where it is called; the properties say which are long. Those that read q and k are called with 0 <= q < Q and
// 0 <= k < K always: the skeleton clamps what lies outside and
// throws the result away, so that no load needs a guard that the analysis has proven superfluous. `launch` is the kernel's parameter; generated code finds
// extents and arguments behind it (runtime/gpu_layout.h).
// A row is one (b, h, q): what depends on these alone is computed by flex_hook_row, once before the loop over keys, and reaches
// the element hooks through the row's slots, which live in registers after inlining.
//
// A skeleton's module defines the kernels flex_gpu_forward, flex_gpu_combine and flex_gpu_summarise, each void with one flex_gpu_launch by value
// (`__attribute__((nvptx_kernel)) void flex_gpu_forward(flex_gpu_launch launch)`, hooks get &launch), and the constants at the end of this page. The compiler
// names the kernels after the attention and lengthens their parameter to what the layout asks for. They must only load from it.
//
// A backward skeleton's module defines flex_gpu_backward_summarise, _rows, _queries, _keys, _keys_atomic, _scale and _finish (runtime/gpu_abi.h), each
// with one flex_gpu_backward by value; hooks get the address of its first member. An image has _keys or _keys_atomic.
#pragma once

#include <stdint.h>

#include "runtime/abi.h"
#include "runtime/gpu_abi.h"

constexpr int kRowSlots = 16;
struct RowState {
    uint32_t slot[kRowSlots];
};

enum ExtentIndex { kExtentB, kExtentH, kExtentHkv, kExtentQ, kExtentK, kExtentD, kExtentDv };

/// Facts about the variant, constants after inlining.
enum Property {
    kPlainScore = 1,      // no score clause: the score is scale * dot
    kDefaultScale = 2,    // scale is 1 / sqrt(D), positive and the same for all rows
    kNoMask = 4,          // every element is kept: the mask hook is never to be called
    kMaskByHead = 8,      // the tile state depends on h (or hkv): packed heads must be asked one by one
    kScoreMayHide = 16,   // the score clause may give -inf, which counts as masked
    kLongScore = 32,      // the score hook is long or has loops: to be called in loops that are not unrolled
    kLongMask = 64,       // so is the mask hook
    kLongGradient = 128,  // so is a hook of a backward pass about one element
};

extern "C" {
uint32_t flex_hook_properties();
int32_t flex_hook_extent(const flex_gpu_launch* launch, int32_t which);
void flex_hook_row(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q, RowState* row);
/// `score` is scale * dot; gives the score clause.
float flex_hook_score(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, float score);
bool flex_hook_mask(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k);
float flex_hook_scale(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q);
/// A flex_tile_state_value for inclusive bounds, 0 <= q_lo <= q_hi < Q and so for k. Lanes of a warp may ask for different tiles.
int32_t flex_hook_tile_state(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q_lo, int32_t q_hi, int32_t k_lo, int32_t k_hi);

// Of a backward pass. `score` is scale * dot, ds the derivative of the loss by the score clause's value: 0 where the pair does not attend, and then
// nothing may be added. Gradients are numbered in the order of the `grad` parameters. The reads of the score clause whose place does not depend on both the
// query and the key, and that stand in no loop, are *summed*: the skeleton adds up ds * adjoint over the keys (the rows) of a tile and has the sum added once. There are
// at most kSummedReads; the others are added element by element.

/// The derivative of the score clause by `score`.
float flex_hook_score_gradient(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, float score);
int32_t flex_hook_gradient_count();
const flex_gpu_gradient* flex_hook_gradient(const flex_gpu_launch* launch, int32_t gradient);
int32_t flex_hook_summed_count();
/// A SummedRead.
int32_t flex_hook_summed_kind(int32_t read);
float flex_hook_summed_adjoint(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, float score,
                               int32_t read);
/// Adds `value` to the gradient at the place of a summed read, by flex_add; of q and k, any that belong to it.
void flex_hook_add_summed(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q, int32_t k, int32_t read, float value);
/// Whether any read is added element by element, and then: adds ds * adjoint of each of these, by flex_add.
bool flex_hook_has_scatter();
void flex_hook_scatter(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, float score,
                       float ds);
/// bounds[gradient] += |ds * adjoint| for each read of the score clause, those in loops once an iteration.
void flex_hook_bounds(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, float score, float ds,
                      float* bounds);
/// Whether the scale clause reads `grad` tensors, and then: the same two for it. d_scale is the derivative of the loss by the scale of a row.
bool flex_hook_has_scale_gradient();
void flex_hook_scatter_scale(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q, float d_scale);
void flex_hook_bounds_scale(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q, float d_scale, float* bounds);

int32_t flex_hook_summary_count();
int32_t flex_hook_summary_flags(int32_t index);
/// The value of a summary at position p of its axis.
int32_t flex_hook_summary_value(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t p);
/// The record's description in the parameter.
const flex_gpu_summary* flex_hook_summary(const flex_gpu_launch* launch, int32_t index);

/// Provided by the skeleton (backend/skeletons/nvptx/summaries.h), called by the tile state: over positions [lo, hi] of a summary the least value in the
/// low half, the greatest in the high half; possibly of a larger range.
int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo, int32_t hi);
/// Provided by the skeleton of a backward pass: adds to one element of a gradient, `offset` in its dense shape. Nothing if it is not wanted.
void flex_add(const flex_gpu_launch* launch, int32_t gradient, int64_t offset, float value);
}

constexpr int kSummedReads = 4;
/// Bounds of a row. Of more gradients, those from the last on share one.
constexpr int kMostGradients = FLEX_GPU_BOUNDS;
enum SummedRead {
    kSummedByRow = 1,   // one place for all keys of a row
    kSummedByKey = 2,   // one place for all rows of a (b, h) that meet a key
    kSummedByHead = 3,  // one place for a (b, h), or fewer
};

/// Read from the bitcode by the compiler: blocks of the two small kernels (the forward kernel's is of the instance), and the most heads that share a tile. Of a
/// backward skeleton: blocks of _summarise, _scale and _finish, which use no
/// shared memory. _rows has the warps and the shared memory of _queries.
extern "C" {
extern const int32_t flex_gpu_combine_threads, flex_gpu_summarise_threads, flex_gpu_max_pack;
extern const int32_t flex_gpu_scale_threads, flex_gpu_finish_threads;
}
