#include "driver/interp_bindings.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/cpu/convert.h"

namespace flexc {

namespace {

template <class T>
T load(const std::byte* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

double element(flex::DType type, const std::byte* at) {
    switch (type) {
        case flex::DType::F32: return double{load<float>(at)};
        case flex::DType::F16: return double{flex::f16_to_f32(load<uint16_t>(at))};
        case flex::DType::BF16: return double{flex::bf16_to_f32(load<uint16_t>(at))};
        case flex::DType::I32: return load<int32_t>(at);
        case flex::DType::I16: return load<int16_t>(at);
        case flex::DType::I8: return load<int8_t>(at);
        case flex::DType::U8: return load<uint8_t>(at);
        case flex::DType::Bool: return load<uint8_t>(at) != 0 ? 1.0 : 0.0;
    }
    return 0;
}

double scalar(ir::Type type, uint32_t bits) {
    if (type == ir::Type::F32) return double{std::bit_cast<float>(bits)};
    return type == ir::Type::I32 ? static_cast<double>(std::bit_cast<int32_t>(bits)) : static_cast<double>(bits != 0);
}

}  // namespace

std::vector<double> widened(const flex::Tensor& tensor) {
    const auto rank = static_cast<size_t>(tensor.rank);
    size_t count = 1;
    for (size_t d = 0; d < rank; ++d) count *= static_cast<size_t>(tensor.shape[d]);
    std::vector<double> out(count);
    const auto* base = static_cast<const std::byte*>(tensor.data);
    const auto size = static_cast<int64_t>(flex::size_of(tensor.dtype));
    for (size_t i = 0; i < count; ++i) {
        int64_t offset = 0;
        size_t rest = i;
        for (size_t d = rank; d-- > 0;) {
            const auto extent = static_cast<size_t>(tensor.shape[d]);
            offset += static_cast<int64_t>(rest % extent) * tensor.stride[d];
            rest /= extent;
        }
        out[i] = element(tensor.dtype, base + offset * size);
    }
    return out;
}

ir::Bindings interp_bindings(const ir::Attention& attention, const std::vector<int32_t>& extents, const std::vector<flex::Argument>& args) {
    ir::Bindings out;
    out.extents = extents;
    out.scalars.resize(attention.params.size());
    out.tensors.resize(attention.params.size());
    for (size_t i = 0; i < attention.params.size(); ++i) {
        const ir::Param& param = attention.params[i];
        const auto given = std::find_if(args.begin(), args.end(), [&](const flex::Argument& each) { return each.name == param.name; });
        if (given == args.end()) {
            out.scalars[i] = scalar(param.type, param.default_bits.value_or(0));
        } else if (!param.is_tensor) {
            out.scalars[i] = widened(given->value).front();
        } else {
            out.tensors[i].dim.assign(given->value.shape.begin(), given->value.shape.begin() + given->value.rank);
            out.tensors[i].values = widened(given->value);
        }
    }
    return out;
}

}  // namespace flexc
