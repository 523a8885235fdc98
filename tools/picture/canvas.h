// What the layout draws on: rectangles and short texts in pixels, y downwards. Two canvases: pixels for PNG, elements for SVG.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/picture/picture.h"

namespace flexc::picture {

enum class Anchor : uint8_t { Start, Middle, End };

class Canvas {
public:
    virtual ~Canvas() = default;
    virtual void rect(int x, int y, int width, int height, Colour colour) = 0;
    /// One line of text; y is its top. Letters are kGlyphWidth x kGlyphHeight on pixels.
    virtual void text(int x, int y, std::string_view text, Anchor anchor, Colour colour) = 0;
};

inline constexpr int kGlyphWidth = 12;  // 5 x 7 dots and a gap, two pixels a dot
inline constexpr int kGlyphHeight = 14;

class PixelCanvas : public Canvas {
public:
    PixelCanvas(int width, int height, Colour background);
    void rect(int x, int y, int width, int height, Colour colour) override;
    void text(int x, int y, std::string_view text, Anchor anchor, Colour colour) override;
    [[nodiscard]] int width() const { return width_; }
    [[nodiscard]] int height() const { return height_; }
    [[nodiscard]] const Colour* row(int y) const { return pixels_.data() + static_cast<size_t>(y) * static_cast<size_t>(width_); }

private:
    int width_, height_;
    std::vector<Colour> pixels_;
};

class SvgCanvas : public Canvas {
public:
    SvgCanvas(int width, int height, Colour background);
    void rect(int x, int y, int width, int height, Colour colour) override;
    void text(int x, int y, std::string_view text, Anchor anchor, Colour colour) override;
    [[nodiscard]] std::string finish() const;

private:
    std::string body_;
};

/// Size of the whole picture, and its drawing; the same numbers for both canvases.
struct Size {
    int width = 0, height = 0;
};
[[nodiscard]] Size layout_size(const std::vector<Picture>& panels);
void draw(const std::vector<Picture>& panels, Canvas& canvas);

inline constexpr Colour kBackground{0xff, 0xff, 0xff};

}  // namespace flexc::picture
