// Affine forms over extents, c + sum of factor * extent, and what is known about extents: the arithmetic under the interval analysis.
// A form with more terms than kMaxTerms, or numbers beyond int64, does not exist: operations then give nothing.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

struct Affine {
    static constexpr size_t kMaxTerms = 4;
    struct Term {
        uint32_t extent;
        int64_t factor;  // never 0
        friend bool operator==(const Term&, const Term&) = default;
    };
    int64_t constant = 0;
    std::array<Term, kMaxTerms> terms{};  // the first `count`, by ascending extent
    uint8_t count = 0;

    friend bool operator==(const Affine& a, const Affine& b) {
        if (a.constant != b.constant || a.count != b.count) return false;
        for (size_t i = 0; i < a.count; ++i)
            if (!(a.terms[i] == b.terms[i])) return false;
        return true;
    }
};

[[nodiscard]] Affine affine_constant(int64_t value);
[[nodiscard]] Affine affine_extent(uint32_t extent_id, int64_t factor = 1, int64_t constant = 0);
[[nodiscard]] std::optional<Affine> add(const Affine& a, const Affine& b);
[[nodiscard]] std::optional<Affine> scaled(const Affine& a, int64_t factor);
[[nodiscard]] std::optional<Affine> subtract(const Affine& a, const Affine& b);

/// Least values of extents; none exceeds INT_MAX, and H >= HKV.
class ExtentFacts {
public:
    explicit ExtentFacts(size_t free_extents);
    void assume_positive(uint32_t extent_id) { least_[extent_id] = std::max<int64_t>(least_[extent_id], 1); }
    [[nodiscard]] int64_t least(uint32_t extent_id) const { return least_[extent_id]; }

    /// The largest and smallest value that a form takes, saturated far beyond i32.
    [[nodiscard]] int64_t max(const Affine& form) const;
    [[nodiscard]] int64_t min(const Affine& form) const;
    /// a <= b for all extents?
    [[nodiscard]] bool at_most(const Affine& a, const Affine& b) const;

private:
    std::vector<int64_t> least_;
};

}  // namespace flexc::ir
