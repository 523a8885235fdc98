// A document: text with places where lines may be broken, and a printer that breaks as few of them as the width allows.
//
// A Group is printed on one line if it fits, else each of its own lines is broken, and the groups within are asked again. A hard line
// breaks all groups around it. Comments behind text wait for the end of the line, do not count for the width, and make the next line,
// whichever group it belongs to, a hard one (Builder in format.cpp sees to that).
//
// Printing takes time linear in the size of the document: widths are known when a document is made, so no text is measured twice.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::frontend {

struct Doc {
    enum class Kind : uint8_t {
        Text,      // text
        Line,      // a blank (if `spaced`) or nothing, or the end of a line
        Group,     // parts
        Indent,    // parts, one step further in
        Concat,    // parts
        IfBroken,  // text, where the group around it is broken
        Comment,   // text, at the end of the line
    };
    Kind kind = Kind::Text;
    bool spaced = false;  // Line
    bool hard = false;    // Line; Group and the like: holds a hard line
    bool blank = false;   // Line: an empty line before the next
    std::string_view text;
    std::vector<Doc*> parts;
    // Set by finish().
    uint32_t width = 0;  // on one line
    uint32_t lead = 0;   // up to the first line, or all
    bool has_line = false;
};

/// Owns documents and the texts made for them.
class DocArena {
public:
    Doc* text(std::string_view text);
    Doc* owned(std::string text) { return this->text(strings_.emplace_back(std::move(text))); }
    Doc* line(bool spaced);
    Doc* make(Doc::Kind kind) {
        Doc& d = docs_.emplace_back();
        d.kind = kind;
        return &d;
    }
    /// Computes the widths of a document whose parts are complete.
    static Doc* finish(Doc* d);

private:
    std::deque<Doc> docs_;
    std::deque<std::string> strings_;
};

inline constexpr uint32_t kIndentWidth = 4;

/// The document as text, ending in a newline unless it is empty. No line ends in a blank.
[[nodiscard]] std::string print_doc(const Doc& root, uint32_t max_width);

}  // namespace flexc::frontend
