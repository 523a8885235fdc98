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

#define FLEX_GPU_ABI_VERSION 3

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

/* What the forward kernel of an image with map_columns > 0 takes as a second parameter, by value: tensor maps (cuTensorMapEncodeTiled) of q, k, v and o, and how
 * its persistent blocks share the work. Dimensions of the maps, innermost first, and their boxes:
 *
 *   q, o   columns, heads, queries, batches        map_columns, pack, 64 / pack, 1       so that a box is 64 rows of a tile, in their order
 *   k, v   columns, keys, KV heads, batches        map_columns, tile_k, 1, 1
 *
 * swizzled in spans of map_columns elements, out of bounds zero. A batch of 1 that serves all (b_stride 0) has extent 1 and is asked for as batch 0.
 * Where no such maps exist (rows that are not `aligned`, strides that are no multiples of 16 bytes, pack that does not divide 64) is_mapped is 0, the maps
 * are not to be read, and the kernel loads and stores by itself. */
struct flex_gpu_tensor_map {
    uint64_t opaque[16];
} __attribute__((aligned(64)));
struct flex_gpu_tensors {
    struct flex_gpu_tensor_map q, k, v, o;
    uint64_t next_work; /* u32, zero before the launch: blocks take the next piece of work by adding 1 to it. 0: block i takes i, i + grid, ... */
    int32_t work;       /* pieces: query tiles * (H / pack) * B * splits */
    int32_t is_mapped;
};
/* The grid of such a kernel: x = at most as many blocks as run at once, y = 1. Which tile, head, batch and split a piece is, is for the kernel to choose. */

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
    int32_t map_columns;          /* columns of a box of its tensor maps; 0: the forward kernel takes no flex_gpu_tensors */
    int32_t summary_count;
    const int32_t* summary_flags; /* a sum of flex_summary_flag each (runtime/abi.h) */
    struct flex_gpu_kernel forward, combine, summarise;
    const char* code;    /* PTX text, zero-terminated, or a cubin */
    uint64_t code_bytes; /* without the terminating zero */
};

/* The backward pass is a PTX module of its own, launched in this order on one stream. Rows, keys and grids as in the forward pass, but neither packed nor split.
 *
 *   NAME_backward_summarise  as NAME_summarise                                                                only if the mask needs it
 *   NAME_backward_rows       what the others want of each row (flex_gpu_row_plane)                           x = ceil(Q / tile_q) * H * B
 *   NAME_backward_queries    dq; d_scale; the bounds of the captured tensors' gradients                       x = ceil(Q / tile_q) * H * B
 *   NAME_backward_keys       dk and dv; adds to the captured tensors' gradients                                x = ceil(K / tile_k) * HKV * (shared ? 1 : B)
 *   NAME_backward_scale      adds what the scale clause reads to the gradients; one thread a row             x = ceil(B * H * Q / threads)
 *   NAME_backward_finish     fixed point to f32; of an atomic image also dq_sums to dq                       x = ceil(largest / threads), y = gradients + 1
 *
 * In an atomic image there is no NAME_backward_queries: NAME_backward_keys adds to dq_sums, in an order that differs from launch to launch.
 *
 * All take one parameter by value: a flex_gpu_backward, then the captured arguments as behind a flex_gpu_launch, then one flex_gpu_gradient for each
 * `grad` parameter, in order (runtime/gpu_layout.h).
 *
 * Determinism. Gradients of captured tensors are sums in no particular order of integers: each contribution x is rounded to x * 2^e, where e follows from the
 * greatest sum of |x| over one row (`bound`, which NAME_backward_queries finds by an atomic maximum) and the number of rows, such that no sum leaves 63
 * bits. What is not finite is added to `data` as a float, where the order does not matter either. */
struct flex_gpu_gradient {
    uint64_t data;  /* dense f32 of the parameter's shape, zero at first; 0: not wanted */
    uint64_t sums;  /* int64 of the same count, zero at first; 0: of an atomic image, which adds floats to `data` */
    uint64_t bound; /* u32, zero at first: the bits of the greatest sum, an f32 */
    int64_t count;
};
/* Rows keep so many bounds. Of more gradients than these, those from the last on share one: the same address. */
#define FLEX_GPU_BOUNDS 8

/* f32 [B, H, Q] each, one after the other at flex_gpu_backward.rows. The weight of an element is exp(score - M) * WEIGHT: with M = lse and WEIGHT = 1, or where
 * lse is large (f32 holds ln(sum) badly then) with the maximum and one over the sum; rows without keys have WEIGHT = 0. PEAK is the
 * greatest score, NaN where nothing depends on it; D_PEAK the derivative by max_score over the number of keys that attain it. */
enum flex_gpu_row_plane {
    FLEX_GPU_ROW_M,
    FLEX_GPU_ROW_WEIGHT,
    FLEX_GPU_ROW_DELTA,
    FLEX_GPU_ROW_PEAK,
    FLEX_GPU_ROW_D_PEAK,
    FLEX_GPU_ROW_PLANES
};

struct flex_gpu_backward {
    struct flex_gpu_launch launch;           /* q, k, v, o and lse as the forward pass had and left them; `aligned` speaks of d_o too */
    struct flex_gpu_view d_o;                /* of the type of q */
    struct flex_gpu_view d_lse, d_max_score; /* f32 [B, H, Q]; data = 0: zero */
    struct flex_gpu_view dq, dk, dv;         /* written */
    uint64_t rows;                           /* f32 [FLEX_GPU_ROW_PLANES, B, H, Q] */
    uint64_t d_scale;                        /* f32 [B, H, Q], zero at first: the derivative by the scale of a row; 0: nothing wants it */
    uint64_t dq_sums;                        /* atomic images: f32 [B, H, Q, D], zero at first */
    int32_t k_shared, v_shared;              /* nonzero: one batch of k (v) serves all, and dk (dv) is the sum over them */
};

/* One image of a backward pass, as tools embed it. Kernels that are not there have a null symbol. */
struct flex_gpu_backward_image {
    uint32_t abi_version;
    const char* target;
    int32_t dtype; /* of q, k, v, o and their gradients: a flex_gpu_dtype */
    int32_t tf32;
    int32_t head_dim, v_head_dim; /* the largest D and DV it takes */
    int32_t tile_q;               /* rows of a block of NAME_backward_rows and NAME_backward_queries */
    int32_t tile_k;               /* keys of a block of NAME_backward_keys */
    int32_t atomic;
    int32_t summary_count;
    const int32_t* summary_flags;
    struct flex_gpu_kernel summarise, rows, queries, keys, scale, finish;
    const char* code;
    uint64_t code_bytes;
};

#ifdef __cplusplus
}
#endif
