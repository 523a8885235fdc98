#include "tests/numerics/buffers.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace numerics {

using flex::DType;
using flex::Tensor;

namespace {

uint16_t f16_bits(double x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return 0x7e00;
    const double a = std::fabs(x);
    if (std::isinf(a)) return sign | 0x7c00;
    if (a < 0x1p-14) return sign | static_cast<uint16_t>(a * 0x1p24);
    const int exponent = std::ilogb(a);
    return sign | static_cast<uint16_t>((exponent + 15) << 10 | (static_cast<int>(a * std::ldexp(1.0, 10 - exponent)) - 1024));
}

double f16_value(uint16_t bits) {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25));
}

/// Stores a value that the type represents exactly.
void store(DType type, std::byte* at, double x) {
    const auto put = [at](auto value) { std::memcpy(at, &value, sizeof value); };
    switch (type) {
        case DType::F32: return put(static_cast<float>(x));
        case DType::F16: return put(f16_bits(x));
        case DType::BF16: return put(static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(x)) >> 16));
        case DType::I32: return put(static_cast<int32_t>(x));
        case DType::I16: return put(static_cast<int16_t>(x));
        case DType::I8: return put(static_cast<int8_t>(x));
        case DType::U8: return put(static_cast<uint8_t>(x));
        case DType::Bool: return put(static_cast<uint8_t>(x != 0));
    }
}

double fetch(DType type, const std::byte* at) {
    const auto get = [at](auto zero) {
        std::memcpy(&zero, at, sizeof zero);
        return zero;
    };
    switch (type) {
        case DType::F16: return f16_value(get(uint16_t{0}));
        case DType::BF16: return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(get(uint16_t{0})) << 16));
        default: return static_cast<double>(get(0.0F));
    }
}

}  // namespace

Buffer::Buffer(DType type, std::array<int64_t, 4> shape, Layout layout) {
    const auto [b, h, n, d] = shape;
    view = Tensor::contiguous(nullptr, type, {b, h, n, d});
    int64_t count = b * h * n * d, origin = 0;
    if (layout == Layout::HeadsInner) {
        view.stride = {n * h * d, d, h * d, 1};
    } else if (layout == Layout::Padded) {
        const int64_t row = d + 3, head = n * row + 5, batch = h * head + 7;
        view.stride = {-batch, -head, row, 1};
        origin = std::max<int64_t>(b - 1, 0) * batch + std::max<int64_t>(h - 1, 0) * head;
        count = b * batch;
    }
    bytes.resize(static_cast<size_t>(std::max<int64_t>(count, 1)) * flex::size_of(type));
    for (size_t i = 0; i < bytes.size(); i += flex::size_of(type)) store(type, bytes.data() + i, std::numeric_limits<double>::quiet_NaN());
    view.data = bytes.data() + origin * static_cast<int64_t>(flex::size_of(type));
}

/// visit(address, row-major position)
template <class Visit>
void Buffer::each(Visit visit) const {
    size_t position = 0;
    for (int64_t i = 0; i < view.shape[0]; ++i)
        for (int64_t j = 0; j < view.shape[1]; ++j)
            for (int64_t k = 0; k < view.shape[2]; ++k)
                for (int64_t l = 0; l < view.shape[3]; ++l) {
                    const int64_t offset = i * view.stride[0] + j * view.stride[1] + k * view.stride[2] + l * view.stride[3];
                    visit(static_cast<std::byte*>(view.data) + offset * static_cast<int64_t>(flex::size_of(view.dtype)), position++);
                }
}

void Buffer::fill(const std::vector<double>& values) {
    each([&](std::byte* at, size_t i) { store(view.dtype, at, values[i]); });
}

std::vector<double> Buffer::values() const {
    std::vector<double> out;
    each([&](const std::byte* at, size_t) { out.push_back(fetch(view.dtype, at)); });
    return out;
}

Arguments::Arguments(const std::vector<Captured>& captured) {
    for (const Captured& c : captured) {
        const size_t size = flex::size_of(c.dtype);
        bytes.emplace_back(std::max<size_t>(c.values.size(), 1) * size);
        for (size_t i = 0; i < c.values.size(); ++i) store(c.dtype, bytes.back().data() + i * size, c.values[i]);
        Tensor t = Tensor::contiguous(bytes.back().data(), c.dtype, {});
        t.rank = static_cast<int>(c.shape.size());
        int64_t stride = 1;
        for (size_t i = c.shape.size(); i-- > 0; stride *= c.shape[i]) {
            t.shape[i] = c.shape[i];
            t.stride[i] = stride;
        }
        list.push_back({c.name, t});
    }
}

Arrays::Arrays(DType type, const Inputs& in, Layout layout)
    : q(type, {in.shape.b, in.shape.h, in.shape.q, in.shape.d}, layout),
      k(type, {in.shape.kvb, in.shape.hkv, in.shape.k, in.shape.d}, layout),
      v(type, {in.shape.kvb, in.shape.hkv, in.shape.k, in.shape.dv}, layout),
      o(type, {in.shape.b, in.shape.h, in.shape.q, in.shape.dv}, layout),
      lse(DType::F32, {1, in.shape.b, in.shape.h, in.shape.q}, Layout::Dense),
      max_score(DType::F32, {1, in.shape.b, in.shape.h, in.shape.q}, Layout::Dense) {
    q.fill(in.q);
    k.fill(in.k);
    v.fill(in.v);
}

Tensor rows_view(const Tensor& buffer) {
    return Tensor::contiguous(buffer.data, DType::F32, {buffer.shape[1], buffer.shape[2], buffer.shape[3]});
}

flex::AttentionArrays Arrays::views() const {
    return {q.view, k.view, v.view, o.view, rows_view(lse.view), rows_view(max_score.view)};
}

}  // namespace numerics
