#include "tools/picture/canvas.h"

#include <fmt/format.h>

#include <algorithm>

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

std::string SvgCanvas::finish() const {
    return body_ + "</svg>\n";
}

}  // namespace flexc::picture
