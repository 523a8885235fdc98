#include "tests/numerics/engines.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "ir/interpret.h"

namespace numerics {

using flex::DType;
using flex::Tensor;

namespace {

/// Rounds to a float format with `bits` of significand (the implicit one included) and the given smallest normal exponent.
double rounded_to_format(double x, int bits, int min_exponent, double max) {
    if (!std::isfinite(x) || x == 0) return x;
    const int exponent = std::max(std::ilogb(x), min_exponent);
    const double unit = std::ldexp(1.0, exponent - bits + 1);
    const double result = std::nearbyint(x / unit) * unit;
    return std::fabs(result) > max ? std::copysign(std::numeric_limits<double>::infinity(), x) : result;
}

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

/// An array of rank 4 in one of the layouts, with its bytes.
struct Buffer {
    std::vector<std::byte> bytes;
    Tensor view;

    Buffer(DType type, std::array<int64_t, 4> shape, Layout layout) {
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
        for (size_t i = 0; i < bytes.size(); i += flex::size_of(type))
            store(type, bytes.data() + i, std::numeric_limits<double>::quiet_NaN());
        view.data = bytes.data() + origin * static_cast<int64_t>(flex::size_of(type));
    }

    template <class Visit>  // visit(address, row-major position)
    void each(Visit visit) const {
        size_t position = 0;
        for (int64_t i = 0; i < view.shape[0]; ++i)
            for (int64_t j = 0; j < view.shape[1]; ++j)
                for (int64_t k = 0; k < view.shape[2]; ++k)
                    for (int64_t l = 0; l < view.shape[3]; ++l) {
                        const int64_t offset = i * view.stride[0] + j * view.stride[1] + k * view.stride[2] + l * view.stride[3];
                        visit(static_cast<std::byte*>(view.data) + offset * static_cast<int64_t>(flex::size_of(view.dtype)), position++);
                    }
    }
    void fill(const std::vector<double>& values) {
        each([&](std::byte* at, size_t i) { store(view.dtype, at, values[i]); });
    }
    [[nodiscard]] std::vector<double> values() const {
        std::vector<double> out;
        each([&](const std::byte* at, size_t) { out.push_back(fetch(view.dtype, at)); });
        return out;
    }
};

/// The captured arrays as launch arguments, with their bytes.
struct Arguments {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<flex::Argument> list;

    explicit Arguments(const std::vector<Captured>& captured) {
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
};

struct Arrays {
    Buffer q, k, v, o, lse, max_score;

    Arrays(DType type, const Inputs& in, Layout layout)
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
    [[nodiscard]] flex::AttentionArrays views() const {
        const auto rows = [](const Buffer& buffer) {
            return Tensor::contiguous(buffer.view.data, DType::F32, {buffer.view.shape[1], buffer.view.shape[2], buffer.view.shape[3]});
        };
        return {q.view, k.view, v.view, o.view, rows(lse), rows(max_score)};
    }
};

}  // namespace

double rounded(DType type, double x) {
    switch (type) {
        case DType::F16: return rounded_to_format(x, 11, -14, 65504);
        case DType::BF16: return rounded_to_format(x, 8, -126, 0x1.fep127);
        default: return rounded_to_format(x, 24, -126, 0x1.fffffep127);
    }
}

Inputs random_inputs(Random& random, const Shape& shape, DType type) {
    Inputs in;
    in.shape = shape;
    const auto fill = [&](std::vector<double>& values, int64_t count) {
        values.resize(static_cast<size_t>(count));
        for (double& x : values) x = rounded(type, random.normal());
    };
    fill(in.q, int64_t{shape.b} * shape.h * shape.q * shape.d);
    fill(in.k, int64_t{shape.kvb} * shape.hkv * shape.k * shape.d);
    fill(in.v, int64_t{shape.kvb} * shape.hkv * shape.k * shape.dv);
    return in;
}

std::unique_ptr<Program> Program::open(const std::string& name_or_path, const std::string& text,
                                       const std::map<std::string, std::string>& consts, bool show_warnings) {
    auto program = std::make_unique<Program>();
    flexc::Session& session = program->session_;
    const bool opened = text.empty() ? session.open(name_or_path) : session.open_text(name_or_path + ".flex", text);
    if (opened)
        if (const auto name = session.choose("")) {
            program->as_lowered_ = flexc::frontend::lower(session.program(), *name, consts, session.sink);
            if (program->as_lowered_) program->attention_ = session.lower(*name, consts);
        }
    if (session.sink.has_errors() || (show_warnings && !session.sink.all().empty()))
        std::fputs(flexc::diag::render_all(session.sources, session.sink, false).c_str(), stdout);
    if (!program->attention_) return nullptr;
    program->desc_ = flexc::cpu::describe(*program->attention_);
    return program;
}

namespace {

/// What the interpreter takes, or an error of binding.
std::string bindings_of(const flex::KernelDesc& desc, const flexc::ir::Attention& attention, const Inputs& in,
                        const std::vector<Captured>& captured, flexc::ir::Bindings* bindings) {
    const Arrays arrays(DType::F32, in, Layout::Dense);
    const Arguments arguments(captured);
    flex::BoundExtents extents;
    if (const flex::Status status = flex::bind(desc, arrays.views(), arguments.list, &extents); !status.ok()) return status.text();
    bindings->extents = extents.values;
    for (const auto& param : attention.params) {
        const auto given = std::find_if(captured.begin(), captured.end(), [&](const Captured& c) { return c.name == param.name; });
        double scalar = 0;
        flexc::ir::InterpTensor tensor;
        if (given == captured.end()) {
            const uint32_t bits = param.default_bits.value_or(0);
            scalar = param.type == flexc::ir::Type::F32 ? static_cast<double>(std::bit_cast<float>(bits)) : std::bit_cast<int32_t>(bits);
        } else if (param.is_tensor) {
            tensor.dim.assign(given->shape.begin(), given->shape.end());
            tensor.values = given->values;
        } else {
            scalar = given->values.front();
        }
        bindings->scalars.push_back(scalar);
        bindings->tensors.push_back(std::move(tensor));
    }
    return {};
}

}  // namespace

Result Program::interpret(const Inputs& in, const std::vector<Captured>& captured) const {
    Result result;
    flexc::ir::Bindings bindings;
    result.error = bindings_of(desc_, *attention_, in, captured, &bindings);
    if (!result.error.empty()) return result;
    auto out = flexc::ir::interpret(*attention_, bindings, {in.q, in.k, in.v, in.shape.kvb});
    result.o = std::move(out.o);
    result.lse = std::move(out.lse);
    result.max_score = std::move(out.max_score);
    return result;
}

Variant Program::unoptimised(const Inputs& in, const std::vector<Captured>& captured, std::string* error) const {
    struct State {
        flexc::ir::Bindings bindings;
        std::optional<flexc::ir::Evaluator> mask, score;
    };
    auto state = std::make_shared<State>();
    *error = bindings_of(desc_, *as_lowered_, in, captured, &state->bindings);
    if (!error->empty()) return {};
    const auto point = [](int b, int h, int q, int k, double score) {
        flexc::ir::Point at;
        at.b = b, at.h = h, at.q = q, at.k = k, at.score = score;
        return at;
    };
    state->mask.emplace(*as_lowered_, state->bindings, std::vector{as_lowered_->mask});
    state->score.emplace(*as_lowered_, state->bindings, std::vector{as_lowered_->score});
    Variant variant;
    variant.mask = [state, point](int b, int h, int q, int k) { return state->mask->at(point(b, h, q, k, 0)).front() != 0; };
    variant.score = [state, point](int b, int h, int q, int k, double x) { return state->score->at(point(b, h, q, k, x)).front(); };
    return variant;
}

Result Program::run(flex::CpuLevel level, DType type, const Inputs& in, const std::vector<Captured>& captured, Layout layout, int threads) {
    Result result;
    auto& kernel = kernels_[level];
    if (!kernel) {
        flexc::KernelOptions options;
        options.level = level;
        options.use_cache = false;
        kernel = session_.compile_cpu(*attention_, options);
        if (!kernel) {
            result.error = flexc::diag::render_all(session_.sources, session_.sink, false);
            return result;
        }
    }
    const Arrays arrays(type, in, layout);
    const Arguments arguments(captured);
    const flex::Status status =
        flex::launch_cpu(kernel->desc, kernel->code->table(), arrays.views(), arguments.list, {.threads = threads}, &result.stats);
    if (!status.ok()) {
        result.error = status.text();
        return result;
    }
    result.o = arrays.o.values();
    result.lse = arrays.lse.values();
    result.max_score = arrays.max_score.values();
    return result;
}

std::vector<flex::CpuLevel> levels() {
    std::vector<flex::CpuLevel> list;
    for (int level = 0; level <= static_cast<int>(flex::host_level()); ++level) list.push_back(static_cast<flex::CpuLevel>(level));
    return list;
}

}  // namespace numerics
