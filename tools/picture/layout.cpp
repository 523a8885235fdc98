// Panels in rows of up to four. One panel: title and subtitle, the k axis above the plot, the q axis to its left, cells. Below all: the legend.
#include <algorithm>
#include <cmath>

#include "tools/picture/canvas.h"

namespace flexc::picture {
namespace {

constexpr Colour kInk{0x1f, 0x24, 0x2b};
constexpr Colour kSoft{0x5c, 0x65, 0x70};
constexpr Colour kFrame{0x8a, 0x92, 0x9c};
constexpr Colour kTileLine{0xd5, 0x5e, 0x00};  // vermilion: seen on both blue and grey
constexpr int kPlot = 512;                     // aimed at, for the longer side of a plot; halved when there are several panels
constexpr int kMargin = 20;
constexpr int kGap = 28;  // between panels
constexpr int kTitle = 2 * (kGlyphHeight + 8);
constexpr int kAxis = kGlyphHeight + 12;  // tick labels and marks above the plot
constexpr int kLegend = 30 + kGlyphHeight;
constexpr int kPanelsInRow = 4;

struct Panel {
    int cell_w = 1, cell_h = 1;
    int left = 0;               // room for the q labels
    int width = 0, height = 0;  // everything
    [[nodiscard]] int plot_w(const Picture& p) const { return cell_w * p.cols; }
    [[nodiscard]] int plot_h(const Picture& p) const { return cell_h * p.rows; }
};

int text_width(const std::string& text) {
    return static_cast<int>(text.size()) * kGlyphWidth;
}

Panel measure(const Picture& p, bool single) {
    Panel out;
    const int aim = single ? kPlot : kPlot / 2;
    out.cell_w = out.cell_h = std::max(1, aim / std::max(p.rows, p.cols));
    // A single query over a long row of keys (decoding), or the reverse, would be a hair line.
    if (out.cell_h * p.rows < 32) out.cell_h = std::max(out.cell_h, 32 / p.rows);
    if (out.cell_w * p.cols < 32) out.cell_w = std::max(out.cell_w, 32 / p.cols);
    // The labels of q, and in the corner the names of the axes clear of the first label of k.
    out.left = std::max(static_cast<int>(std::to_string(p.q_end).size()) * kGlyphWidth + 2 * kGlyphWidth, 3 * kGlyphWidth + 16);
    const int text = std::max(text_width(p.title), text_width(p.subtitle));
    out.width = out.left + std::max(out.plot_w(p), text);
    out.height = kTitle + kAxis + out.plot_h(p);
    return out;
}

struct Placed {
    Panel panel;
    int x = 0, y = 0;
};

std::vector<Placed> place(const std::vector<Picture>& panels, Size* size) {
    std::vector<Placed> out;
    int x = kMargin, y = kMargin, row_height = 0;
    *size = {};
    for (size_t i = 0; i < panels.size(); ++i) {
        if (i != 0 && i % kPanelsInRow == 0) {
            x = kMargin;
            y += row_height + kGap;
            row_height = 0;
        }
        Placed placed{measure(panels[i], panels.size() == 1), x, y};
        x += placed.panel.width + kGap;
        row_height = std::max(row_height, placed.panel.height);
        size->width = std::max(size->width, x - kGap + kMargin);
        size->height = std::max(size->height, y + row_height + kLegend + kMargin);
        out.push_back(placed);
    }
    size->width = std::max(size->width, 420);  // the legend
    return out;
}

/// The pixel at which element `at` begins, along one axis.
int pixel(int64_t at, int64_t begin, int64_t end, int pixels) {
    return static_cast<int>(std::lround(static_cast<double>(at - begin) * pixels / static_cast<double>(end - begin)));
}

void draw_cells(const Picture& p, const Panel& panel, int x, int y, ValueRange range, Canvas& canvas) {
    for (int r = 0; r < p.rows; ++r) {
        for (int c = 0; c < p.cols;) {
            const Colour colour = cell_colour(p, r, c, range);
            int end = c + 1;
            while (end < p.cols && cell_colour(p, r, end, range) == colour) ++end;
            canvas.rect(x + c * panel.cell_w, y + r * panel.cell_h, (end - c) * panel.cell_w, panel.cell_h, colour);
            c = end;
        }
    }
    // White hair lines make single elements countable where they are large enough.
    const bool elements = p.rows == p.q_end - p.q_begin && p.cols == p.k_end - p.k_begin;
    if (elements && panel.cell_w >= 8 && panel.cell_h >= 8) {
        for (int c = 1; c < p.cols; ++c) canvas.rect(x + c * panel.cell_w, y, 1, panel.plot_h(p), kBackground);
        for (int r = 1; r < p.rows; ++r) canvas.rect(x, y + r * panel.cell_h, panel.plot_w(p), 1, kBackground);
    }
}

void draw_tiles(const Picture& p, const Panel& panel, int x, int y, Canvas& canvas) {
    if (p.tile_q <= 0 || p.tile_k <= 0) return;
    const auto next = [](int64_t begin, int64_t tile) { return (begin / tile + 1) * tile; };
    // Lines closer than this would hide what they divide.
    constexpr int64_t kNearest = 6;
    if (p.tile_k * panel.plot_w(p) >= kNearest * (p.k_end - p.k_begin))
        for (int64_t k = next(p.k_begin, p.tile_k); k < p.k_end; k += p.tile_k)
            canvas.rect(x + pixel(k, p.k_begin, p.k_end, panel.plot_w(p)), y, 1, panel.plot_h(p), kTileLine);
    if (p.tile_q * panel.plot_h(p) >= kNearest * (p.q_end - p.q_begin))
        for (int64_t q = next(p.q_begin, p.tile_q); q < p.q_end; q += p.tile_q)
            canvas.rect(x, y + pixel(q, p.q_begin, p.q_end, panel.plot_h(p)), panel.plot_w(p), 1, kTileLine);
}

void draw_axes(const Picture& p, const Panel& panel, int x, int y, Canvas& canvas) {
    const int w = panel.plot_w(p), h = panel.plot_h(p);
    canvas.rect(x - 1, y - 1, w + 2, 1, kFrame);
    canvas.rect(x - 1, y + h, w + 2, 1, kFrame);
    canvas.rect(x - 1, y, 1, h, kFrame);
    canvas.rect(x + w, y, 1, h, kFrame);
    // A tick stands at the middle of its element; a label needs room, and the axis names stand at the corner.
    const int widest = static_cast<int>(std::to_string(p.k_end).size()) * kGlyphWidth;
    for (int64_t k : ticks(p.k_begin, p.k_end, std::max(1, w / (widest + 2 * kGlyphWidth)))) {
        const int at = x + (pixel(k, p.k_begin, p.k_end, w) + pixel(k + 1, p.k_begin, p.k_end, w)) / 2;
        canvas.rect(at, y - 6, 1, 5, kFrame);
        canvas.text(at, y - 8 - kGlyphHeight, std::to_string(k), Anchor::Middle, kSoft);
    }
    for (int64_t q : ticks(p.q_begin, p.q_end, std::max(1, h / (2 * kGlyphHeight)))) {
        const int at = y + (pixel(q, p.q_begin, p.q_end, h) + pixel(q + 1, p.q_begin, p.q_end, h)) / 2;
        canvas.rect(x - 6, at, 5, 1, kFrame);
        canvas.text(x - 10, at - kGlyphHeight / 2, std::to_string(q), Anchor::End, kSoft);
    }
    canvas.text(x - panel.left, y - 8 - kGlyphHeight, "q\\k", Anchor::Start, kInk);
}

void draw_legend(const std::vector<Picture>& panels, int x, int y, ValueRange range, Canvas& canvas) {
    const auto swatch = [&](Colour colour, const std::string& label) {
        canvas.rect(x, y, kGlyphHeight, kGlyphHeight, kFrame);
        canvas.rect(x + 1, y + 1, kGlyphHeight - 2, kGlyphHeight - 2, colour);
        canvas.text(x + kGlyphHeight + 8, y, label, Anchor::Start, kInk);
        x += kGlyphHeight + 8 + text_width(label) + 24;
    };
    if (!panels.front().is_score) {
        swatch(mask_colour(1), "kept");
        swatch(mask_colour(0), "masked");
        if (has_mixed_cells(panels)) swatch(mask_colour(0.5), "in part");
        return;
    }
    constexpr int kBar = 160;
    const std::string low = value_text(range.low), high = value_text(range.high);
    canvas.text(x, y, low, Anchor::Start, kInk);
    x += text_width(low) + 4;
    canvas.rect(x - 1, y - 1, kBar + 2, kGlyphHeight + 2, kFrame);
    for (int i = 0; i < kBar; ++i)
        canvas.rect(x + i, y, 1, kGlyphHeight, score_colour(range.low + (range.high - range.low) * i / (kBar - 1), range));
    if (range.low < 0 && range.high > 0) {
        const int zero = x + static_cast<int>(std::lround(-range.low / (range.high - range.low) * (kBar - 1)));
        canvas.rect(zero, y + kGlyphHeight + 1, 1, 4, kFrame);
    }
    x += kBar + 8;
    canvas.text(x, y, high, Anchor::Start, kInk);
    x += text_width(high) + 20;
    swatch(kMaskedScore, "masked");
}

}  // namespace

Size layout_size(const std::vector<Picture>& panels) {
    Size size;
    (void)place(panels, &size);
    return size;
}

void draw(const std::vector<Picture>& panels, Canvas& canvas) {
    Size size;
    const std::vector<Placed> placed = place(panels, &size);
    const ValueRange range = value_range(panels);
    for (size_t i = 0; i < panels.size(); ++i) {
        const Picture& p = panels[i];
        const Panel& panel = placed[i].panel;
        const int x = placed[i].x + panel.left, y = placed[i].y + kTitle + kAxis;
        canvas.text(x, placed[i].y, p.title, Anchor::Start, kInk);
        canvas.text(x, placed[i].y + kGlyphHeight + 6, p.subtitle, Anchor::Start, kSoft);
        draw_cells(p, panel, x, y, range, canvas);
        draw_tiles(p, panel, x, y, canvas);
        draw_axes(p, panel, x, y, canvas);
    }
    draw_legend(panels, placed.front().x + placed.front().panel.left, size.height - kMargin - kGlyphHeight, range, canvas);
}

}  // namespace flexc::picture
