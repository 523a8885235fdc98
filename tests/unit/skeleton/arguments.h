// What the test variant captures: laid out behind flex_gpu_launch, read by its hooks (hooks.h) and by the reference (reference.cpp).
#pragma once

#include <stdint.h>

#include "runtime/gpu_abi.h"

enum TestMask {
    kMaskAll,
    kMaskCausal,     // q >= k
    kMaskWindow,     // q >= k and q - k <= amount
    kMaskScattered,  // (3 q + 7 k) % 5 < 2, no row of q % 5 == 4: nothing is known of a tile
    kMaskHeads,      // k < amount * (h + 1)
    kMaskDocument,   // doc[q] == doc[k]
    kMaskFrom,       // k >= amount: the first tiles are empty
    kMaskNothing,
};
enum TestScore {
    kScorePlain,
    kScoreAlibi,     // score + factor * (h + 1) * (k - q)
    kScoreTimes,     // score * factor
    kScoreConstant,  // factor
    kScoreHide,      // -inf where k % 4 == 1
    kScoreOne,       // `factor` (NaN, inf) at q == 3, k == amount; else the score
    kScoreSteps,     // factor * (k // 50): rows whose greatest score grows
};

struct TestArguments {
    int32_t extents[7];  // B H HKV Q K D DV
    float scale;
    int32_t mask, score, amount;
    float factor;
    uint64_t doc;                          // i32 [K]
    struct flex_gpu_summary summaries[2];  // of doc along the queries and the keys
};
