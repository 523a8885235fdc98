#include "lsp/text.h"

#include <algorithm>

namespace flexc::lsp {

namespace {

/// Bytes of the character that starts with this byte; 1 for what starts none.
uint32_t length_of(unsigned char lead) {
    return lead >= 0xF0 && lead < 0xF8 ? 4 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xC0 && lead < 0xE0 ? 2 : 1;
}
uint64_t units_of(uint32_t length, Encoding encoding) {
    return encoding == Encoding::Utf8 ? length : encoding == Encoding::Utf16 && length == 4 ? 2 : 1;
}

}  // namespace

LineIndex::LineIndex(std::string_view text) {
    starts_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i)
        if (text[i] == '\n' || (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n')))
            starts_.push_back(static_cast<uint32_t>(i + 1));
}

Json LineIndex::position(std::string_view text, uint32_t offset, Encoding encoding) const {
    offset = std::min(offset, static_cast<uint32_t>(text.size()));
    const auto line = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), offset) - starts_.begin()) - 1;
    uint64_t column = 0;
    for (uint32_t i = starts_[line]; i < offset;) {
        const uint32_t length = length_of(static_cast<unsigned char>(text[i]));
        if (i + length > offset) break;
        column += units_of(length, encoding);
        i += length;
    }
    return {{"line", line}, {"character", column}};
}

uint32_t LineIndex::offset(std::string_view text, uint64_t line, uint64_t column, Encoding encoding) const {
    if (line >= starts_.size()) return static_cast<uint32_t>(text.size());
    uint32_t at = starts_[line];
    uint32_t end = line + 1 < starts_.size() ? starts_[line + 1] : static_cast<uint32_t>(text.size());
    while (end > at && (text[end - 1] == '\n' || text[end - 1] == '\r')) --end;
    for (uint64_t units = 0; at < end;) {
        const uint32_t length = std::min(length_of(static_cast<unsigned char>(text[at])), end - at);
        units += units_of(length, encoding);
        if (units > column) break;
        at += length;
    }
    return at;
}

std::optional<std::string> path_of(std::string_view uri) {
    if (!uri.starts_with("file://")) return std::nullopt;
    uri.remove_prefix(7);
    const size_t slash = uri.find('/');  // behind the host
    if (slash == std::string_view::npos) return std::nullopt;
    uri.remove_prefix(slash);
    uri = uri.substr(0, uri.find_first_of("?#"));
    const auto digit = [](char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    };
    std::string path;
    for (size_t i = 0; i < uri.size(); ++i) {
        if (uri[i] == '%' && i + 2 < uri.size() && digit(uri[i + 1]) >= 0 && digit(uri[i + 2]) >= 0) {
            path += static_cast<char>(digit(uri[i + 1]) * 16 + digit(uri[i + 2]));
            i += 2;
        } else {
            path += uri[i];
        }
    }
    return path;
}

std::string uri_of(std::string_view path) {
    static constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    static constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string uri = "file://";
    for (const char c : path) {
        const auto byte = static_cast<unsigned char>(c);
        if (kPlain.find(c) != std::string_view::npos)
            uri += c;
        else
            uri += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
    return uri;
}

std::string valid_utf8(std::string_view text) {
    return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

}  // namespace flexc::lsp
