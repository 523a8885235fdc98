#include "tools/picture/picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace flexc::picture {
namespace {

Colour mix(Colour a, Colour b, double t) {
    const auto channel = [&](uint8_t x, uint8_t y) { return static_cast<uint8_t>(std::lround(x + (static_cast<double>(y) - x) * t)); };
    return {channel(a.r, b.r), channel(a.g, b.g), channel(a.b, b.b)};
}

constexpr Colour kKept{0x0b, 0x5f, 0xa5};
constexpr Colour kMasked{0xec, 0xee, 0xf1};
constexpr Colour kStays{0xa9, 0xc3, 0xdd}, kGained{0x00, 0x7a, 0x5e}, kLost{0xd5, 0x5e, 0x00};

}  // namespace

Picture Picture::sized(int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end, int limit) {
    Picture p;
    p.q_begin = q_begin;
    p.q_end = q_end;
    p.k_begin = k_begin;
    p.k_end = k_end;
    p.rows = static_cast<int>(std::min<int64_t>(q_end - q_begin, limit));
    p.cols = static_cast<int>(std::min<int64_t>(k_end - k_begin, limit));
    const size_t cells = static_cast<size_t>(p.rows) * static_cast<size_t>(p.cols);
    p.total.resize(cells);
    p.kept.resize(cells);
    p.sum.resize(cells);
    for (int r = 0; r < p.rows; ++r)
        for (int c = 0; c < p.cols; ++c)
            p.total[p.at(r, c)] = static_cast<double>(p.q_edge(r + 1) - p.q_edge(r)) * static_cast<double>(p.k_edge(c + 1) - p.k_edge(c));
    return p;
}

double Picture::share(int row, int col) const {
    return kept[at(row, col)] / total[at(row, col)];
}

double Picture::value(int row, int col) const {
    const size_t i = at(row, col);
    return kept[i] > 0 ? sum[i] / kept[i] : std::numeric_limits<double>::quiet_NaN();
}

Picture shrink(const Picture& picture, int rows, int cols) {
    rows = std::min(rows, picture.rows);
    cols = std::min(cols, picture.cols);
    Picture out = picture;
    out.rows = rows;
    out.cols = cols;
    const size_t cells = static_cast<size_t>(rows) * static_cast<size_t>(cols);
    out.total.assign(cells, 0);
    out.kept.assign(cells, 0);
    out.sum.assign(cells, 0);
    out.gained.assign(picture.gained.empty() ? 0 : cells, 0);
    out.lost.assign(picture.lost.empty() ? 0 : cells, 0);
    for (int r = 0; r < picture.rows; ++r) {
        for (int c = 0; c < picture.cols; ++c) {
            const size_t to =
                out.at(static_cast<int>(int64_t{r} * rows / picture.rows), static_cast<int>(int64_t{c} * cols / picture.cols));
            const size_t from = picture.at(r, c);
            out.total[to] += picture.total[from];
            out.kept[to] += picture.kept[from];
            out.sum[to] += picture.sum[from];
            if (!picture.is_difference()) continue;
            out.gained[to] += picture.gained[from];
            out.lost[to] += picture.lost[from];
        }
    }
    return out;
}

bool has_mixed_cells(const std::vector<Picture>& panels) {
    for (const Picture& panel : panels)
        for (size_t i = 0; i < panel.kept.size(); ++i)
            if (panel.kept[i] > 0 && panel.kept[i] < panel.total[i]) return true;
    return false;
}

ValueRange value_range(const std::vector<Picture>& panels) {
    ValueRange range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const Picture& panel : panels) {
        for (int r = 0; r < panel.rows; ++r) {
            for (int c = 0; c < panel.cols; ++c) {
                const double v = panel.value(r, c);
                if (!std::isfinite(v)) continue;
                range.low = std::min(range.low, v);
                range.high = std::max(range.high, v);
            }
        }
    }
    return range.low <= range.high ? range : ValueRange{};
}

Colour mask_colour(double share) {
    return mix(kMasked, kKept, share);
}

Colour score_colour(double value, ValueRange range) {
    constexpr Colour kNegative[] = {{0xf7, 0xf7, 0xf7}, {0x92, 0xc5, 0xde}, {0x43, 0x93, 0xc3}, {0x05, 0x30, 0x61}};
    constexpr Colour kPositive[] = {{0xf7, 0xf7, 0xf7}, {0xfd, 0xb8, 0x63}, {0xe0, 0x82, 0x14}, {0x7f, 0x3b, 0x08}};
    const double span = std::max(std::fabs(range.low), std::fabs(range.high));
    if (std::isnan(value)) return kMaskedScore;
    const double t = span == 0 ? 0 : std::clamp(std::fabs(value) / span, 0.0, 1.0) * 3;
    const auto step = std::min(2, static_cast<int>(t));
    const Colour* scale = value < 0 ? kNegative : kPositive;
    return mix(scale[step], scale[step + 1], t - step);
}

Colour difference_colour(bool gained, bool lost) {
    return gained && lost ? mix(kGained, kLost, 0.5) : gained ? kGained : lost ? kLost : kStays;
}

Colour cell_colour(const Picture& picture, int row, int col, ValueRange range) {
    const size_t i = picture.at(row, col);
    // A change of one element in a thousand is what is looked for, so it is not mixed away.
    if (picture.is_difference() && (picture.gained[i] > 0 || picture.lost[i] > 0))
        return difference_colour(picture.gained[i] > 0, picture.lost[i] > 0);
    if (picture.is_difference()) return mix(kMasked, kStays, picture.share(row, col));
    if (!picture.is_score) return mask_colour(picture.share(row, col));
    return mix(kMaskedScore, score_colour(picture.value(row, col), range), picture.share(row, col));
}

std::vector<int64_t> ticks(int64_t begin, int64_t end, int count) {
    int64_t step = 1;
    while ((end - begin) / step > std::max(1, count)) step *= 2;
    std::vector<int64_t> out;
    for (int64_t at = (begin + step - 1) / step * step; at < end; at += step) out.push_back(at);
    return out;
}

std::string value_text(double value) {
    return fmt::format("{:.4g}", value == 0 ? 0.0 : value);
}

}  // namespace flexc::picture
