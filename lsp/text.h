// Places as the protocol has them: lines and columns from 0, columns in units of the encoding agreed on, and file URIs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::lsp {

using Json = nlohmann::json;

enum class Encoding : uint8_t { Utf8, Utf16, Utf32 };

/// The lines of a text. A line ends with LF, CRLF or CR, as the protocol says.
class LineIndex {
public:
    LineIndex() : LineIndex(std::string_view()) {}
    explicit LineIndex(std::string_view text);

    /// The position of a byte; of one within a character, its start. `text` is that of the constructor.
    [[nodiscard]] Json position(std::string_view text, uint32_t offset, Encoding encoding) const;
    /// The byte of a position. Columns behind the end of a line mean its end, lines behind the last the end of the text.
    [[nodiscard]] uint32_t offset(std::string_view text, uint64_t line, uint64_t column, Encoding encoding) const;
    [[nodiscard]] size_t size() const { return starts_.size(); }

private:
    std::vector<uint32_t> starts_;
};

/// The path of a `file:` URI; nothing for others.
[[nodiscard]] std::optional<std::string> path_of(std::string_view uri);
[[nodiscard]] std::string uri_of(std::string_view path);

/// Bytes that are no UTF-8 become U+FFFD: JSON cannot hold them.
[[nodiscard]] std::string valid_utf8(std::string_view text);

}  // namespace flexc::lsp
