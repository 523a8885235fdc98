#include "tools/line_diff.h"

#include <algorithm>
#include <vector>

namespace flexc::tools {
namespace {

constexpr size_t kContext = 1;
constexpr size_t kMaxCells = 4'000'000;  // of the table below; larger differences are shown as one block

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size() - 1);
        lines.push_back(text.substr(0, end + (text[end] != '\n')));
        text.remove_prefix(end + 1);
    }
    return lines;
}

struct Step {
    char sign;  // ' ', '-', '+'
    std::string_view line;
    size_t number;  // in `before`, from 1
};

/// The steps between the common head and tail, by the longest common subsequence.
void compare(const std::vector<std::string_view>& a, size_t a0, size_t a1, const std::vector<std::string_view>& b, size_t b0, size_t b1,
             std::vector<Step>& steps) {
    const size_t n = a1 - a0, m = b1 - b0;
    size_t i = 0, j = 0;
    if ((n + 1) * (m + 1) <= kMaxCells) {
        std::vector<uint32_t> common((n + 1) * (m + 1), 0);
        const auto at = [&](size_t x, size_t y) -> uint32_t& { return common[x * (m + 1) + y]; };
        for (size_t x = n; x-- > 0;)
            for (size_t y = m; y-- > 0;) at(x, y) = a[a0 + x] == b[b0 + y] ? at(x + 1, y + 1) + 1 : std::max(at(x + 1, y), at(x, y + 1));
        while (i < n && j < m) {
            if (a[a0 + i] == b[b0 + j]) {
                steps.push_back({' ', a[a0 + i], a0 + i + 1});
                ++i, ++j;
            } else if (at(i + 1, j) >= at(i, j + 1)) {
                steps.push_back({'-', a[a0 + i], a0 + i + 1});
                ++i;
            } else {
                steps.push_back({'+', b[b0 + j], a0 + i + 1});
                ++j;
            }
        }
    }
    for (; i < n; ++i) steps.push_back({'-', a[a0 + i], a0 + i + 1});
    for (; j < m; ++j) steps.push_back({'+', b[b0 + j], a0 + i + 1});
}

}  // namespace

std::string line_diff(std::string_view before, std::string_view after, size_t max_lines) {
    if (before == after) return {};
    const std::vector<std::string_view> a = lines_of(before), b = lines_of(after);
    size_t head = 0;
    while (head < std::min(a.size(), b.size()) && a[head] == b[head]) ++head;
    size_t tail = 0;
    while (tail < std::min(a.size(), b.size()) - head && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;

    std::vector<Step> steps;
    for (size_t i = head - std::min(head, kContext); i < head; ++i) steps.push_back({' ', a[i], i + 1});
    compare(a, head, a.size() - tail, b, head, b.size() - tail, steps);
    for (size_t i = a.size() - tail; i < std::min(a.size(), a.size() - tail + kContext); ++i) steps.push_back({' ', a[i], i + 1});

    std::vector<bool> shown(steps.size(), false);
    for (size_t i = 0; i < steps.size(); ++i)
        for (size_t j = i - std::min(i, kContext); steps[i].sign != ' ' && j <= std::min(i + kContext, steps.size() - 1); ++j)
            shown[j] = true;
    std::string out;
    size_t lines = 0, left = 0;
    for (size_t i = 0; i < steps.size(); ++i) {
        if (!shown[i]) continue;
        if (lines >= max_lines) {
            ++left;
            continue;
        }
        if (i == 0 || !shown[i - 1]) out += "@@ line " + std::to_string(steps[i].number) + " @@\n";
        std::string line(steps[i].line);
        if (line.ends_with('\r')) line.replace(line.size() - 1, 1, "^M");
        out += steps[i].sign + line + "\n";
        ++lines;
    }
    if (lines == 0) return "the last line has no end, or the line ends differ\n";
    if (left > 0) out += "... and " + std::to_string(left) + " more lines\n";
    return out;
}

}  // namespace flexc::tools
