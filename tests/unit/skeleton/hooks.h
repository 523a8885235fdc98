// The hooks of the test variant, as the compiler would generate them: which mask and which score is an argument, so that one kernel serves all
// tests of an instance. FLEX_TEST_PROPERTIES is the sum of properties to be tested.
#pragma once

#include "backend/skeletons/nvptx/hooks.h"
#include "tests/unit/skeleton/backward_arguments.h"

#define FLEX_HOOK inline __attribute__((always_inline))

FLEX_HOOK const TestArguments* arguments_of(const flex_gpu_launch* launch) {
#ifdef FLEX_TEST_BACKWARD
    return reinterpret_cast<const TestArguments*>(reinterpret_cast<const flex_gpu_backward*>(launch) + 1);
#else
    return reinterpret_cast<const TestArguments*>(launch + 1);
#endif
}

#ifdef FLEX_TEST_BACKWARD
extern "C" float learned_score(const flex_gpu_launch*, const RowState*, int32_t, int32_t, int32_t, int32_t, float);
float test_value(const flex_gpu_launch* launch, int32_t gradient, int32_t index);
#endif

extern "C" {

FLEX_HOOK uint32_t flex_hook_properties() {
    return FLEX_TEST_PROPERTIES;
}
FLEX_HOOK int32_t flex_hook_extent(const flex_gpu_launch* launch, int32_t which) {
    return arguments_of(launch)->extents[which];
}
FLEX_HOOK void flex_hook_row(const flex_gpu_launch* launch, int32_t, int32_t h, int32_t q, RowState* row) {
    const TestArguments* args = arguments_of(launch);
    row->slot[0] = args->mask == kMaskDocument ? uint32_t(reinterpret_cast<const int32_t*>(args->doc)[q]) : 0;
    row->slot[1] = __builtin_bit_cast(uint32_t, args->factor* float(h + 1));
#ifdef FLEX_TEST_BACKWARD
    row->slot[2] = __builtin_bit_cast(uint32_t, test_value(launch, kRow, h * args->extents[kExtentQ] + q));
#endif
}
FLEX_HOOK float flex_hook_score(const flex_gpu_launch* launch, const RowState* row, [[maybe_unused]] int32_t b, [[maybe_unused]] int32_t h,
                                int32_t q, int32_t k, float score) {
    const TestArguments* args = arguments_of(launch);
    switch (args->score) {
        case kScoreAlibi: return score + __builtin_bit_cast(float, row->slot[1]) * float(k - q);
        case kScoreTimes: return score * args->factor;
        case kScoreConstant: return args->factor;
        case kScoreHide: return k % 4 == 1 ? -__builtin_inff() : score;
        case kScoreOne: return q == 3 && k == args->amount ? args->factor : score;
        case kScoreSteps: return args->factor * float(k / 50);
#ifdef FLEX_TEST_BACKWARD
        case kScoreLearned: return learned_score(launch, row, b, h, q, k, score);
#endif
        default: return score;
    }
}
FLEX_HOOK bool flex_hook_mask(const flex_gpu_launch* launch, const RowState* row, int32_t, int32_t h, int32_t q, int32_t k) {
    const TestArguments* args = arguments_of(launch);
    switch (args->mask) {
        case kMaskCausal: return q >= k;
        case kMaskWindow: return q >= k && q - k <= args->amount;
        case kMaskScattered: return (3 * q + 7 * k) % 5 < 2 && q % 5 != 4;
        case kMaskHeads: return k < args->amount * (h + 1);
        case kMaskDocument: return int32_t(row->slot[0]) == reinterpret_cast<const int32_t*>(args->doc)[k];
        case kMaskFrom: return k >= args->amount;
        case kMaskNothing: return false;
        default: return true;
    }
}
FLEX_HOOK float flex_hook_scale(const flex_gpu_launch* launch, int32_t, [[maybe_unused]] int32_t h, int32_t) {
#ifdef FLEX_TEST_BACKWARD
    if (!(FLEX_TEST_PROPERTIES & kDefaultScale)) return arguments_of(launch)->scale * test_value(launch, kGain, h);
#endif
    return arguments_of(launch)->scale;
}
FLEX_HOOK int32_t flex_hook_summary_count() {
    return 2;
}
FLEX_HOOK int32_t flex_hook_summary_flags(int32_t index) {
    return index == 1 ? FLEX_SUMMARY_OF_KEYS : 0;
}
FLEX_HOOK int32_t flex_hook_summary_value(const flex_gpu_launch* launch, int32_t, int32_t, int32_t, int32_t p) {
    return reinterpret_cast<const int32_t*>(arguments_of(launch)->doc)[p];
}
FLEX_HOOK const flex_gpu_summary* flex_hook_summary(const flex_gpu_launch* launch, int32_t index) {
    return &arguments_of(launch)->summaries[index];
}
int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo, int32_t hi);

FLEX_HOOK int32_t flex_hook_tile_state(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q_lo, int32_t q_hi, int32_t k_lo,
                                       int32_t k_hi) {
    const TestArguments* args = arguments_of(launch);
    const auto state = [](bool some, bool all) { return !some ? FLEX_TILE_SKIP : all ? FLEX_TILE_FULL : FLEX_TILE_PARTIAL; };
    switch (args->mask) {
        case kMaskCausal: return state(k_lo <= q_hi, k_hi <= q_lo);
        case kMaskWindow: return state(k_lo <= q_hi && q_lo - k_hi <= args->amount, k_hi <= q_lo && q_hi - k_lo <= args->amount);
        case kMaskScattered: return FLEX_TILE_PARTIAL;
        case kMaskHeads: return state(k_lo < args->amount * (h + 1), k_hi < args->amount * (h + 1));
        case kMaskDocument: {
            const int64_t q = flex_summary_range(launch, 0, b, h, q_lo, q_hi), k = flex_summary_range(launch, 1, b, h, k_lo, k_hi);
            const int32_t q_least = int32_t(q), q_most = int32_t(q >> 32), k_least = int32_t(k), k_most = int32_t(k >> 32);
            return state(q_least <= k_most && k_least <= q_most, q_least == q_most && k_least == k_most && q_least == k_least);
        }
        case kMaskFrom: return state(k_hi >= args->amount, k_lo >= args->amount);
        case kMaskNothing: return FLEX_TILE_SKIP;
        default: return FLEX_TILE_FULL;
    }
}

}  // extern "C"
