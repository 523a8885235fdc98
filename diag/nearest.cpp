#include <algorithm>
#include <array>
#include <cctype>

#include "diag/diagnostic.h"

namespace flexc::diag {

namespace {

constexpr size_t kLongest = 64;  // longer names are not compared

/// Optimal string alignment: insert, delete, replace and the swap of two neighbours cost 1 each.
size_t edit_distance(std::string_view a, std::string_view b) {
    std::array<std::array<size_t, kLongest + 1>, 3> rows{};
    for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        auto& row = rows[i % 3];
        const auto& above = rows[(i + 2) % 3];
        const auto& above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], above2[j - 2] + 1);
        }
    }
    return rows[a.size() % 3][b.size()];
}

std::string lower(std::string_view text) {
    std::string result(text);
    for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return result;
}

}  // namespace

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
    if (name.empty() || name.size() > kLongest) return {};
    const std::string wanted = lower(name);
    // One edit for short names, a third of the length for long ones; a name of one letter has no neighbours.
    const size_t limit = std::max<size_t>(name.size() >= 2, name.size() / 3);
    std::string best;
    size_t best_distance = limit + 1;
    for (const std::string& candidate : candidates) {
        if (candidate.empty() || candidate.size() > kLongest || candidate == name) continue;
        const size_t gap = candidate.size() > name.size() ? candidate.size() - name.size() : name.size() - candidate.size();
        if (gap > limit) continue;
        const size_t distance = edit_distance(wanted, lower(candidate));
        if (distance >= std::max(name.size(), candidate.size())) continue;  // nothing in common
        if (distance < best_distance || (distance == best_distance && !best.empty() && candidate < best)) {
            best = candidate;
            best_distance = distance;
        }
    }
    return best;
}

}  // namespace flexc::diag
