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
    kPlainScore = 1,     // no score clause: the score is scale * dot
    kDefaultScale = 2,   // scale is 1 / sqrt(D), positive and the same for all rows
    kNoMask = 4,         // every element is kept: the mask hook is never to be called
    kMaskByHead = 8,     // the tile state depends on h (or hkv): packed heads must be asked one by one
    kScoreMayHide = 16,  // the score clause may give -inf, which counts as masked
    kLongScore = 32,     // the score hook is long or has loops: to be called in loops that are not unrolled
    kLongMask = 64,      // so is the mask hook
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

int32_t flex_hook_summary_count();
int32_t flex_hook_summary_flags(int32_t index);
/// The value of a summary at position p of its axis.
int32_t flex_hook_summary_value(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t p);
/// The record's description in the parameter.
const flex_gpu_summary* flex_hook_summary(const flex_gpu_launch* launch, int32_t index);

/// Provided by the skeleton (backend/skeletons/nvptx/summaries.h), called by the tile state: over positions [lo, hi] of a summary the least value in the
/// low half, the greatest in the high half; possibly of a larger range.
int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo, int32_t hi);
}

/// Read from the bitcode by the compiler: blocks of the two small kernels (the forward kernel's is of the instance), and the most heads that share a tile.
extern "C" {
extern const int32_t flex_gpu_combine_threads, flex_gpu_summarise_threads, flex_gpu_max_pack;
}
