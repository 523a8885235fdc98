#include "tools/picture/canvas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/picture/font.h"

namespace flexc::picture {
namespace {

/// Bytes of UTF-8 continuation are not characters of their own.
std::string one_byte_a_character(std::string_view text) {
    std::string out;
    for (char c : text)
        if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) out += c;
    return out;
}

int anchored(int x, int width, Anchor anchor) {
    if (anchor == Anchor::Start) return x;
    return anchor == Anchor::Middle ? x - width / 2 : x - width;
}

std::string escape(std::string_view text) {
    std::string out;
    for (char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
    }
    return out;
}

constexpr double kDash = 9, kDashGap = 6;

/// The drawn parts of a line: all of it, or dashes counted from its begin.
std::vector<std::pair<Spot, Spot>> strokes(const std::vector<Spot>& points, bool dashed) {
    std::vector<std::pair<Spot, Spot>> out;
    double walked = 0;
    for (size_t i = 0; i + 1 < points.size(); ++i) {
        const Spot a = points[i], b = points[i + 1];
        const double length = std::hypot(b.x - a.x, b.y - a.y);
        const auto at = [&](double t) { return Spot{a.x + (b.x - a.x) * t / length, a.y + (b.y - a.y) * t / length}; };
        if (!dashed) out.emplace_back(a, b);
        for (double t = 0; dashed && t < length;) {
            const double phase = std::fmod(walked + t, kDash + kDashGap);
            const double rest = phase < kDash ? kDash - phase : kDash + kDashGap - phase;
            const double end = std::min(length, t + std::max(rest, 1e-3));
            if (phase < kDash) out.emplace_back(at(t), at(end));
            t = end;
        }
        walked += length;
    }
    return out;
}

std::string coordinates(const std::vector<Spot>& points) {
    std::string out;
    for (const Spot& point : points) out += fmt::format("{}{:.1f},{:.1f}", out.empty() ? "" : " ", point.x, point.y);
    return out;
}

std::string hex(Colour c) {
    return fmt::format("#{:02x}{:02x}{:02x}", c.r, c.g, c.b);
}

}  // namespace

PixelCanvas::PixelCanvas(int width, int height, Colour background)
    : width_(width), height_(height), pixels_(static_cast<size_t>(width) * static_cast<size_t>(height), background) {}

void PixelCanvas::rect(int x, int y, int width, int height, Colour colour) {
    const int x1 = std::min(x + width, width_), y1 = std::min(y + height, height_);
    x = std::max(x, 0);
    if (x >= x1) return;
    for (int row = std::max(y, 0); row < y1; ++row) {
        Colour* first = pixels_.data() + static_cast<size_t>(row) * static_cast<size_t>(width_);
        std::fill(first + x, first + x1, colour);
    }
}

void PixelCanvas::text(int x, int y, std::string_view text, Anchor anchor, Colour colour) {
    const std::string letters = one_byte_a_character(text);
    x = anchored(x, static_cast<int>(letters.size()) * kGlyphWidth, anchor);
    for (char c : letters) {
        for (int dy = 0; dy < 8; ++dy)
            for (int dx = 0; dx < 5; ++dx)
                if (font_dot(c, dx, dy)) rect(x + 2 * dx, y + 2 * dy, 2, 2, colour);
        x += kGlyphWidth;
    }
}

template <class Cover>
void PixelCanvas::blend(double x0, double y0, double x1, double y1, Colour colour, const Cover& cover) {
    const auto first = [](double at) { return std::max(0, static_cast<int>(std::floor(at)) - 1); };
    const auto last = [](double at, int end) { return std::min(end, static_cast<int>(std::ceil(at)) + 2); };
    for (int y = first(y0); y < last(y1, height_); ++y)
        for (int x = first(x0); x < last(x1, width_); ++x) {
            const double share = std::clamp(cover(x + 0.5, y + 0.5), 0.0, 1.0);
            if (share <= 0) continue;
            Colour& pixel = pixels_[static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)];
            const auto mixed = [&](uint8_t from, uint8_t to) {
                return static_cast<uint8_t>(std::lround(from + (static_cast<double>(to) - from) * share));
            };
            pixel = {mixed(pixel.r, colour.r), mixed(pixel.g, colour.g), mixed(pixel.b, colour.b)};
        }
}

void PixelCanvas::line(const std::vector<Spot>& points, double width, bool dashed, Colour colour) {
    const double half = width / 2;
    for (const auto& [a, b] : strokes(points, dashed)) {
        const double dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
        blend(std::min(a.x, b.x) - half, std::min(a.y, b.y) - half, std::max(a.x, b.x) + half, std::max(a.y, b.y) + half, colour,
              [&](double x, double y) {
                  const double t = square > 0 ? std::clamp(((x - a.x) * dx + (y - a.y) * dy) / square, 0.0, 1.0) : 0.0;
                  return half + 0.5 - std::hypot(x - a.x - t * dx, y - a.y - t * dy);
              });
    }
}

void PixelCanvas::polygon(const std::vector<Spot>& corners, Colour colour) {
    if (corners.size() < 3) return;
    double x0 = corners[0].x, y0 = corners[0].y, x1 = x0, y1 = y0, area = 0;
    for (size_t i = 0; i < corners.size(); ++i) {
        const Spot &a = corners[i], &b = corners[(i + 1) % corners.size()];
        x0 = std::min(x0, a.x), y0 = std::min(y0, a.y), x1 = std::max(x1, a.x), y1 = std::max(y1, a.y);
        area += a.x * b.y - b.x * a.y;
    }
    blend(x0, y0, x1, y1, colour, [&](double x, double y) {
        double nearest = 1e9;  // how far inside of the nearest edge
        for (size_t i = 0; i < corners.size(); ++i) {
            const Spot &a = corners[i], &b = corners[(i + 1) % corners.size()];
            const double dx = b.x - a.x, dy = b.y - a.y;
            const double inside = (dx * (y - a.y) - dy * (x - a.x)) / std::max(std::hypot(dx, dy), 1e-9);
            nearest = std::min(nearest, area > 0 ? inside : -inside);
        }
        return nearest + 0.5;
    });
}

SvgCanvas::SvgCanvas(int width, int height, Colour background) {
    body_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"16\" shape-rendering=\"crispEdges\">\n",
        width, height);
    rect(0, 0, width, height, background);
}

void SvgCanvas::rect(int x, int y, int width, int height, Colour colour) {
    body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n", x, y, width, height, hex(colour));
}

void SvgCanvas::text(int x, int y, std::string_view text, Anchor anchor, Colour colour) {
    const char* name = anchor == Anchor::Start ? "start" : anchor == Anchor::Middle ? "middle" : "end";
    body_ += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\" fill=\"{}\">{}</text>\n", x, y + kGlyphHeight - 1, name, hex(colour),
                         escape(text));
}

void SvgCanvas::line(const std::vector<Spot>& points, double width, bool dashed, Colour colour) {
    if (points.size() < 2) return;
    body_ += fmt::format(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\" stroke-linecap=\"{}\"{} "
        "shape-rendering=\"auto\"/>\n",
        coordinates(points), hex(colour), width, dashed ? "butt" : "round",
        dashed ? fmt::format(" stroke-dasharray=\"{} {}\"", kDash, kDashGap) : "");
}

void SvgCanvas::polygon(const std::vector<Spot>& corners, Colour colour) {
    body_ += fmt::format("<polygon points=\"{}\" fill=\"{}\" shape-rendering=\"auto\"/>\n", coordinates(corners), hex(colour));
}

std::string SvgCanvas::finish() const {
    return body_ + "</svg>\n";
}

}  // namespace flexc::picture
