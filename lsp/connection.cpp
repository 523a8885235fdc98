#include "lsp/connection.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace flexc::lsp {

namespace {

constexpr size_t kMaxMessage = size_t{64} << 20;
constexpr size_t kMaxHeader = 4096;

/// The value of Content-Length in a header, or nothing.
std::optional<size_t> content_length(std::string_view header) {
    while (!header.empty()) {
        const size_t end = std::min(header.find('\n'), header.size());
        std::string_view line = header.substr(0, end);
        header.remove_prefix(std::min(end + 1, header.size()));
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        std::string name(line.substr(0, colon));
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
        if (name != "content-length") continue;
        line.remove_prefix(colon + 1);
        while (line.starts_with(' ')) line.remove_prefix(1);
        size_t value = 0;
        const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), value);
        if (error == std::errc() && (rest == line.data() + line.size() || *rest == '\r' || *rest == ' ')) return value;
    }
    return std::nullopt;
}

}  // namespace

bool Connection::fill() {
    char bytes[65536];
    while (true) {
        const ssize_t count = ::read(in_, bytes, sizeof bytes);
        if (count > 0) {
            buffer_.append(bytes, static_cast<size_t>(count));
            return true;
        }
        if (count < 0 && errno == EINTR) continue;
        return false;
    }
}

Connection::Received Connection::read(Json& message) {
    while (true) {
        size_t end = buffer_.find("\r\n\r\n"), gap = 4;
        if (const size_t bare = buffer_.find("\n\n"); bare < end) end = bare, gap = 2;
        if (end == std::string::npos) {
            if (buffer_.size() > kMaxHeader) {
                buffer_.erase(0, buffer_.size() - 3);
                message = "there is no header of a message here";
                return Received::Malformed;
            }
            if (!fill()) return Received::End;
            continue;
        }
        const std::optional<size_t> length = content_length(std::string_view(buffer_).substr(0, end));
        buffer_.erase(0, end + gap);
        if (!length || *length > kMaxMessage) {
            message = length ? "the message is too large" : "the header of the message has no valid Content-Length";
            for (size_t left = length.value_or(0); left > 0;) {
                if (buffer_.empty() && !fill()) return Received::End;
                const size_t part = std::min(left, buffer_.size());
                buffer_.erase(0, part);
                left -= part;
            }
            return Received::Malformed;
        }
        while (buffer_.size() < *length)
            if (!fill()) return Received::End;
        Json parsed = Json::parse(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(*length), nullptr, false);
        buffer_.erase(0, *length);
        if (parsed.is_discarded()) {
            message = "the message is no JSON";
            return Received::Malformed;
        }
        message = std::move(parsed);
        return Received::Message;
    }
}

bool Connection::write(const Json& message) {
    const std::string body = message.dump(-1, ' ', false, Json::error_handler_t::replace);
    const std::string whole = "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    for (size_t at = 0; at < whole.size();) {
        const ssize_t count = ::write(out_, whole.data() + at, whole.size() - at);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        at += static_cast<size_t>(count);
    }
    return true;
}

bool Connection::pending() const {
    if (buffer_.find("Content-Length") != std::string::npos) return true;
    pollfd wait{in_, POLLIN, 0};
    return ::poll(&wait, 1, 0) > 0 && (wait.revents & POLLIN) != 0;
}

}  // namespace flexc::lsp
