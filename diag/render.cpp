// Diagnostics as text. A source line is first turned into cells (one per code point, with the text shown for it
// and its width in the terminal), so that tabs, wide letters, invalid bytes and control characters need care only once.
#include <algorithm>
#include <tuple>

#include "diag/diagnostic.h"

namespace flexc::diag {

namespace {

constexpr size_t kMaxWidth = 120;  // a longer line is cut around the span
constexpr size_t kTab = 4;

struct Palette {
    const char *bold, *error, *warning, *note, *gutter, *off;
};
constexpr Palette kPlain{"", "", "", "", "", ""};
constexpr Palette kAnsi{"\x1b[1m", "\x1b[1;31m", "\x1b[1;35m", "\x1b[1;36m", "\x1b[34m", "\x1b[0m"};

struct Cell {
    std::string_view shown;
    size_t byte;   // offset in the line
    size_t width;  // terminal columns
};

/// Length of the well-formed UTF-8 sequence at the start of `text`, and its code point; 0 if malformed.
size_t decode(std::string_view text, uint32_t& point) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xF0 && lead < 0xF8 ? 4
                          : lead >= 0xE0 && lead < 0xF0 ? 3
                          : lead >= 0xC2 && lead < 0xE0 ? 2
                                                        : 0;
    if (length == 0 || length > text.size()) return 0;
    point = length == 1 ? lead : lead & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return 0;
        point = point << 6 | (byte(i) & 0x3Fu);
    }
    return length;
}

/// Terminal columns of a code point: 0 for combining and invisible ones, 2 for East Asian wide ones and emoji.
size_t width_of(uint32_t c) {
    const auto in = [c](uint32_t lo, uint32_t hi) { return c >= lo && c <= hi; };
    if (in(0x0300, 0x036F) || in(0x1AB0, 0x1AFF) || in(0x20D0, 0x20FF) || in(0xFE00, 0xFE0F)) return 0;
    if (in(0x1100, 0x115F) || in(0x2E80, 0xA4CF) || in(0xAC00, 0xD7A3) || in(0xF900, 0xFAFF) || in(0xFE30, 0xFE6F) || in(0xFF00, 0xFF60) ||
        in(0xFFE0, 0xFFE6) || in(0x1F300, 0x1F64F) || in(0x1F680, 0x1F6FF) || in(0x1F900, 0x1F9FF) || in(0x20000, 0x3FFFD))
        return 2;
    return 1;
}

/// Control characters and those that reorder text would change what the terminal shows.
bool unsafe(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

/// The cells of bytes [from, to) of a line. `from` may fall inside a character.
std::vector<Cell> cells(std::string_view line, size_t from, size_t to) {
    static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
    static constexpr std::string_view kSpaces = "    ";
    std::vector<Cell> result;
    size_t column = 0;
    while (from < to) {
        uint32_t point = 0;
        size_t length = decode(line.substr(from), point);
        Cell cell{line.substr(from, length), from, 1};
        if (length == 0) {
            length = 1;
            cell.shown = kReplacement;
        } else if (point == '\t') {
            cell.width = kTab - column % kTab;
            cell.shown = kSpaces.substr(0, cell.width);
        } else if (unsafe(point)) {
            cell.shown = kReplacement;
        } else {
            cell.width = width_of(point);
        }
        column += cell.width;
        from += length;
        result.push_back(cell);
    }
    return result;
}

class Writer {
public:
    Writer(const SourceManager& sources, bool colour) : sources_(sources), colours_(colour ? kAnsi : kPlain) {}

    void location(Span span) {
        const SourceFile& file = sources_.file(span.file);
        const LineColumn at = file.position(span.begin);
        const auto [name, line] = file.shown(at.line);
        out_ += fmt::format("{}{}:{}:{}: {}", colours_.bold, name, line, at.column, colours_.off);
    }

    void snippet(Span span, const char* caret_colour) {
        const SourceFile& file = sources_.file(span.file);
        span.end = std::max(span.end, span.begin);
        const uint32_t first = file.position(span.begin).line;
        // A span that ends with a line end does not reach into the next line.
        const uint32_t last = std::max(first, span.end > span.begin ? file.position(span.end - 1).line : first);
        const size_t gutter = std::to_string(file.shown(last).number).size();
        source_line(file, first, gutter, span, caret_colour);
        if (last == first) return;
        if (last > first + 1) out_ += fmt::format("  {}{:>{}}{}\n", colours_.gutter, "...", gutter, colours_.off);
        source_line(file, last, gutter, span, caret_colour);
    }

    void attached(const Note& note, size_t gutter) {
        if (note.span) {
            location(*note.span);
            out_ += fmt::format("{}{}:{} {}\n", colours_.note, note.is_help ? "help" : "note", colours_.off, note.text);
            snippet(*note.span, colours_.note);
        } else {
            out_ += fmt::format("  {:{}} {}={} {}{}:{} {}\n", "", gutter, colours_.gutter, colours_.off, colours_.note,
                                note.is_help ? "help" : "note", colours_.off, note.text);
        }
    }

    void diagnostic(const Diagnostic& d) {
        const char* colour = d.level == Level::Error ? colours_.error : colours_.warning;
        if (d.span) location(*d.span);
        out_ += fmt::format("{}{}[{}]:{} {}{}{}\n", colour, d.level == Level::Error ? "error" : "warning", info(d.kind).code, colours_.off,
                            colours_.bold, d.message, colours_.off);
        size_t gutter = 0;
        if (d.span) {
            snippet(*d.span, colour);
            const uint32_t end = std::max(d.span->begin, d.span->end > d.span->begin ? d.span->end - 1 : d.span->end);
            const SourceFile& file = sources_.file(d.span->file);
            gutter = std::to_string(file.shown(file.position(end).line).number).size();
        }
        // Lines without a place belong to the snippet above them, so they come before those with their own.
        for (const Note& note : d.notes)
            if (!note.span) attached(note, gutter);
        for (const Note& note : d.notes)
            if (note.span) attached(note, gutter);
    }

    std::string take() { return std::move(out_); }

private:
    void source_line(const SourceFile& file, uint32_t number, size_t gutter, Span span, const char* caret_colour) {
        const std::string_view line = file.line(number);
        const size_t start = file.line_begin(number);
        size_t begin = span.begin > start ? std::min(span.begin - start, line.size()) : 0;
        const size_t end = span.end > start ? std::min(span.end - start, line.size()) : 0;
        if (span.begin < start)  // a later line of the span: its blanks in front are not underlined
            begin = std::min(line.find_first_not_of(" \t"), end);

        // Only the bytes near the span are looked at, so that a line of a megabyte costs nothing.
        const size_t from = line.size() <= kMaxWidth || begin < kMaxWidth / 2 ? 0 : begin - kMaxWidth / 2;
        const size_t to = std::min(line.size(), from + 4 * kMaxWidth);
        std::string shown, carets;
        if (from > 0) {
            shown = "…";
            carets = " ";
        }
        size_t width = 0;
        bool cut = to < line.size();
        for (const Cell& cell : cells(line, from, to)) {
            if (width + cell.width > kMaxWidth) {
                cut = true;
                break;
            }
            width += cell.width;
            shown += cell.shown;
            if (cell.byte < begin)
                carets.append(cell.width, ' ');
            else if (cell.byte < end || cell.byte == begin)
                carets.append(std::max<size_t>(cell.width, cell.byte == begin), '^');
        }
        if (carets.find('^') == std::string::npos) carets += '^';  // at the end of the line
        if (cut) shown += "…";
        while (shown.ends_with(' ')) shown.pop_back();
        out_ += fmt::format("  {}{:>{}} |{}{}{}\n", colours_.gutter, file.shown(number).number, gutter, colours_.off, shown.empty() ? "" : " ",
                            shown);
        out_ += fmt::format("  {}{:{}} |{} {}{}{}\n", colours_.gutter, "", gutter, colours_.off, caret_colour, carets, colours_.off);
    }

    const SourceManager& sources_;
    const Palette& colours_;
    std::string out_;
};

}  // namespace

std::string render(const SourceManager& sources, const Diagnostic& diagnostic, bool colour) {
    Writer writer(sources, colour);
    writer.diagnostic(diagnostic);
    return writer.take();
}

std::string render_all(const SourceManager& sources, const Sink& sink, bool colour) {
    const auto& all = sink.all();
    std::vector<size_t> order(all.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    const auto key = [&](size_t i) {
        const Diagnostic& d = all[i];
        const int rank = d.kind == Kind::too_many_errors ? 2 : d.span ? 1 : 0;
        return std::tuple(rank, d.span ? d.span->file : 0, d.span ? d.span->begin : 0, i);
    };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
    Writer writer(sources, colour);
    for (const size_t i : order) writer.diagnostic(all[i]);
    return writer.take();
}

}  // namespace flexc::diag
