#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tools/picture/canvas.h"
#include "tools/picture/font.h"
#include "tools/picture/picture.h"

using namespace flexc::picture;

namespace {

template <class Keep, class Score>
Picture filled(int64_t q_end, int64_t k_end, int limit, Keep keep, Score score) {
    Picture p = Picture::sized(0, q_end, 0, k_end, limit);
    for (int r = 0; r < p.rows; ++r)
        for (int c = 0; c < p.cols; ++c)
            for (int64_t q = p.q_edge(r); q < p.q_edge(r + 1); ++q)
                for (int64_t k = p.k_edge(c); k < p.k_edge(c + 1); ++k)
                    if (keep(q, k)) {
                        p.kept[p.at(r, c)] += 1;
                        p.sum[p.at(r, c)] += score(q, k);
                    }
    return p;
}

Picture causal(int64_t n, int limit) {
    return filled(
        n, n, limit, [](int64_t q, int64_t k) { return q >= k; }, [](int64_t q, int64_t k) { return static_cast<double>(k - q); });
}

double total(const std::vector<double>& values) {
    double sum = 0;
    for (double each : values) sum += each;
    return sum;
}

}  // namespace

TEST_CASE("a picture holds each element once, however it is shrunk") {
    for (int64_t n : {1, 7, 64, 100, 513}) {
        for (int limit : {1, 5, 64, 512}) {
            const Picture p = causal(n, limit);
            CHECK(total(p.total) == static_cast<double>(n * n));
            CHECK(total(p.kept) == static_cast<double>(n * (n + 1) / 2));
            const Picture small = shrink(p, 3, 4);
            CHECK(small.rows <= 3);
            CHECK(total(small.total) == total(p.total));
            CHECK(total(small.kept) == total(p.kept));
            CHECK(std::all_of(small.total.begin(), small.total.end(), [](double each) { return each > 0; }));
        }
    }
}

TEST_CASE("the scale of scores") {
    Picture p = causal(8, 8);
    p.is_score = true;
    const ValueRange range = value_range({p});
    CHECK(range.low == -7);
    CHECK(range.high == 0);
    CHECK(std::isnan(p.value(0, 7)));
    CHECK(score_colour(0, range) == Colour{0xf7, 0xf7, 0xf7});
    CHECK(score_colour(-7, range) == Colour{0x05, 0x30, 0x61});
    CHECK(cell_colour(p, 0, 7, range) == kMaskedScore);
    CHECK(score_colour(5, {5, 5}) == score_colour(9, {0, 9}));
    CHECK(value_range({}).high == 0);
}

TEST_CASE("ticks are multiples of a power of two inside the range") {
    CHECK(ticks(0, 8, 8).size() == 8);
    CHECK(ticks(0, 8, 7) == std::vector<int64_t>{0, 2, 4, 6});
    CHECK(ticks(100, 110, 3) == std::vector<int64_t>{100, 104, 108});
    CHECK(ticks(0, 1, 8) == std::vector<int64_t>{0});
    CHECK(ticks(5, 6, 1) == std::vector<int64_t>{5});
    CHECK(ticks(0, 4096, 5) == std::vector<int64_t>{0, 1024, 2048, 3072});
}

TEST_CASE("text fits the terminal, whatever its width and the picture's form") {
    for (int width : {1, 20, 40, 80, 200}) {
        for (auto [q, k] : {std::pair<int64_t, int64_t>{1, 1}, {1, 3000}, {3000, 1}, {24, 24}, {33, 500}, {2000, 2000}}) {
            const Picture p = filled(q, k, 512, [](int64_t, int64_t) { return true; }, [](int64_t, int64_t) { return 0.0; });
            const std::string text = to_terminal({p}, {width, 32, TerminalColour::None});
            size_t at = text.find('\n') + 1, lines = 0;
            for (size_t end = 0; (end = text.find('\n', at)) != std::string::npos && end != at; at = end + 1, ++lines)
                CHECK(end - at <= static_cast<size_t>(std::max(width, 22)));
            CHECK(lines <= 33);
        }
    }
}

TEST_CASE("colour codes are of the terminal's depth and end before the line does") {
    const std::string true_colour = to_terminal({causal(5, 8)}, {80, 32, TerminalColour::TrueColour});
    CHECK(true_colour.find("\x1b[38;2;") != std::string::npos);
    const std::string few = to_terminal({causal(5, 8)}, {80, 32, TerminalColour::Ansi256});
    CHECK(few.find("\x1b[38;2;") == std::string::npos);
    CHECK(few.find("\x1b[38;5;") != std::string::npos);
    size_t at = few.find("\x1b");
    for (size_t end = 0; (end = few.find('\n', at)) != std::string::npos && end != at; at = end + 1)
        CHECK(few.substr(end - 4, 4) == "\x1b[0m");
}

TEST_CASE("each printable character has a glyph of its own") {
    std::set<std::vector<bool>> glyphs;
    for (char c = ' '; c <= '~'; ++c) {
        std::vector<bool> dots;
        for (int y = 0; y < 8; ++y)
            for (int x = 0; x < 5; ++x) dots.push_back(font_dot(c, x, y));
        CHECK(std::count(dots.begin(), dots.end(), true) >= (c == ' ' ? 0 : 2));
        glyphs.insert(dots);
    }
    CHECK(glyphs.size() == 95);
    CHECK(font_dot('\x7f', 1, 0) == font_dot('?', 1, 0));
}

TEST_CASE("pictures keep what they draw inside their size") {
    for (auto [q, k] : {std::pair<int64_t, int64_t>{1, 1}, {1, 4096}, {4096, 1}, {24, 24}, {700, 300}}) {
        Picture p = filled(q, k, 512, [](int64_t a, int64_t b) { return (a + b) % 3 != 0; }, [](int64_t, int64_t) { return 1.0; });
        p.title = "a <title> & more";
        p.tile_q = p.tile_k = 128;
        const std::vector<Picture> panels(5, p);
        const Size size = layout_size(panels);
        PixelCanvas pixels(size.width, size.height, kBackground);
        draw(panels, pixels);
        for (int y : {0, size.height - 1})
            for (int x = 0; x < size.width; ++x) CHECK(pixels.row(y)[x] == kBackground);
        for (int y = 0; y < size.height; ++y) {
            CHECK(pixels.row(y)[0] == kBackground);
            CHECK(pixels.row(y)[size.width - 1] == kBackground);
        }
        SvgCanvas svg(size.width, size.height, kBackground);
        draw(panels, svg);
        CHECK(svg.finish().find("a &lt;title&gt; &amp; more") != std::string::npos);
    }
}
