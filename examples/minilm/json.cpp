#include "json.h"

#include <charconv>
#include <cstdio>
#include <stdexcept>

namespace {

constexpr int kMaxDepth = 64;

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json whole() {
        Json value = parse(0);
        if (peek() != 0) fail("something follows the value");
        return value;
    }

private:
    [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error("JSON, byte " + std::to_string(at_) + ": " + what); }

    /// The next character that is no blank; 0 at the end.
    char peek() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    void expect(char wanted) {
        if (peek() != wanted) fail(std::string("expected `") + wanted + "`");
        ++at_;
    }
    bool word(std::string_view wanted) {
        if (text_.substr(at_, wanted.size()) != wanted) return false;
        at_ += wanted.size();
        return true;
    }

    Json parse(int depth) {
        if (depth > kMaxDepth) fail("nested too deep");
        Json value;
        switch (peek()) {
            case '{':
                value.kind = Json::Kind::Object;
                ++at_;
                while (peek() != '}') {
                    if (!value.object.empty()) expect(',');
                    if (peek() != '"') fail("expected a name");
                    std::string name = string();
                    expect(':');
                    value.object.insert_or_assign(std::move(name), parse(depth + 1));
                }
                ++at_;
                return value;
            case '[':
                value.kind = Json::Kind::Array;
                ++at_;
                while (peek() != ']') {
                    if (!value.array.empty()) expect(',');
                    value.array.push_back(parse(depth + 1));
                }
                ++at_;
                return value;
            case '"':
                value.kind = Json::Kind::String;
                value.string = string();
                return value;
            case 't':
            case 'f':
                value.kind = Json::Kind::Bool;
                value.boolean = text_[at_] == 't';
                if (!word(value.boolean ? "true" : "false")) fail("expected a value");
                return value;
            case 'n':
                if (!word("null")) fail("expected a value");
                return value;
            default: break;
        }
        value.kind = Json::Kind::Number;
        const char* begin = text_.data() + at_;
        const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value.number);
        if (error != std::errc()) fail("expected a value");
        at_ += static_cast<size_t>(end - begin);
        return value;
    }

    std::string string() {
        std::string out;
        for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
            if (text_[at_] != '\\') {
                out += text_[at_];
                continue;
            }
            if (++at_ == text_.size()) break;
            switch (text_[at_]) {
                case 'n': out += '\n'; break;
                case 't': out += '\t'; break;
                case 'r': out += '\r'; break;
                case 'b': out += '\b'; break;
                case 'f': out += '\f'; break;
                case 'u': fail("names with \\u are not read");
                default: out += text_[at_];
            }
        }
        if (at_ == text_.size()) fail("a string does not end");
        ++at_;
        return out;
    }

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

const Json& Json::at(const std::string& name) const {
    const auto found = object.find(name);
    if (found == object.end()) throw std::runtime_error("JSON: there is no `" + name + "`");
    return found->second;
}

size_t Json::size() const {
    const bool whole = kind == Kind::Number && number >= 0 && number < 9e15 && number == static_cast<double>(static_cast<size_t>(number));
    if (!whole) throw std::runtime_error("JSON: expected a whole number");
    return static_cast<size_t>(number);
}

Json parse_json(std::string_view text) {
    return Parser(text).whole();
}

std::string json_string(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", c);
            out += code;
        } else {
            out += c;
        }
    }
    return out + '"';
}
