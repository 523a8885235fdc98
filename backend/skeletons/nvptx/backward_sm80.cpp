// The backward pass for sm_80 and all later GPUs: mma.sync, ldmatrix, cp.async. The compiler links the hooks of a variant (hooks.h) to one instance
// of it (backward_instances.def, backward_shape.h). With S = scale Q K^T, P = exp(score(S) - lse), dP = dO V^T, delta = rowsum(dO * O) - dlse:
//
//     dX = (P * (dP - delta)) * score'(S)      dV = P^T dO      dK = dX^T (scale Q)      dQ = scale dX K
//
//   _rows      one block of queries     delta, and what weights are relative to; a pass over the keys only where lse is too coarse   (backward_rows.h)
//   _queries   one block of queries     walks over keys:      S, dP, dQ          3 products a pair of tiles                          (backward_queries.h)
//   _keys      one block of keys        walks over queries:   S^T, dP^T, dV, dK  4 products                                          (backward_keys.h)
//   _scale, _finish                     gradients of captured tensors                                                                (gradients.h)
//
// Seven products where one kernel with atomics has five: the two that are done twice are the price of sums in a fixed order without a workspace. _keys_atomic
// is the kernel with five; it adds dX K to dQ in memory (backward_atomic.h).
//
// Both walks are the same picture with the axes exchanged. D = 128 with halves, _keys:
//
//                            Q tile: 32 queries x 128     dO tile: 32 queries x 128     M, WEIGHT, DELTA of 32 queries
//                           +-----------------+          +-----------------+           two stages: the next travels while this one is multiplied
//   K, V: 64 keys x 128     |                 |          |                 |
//   +---------------+       +-----------------+          +-----------------+
//   | warp 0: 16 x D|        S^T: 16 x 32, 16 registers   dP^T: the same     -> P^T and dX^T in place: the fragments of a result are
//   | warp 1        |                                                           those of a left operand (products.h)
//   | warp 2        |        dV: 16 x 128, 64 registers   dK: the same       += P^T dO, dX^T Q: B by ldmatrix.trans
//   | warp 3        |
//   +---------------+
//
// One barrier a tile: it says that the copies of all threads for this tile have come (each has waited for its own before) and that nobody reads the
// other stage any more, so the next copies start right after it. Instances with one stage have a second barrier, before the copies start.
//
// Budget. A thread's sums are (D + DV) / 2 registers a block of 16 keys in _keys, D / 2 a block of 16 queries in _queries; beside them stand S and dP of a piece of the
// tile, 4 to 20 of fragments, the row or column at hand, and about 30 of addresses and walk. Where 16 keys leave room (D <= 64) a warp has 32, so that each
// fragment of Q and dO serves twice, and takes the tile in pieces of 16 queries. Where not even 16 fit (D + DV > 256) two warps share them (kSplit). Shared
// memory: at most 99 KB, one block on every GPU from sm_80 on; with D <= 128 halves, two blocks fit into the 164 KB of sm_80.
//
// Half precision. P and dX are rounded to the element type where they become operands, nothing is scaled before. P is at most 1; below 2^-25 it
// is 0 in f16, and below 2^-126 in every type. dX of f16 overflows beyond 65504: the operand is infinite, and dk and dq get infinities or NaN; below 2^-25
// it is 0. Results beyond the element type are infinite. Gradients of captured tensors come from ds in f32 and are rounded nowhere, except those of
// the scale, which come from dX K.
//
// PTX ISA, besides what forward_sm80.cpp names: movmatrix, red.global.add.f32 and .u64, ld.global.nc.
#include "backend/skeletons/nvptx/backward_block.h"
#include "backend/skeletons/nvptx/backward_keys.h"
#include "backend/skeletons/nvptx/backward_queries.h"
#include "backend/skeletons/nvptx/backward_rows.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/gradients.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/summaries.h"

extern "C" {

extern const int32_t flex_gpu_summarise_threads = 128, flex_gpu_scale_threads = 128, flex_gpu_finish_threads = 128;

__attribute__((nvptx_kernel)) void flex_gpu_backward_summarise(flex_gpu_backward backward) {
    flexgpu::summarise(&backward.launch);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_rows(flex_gpu_backward backward) {
    flexgpu::rows(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_queries(flex_gpu_backward backward) {
    flexgpu::queries(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_keys(flex_gpu_backward backward) {
    flexgpu::keys<false>(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_keys_atomic(flex_gpu_backward backward) {
    flexgpu::keys<true>(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_scale(flex_gpu_backward backward) {
    flexgpu::scatter_scale(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_finish(flex_gpu_backward backward) {
    flexgpu::finish(&backward);
}
__attribute__((always_inline)) int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo,
                                                          int32_t hi) {
    return flexgpu::summary_range(flex_hook_summary(launch, index), b, h, lo, hi);
}
__attribute__((always_inline)) void flex_add(const flex_gpu_launch* launch, int32_t gradient, int64_t offset, float value) {
    flexgpu::add_to_gradient(launch, gradient, offset, value);
}

}  // extern "C"
