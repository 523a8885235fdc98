#include "tools/interp_device.h"

#include <bit>
#include <cstring>

#include "tools/io/convert.h"

namespace flexc::tools {
namespace {

/// A view back as an array; every view of a launch is contiguous.
io::Array array_of(const flex::Tensor& tensor) {
    io::Array out;
    out.type = io::file_type(tensor.dtype);
    out.shape.assign(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    out.bytes.resize(static_cast<size_t>(out.count()) * io::size_of(out.type));
    if (!out.bytes.empty()) std::memcpy(out.bytes.data(), tensor.data, out.bytes.size());
    return out;
}

std::vector<double> widened(const io::Array& array) {
    std::vector<double> out(static_cast<size_t>(array.count()));
    for (size_t i = 0; i < out.size(); ++i) out[i] = io::element(array, static_cast<int64_t>(i));
    return out;
}

/// k or v with batch 1 spread over `batch`, if the other of the two has it.
std::vector<double> spread(std::vector<double> values, int64_t have, int64_t batch) {
    if (have == batch) return values;
    std::vector<double> out;
    out.reserve(values.size() * static_cast<size_t>(batch));
    for (int64_t b = 0; b < batch; ++b) out.insert(out.end(), values.begin(), values.end());
    return out;
}

io::Array rounded(const std::vector<double>& values, std::vector<int64_t> shape, io::FileType type) {
    io::Array wide;
    wide.type = io::FileType::F64;
    wide.shape = std::move(shape);
    wide.bytes.resize(values.size() * sizeof(double));
    if (!values.empty()) std::memcpy(wide.bytes.data(), values.data(), wide.bytes.size());
    return io::convert_rounding(wide, type);
}

double scalar_value(uint32_t bits, flex::DType type) {
    if (type == flex::DType::F32) return static_cast<double>(std::bit_cast<float>(bits));
    return type == flex::DType::I32 ? static_cast<double>(static_cast<int32_t>(bits)) : static_cast<double>(bits != 0);
}

}  // namespace

ir::Bindings interp_bindings(const ir::Attention& attention, const flex::KernelDesc& desc, const Launch& launch) {
    ir::Bindings out;
    out.extents = launch.extents;
    out.scalars.resize(attention.params.size());
    out.tensors.resize(attention.params.size());
    for (size_t i = 0; i < desc.params.size(); ++i) {
        const flex::ParamDesc& param = desc.params[i];
        const flex::Argument* given = nullptr;
        for (const flex::Argument& each : launch.args)
            if (each.name == param.name) given = &each;
        if (!given) {
            out.scalars[i] = scalar_value(param.default_bits, param.dtype);
            continue;
        }
        const io::Array array = array_of(given->value);
        if (!param.is_tensor) {
            out.scalars[i] = io::element(array, 0);
            continue;
        }
        for (int64_t extent : array.shape) out.tensors[i].dim.push_back(static_cast<int32_t>(extent));
        out.tensors[i].values = widened(array);
    }
    return out;
}

io::Arrays run_interpreter(const ir::Attention& attention, const flex::KernelDesc& desc, const Launch& launch) {
    const auto e = [&](ir::ExtentVar which) { return launch.extent(which); };
    using enum ir::ExtentVar;
    ir::AttentionInput input;
    const int64_t k_batch = launch.k.shape[0], v_batch = launch.v.shape[0], kv_batch = std::max(k_batch, v_batch);
    input.q = widened(array_of(launch.q));
    input.k = spread(widened(array_of(launch.k)), k_batch, kv_batch);
    input.v = spread(widened(array_of(launch.v)), v_batch, kv_batch);
    input.kv_batch = static_cast<int32_t>(kv_batch);

    const ir::AttentionOutput result = ir::interpret(attention, interp_bindings(attention, desc, launch), input);
    const std::vector<int64_t> rows = {e(B), e(H), e(Q)};
    io::Arrays out;
    out["o"] = rounded(result.o, {e(B), e(H), e(Q), e(DV)}, io::file_type(launch.dtype));
    out["lse"] = rounded(result.lse, rows, io::FileType::F32);
    out["max_score"] = rounded(result.max_score, rows, io::FileType::F32);
    for (size_t i = 0; i < attention.emits.size(); ++i) {
        const bool columns = attention.emits[i].kind == ir::Emit::Kind::ColumnSum;
        out[attention.emits[i].name] =
            rounded(result.emits[i].second, columns ? std::vector<int64_t>{e(B), e(H), e(K)} : rows, io::FileType::F32);
    }
    return out;
}

}  // namespace flexc::tools
