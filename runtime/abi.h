/* The contract between generated code, the skeletons and the runtime. Plain C, so that clang can compile it to
 * bitcode for any target. A change of meaning here raises FLEX_ABI_VERSION: cached and ahead-of-time objects carry it.
 *
 * Generated code is reentrant, allocates nothing, and reads only what flex_args reaches. */
#pragma once
#include <stdint.h> /* not <cstdint>: GPU code is compiled without a C++ library */
#ifdef __cplusplus
extern "C" {
#endif

#define FLEX_ABI_VERSION 6
#define FLEX_MAX_RANK 8

/* A captured tensor. Strides count elements. */
struct flex_tensor {
    const void* data;
    int64_t stride[FLEX_MAX_RANK];
    int32_t dim[FLEX_MAX_RANK];
};

/* Least and greatest values of one i32 along the queries or the keys, over any range in O(log): prepared by the runtime before a launch
 * (runtime/summary.h), read by tile_state. A record holds the values, padded to whole blocks, then a binary tree of {least, greatest} of blocks;
 * there is one for each b and h that the value depends on. */
struct flex_summary {
    const int32_t* data;
    int64_t b_stride, h_stride; /* from one record to the next; 0 where the value does not depend on it */
    int32_t blocks;
};

/* What a variant captured, for one launch. */
struct flex_args {
    const int32_t* extents;               /* B H HKV Q K D DV, then the free extents in order */
    const uint32_t* scalars;              /* one 32-bit slot a parameter (f32 bits, i32, bool 0/1); tensors' slots are unused */
    const struct flex_tensor* tensors;    /* one a parameter; scalars' entries are unused */
    const struct flex_summary* summaries; /* one a summary of the kernel; read by tile_state and the two ranges only */
};

/* How scores become weights: all keys of a row together, or each by itself: 1 / (1 + exp(-s)), or s. */
enum flex_normalize { FLEX_SOFTMAX = 0, FLEX_SIGMOID = 1, FLEX_NONE = 2 };

enum flex_summary_flag { FLEX_SUMMARY_OF_KEYS = 1, FLEX_SUMMARY_BY_B = 2, FLEX_SUMMARY_BY_H = 4 };

enum flex_tile_state_value { FLEX_TILE_SKIP = 0, FLEX_TILE_PARTIAL = 1, FLEX_TILE_FULL = 2 };

/* One block of scores, rows x cols, on which the softmax step works in place.
 * Row r is query head h + r / nq, query q + r % nq (nq = rows when all rows are of one head).
 * Column c is key k + c. Columns in [cols, padded) up to the next multiple of the vector length exist in memory and
 * hold anything on entry. On exit p[r][c] holds exp2((s - m) * log2 e), 0 where the element is masked, has score -inf, or is padding. With `mark` these
 * zeros, and no others, are -0.0f, so that a product with a non-finite V can tell "does not attend" from "weight underflowed".
 * Where weights stand by themselves (flex_normalize), p is the weight, alpha is 1, and m and l, which lse and max_score follow from, may be null: not wanted.
 * Then m is the maximum of the scores as they are, infinite or NaN. */
struct flex_block {
    const struct flex_args* args;
    int32_t b, h, q, nq, rows;
    int32_t k, cols;
    int32_t full; /* nonzero: no mask needs evaluating */
    int32_t mark; /* nonzero: -0.0f for what does not attend */
    float* s;     /* scores (scale * dot) in, weights out */
    int64_t ld;   /* elements from one row of s to the next, a multiple of the vector length */
    float* m;     /* [rows] running maximum, natural-log domain; -inf at start */
    float* l;     /* [rows] running sum of weights relative to m */
    float* alpha; /* [rows] out: factor by which earlier sums and outputs are to be multiplied */
};

/* One block of the backward pass; rows and columns as in flex_block. The weight of an element is exp(s - m) * scale_l: with m = lse and scale_l = 1, or with
 * the row's maximum and one over its sum, which stays exact where lse is large. With ds = weight * (dp - delta), the derivative of the loss by the score clause's value,
 * on exit s[r][c] holds the weight and dp[r][c] the derivative by scale * dot; both are -0.0f, and nothing else is, where the pair does not attend.
 * If the loss depends on max_score, ds of each element whose score equals peak[r] has d_peak[r] added. */
struct flex_grad_block {
    const struct flex_args* args;
    int32_t b, h, q, nq, rows;
    int32_t k, cols;
    int32_t full;            /* nonzero: no mask needs evaluating */
    float* s;                /* scale * dot in, weights out */
    float* dp;               /* do . v in, derivatives by scale * dot out */
    int64_t ld;              /* of s and dp */
    const float* m;          /* [rows] */
    const float* scale_l;    /* [rows] */
    const float* delta;      /* [rows] do . o - dlse */
    const float* peak;       /* [rows] greatest score; null: the loss does not depend on it */
    const float* d_peak;     /* [rows] derivative by max_score, divided by the number of elements that attain it */
    float* const* d_tensors; /* one a parameter: dense f32 of its shape, added to; null: not wanted */
};

/* scale of one row; the driver folds it into the query while packing it. */
typedef float (*flex_scale_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q);
/* The extra logit in the denominator of one row. */
typedef float (*flex_sink_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q);
/* A whole row through a clause, in f32. Of `query` and `output` the row is (b, h, position), of `key` that of the KV head of h and of the key `position`. `in` and
 * `out` hold D floats, or DV for `output`, and do not overlap. */
typedef void (*flex_row_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t position, const float* in, float* out);
/* State of the tile [q0, q1) x [k0, k1), both non-empty: a flex_tile_state_value. Sound: never SKIP or FULL wrongly. */
typedef int32_t (*flex_tile_state_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q0, int32_t q1, int32_t k0, int32_t k1);
/* Keys that rows [q0, q1) may attend to lie in [range[0], range[1]), a subset of [0, K). Sound, not always tight. */
typedef void (*flex_kv_range_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q0, int32_t q1, int32_t* range);
/* The transpose: rows that may attend to a key of [k0, k1) lie in [range[0], range[1]), a subset of [0, Q). */
typedef void (*flex_q_range_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t k0, int32_t k1, int32_t* range);
/* Score, mask, running maximum, weights and sums of one block. */
typedef void (*flex_softmax_fn)(const struct flex_block*);
/* Weights, derivatives, and the adjoints of captured tensors that the score clause reads. */
typedef void (*flex_backward_fn)(const struct flex_grad_block*);
/* Adds d_scale, the derivative of the loss by the scale of one row, times the adjoints of what the scale clause reads. */
typedef void (*flex_scale_backward_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q, float d_scale, float* const* d_tensors);
/* The same of the sink of one row. */
typedef void (*flex_sink_backward_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q, float d_sink, float* const* d_tensors);
/* For pictures and counts: out[i] = mask(b, h, q, k0 + i), 0 or 1, for i in [0, n). */
typedef void (*flex_mask_row_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q, int32_t k0, int32_t n, uint8_t* out);
/* In place: s[i] = score clause applied to s[i]; the mask is not applied. */
typedef void (*flex_score_row_fn)(const struct flex_args*, int32_t b, int32_t h, int32_t q, int32_t k0, int32_t n, float* s);

/* The flags of a summary, a sum of flex_summary_flag; -1 if there is none of this index. They are numbered from 0. */
typedef int32_t (*flex_summary_flags_fn)(int32_t index);
/* out[i] = the value at position p + i of the summary's axis, for i in [0, n). */
typedef void (*flex_summary_values_fn)(const struct flex_args*, int32_t index, int32_t b, int32_t h, int32_t p, int32_t n, int32_t* out);

/* What generated code for one CPU level exports, under the symbol flex_cpu_kernel_<variant name>. What only some attentions have stands at the end and is null
 * in the others. */
struct flex_cpu_kernel {
    uint32_t abi_version;
    uint32_t lanes; /* f32 lanes of a vector: 4, 8 or 16 */
    flex_scale_fn scale;
    flex_tile_state_fn tile_state;
    flex_kv_range_fn kv_range;
    flex_q_range_fn q_range;
    flex_softmax_fn softmax;
    flex_mask_row_fn mask_row;
    flex_score_row_fn score_row;
    flex_summary_flags_fn summary_flags;
    flex_summary_values_fn summary_values;
    flex_backward_fn backward; /* compiled with gradients, and so the next */
    flex_scale_backward_fn scale_backward;
    flex_sink_fn sink;
    flex_sink_backward_fn sink_backward;
    flex_row_fn query, key, output;
    int32_t key_reads_b; /* nonzero: the key clause differs from batch to batch */
    int32_t normalize;   /* a flex_normalize */
};

#ifdef __cplusplus
}
#endif
