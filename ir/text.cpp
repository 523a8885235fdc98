#include "ir/text.h"

#include <bit>
#include <cmath>

#include <fmt/format.h>

namespace flexc::ir::text {

namespace {

bool is_word(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

}  // namespace

std::string quoted_name(std::string_view name) {
    bool plain = !name.empty();
    for (size_t i = 0; i < name.size() && plain; ++i) plain = is_word(name[i], i == 0);
    return plain ? std::string(name) : quoted(name);
}

std::string quoted(std::string_view bytes) {
    std::string out = "\"";
    for (const char c : bytes) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else if (c >= 0x20 && c < 0x7f) {
            out += c;
        } else {
            out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        }
    }
    return out + '"';
}

std::string float_text(float value) {
    if (std::isnan(value)) return fmt::format("nan:{:08x}", std::bit_cast<uint32_t>(value));
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    std::string text = fmt::format("{}", value);
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}

std::string_view name(Normalize normalize) {
    switch (normalize) {
        case Normalize::Softmax: return "softmax";
        case Normalize::Sigmoid: return "sigmoid";
        case Normalize::None: break;
    }
    return "none";
}

std::string_view name(Emit::Kind kind) {
    return kind == Emit::Kind::Mean ? "mean" : "column_sum";
}

}  // namespace flexc::ir::text
