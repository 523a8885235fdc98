// What pictures and plots are drawn on: rectangles, short texts, lines and polygons in pixels, y downwards. Two canvases: pixels for PNG, elements for SVG.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/picture/picture.h"

namespace flexc::picture {

enum class Anchor : uint8_t { Start, Middle, End };

/// A point between pixels: (0, 0) is the corner of the first.
struct Spot {
    double x = 0, y = 0;
};

class Canvas {
public:
    virtual ~Canvas() = default;
    virtual void rect(int x, int y, int width, int height, Colour colour) = 0;
    /// One line of text; y is its top. Letters are kGlyphWidth x kGlyphHeight on pixels.
    virtual void text(int x, int y, std::string_view text, Anchor anchor, Colour colour) = 0;
    /// From point to point, with round ends and corners; smooth, as is the next.
    virtual void line(const std::vector<Spot>& points, double width, bool dashed, Colour colour) = 0;
    /// A convex one, filled.
    virtual void polygon(const std::vector<Spot>& corners, Colour colour) = 0;
};

inline constexpr int kGlyphWidth = 12;  // 5 x 7 dots and a gap, two pixels a dot
inline constexpr int kGlyphHeight = 14;

class PixelCanvas : public Canvas {
public:
    PixelCanvas(int width, int height, Colour background);
    void rect(int x, int y, int width, int height, Colour colour) override;
    void text(int x, int y, std::string_view text, Anchor anchor, Colour colour) override;
    void line(const std::vector<Spot>& points, double width, bool dashed, Colour colour) override;
    void polygon(const std::vector<Spot>& corners, Colour colour) override;
    [[nodiscard]] int width() const { return width_; }
    [[nodiscard]] int height() const { return height_; }
    [[nodiscard]] const Colour* row(int y) const { return pixels_.data() + static_cast<size_t>(y) * static_cast<size_t>(width_); }

private:
    /// Mixes the colour in where cover(pixel's middle) in [0, 1] says so, for pixels of the box.
    template <class Cover>
    void blend(double x0, double y0, double x1, double y1, Colour colour, const Cover& cover);

    int width_, height_;
    std::vector<Colour> pixels_;
};

class SvgCanvas : public Canvas {
public:
    SvgCanvas(int width, int height, Colour background);
    void rect(int x, int y, int width, int height, Colour colour) override;
    void text(int x, int y, std::string_view text, Anchor anchor, Colour colour) override;
    void line(const std::vector<Spot>& points, double width, bool dashed, Colour colour) override;
    void polygon(const std::vector<Spot>& corners, Colour colour) override;
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
