// A mask or a score as a picture: a grid of cells over queries (downwards) and keys (to the right), each cell the sum of the
// elements [b, h, q, k] under it, so that a small picture of a large mask is exact: a cell's shade is the share of it that is kept.
// Drawn to a terminal, to PNG and to SVG; the last two share one layout (layout.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace flexc::picture {

struct Picture {
    std::string title;     // "causal"
    std::string subtitle;  // "b 0, h 2: 50.4 % kept"
    bool is_score = false;
    int64_t q_begin = 0, q_end = 0;  // the elements shown
    int64_t k_begin = 0, k_end = 0;
    int rows = 0, cols = 0;                // cells; row r covers queries [q_edge(r), q_edge(r + 1))
    std::vector<double> total, kept, sum;  // one a cell, row-major: elements, elements kept, sum of the scores kept
    std::vector<double> gained, lost;      // of a difference of two masks: elements kept now alone, and before alone; else empty
    int64_t tile_q = 0, tile_k = 0;        // grid lines, if positive

    /// An empty picture of at most `limit` cells a side; each cell at least one element. The ranges must not be empty.
    static Picture sized(int64_t q_begin, int64_t q_end, int64_t k_begin, int64_t k_end, int limit);
    [[nodiscard]] int64_t q_edge(int row) const { return q_begin + (q_end - q_begin) * row / rows; }
    [[nodiscard]] int64_t k_edge(int col) const { return k_begin + (k_end - k_begin) * col / cols; }
    [[nodiscard]] size_t at(int row, int col) const {
        return static_cast<size_t>(row) * static_cast<size_t>(cols) + static_cast<size_t>(col);
    }
    [[nodiscard]] bool is_difference() const { return !gained.empty(); }
    /// The share kept, in [0, 1].
    [[nodiscard]] double share(int row, int col) const;
    /// The mean score of what is kept; NaN if nothing is.
    [[nodiscard]] double value(int row, int col) const;
};

/// Fewer cells, by adding up neighbours.
[[nodiscard]] Picture shrink(const Picture& picture, int rows, int cols);

/// Whether a cell stands for elements of which some are kept and some are not.
[[nodiscard]] bool has_mixed_cells(const std::vector<Picture>& panels);

/// The finite values of all score pictures, so that panels share one scale. Both 0 if there is none.
struct ValueRange {
    double low = 0, high = 0;
};
[[nodiscard]] ValueRange value_range(const std::vector<Picture>& panels);

struct Colour {
    uint8_t r = 0, g = 0, b = 0;
    friend bool operator==(Colour, Colour) = default;
};
[[nodiscard]] Colour mask_colour(double share);
/// Blue below 0, white at 0, orange above; told apart with every kind of colour blindness.
[[nodiscard]] Colour score_colour(double value, ValueRange range);
/// Kept before and now (neither), gained, lost, or some of both.
[[nodiscard]] Colour difference_colour(bool gained, bool lost);
[[nodiscard]] Colour cell_colour(const Picture& picture, int row, int col, ValueRange range);
inline constexpr Colour kMaskedScore{0xb4, 0xb8, 0xbe};  // masked, in a score picture: no colour of the scale

/// Multiples of a power of two inside [begin, end), at most about `count`.
[[nodiscard]] std::vector<int64_t> ticks(int64_t begin, int64_t end, int count);
/// Short text of a value on a scale: "-12.5", "1e+06".
[[nodiscard]] std::string value_text(double value);

enum class TerminalColour : uint8_t { None, Ansi256, TrueColour };
struct Terminal {
    int width = 80;
    int lines = 32;  // of a panel, at most
    TerminalColour colour = TerminalColour::None;  // None: ASCII letters only
};
/// What stdout is: colours only on a terminal and without NO_COLOR; width from the terminal, then $COLUMNS, then 80.
[[nodiscard]] Terminal terminal();
[[nodiscard]] std::string to_terminal(const std::vector<Picture>& panels, const Terminal& terminal);

flex::Status write_png(const std::filesystem::path& path, const std::vector<Picture>& panels);
flex::Status write_svg(const std::filesystem::path& path, const std::vector<Picture>& panels);

}  // namespace flexc::picture
