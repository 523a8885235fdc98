// Messages over a pair of file descriptors, framed as the language server protocol has them: `Content-Length: N`, an empty line, N bytes of JSON.
#pragma once

#include <string>

#include "lsp/text.h"

namespace flexc::lsp {

class Connection {
public:
    Connection(int in, int out) : in_(in), out_(out) {}

    enum class Received : uint8_t { Message, Malformed, End };
    /// Waits for a message. Malformed: `message` is the reason; what follows can be read.
    Received read(Json& message);
    /// False if the reader has gone.
    bool write(const Json& message);
    /// Whether more has arrived.
    [[nodiscard]] bool pending() const;

private:
    /// Reads more into the buffer; false at the end.
    bool fill();

    int in_, out_;
    std::string buffer_;
};

}  // namespace flexc::lsp
