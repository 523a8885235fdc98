/* The query of a flex_summary: least and greatest value over a range. Shared by generated code (as bitcode) and the
 * runtime, which builds the records; plain C, no library. */
#pragma once

#include "runtime/abi.h"

#define FLEX_SUMMARY_BLOCK 8

/* A record: blocks * FLEX_SUMMARY_BLOCK values, then 2 * blocks pairs {least, greatest}: the pair of block i is number blocks + i, that of
 * an inner node i covers the nodes 2i and 2i + 1 (a bottom-up segment tree, for any number of blocks). */
static inline int64_t flex_summary_record(int32_t blocks) {
    return (int64_t)blocks * (FLEX_SUMMARY_BLOCK + 4);
}

/* Over positions [lo, hi], 0 <= lo <= hi: the least value in the low 32 bits, the greatest in the high ones. */
static inline int64_t flex_summary_query(const struct flex_summary* summary, int32_t b, int32_t h, int32_t lo, int32_t hi) {
    const int32_t* values = summary->data + b * summary->b_stride + h * summary->h_stride;
    const int32_t* pairs = values + (int64_t)summary->blocks * FLEX_SUMMARY_BLOCK;
    int32_t least = INT32_MAX, greatest = INT32_MIN;
    int64_t first = ((int64_t)lo + FLEX_SUMMARY_BLOCK - 1) / FLEX_SUMMARY_BLOCK; /* whole blocks [first, last) */
    int64_t last = ((int64_t)hi + 1) / FLEX_SUMMARY_BLOCK;
    int64_t head_end = first < last ? first * FLEX_SUMMARY_BLOCK : (int64_t)hi + 1;
    for (int64_t i = lo; i < head_end; i++) {
        least = values[i] < least ? values[i] : least;
        greatest = values[i] > greatest ? values[i] : greatest;
    }
    if (first < last) {
        for (int64_t i = last * FLEX_SUMMARY_BLOCK; i <= hi; i++) {
            least = values[i] < least ? values[i] : least;
            greatest = values[i] > greatest ? values[i] : greatest;
        }
        for (int64_t l = first + summary->blocks, r = last + summary->blocks; l < r; l /= 2, r /= 2) {
            if (l & 1) {
                least = pairs[2 * l] < least ? pairs[2 * l] : least;
                greatest = pairs[2 * l + 1] > greatest ? pairs[2 * l + 1] : greatest;
                l++;
            }
            if (r & 1) {
                r--;
                least = pairs[2 * r] < least ? pairs[2 * r] : least;
                greatest = pairs[2 * r + 1] > greatest ? pairs[2 * r + 1] : greatest;
            }
        }
    }
    return (int64_t)((uint64_t)(uint32_t)least | (uint64_t)(uint32_t)greatest << 32);
}
