// Errors as values: every runtime call returns a Status. No exception leaves the runtime.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace flex {

enum class Code : uint8_t { Ok, InvalidArgument, Unsupported, OutOfMemory, DeviceError };

class [[nodiscard]] Status {
public:
    Status() = default;
    Status(Code code, std::string text) : code_(code), text_(std::move(text)) {}

    [[nodiscard]] bool ok() const { return code_ == Code::Ok; }
    [[nodiscard]] Code code() const { return code_; }
    /// A sentence that names the argument, what was expected and what was found; empty if ok.
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    Code code_ = Code::Ok;
    std::string text_;
};

}  // namespace flex
