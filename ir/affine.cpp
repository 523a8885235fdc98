#include "ir/affine.h"

#include <algorithm>
#include <limits>

namespace flexc::ir {

namespace {

constexpr int64_t kMostExtent = std::numeric_limits<int32_t>::max();
constexpr int64_t kFar = int64_t{1} << 60;

int64_t saturate(__int128 value) {
    return static_cast<int64_t>(std::clamp<__int128>(value, -__int128{kFar}, __int128{kFar}));
}
bool is_far(int64_t value) {
    return value > kFar || value < -kFar;
}

}  // namespace

Affine affine_constant(int64_t value) {
    Affine form;
    form.constant = value;
    return form;
}

Affine affine_extent(uint32_t extent_id, int64_t factor, int64_t constant) {
    Affine form;
    form.constant = constant;
    if (factor != 0) form.terms[form.count++] = {extent_id, factor};
    return form;
}

std::optional<Affine> add(const Affine& a, const Affine& b) {
    Affine sum;
    sum.constant = a.constant + b.constant;
    if (is_far(sum.constant)) return std::nullopt;
    size_t i = 0, j = 0;
    while (i < a.count || j < b.count) {
        Affine::Term term{};
        if (j == b.count || (i < a.count && a.terms[i].extent < b.terms[j].extent)) {
            term = a.terms[i++];
        } else if (i == a.count || b.terms[j].extent < a.terms[i].extent) {
            term = b.terms[j++];
        } else {
            term = {a.terms[i].extent, a.terms[i].factor + b.terms[j].factor};
            ++i, ++j;
        }
        if (term.factor == 0) continue;
        if (is_far(term.factor) || sum.count == Affine::kMaxTerms) return std::nullopt;
        sum.terms[sum.count++] = term;
    }
    return sum;
}

std::optional<Affine> scaled(const Affine& a, int64_t factor) {
    Affine result;
    if (factor == 0) return result;
    if (__builtin_mul_overflow(a.constant, factor, &result.constant) || is_far(result.constant)) return std::nullopt;
    for (size_t i = 0; i < a.count; ++i) {
        Affine::Term term = a.terms[i];
        if (__builtin_mul_overflow(term.factor, factor, &term.factor) || is_far(term.factor)) return std::nullopt;
        result.terms[result.count++] = term;
    }
    return result;
}

std::optional<Affine> subtract(const Affine& a, const Affine& b) {
    const auto negated = scaled(b, -1);
    return negated ? add(a, *negated) : std::nullopt;
}

ExtentFacts::ExtentFacts(size_t free_extents) : least_(kBuiltinExtents + free_extents, 0) {
    std::fill_n(least_.begin(), kBuiltinExtents, 1);
}

int64_t ExtentFacts::max(const Affine& form) const {
    // -a H + b HKV <= -(a - t) H + (b - t) HKV for t = min(a, b), since H >= HKV.
    constexpr auto kH = static_cast<uint32_t>(ExtentVar::H), kHkv = static_cast<uint32_t>(ExtentVar::HKV);
    int64_t heads = 0, kv_heads = 0;
    __int128 sum = form.constant;
    const auto add_term = [&](uint32_t extent, int64_t factor) { sum += __int128{factor} * (factor > 0 ? kMostExtent : least_[extent]); };
    for (size_t i = 0; i < form.count; ++i) {
        const Affine::Term& term = form.terms[i];
        if (term.extent == kH)
            heads = term.factor;
        else if (term.extent == kHkv)
            kv_heads = term.factor;
        else
            add_term(term.extent, term.factor);
    }
    if (heads < 0 && kv_heads > 0) {
        const int64_t shared = std::min(-heads, kv_heads);
        heads += shared;
        kv_heads -= shared;
    }
    add_term(kH, heads);
    add_term(kHkv, kv_heads);
    return saturate(sum);
}

int64_t ExtentFacts::min(const Affine& form) const {
    const auto negated = scaled(form, -1);
    return negated ? -max(*negated) : -kFar;
}

bool ExtentFacts::at_most(const Affine& a, const Affine& b) const {
    const auto difference = subtract(a, b);
    return difference && max(*difference) <= 0;
}

}  // namespace flexc::ir
