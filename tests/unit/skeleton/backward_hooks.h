// The hooks of the test variant of the backward pass: those of hooks.h, and derivatives.
#pragma once

#define FLEX_TEST_BACKWARD
#include "tests/unit/skeleton/hooks.h"

FLEX_HOOK const BackwardTestArguments* backward_arguments_of(const flex_gpu_launch* launch) {
    return reinterpret_cast<const BackwardTestArguments*>(reinterpret_cast<const flex_gpu_backward*>(launch) + 1);
}
FLEX_HOOK float test_value(const flex_gpu_launch* launch, int32_t gradient, int32_t index) {
    return *reinterpret_cast<const float*>(backward_arguments_of(launch)->value[gradient] + uint64_t(index * 4));
}
FLEX_HOOK bool is_learned(const flex_gpu_launch* launch) {
    return arguments_of(launch)->score == kScoreLearned;
}
// What is folded has no score clause and no gradients of captured tensors.
constexpr bool kTestFolded = (FLEX_TEST_PROPERTIES & (kPlainScore | kDefaultScale)) == (kPlainScore | kDefaultScale);

extern "C" {

FLEX_HOOK float learned_score(const flex_gpu_launch* launch, const RowState* row, int32_t b, int32_t h, int32_t q, int32_t k, float x) {
    const int32_t keys = arguments_of(launch)->extents[kExtentK];
    return x * test_value(launch, kHead, h) + __builtin_bit_cast(float, row->slot[2]) + test_value(launch, kKey, b * keys + k) * 0.5f +
           test_value(launch, kBucket, (q + 3 * k) % kTable);
}
FLEX_HOOK float flex_hook_score_gradient(const flex_gpu_launch* launch, const RowState*, int32_t, int32_t h, int32_t q, int32_t k, float) {
    const TestArguments* args = arguments_of(launch);
    switch (args->score) {
        case kScoreLearned: return test_value(launch, kHead, h);
        case kScoreTimes: return args->factor;
        case kScoreConstant:
        case kScoreSteps: return 0;
        case kScoreOne: return q == 3 && k == args->amount ? 0.0f : 1.0f;
        default: return 1;
    }
}
FLEX_HOOK int32_t flex_hook_gradient_count() {
    return kTestFolded ? 0 : kTestGradients;
}
FLEX_HOOK const flex_gpu_gradient* flex_hook_gradient(const flex_gpu_launch* launch, int32_t gradient) {
    return &backward_arguments_of(launch)->gradient[gradient];
}
FLEX_HOOK int32_t flex_hook_summed_count() {
    return kTestFolded ? 0 : 3;
}
FLEX_HOOK int32_t flex_hook_summed_kind(int32_t read) {
    return read == 0 ? kSummedByHead : read == 1 ? kSummedByRow : kSummedByKey;
}
FLEX_HOOK float flex_hook_summed_adjoint(const flex_gpu_launch* launch, const RowState*, int32_t, int32_t, int32_t, int32_t, float x,
                                         int32_t read) {
    if (!is_learned(launch)) return 0;
    return read == 0 ? x : read == 1 ? 1.0f : 0.5f;
}
void flex_add(const flex_gpu_launch* launch, int32_t gradient, int64_t offset, float value);
FLEX_HOOK void flex_hook_add_summed(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q, int32_t k, int32_t read, float value) {
    const int32_t* extents = arguments_of(launch)->extents;
    if (read == 0) flex_add(launch, kHead, h, value);
    if (read == 1) flex_add(launch, kRow, int64_t(h) * extents[kExtentQ] + q, value);
    if (read == 2) flex_add(launch, kKey, int64_t(b) * extents[kExtentK] + k, value);
}
FLEX_HOOK bool flex_hook_has_scatter() {
    return !kTestFolded;
}
FLEX_HOOK void flex_hook_scatter(const flex_gpu_launch* launch, const RowState*, int32_t, int32_t, int32_t q, int32_t k, float, float ds) {
    if (is_learned(launch)) flex_add(launch, kBucket, (q + 3 * k) % kTable, ds);
}
FLEX_HOOK void flex_hook_bounds(const flex_gpu_launch* launch, const RowState*, int32_t, int32_t, int32_t, int32_t, float x, float ds,
                                float* bounds) {
    if (!is_learned(launch)) return;
    bounds[kHead] += __builtin_fabsf(ds * x);
    bounds[kRow] += __builtin_fabsf(ds);
    bounds[kKey] += __builtin_fabsf(ds * 0.5f);
    bounds[kBucket] += __builtin_fabsf(ds);
}
FLEX_HOOK bool flex_hook_has_scale_gradient() {
    return !kTestFolded;
}
FLEX_HOOK void flex_hook_scatter_scale(const flex_gpu_launch* launch, int32_t, int32_t h, int32_t, float d_scale) {
    flex_add(launch, kGain, h, d_scale * arguments_of(launch)->scale);
}
FLEX_HOOK void flex_hook_bounds_scale(const flex_gpu_launch* launch, int32_t, int32_t, int32_t, float d_scale, float* bounds) {
    bounds[kGain] += __builtin_fabsf(d_scale * arguments_of(launch)->scale);
}

}  // extern "C"
