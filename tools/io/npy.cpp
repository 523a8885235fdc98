// NumPy's .npy: "\x93NUMPY", version, header length, a Python dict literal {'descr', 'fortran_order', 'shape'}, then the elements.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "tools/io/formats.h"

namespace flexc::io {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 1 << 20;
constexpr size_t kMaxDims = 32;  // NumPy's own limit up to version 1

struct Header {
    std::string descr;  // empty: a structured type
    bool fortran = false;
    std::vector<int64_t> shape;
};

/// Reads the dict literal: just the strings, booleans, tuples of integers and (skipped) lists that NumPy writes.
class HeaderParser {
public:
    explicit HeaderParser(std::string_view text) : text_(text) {}

    bool parse(Header* out) {
        bool have_descr = false, have_order = false, have_shape = false;
        if (!take('{')) return false;
        while (!take('}')) {
            std::string key;
            if (!string(&key) || !take(':')) return false;
            if (key == "descr" && !have_descr) {
                have_descr = true;
                if (peek() == '[' ? !skip_brackets() : !string(&out->descr)) return false;
            } else if (key == "fortran_order" && !have_order) {
                have_order = true;
                if (!boolean(&out->fortran)) return false;
            } else if (key == "shape" && !have_shape) {
                have_shape = true;
                if (!tuple(&out->shape)) return false;
            } else {
                return false;
            }
            if (!take(',') && peek() != '}') return false;
        }
        return have_descr && have_order && have_shape && peek() == '\0';
    }

private:
    char peek() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    bool take(char c) {
        if (peek() != c) return false;
        ++at_;
        return true;
    }
    bool string(std::string* out) {
        const char quote = peek();
        if (quote != '\'' && quote != '"') return false;
        const size_t end = text_.find(quote, at_ + 1);
        if (end == std::string_view::npos) return false;
        *out = text_.substr(at_ + 1, end - at_ - 1);
        at_ = end + 1;
        return true;
    }
    bool boolean(bool* out) {
        peek();
        for (std::string_view word : {"True", "False"}) {
            if (text_.substr(at_, word.size()) != word) continue;
            at_ += word.size();
            *out = word == "True";
            return true;
        }
        return false;
    }
    bool tuple(std::vector<int64_t>* out) {
        if (!take('(')) return false;
        while (!take(')')) {
            peek();
            int64_t value = 0;
            const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
            if (error != std::errc() || value < 0 || out->size() == kMaxDims) return false;
            at_ = static_cast<size_t>(end - text_.data());
            take('L');  // Python 2 wrote long integers so
            out->push_back(value);
            if (!take(',') && peek() != ')') return false;
        }
        return true;
    }
    bool skip_brackets() {
        size_t depth = 0;
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '[' || c == '(') ++depth;
            if ((c == ']' || c == ')') && --depth == 0) {
                ++at_;
                return true;
            }
        }
        return false;
    }

    std::string_view text_;
    size_t at_ = 0;
};

bool file_type(std::string_view descr, FileType* type, bool* big_endian) {
    if (descr.size() < 3) return false;
    const char order = descr[0];
    if (order != '<' && order != '>' && order != '|' && order != '=') return false;
    *big_endian = order == '>';
    static constexpr struct {
        std::string_view code;
        FileType type;
    } kTypes[] = {{"f8", FileType::F64}, {"f4", FileType::F32}, {"f2", FileType::F16}, {"V2", FileType::BF16}, {"i8", FileType::I64},
                  {"i4", FileType::I32}, {"i2", FileType::I16}, {"i1", FileType::I8},  {"u8", FileType::U64},  {"u4", FileType::U32},
                  {"u2", FileType::U16}, {"u1", FileType::U8},  {"b1", FileType::Bool}};
    for (const auto& entry : kTypes) {
        if (entry.code != descr.substr(1)) continue;
        *type = entry.type;
        return true;
    }
    return false;
}

/// Column-major elements to row-major ones: walks the output in order and steps the input by its strides.
std::vector<std::byte> from_fortran(std::span<const std::byte> in, const std::vector<int64_t>& shape, size_t size) {
    std::vector<std::byte> out(in.size());
    std::vector<size_t> stride(shape.size()), at(shape.size());
    size_t step = size;
    for (size_t i = 0; i < shape.size(); ++i) {
        stride[i] = step;
        step *= static_cast<size_t>(shape[i]);
    }
    size_t source = 0;
    for (size_t target = 0; target < out.size(); target += size) {
        std::memcpy(out.data() + target, in.data() + source, size);
        for (size_t i = shape.size(); i-- > 0;) {
            source += stride[i];
            if (++at[i] < static_cast<size_t>(shape[i])) break;
            source -= stride[i] * at[i];
            at[i] = 0;
        }
    }
    return out;
}

}  // namespace

NpyResult parse_npy(std::span<const std::byte> bytes, Array* out) {
    const auto byte = [&](size_t i) { return static_cast<size_t>(bytes[i]); };
    if (bytes.size() < 10 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) return {"not a .npy array (bad magic)", false};
    const size_t major = byte(6);
    if (major < 1 || major > 3) return {"version " + std::to_string(major) + " of the .npy format is not known", false};
    const size_t start = major == 1 ? 10 : 12;
    if (bytes.size() < start) return {"the header is cut off", false};
    size_t length = byte(8) | byte(9) << 8;
    if (major != 1) length |= byte(10) << 16 | byte(11) << 24;
    if (length > kMaxHeader) return {"the header is longer than 1 MiB", false};
    if (length > bytes.size() - start) return {"the header is cut off", false};

    Header header;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + start, length);
    if (!HeaderParser(text).parse(&header)) return {"the header is damaged", false};
    bool big_endian = false;
    if (!file_type(header.descr, &out->type, &big_endian)) {
        const std::string what = header.descr.empty() ? "a structured type" : "`" + header.descr + "`";
        return {"its element type, " + what + ", is not a number or bool that flexc reads", true};
    }
    const size_t size = size_of(out->type);
    const auto need = checked_bytes(header.shape, size);
    const std::span<const std::byte> data = bytes.subspan(start + length);
    if (!need || *need != data.size()) {
        return {"the shape " + shape_text(header.shape) + " of " + name(out->type) + " does not match the " + std::to_string(data.size()) +
                    " bytes that follow",
                false};
    }
    out->shape = header.shape;
    if (header.fortran && header.shape.size() > 1 && *need != 0)
        out->bytes = from_fortran(data, header.shape, size);
    else
        out->bytes.assign(data.begin(), data.end());
    if (big_endian && size > 1) {
        for (size_t i = 0; i < out->bytes.size(); i += size)
            std::reverse(out->bytes.begin() + static_cast<ptrdiff_t>(i), out->bytes.begin() + static_cast<ptrdiff_t>(i + size));
    }
    if (out->type == FileType::Bool)
        for (std::byte& b : out->bytes) b = b == std::byte{0} ? std::byte{0} : std::byte{1};
    return {};
}

std::vector<std::byte> format_npy(const Array& array) {
    const char* descr = nullptr;
    switch (array.type) {
        case FileType::F64: descr = "<f8"; break;
        case FileType::F32: descr = "<f4"; break;
        case FileType::F16: descr = "<f2"; break;
        case FileType::BF16: descr = "<V2"; break;
        case FileType::I64: descr = "<i8"; break;
        case FileType::I32: descr = "<i4"; break;
        case FileType::I16: descr = "<i2"; break;
        case FileType::I8: descr = "|i1"; break;
        case FileType::U64: descr = "<u8"; break;
        case FileType::U32: descr = "<u4"; break;
        case FileType::U16: descr = "<u2"; break;
        case FileType::U8: descr = "|u1"; break;
        case FileType::Bool: descr = "|b1"; break;
    }
    std::string header = std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (";
    for (int64_t extent : array.shape) header += std::to_string(extent) + ",";
    header += "), }";
    // The elements start at a multiple of 64 bytes, as NumPy does, for memory maps.
    const size_t unpadded = 10 + header.size() + 1;
    header.append((64 - unpadded % 64) % 64, ' ');
    header += '\n';

    std::vector<std::byte> out(10 + header.size() + array.bytes.size());
    std::memcpy(out.data(), kMagic.data(), kMagic.size());
    out[6] = std::byte{1};
    out[7] = std::byte{0};
    out[8] = static_cast<std::byte>(header.size() & 0xff);
    out[9] = static_cast<std::byte>(header.size() >> 8);
    std::memcpy(out.data() + 10, header.data(), header.size());
    if (!array.bytes.empty()) std::memcpy(out.data() + 10 + header.size(), array.bytes.data(), array.bytes.size());
    return out;
}

}  // namespace flexc::io
