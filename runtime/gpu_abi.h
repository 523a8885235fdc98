/* The contract between GPU kernels and the runtime that launches them: what a kernel is given, in plain C, so that clang can compile it
 * for any target. A change of meaning here raises FLEX_GPU_ABI_VERSION.
 *
 * A compiled attention is a PTX module with up to three kernels, launched in this order on one stream:
 *
 *   NAME_summarise  least and greatest values of captured index vectors, for the mask's tile states   only if the mask needs them
 *   NAME_forward    the attention itself
 *   NAME_combine    the sum of the partial results of a split launch                                   only if splits > 1
 *
 * All take one parameter by value: a flex_gpu_launch, followed directly by the captured arguments as runtime/gpu_layout.h lays them out.
 * Pointers are device addresses, as integers, so that the layout is the same everywhere. */
#pragma once
#include <stdint.h> /* not <cstdint>: GPU code is compiled without a C++ library */
#ifdef __cplusplus
extern "C" {
#endif

#define FLEX_GPU_ABI_VERSION 1

/* A [B, heads, rows, columns] array with contiguous columns; strides count elements. b_stride is 0 where a batch of 1 serves all. */
struct flex_gpu_view {
    uint64_t data;
    int64_t b_stride, h_stride, row_stride;
};

/* Rows of a tile. `pack` query heads of one KV head share it (1: none): row r is query head h0 + r % pack, query q0 + r / pack, so that
 * neighbouring rows read neighbouring queries and the heads of a group share each tile of K and V. */
struct flex_gpu_launch {
    struct flex_gpu_view q, k, v, o;
    struct flex_gpu_view lse, max_score; /* f32 [B, H, Q], row_stride counts queries; data = 0: not wanted */
    /* splits > 1: f32 [splits, B, H, Q, DV rounded up to 4] weighted sums over the split's own sum, then f32 [splits, B, H, Q, 2]: the
     * running maximum in natural units (-inf: no key) and the sum of exp(score - maximum). */
    uint64_t partial;
    int32_t splits;     /* at least 1 */
    int32_t split_keys; /* keys of one split: a multiple of the KV tile; split i takes [i * split_keys, (i + 1) * split_keys) */
    int32_t pack;
    int32_t aligned; /* nonzero: rows of q, k and v start at multiples of 16 bytes and D, DV are multiples of 16 bytes */
};

/* Grid of NAME_forward: x = (query tiles * (H / pack) * B), y = splits; tiles of rows: ceil(Q * pack / tile_q). x counts tiles from the last to
 * the first (causal work is longest there), then heads, then batches: x = ((T - 1 - tile) * (H / pack) + head) * B + b is for the kernel to choose and
 * for nobody else to know. Grid of NAME_combine: x = ceil(B * H * Q / (threads / 32)), one warp a row. */

/* A captured tensor of rank r: this, then int64_t stride[r], int32_t dim[r], padded to 8 bytes. Strides count elements. */
struct flex_gpu_tensor {
    uint64_t data;
};

/* Least and greatest values of one i32 (or bool as 0, 1) along the queries or keys. `data` holds records, one for each b and h that the value
 * depends on. A record: for each block of FLEX_GPU_SUMMARY_BLOCK positions the pair {least, ~greatest}, then the same for each wide block of
 * FLEX_GPU_SUMMARY_WIDE positions. The complement makes both a minimum, so that one fill pattern (INT32_MAX) initialises a record and
 * wide blocks can be gathered by atomic minima, whose order does not matter. */
#define FLEX_GPU_SUMMARY_BLOCK 32
#define FLEX_GPU_SUMMARY_WIDE 1024
struct flex_gpu_summary {
    uint64_t data;
    int32_t b_stride, h_stride; /* pairs from one record to the next; 0 where the value does not depend on it */
    int32_t blocks, wide;       /* numbers of the two kinds of blocks: ceil(length / 32), ceil(length / 1024) */
};
/* Grid of NAME_summarise: x = ceil(blocks of the longest / (threads / 32)), y = H or 1, z = B * summaries: one warp a block. All records are filled
 * with INT32_MAX (cuMemsetD32Async) before. */

/* One image of a compiled attention, as tools embed it: plain data, constant-initialised. */
struct flex_gpu_kernel {
    const char* symbol;
    int32_t threads;      /* of a block */
    int32_t shared_bytes; /* dynamic shared memory; 0: none */
};
enum flex_gpu_dtype { FLEX_GPU_F32 = 0, FLEX_GPU_F16 = 1, FLEX_GPU_BF16 = 2 }; /* as flex::DType */
struct flex_gpu_image {
    uint32_t abi_version;
    const char* target;           /* "sm_80": PTX or code that runs on 8.0 and everything later */
    int32_t dtype;                /* of q, k, v and o: a flex_gpu_dtype */
    int32_t tf32;                 /* f32 products were allowed to be tf32 */
    int32_t head_dim, v_head_dim; /* the largest D and DV it takes */
    int32_t tile_q, tile_k;       /* rows and keys of a tile */
    int32_t max_pack;             /* 1: heads cannot share a tile */
    int32_t summary_count;
    const int32_t* summary_flags; /* a sum of flex_summary_flag each (runtime/abi.h) */
    struct flex_gpu_kernel forward, combine, summarise;
    const char* code;    /* PTX text, zero-terminated, or a cubin */
    uint64_t code_bytes; /* without the terminating zero */
};

#ifdef __cplusplus
}
#endif
