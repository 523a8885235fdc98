// Source text and positions. A SourceManager owns every file of a compilation (the main file, its
// imports, the standard library); a Span names a byte range of one of them. Spans are 12 bytes and are
// copied freely: AST nodes, IR parameters and diagnostics all carry them.
//
// Text is kept as the user wrote it except that a leading byte-order mark is dropped; line and column
// are computed only when a diagnostic is rendered. Columns count Unicode code points from 1; a tab is one column.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::diag {

using FileId = uint32_t;

/// Bytes [begin, end) of one file.
struct Span {
    FileId file = 0;
    uint32_t begin = 0;
    uint32_t end = 0;

    /// The smallest span that covers both; both must be of one file.
    [[nodiscard]] Span to(Span other) const;
};

struct LineColumn {
    uint32_t line = 1;
    uint32_t column = 1;
};

/// From `first_line` on, up to the next part, a text is shown under a name of its own, its first line as `number`: for a text that was put
/// together from several inputs, whose users want to see their own lines.
struct SourcePart {
    uint32_t first_line = 1;
    std::string name;
    uint32_t number = 1;
};

class SourceFile {
public:
    /// `parts` in ascending order; lines before the first are shown as they are.
    SourceFile(std::string name, std::string text, std::vector<SourcePart> parts = {});

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] std::string_view text() const { return text_; }
    [[nodiscard]] LineColumn position(uint32_t offset) const;
    [[nodiscard]] uint32_t line_count() const { return static_cast<uint32_t>(line_starts_.size()); }
    /// The text of a 1-based line, without its line end.
    [[nodiscard]] std::string_view line(uint32_t number) const;
    /// The name and number under which a line is shown.
    struct ShownLine {
        std::string_view name;
        uint32_t number = 1;
    };
    [[nodiscard]] ShownLine shown(uint32_t line) const;
    /// Byte offset at which a 1-based line starts.
    [[nodiscard]] uint32_t line_begin(uint32_t number) const { return line_starts_[number - 1]; }

private:
    std::string name_;
    std::string text_;
    std::vector<uint32_t> line_starts_;
    std::vector<SourcePart> parts_;
};

class SourceManager {
public:
    /// Adds text under a display name (a path, or `<std>`), and returns its id.
    FileId add(std::string name, std::string text, std::vector<SourcePart> parts = {});
    [[nodiscard]] const SourceFile& file(FileId id) const { return files_[id]; }
    [[nodiscard]] size_t size() const { return files_.size(); }
    [[nodiscard]] std::string_view text(Span span) const;

private:
    std::deque<SourceFile> files_;  // a deque: references stay valid
};

}  // namespace flexc::diag
