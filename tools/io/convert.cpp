#include "tools/io/convert.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace flexc::io {
namespace {

template <class T>
T load(const Array& array, int64_t i) {
    T value;
    std::memcpy(&value, array.bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return value;
}

template <class T>
void store(Array& array, int64_t i, T value) {
    std::memcpy(array.bytes.data() + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
}

float bf16_to_f32(uint16_t bits) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// Every integer type but u64 fits i64; u64 above INT64_MAX is the one exception, told apart by `unsigned_high`.
int64_t integer(const Array& array, int64_t i, bool* unsigned_high) {
    *unsigned_high = false;
    switch (array.type) {
        case FileType::I64: return load<int64_t>(array, i);
        case FileType::I32: return load<int32_t>(array, i);
        case FileType::I16: return load<int16_t>(array, i);
        case FileType::I8: return load<int8_t>(array, i);
        case FileType::U64: {
            const auto value = load<uint64_t>(array, i);
            *unsigned_high = value > INT64_MAX;
            return static_cast<int64_t>(value);
        }
        case FileType::U32: return load<uint32_t>(array, i);
        case FileType::U16: return load<uint16_t>(array, i);
        default: return load<uint8_t>(array, i);
    }
}

bool in_range(int64_t value, FileType type) {
    const auto fits = [&](auto limit) {
        using T = decltype(limit);
        return value >= static_cast<int64_t>(std::numeric_limits<T>::min()) && value <= static_cast<int64_t>(std::numeric_limits<T>::max());
    };
    switch (type) {
        case FileType::I32: return fits(int32_t{});
        case FileType::I16: return fits(int16_t{});
        case FileType::I8: return fits(int8_t{});
        case FileType::U32: return fits(uint32_t{});
        case FileType::U16: return fits(uint16_t{});
        case FileType::U8: return fits(uint8_t{});
        default: return true;
    }
}

void store_integer(Array& out, int64_t i, int64_t value) {
    // Two's complement, little-endian: the low bytes are the value in any narrower type.
    std::memcpy(out.bytes.data() + static_cast<size_t>(i) * size_of(out.type), &value, size_of(out.type));
}

void store_float(Array& out, int64_t i, double value) {
    switch (out.type) {
        case FileType::F64: return store(out, i, value);
        case FileType::F32: return store(out, i, static_cast<float>(value));
        case FileType::F16: return store(out, i, to_f16(value));
        default: return store(out, i, to_bf16(value));
    }
}

template <class T>
std::string shortest(T value) {
    char buffer[64];
    const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
    return error == std::errc() ? std::string(buffer, end) : "?";
}

Array like(const Array& in, FileType type) {
    Array out;
    out.type = type;
    out.shape = in.shape;
    out.bytes.resize(static_cast<size_t>(in.count()) * size_of(type));
    return out;
}

}  // namespace

uint16_t to_f16(double value) {
    return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
}

uint16_t to_bf16(double value) {
    if (std::isnan(value)) return 0x7fc0;
    // Rounding twice (f64 -> f32 -> bf16) can miss the nearest value; rounding the first time to odd cannot.
    const auto near = static_cast<float>(value);
    auto bits = std::bit_cast<uint32_t>(near);
    if (std::fabs(static_cast<double>(near)) > std::fabs(value)) bits -= 1;
    if (static_cast<double>(std::bit_cast<float>(bits)) != value) bits |= 1;
    const uint32_t half = 0x7fff + ((bits >> 16) & 1);
    return static_cast<uint16_t>((bits + half) >> 16);
}

FileType file_type(flex::DType type) {
    switch (type) {
        case flex::DType::F32: return FileType::F32;
        case flex::DType::F16: return FileType::F16;
        case flex::DType::BF16: return FileType::BF16;
        case flex::DType::I32: return FileType::I32;
        case flex::DType::I16: return FileType::I16;
        case flex::DType::I8: return FileType::I8;
        case flex::DType::U8: return FileType::U8;
        case flex::DType::Bool: return FileType::Bool;
    }
    return FileType::F32;
}

bool is_float(FileType type) {
    return type <= FileType::BF16;
}
bool is_integer(FileType type) {
    return !is_float(type) && type != FileType::Bool;
}

double element(const Array& array, int64_t i) {
    switch (array.type) {
        case FileType::F64: return load<double>(array, i);
        case FileType::F32: return static_cast<double>(load<float>(array, i));
        case FileType::F16: return static_cast<double>(std::bit_cast<_Float16>(load<uint16_t>(array, i)));
        case FileType::BF16: return static_cast<double>(bf16_to_f32(load<uint16_t>(array, i)));
        case FileType::U64: return static_cast<double>(load<uint64_t>(array, i));
        default: {
            bool high = false;
            return static_cast<double>(integer(array, i, &high));
        }
    }
}

std::string element_text(const Array& array, int64_t i) {
    switch (array.type) {
        case FileType::F64: return shortest(load<double>(array, i));
        case FileType::F32:
        case FileType::F16:
        case FileType::BF16: return shortest(static_cast<float>(element(array, i)));
        case FileType::U64: return std::to_string(load<uint64_t>(array, i));
        case FileType::Bool: return load<uint8_t>(array, i) ? "true" : "false";
        default: {
            bool high = false;
            return std::to_string(integer(array, i, &high));
        }
    }
}

std::string index_text(const std::vector<int64_t>& shape, int64_t i) {
    if (shape.empty()) return "";
    std::vector<int64_t> index(shape.size());
    for (size_t d = shape.size(); d-- > 0;) {
        index[d] = i % shape[d];
        i /= shape[d];
    }
    return shape_text(index);
}

Array widen_bf16(const Array& array) {
    Array out = like(array, FileType::F32);
    for (int64_t i = 0, n = array.count(); i < n; ++i) store(out, i, bf16_to_f32(load<uint16_t>(array, i)));
    return out;
}

ConvertFault convert_exact(const Array& in, FileType type, Array* out) {
    using Kind = ConvertFault::Kind;
    if (in.type == type) {
        *out = in;
        return {};
    }
    const int64_t n = in.count();
    if (is_float(in.type) && is_float(type)) {
        *out = like(in, type);
        for (int64_t i = 0; i < n; ++i) {
            const double value = element(in, i);
            store_float(*out, i, value);
            if (element(*out, i) != value && !std::isnan(value)) return {Kind::Inexact, i};
        }
        return {};
    }
    if (is_integer(in.type) && is_integer(type)) {
        *out = like(in, type);
        for (int64_t i = 0; i < n; ++i) {
            bool high = false;
            const int64_t value = integer(in, i, &high);
            const bool fits = high ? type == FileType::U64 : (type == FileType::U64 ? value >= 0 : in_range(value, type));
            if (!fits) return {Kind::Inexact, i};
            store_integer(*out, i, value);
        }
        return {};
    }
    return {Kind::OtherKind, 0};
}

Array convert_rounding(const Array& in, FileType type) {
    if (in.type == type) return in;
    Array out = like(in, type);
    for (int64_t i = 0, n = in.count(); i < n; ++i) store_float(out, i, element(in, i));
    return out;
}

}  // namespace flexc::io
