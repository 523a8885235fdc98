#include "diag/source.h"

#include <algorithm>
#include <utility>

#include "diag/check.h"

namespace flexc::diag {

Span Span::to(Span other) const {
    return {file, std::min(begin, other.begin), std::max(end, other.end)};
}

SourceFile::SourceFile(std::string name, std::string text, std::vector<SourcePart> parts)
    : name_(std::move(name)), text_(std::move(text)), parts_(std::move(parts)) {
    if (text_.starts_with("\xEF\xBB\xBF")) text_.erase(0, 3);
    line_starts_.push_back(0);
    for (size_t at = text_.find('\n'); at != std::string::npos; at = text_.find('\n', at + 1))
        line_starts_.push_back(static_cast<uint32_t>(at + 1));
}

LineColumn SourceFile::position(uint32_t offset) const {
    offset = std::min(offset, static_cast<uint32_t>(text_.size()));
    const auto after = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
    const auto line = static_cast<uint32_t>(after - line_starts_.begin());
    const auto begin = text_.begin() + line_starts_[line - 1];
    const auto continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
    const auto column = std::count_if(begin, text_.begin() + offset, [&](char c) { return !continuation(c); });
    return {line, static_cast<uint32_t>(column) + 1};
}

std::string_view SourceFile::line(uint32_t number) const {
    FLEX_CHECK(number >= 1 && number <= line_count(), "a line number is within its file");
    const uint32_t begin = line_starts_[number - 1];
    const size_t end = number < line_count() ? line_starts_[number] - 1 : text_.size();
    std::string_view line = std::string_view(text_).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

SourceFile::ShownLine SourceFile::shown(uint32_t line) const {
    const auto after = std::upper_bound(parts_.begin(), parts_.end(), line, [](uint32_t l, const SourcePart& part) { return l < part.first_line; });
    if (after == parts_.begin()) return {name_, line};
    const SourcePart& part = *(after - 1);
    return {part.name, part.number + (line - part.first_line)};
}

FileId SourceManager::add(std::string name, std::string text, std::vector<SourcePart> parts) {
    files_.emplace_back(std::move(name), std::move(text), std::move(parts));
    return static_cast<FileId>(files_.size() - 1);
}

std::string_view SourceManager::text(Span span) const {
    const std::string_view all = file(span.file).text();
    const size_t begin = std::min<size_t>(span.begin, all.size());
    return all.substr(begin, std::max<size_t>(span.end, begin) - begin);
}

}  // namespace flexc::diag
