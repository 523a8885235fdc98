// A cell of a terminal is about twice as high as wide: the upper half block, its foreground above and its background below, is two
// square pixels. Without colour, a letter stands for a cell: `#` kept, `.` masked, `+` in part; scores as digits from 0 (lowest) to 9; of a
// difference `+` gained, `-` lost, `*` both, `:` kept in part and unchanged.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "tools/picture/picture.h"

namespace flexc::picture {
namespace {

constexpr int kLeast = 16;  // cells a side, however narrow the terminal

/// Room for the labels of q, and for `q\k` above them.
int label_width(const Picture& p) {
    return std::max(3, static_cast<int>(std::to_string(p.q_end - 1).size()) + 1);
}

std::string colour_code(Colour c, bool background, TerminalColour mode) {
    if (mode == TerminalColour::TrueColour) return fmt::format("\x1b[{};2;{};{};{}m", background ? 48 : 38, c.r, c.g, c.b);
    // The 6 x 6 x 6 cube begins at 16; its levels are 0, 95, 135, ... 255. The ramp of 24 greys begins at 232.
    const auto level = [](uint8_t v) { return v < 48 ? 0 : v < 115 ? 1 : (v - 35) / 40; };
    int index = 16 + 36 * level(c.r) + 6 * level(c.g) + level(c.b);
    if (std::max({c.r, c.g, c.b}) - std::min({c.r, c.g, c.b}) < 12) index = std::clamp(232 + (c.r - 3) / 10, 232, 255);
    return fmt::format("\x1b[{};5;{}m", background ? 48 : 38, index);
}

/// The k labels above the cells: each at the column of its element, those that would touch are left out.
std::string k_axis(const Picture& p, int columns) {
    std::string line(static_cast<size_t>(columns), ' ');
    int free_from = 0;
    for (int64_t k : ticks(p.k_begin, p.k_end, std::max(2, columns / 8))) {
        const int at = static_cast<int>((k - p.k_begin) * columns / (p.k_end - p.k_begin));
        const std::string label = std::to_string(k);
        if (at < free_from || at + static_cast<int>(label.size()) > columns) continue;
        line.replace(static_cast<size_t>(at), label.size(), label);
        free_from = at + static_cast<int>(label.size()) + 1;
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
}

char letter(const Picture& p, int r, int c, ValueRange range) {
    const double share = p.share(r, c);
    if (p.is_difference()) {
        const bool gained = p.gained[p.at(r, c)] > 0, lost = p.lost[p.at(r, c)] > 0;
        return gained && lost ? '*' : gained ? '+' : lost ? '-' : share == 0 ? '.' : share == 1 ? '#' : ':';
    }
    if (share == 0) return '.';
    if (!p.is_score) return share == 1 ? '#' : '+';
    const double v = p.value(r, c);
    if (!std::isfinite(v)) return '?';
    if (range.low == range.high) return '0';
    return static_cast<char>('0' + std::clamp(static_cast<int>((v - range.low) / (range.high - range.low) * 10), 0, 9));
}

/// *mixed is set if a cell that is drawn is kept in part.
std::string draw_panel(const Picture& full, const Terminal& terminal, ValueRange range, bool* mixed) {
    const int label = label_width(full);
    const int room = std::max(kLeast, terminal.width - label - 1);
    const bool colour = terminal.colour != TerminalColour::None;
    const int most_rows = colour ? 2 * terminal.lines : terminal.lines;
    int cols = std::min(full.cols, room), rows = std::min(full.rows, most_rows);
    // Cells stay square: the side that must shrink takes the other with it, but a long thin picture keeps its short side.
    const double scale = std::min(static_cast<double>(cols) / full.cols, static_cast<double>(rows) / full.rows);
    cols = std::min(cols, std::max(static_cast<int>(full.cols * scale), std::min(full.cols, kLeast)));
    rows = std::min(rows, std::max(static_cast<int>(full.rows * scale), std::min(full.rows, kLeast)));
    if (full.rows <= kLeast) cols = std::min(full.cols, room);
    if (full.cols <= kLeast) rows = std::min(full.rows, most_rows);
    const Picture p = shrink(full, rows, cols);
    *mixed = *mixed || has_mixed_cells({p});
    // A letter is twice as high as wide: each stands twice where there is room. A colour pixel is square, and small pictures are enlarged.
    int zoom = colour ? 1 : 2;
    if (zoom * p.cols > room) zoom = 1;
    if (colour && std::max(p.rows, p.cols) <= 32 && 2 * p.cols <= room) zoom = 2;

    std::string out = p.title + (p.subtitle.empty() ? "" : "  " + p.subtitle) + "\n";
    out += fmt::format("{:>{}} {}\n", "q\\k", label, k_axis(p, p.cols * zoom));
    const std::vector<int64_t> marks = ticks(p.q_begin, p.q_end, std::max(2, (colour ? p.rows * zoom / 2 : p.rows) / 3));
    // Pixel rows to a line of text, and cells: line -> the cells whose queries may be named on it.
    const int pixel_rows = colour ? p.rows * zoom : p.rows;
    const int step = colour ? 2 : 1;
    for (int y = 0; y < pixel_rows; y += step) {
        const int zoom_y = colour ? zoom : 1;
        const int upper = y / zoom_y, lower = std::min(y + step - 1, pixel_rows - 1) / zoom_y;
        std::string name;
        for (int64_t mark : marks) {
            const int at = static_cast<int>((mark - p.q_begin) * pixel_rows / (p.q_end - p.q_begin));
            if (at >= y && at < y + step && name.empty()) name = std::to_string(mark);
        }
        out += fmt::format("{:>{}} ", name, label);
        std::string before;  // the colours in force: a change is written, a run is not
        for (int c = 0; c < p.cols; ++c) {
            if (!colour) {
                out.append(static_cast<size_t>(zoom), letter(p, upper, c, range));
                continue;
            }
            const bool half = y + 1 >= pixel_rows;  // an odd number of rows: the last line has no lower half
            const std::string now = colour_code(cell_colour(p, upper, c, range), false, terminal.colour) +
                                    (half ? "\x1b[49m" : colour_code(cell_colour(p, lower, c, range), true, terminal.colour));
            if (now != before) out += now;
            before = now;
            for (int i = 0; i < zoom; ++i) out += "▀";
        }
        out += colour ? "\x1b[0m\n" : "\n";
    }
    return out;
}

std::string legend(const std::vector<Picture>& panels, const Terminal& terminal, ValueRange range, bool mixed) {
    const bool score = panels.front().is_score, difference = panels.front().is_difference();
    if (terminal.colour == TerminalColour::None) {
        if (difference) return mixed ? "+ gained   - lost   * both   # kept   . masked   : in part\n" : "+ gained   - lost   # kept   . masked\n";
        if (!score) return mixed ? "# kept   . masked   + in part\n" : "# kept   . masked\n";
        return fmt::format("0 to 9: {} to {}   . masked\n", value_text(range.low), value_text(range.high));
    }
    const auto block = [&](Colour c) { return colour_code(c, true, terminal.colour) + "  \x1b[0m"; };
    if (difference)
        return block(difference_colour(true, false)) + " gained  " + block(difference_colour(false, true)) + " lost  " +
               block(difference_colour(false, false)) + " kept  " + block(mask_colour(0)) + " masked\n";
    if (!score) return block(mask_colour(1)) + " kept  " + block(mask_colour(0)) + " masked\n";
    std::string out = value_text(range.low) + " ";
    constexpr int kSteps = 24;
    for (int i = 0; i < kSteps; ++i)
        out += colour_code(score_colour(range.low + (range.high - range.low) * i / (kSteps - 1), range), true, terminal.colour) + " ";
    return out + "\x1b[0m " + value_text(range.high) + "  " + block(kMaskedScore) + " masked\n";
}

}  // namespace

Terminal terminal() {
    Terminal out;
    const auto text = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string_view(value ? value : "");
    };
    winsize size{};
    const bool is_terminal = isatty(STDOUT_FILENO) == 1;
    if (is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        out.width = size.ws_col;
    else if (const int columns = std::atoi(std::string(text("COLUMNS")).c_str()); columns > 0)
        out.width = std::min(columns, 1000);
    if (!is_terminal || !text("NO_COLOR").empty() || text("TERM") == "dumb") return out;
    const std::string_view depth = text("COLORTERM");
    out.colour = depth == "truecolor" || depth == "24bit" ? TerminalColour::TrueColour : TerminalColour::Ansi256;
    return out;
}

std::string to_terminal(const std::vector<Picture>& panels, const Terminal& terminal) {
    const ValueRange range = value_range(panels);
    std::string out;
    bool mixed = false;
    for (const Picture& panel : panels) out += draw_panel(panel, terminal, range, &mixed) + "\n";
    return out + legend(panels, terminal, range, mixed);
}

}  // namespace flexc::picture
