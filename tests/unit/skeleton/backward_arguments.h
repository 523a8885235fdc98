// What the test variant of the backward pass captures: laid out behind flex_gpu_backward, read by its hooks (backward_hooks.h) and by the reference.
#pragma once

#include "tests/unit/skeleton/arguments.h"

/// A score clause that reads each kind of gradient:
///     x * head[h] + row[h, q] + key[b, k] / 2 + table[(q + 3 k) % kTable]      with x = scale * gain[h] * dot
/// and slope by x, so that `kScoreLearned` is a variant of its own beside those of TestScore.
constexpr int32_t kScoreLearned = 100, kTable = 16;
enum TestGradient { kHead, kRow, kKey, kBucket, kGain, kTestGradients };

struct BackwardTestArguments {
    struct TestArguments test;
    uint64_t value[kTestGradients];  // f32: [H], [H, Q], [B, K], [kTable], [H]
    struct flex_gpu_gradient gradient[kTestGradients];
};
