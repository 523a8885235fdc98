#include "tools/interp_device.h"

#include <cstring>

#include "driver/interp_bindings.h"
#include "ir/interpret_gradient.h"
#include "tools/io/convert.h"

namespace flexc::tools {
namespace {

/// k or v with batch 1 spread over `batch`, if the other of the two has it.
std::vector<double> spread(std::vector<double> values, int64_t have, int64_t batch) {
    if (have == batch) return values;
    std::vector<double> out;
    out.reserve(values.size() * static_cast<size_t>(batch));
    for (int64_t b = 0; b < batch; ++b) out.insert(out.end(), values.begin(), values.end());
    return out;
}

/// The gradient of what `spread` has spread: the sum over the batches.
std::vector<double> gathered(std::vector<double> values, int64_t have, int64_t batch) {
    if (have == batch) return values;
    const size_t n = values.size() / static_cast<size_t>(batch);
    for (size_t i = n; i < values.size(); ++i) values[i % n] += values[i];
    values.resize(n);
    return values;
}

io::Array rounded(const std::vector<double>& values, std::vector<int64_t> shape, io::FileType type) {
    io::Array wide;
    wide.type = io::FileType::F64;
    wide.shape = std::move(shape);
    wide.bytes.resize(values.size() * sizeof(double));
    if (!values.empty()) std::memcpy(wide.bytes.data(), values.data(), wide.bytes.size());
    return io::convert_rounding(wide, type);
}

int64_t kv_batch(const Launch& launch) {
    return std::max(launch.k.shape[0], launch.v.shape[0]);
}

ir::AttentionInput input_of(const Launch& launch) {
    ir::AttentionInput input;
    const int64_t batch = kv_batch(launch);
    input.q = widened(launch.q);
    input.k = spread(widened(launch.k), launch.k.shape[0], batch);
    input.v = spread(widened(launch.v), launch.v.shape[0], batch);
    input.kv_batch = static_cast<int32_t>(batch);
    return input;
}

/// The interpreter asks once a row whether to stop: it never does, and the row is counted.
std::function<bool()> counting(const Launch& launch, flex::CpuProgress* progress) {
    if (!progress) return {};
    using enum ir::ExtentVar;
    progress->total += launch.extent(B) * launch.extent(H) * launch.extent(Q);
    return [progress] {
        ++progress->done;
        return false;
    };
}

std::vector<int64_t> shape_of(const flex::Tensor& tensor) {
    return {tensor.shape.begin(), tensor.shape.begin() + tensor.rank};
}

}  // namespace

io::Arrays run_interpreter(const ir::Attention& attention, const Launch& launch, flex::CpuProgress* progress) {
    const auto e = [&](ir::ExtentVar which) { return launch.extent(which); };
    using enum ir::ExtentVar;
    const ir::AttentionOutput result =
        ir::interpret(attention, interp_bindings(attention, launch.extents, launch.args), input_of(launch), counting(launch, progress));
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

io::Arrays run_interpreter_backward(const ir::Attention& attention, const Launch& launch, flex::CpuProgress* progress) {
    ir::GradientInput loss;
    loss.d_o = widened(launch.d_o);
    if (launch.d_lse.data) loss.d_lse = widened(launch.d_lse);
    if (launch.d_max_score.data) loss.d_max_score = widened(launch.d_max_score);
    const ir::Bindings bindings = interp_bindings(attention, launch.extents, launch.args);
    const ir::GradientOutput result = ir::interpret_gradient(attention, bindings, input_of(launch), loss, counting(launch, progress));
    const int64_t batch = kv_batch(launch);
    const io::FileType type = io::file_type(launch.dtype);
    io::Arrays out;
    out["dq"] = rounded(result.dq, shape_of(launch.q), type);
    out["dk"] = rounded(gathered(result.dk, launch.k.shape[0], batch), shape_of(launch.k), type);
    out["dv"] = rounded(gathered(result.dv, launch.v.shape[0], batch), shape_of(launch.v), type);
    for (size_t i = 0; i < attention.params.size(); ++i) {
        const ir::Param& param = attention.params[i];
        if (!param.grad) continue;
        const std::vector<int32_t>& dim = bindings.tensors[i].dim;
        out["d_" + param.name] = rounded(result.d_params[i], {dim.begin(), dim.end()}, io::FileType::F32);
    }
    return out;
}

}  // namespace flexc::tools
