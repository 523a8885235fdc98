#include "variant.h"

#include <sys/mman.h>

#include <doctest/doctest.h>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "gpu_variant.h"

namespace flexc::test {

using ir::ElemType;
using ir::NodeId;

std::vector<flex::CpuLevel> levels() {
    std::vector<flex::CpuLevel> all;
    for (int level = 0; level <= int(flex::host_level()); level++) all.push_back(flex::CpuLevel(level));
    return all;
}

namespace {

constexpr size_t kPage = 4096;

size_t bytes_of(ElemType elem) {
    switch (elem) {
        case ElemType::F32:
        case ElemType::I32: return 4;
        case ElemType::F16:
        case ElemType::BF16:
        case ElemType::I16: return 2;
        default: return 1;
    }
}

/// Encodes a value; `values` become what was stored. f16 by the compiler's own conversion.
double encode(ElemType elem, double value, char* at) {
    switch (elem) {
        case ElemType::F32: {
            const auto v = float(value);
            std::memcpy(at, &v, 4);
            return v;
        }
        case ElemType::F16: {
            const auto v = static_cast<_Float16>(value);
            std::memcpy(at, &v, 2);
            return double(v);
        }
        case ElemType::BF16: {
            const uint32_t bits = std::bit_cast<uint32_t>(float(value)) & 0xffff0000;
            const auto high = uint16_t(bits >> 16);
            std::memcpy(at, &high, 2);
            return std::bit_cast<float>(bits);
        }
        case ElemType::I32: {
            const auto v = int32_t(value);
            std::memcpy(at, &v, 4);
            return v;
        }
        case ElemType::I16: {
            const auto v = int16_t(value);
            std::memcpy(at, &v, 2);
            return v;
        }
        case ElemType::I8: return double(*reinterpret_cast<int8_t*>(at) = int8_t(value));
        case ElemType::U8: return double(*reinterpret_cast<uint8_t*>(at) = uint8_t(value));
        case ElemType::Bool: return double(*reinterpret_cast<uint8_t*>(at) = value != 0);
    }
    return 0;
}

}  // namespace

/// Memory whose last byte is followed, and whose first page is preceded, by pages that fault. Elements are aligned to their own
/// size and to nothing more.
struct Variant::Storage {
    explicit Storage(size_t bytes) : size(bytes) {
        const size_t pages = (bytes + kPage - 1) / kPage;
        mapped = (pages + 2) * kPage;
        base = static_cast<char*>(mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (pages) mprotect(base + kPage, pages * kPage, PROT_READ | PROT_WRITE);
        end = base + (pages + 1) * kPage;
    }
    ~Storage() { munmap(base, mapped); }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;
    size_t size, mapped;
    char *base, *end;
};

Variant::Variant(std::vector<int32_t> extents_in) : g(attention.graph), extents(std::move(extents_in)) {
    attention.name = "variant";
    b = g.index(ir::IndexVar::B);
    h = g.index(ir::IndexVar::H);
    q = g.index(ir::IndexVar::Q);
    k = g.index(ir::IndexVar::K);
    hkv = g.index(ir::IndexVar::Hkv);
    score = g.score();
    attention.score = score;
    attention.mask = g.boolean(true);
    rebind();
}

Variant::Variant(ir::Attention made, const ir::Bindings& bound, Layout layout)
    : attention(std::move(made)), g(attention.graph), extents(bound.extents) {
    for (size_t i = 0; i < attention.params.size(); i++) {
        const ir::Param& param = attention.params[i];
        if (param.is_tensor) {
            bind_tensor(param.elem, bound.tensors[i].dim, bound.tensors[i].values, layout);
            continue;
        }
        const double value = bound.scalars[i];
        bindings_.scalars.push_back(value);
        bindings_.tensors.emplace_back();
        scalars_.push_back(param.type == ir::Type::F32 ? std::bit_cast<uint32_t>(float(value)) : uint32_t(int32_t(value)));
        tensors_.emplace_back();
    }
    rebind();
}

Variant::~Variant() = default;

void Variant::rebind() {
    bindings_.extents = extents;
    args_.extents = bindings_.extents.data();
    args_.scalars = scalars_.data();
    args_.tensors = tensors_.data();
}

NodeId Variant::scalar_f32(float value) {
    attention.params.emplace_back().name = "p" + std::to_string(attention.params.size());
    bindings_.scalars.push_back(value);
    bindings_.tensors.emplace_back();
    scalars_.push_back(std::bit_cast<uint32_t>(value));
    tensors_.emplace_back();
    rebind();
    return g.scalar(uint32_t(attention.params.size() - 1), ir::Type::F32);
}

NodeId Variant::scalar_i32(int32_t value) {
    scalar_f32(0);
    attention.params.back().type = ir::Type::I32;
    bindings_.scalars.back() = value;
    scalars_.back() = uint32_t(value);
    return g.scalar(uint32_t(attention.params.size() - 1), ir::Type::I32);
}

NodeId Variant::scalar_bool(bool value) {
    scalar_f32(0);
    attention.params.back().type = ir::Type::Bool;
    bindings_.scalars.back() = value;
    scalars_.back() = value;
    return g.scalar(uint32_t(attention.params.size() - 1), ir::Type::Bool);
}

uint32_t Variant::tensor(ElemType elem, std::vector<int32_t> dims, const std::vector<double>& values, Layout layout) {
    std::vector<ir::Dim> declared;
    for (const int32_t d : dims) declared.push_back({0, -1, d});
    return add_tensor(elem, declared, std::move(dims), values, layout);
}

uint32_t Variant::free_tensor(ElemType elem, int32_t n, const std::vector<double>& values, Layout layout) {
    attention.extents.push_back("N" + std::to_string(attention.extents.size()));
    extents.push_back(n);
    const ir::Dim declared{1, int32_t(ir::kBuiltinExtents + attention.extents.size() - 1), 0};
    return add_tensor(elem, {declared}, {n}, values, layout);
}

uint32_t Variant::add_tensor(ElemType elem, std::vector<ir::Dim> dims, const std::vector<int32_t>& sizes, const std::vector<double>& values,
                             Layout layout) {
    ir::Param param;
    param.name = "t" + std::to_string(attention.params.size());
    param.is_tensor = true;
    param.elem = elem;
    param.dims = std::move(dims);
    attention.params.push_back(param);
    bind_tensor(elem, sizes, values, layout);
    rebind();
    return uint32_t(attention.params.size() - 1);
}

void Variant::bind_tensor(ElemType elem, const std::vector<int32_t>& sizes, const std::vector<double>& values, Layout layout) {
    size_t count = 1;
    for (const int32_t d : sizes) count *= size_t(d);
    REQUIRE(values.size() == count);
    // Strided: each dimension padded by one element, and the last one spread by 3. Reversed: all strides negative.
    const size_t spread = layout == Layout::Strided ? 3 : 1;
    std::vector<int64_t> stride(sizes.size());
    int64_t next = int64_t(spread);
    for (size_t i = sizes.size(); i-- > 0;) {
        stride[i] = next;
        next *= sizes[i] + (layout == Layout::Strided ? 1 : 0);
    }
    size_t span = 1;
    for (size_t i = 0; i < sizes.size(); i++) span += size_t(stride[i]) * size_t(sizes[i] > 0 ? sizes[i] - 1 : 0);
    const size_t bytes = bytes_of(elem);
    auto storage = std::make_unique<Storage>(count == 0 ? 0 : span * bytes);
    char* first = storage->end - (count == 0 ? 0 : span * bytes);
    if (count) std::memset(first, 0x7f, span * bytes);
    flex_tensor t{};
    t.data = layout == Layout::Reversed && count ? first + (span - 1) * bytes : first;
    ir::InterpTensor widened;
    widened.dim = sizes;
    for (size_t flat = 0; flat < count; flat++) {
        int64_t offset = 0;
        size_t rest = flat;
        for (size_t i = sizes.size(); i-- > 0; rest /= size_t(sizes[i])) offset += stride[i] * int64_t(rest % size_t(sizes[i]));
        char* at = layout == Layout::Reversed ? first + (int64_t(span) - 1 - offset) * int64_t(bytes) : first + offset * int64_t(bytes);
        widened.values.push_back(encode(elem, values[flat], at));
    }
    for (size_t i = 0; i < sizes.size(); i++) {
        t.dim[i] = sizes[i];
        t.stride[i] = layout == Layout::Reversed ? -stride[i] : stride[i];
    }
    bindings_.scalars.push_back(0);
    bindings_.tensors.push_back(std::move(widened));
    scalars_.push_back(0);
    tensors_.push_back(t);
    storage_.push_back(std::move(storage));
}

NodeId Variant::load(uint32_t param, std::initializer_list<NodeId> indices) {
    return g.load(param, attention.params[param].elem, std::span<const NodeId>(indices.begin(), indices.size()));
}

std::unique_ptr<cpu::LoadedKernel> Variant::compile(flex::CpuLevel level) const {
    auto object = cpu::compile_object(attention, {.level = level}, nullptr);
    std::string error;
    auto kernel = cpu::load_object(attention.name, std::move(object), &error);
    CHECK_MESSAGE(kernel, error);
    if (kernel) CHECK(kernel->table().lanes == uint32_t(flex::lanes(level)));
    return kernel;
}

double ulp_distance(float got, double expected) {
    if (std::isnan(expected) && std::isnan(got)) return 0;
    if (double(got) == expected) return 0;
    if (std::isnan(expected) || std::isnan(got) || std::isinf(expected)) return std::numeric_limits<double>::infinity();
    expected = std::clamp(expected, -0x1p128, 0x1p128);
    const int exponent = expected == 0 ? -126 : std::clamp(std::ilogb(expected), -126, 127);
    const double value = std::isinf(got) ? std::copysign(0x1p128, got) : got;  // an infinity stands for what overflowed to it
    return std::abs(value - expected) / std::ldexp(1.0, exponent - 23);
}

std::vector<Variant::Span> Variant::memory() const {
    std::vector<Span> spans;
    for (const auto& storage : storage_) spans.push_back({storage->end - storage->size, storage->size});
    return spans;
}

namespace {

/// One point: what an engine gave, and whether it is right. Failures are shown up to a few.
class Comparison {
public:
    Comparison(double ulps, double absolute) : ulps_(ulps), absolute_(absolute) {}
    void point(int32_t b, int32_t h, int32_t q, int32_t k, double score, double mask, const std::vector<double>& expected) {
        const bool close = ulp_distance(float(score), expected[0]) <= ulps_ || std::abs(score - expected[0]) <= absolute_;
        const bool same = close && mask == expected[1];
        if (same || wrong_++ > 3) return;
        CAPTURE(b);
        CAPTURE(h);
        CAPTURE(q);
        CAPTURE(k);
        CAPTURE(score);
        CAPTURE(expected[0]);
        CAPTURE(mask);
        CAPTURE(expected[1]);
        CHECK(same);
    }
    ~Comparison() { CHECK(wrong_ == 0); }
    Comparison(const Comparison&) = delete;
    Comparison& operator=(const Comparison&) = delete;

private:
    double ulps_, absolute_;
    int wrong_ = 0;
};

float raw_score(int32_t q, int32_t i) {
    return float(i % 7) - 2.75f + 0.125f * float(q);
}

void check_gpu_hooks(const Variant& variant, ir::Evaluator& evaluator, double ulps) {
    const std::vector<int32_t>& e = variant.extents;
    std::vector<float> raw;
    for (int32_t row = 0; row < e[0] * e[1] * e[3]; row++)
        for (int32_t k = 0; k < e[4]; k++) raw.push_back(raw_score(row % e[3], k));
    const GpuHooks hooks = run_on_gpu(variant, raw);
    CHECK_MESSAGE(hooks.fault.empty(), hooks.fault);
    if (hooks.score.empty()) return;
    bool approximate = false;
    for (uint32_t i = 0; i < variant.g.size(); i++) approximate = approximate || variant.g[NodeId{i}].op == ir::Op::TanhApprox;
    Comparison comparison(ulps == 0 ? 0 : approximate ? 0x1p13 : 8, ulps == 0 ? 0 : 0x1p-126);
    size_t at = 0;
    for (int32_t b = 0; b < e[0]; b++)
        for (int32_t h = 0; h < e[1]; h++)
            for (int32_t q = 0; q < e[3]; q++)
                for (int32_t k = 0; k < e[4]; k++, at++) {
                    ir::Point point;
                    point.b = b, point.h = h, point.q = q, point.k = k, point.score = raw[at];
                    comparison.point(b, h, q, k, hooks.score[at], hooks.mask[at], evaluator.at(point));
                }
}

}  // namespace

void check_hooks(const Variant& variant, double ulps) {
    const int32_t keys = variant.extents[4];
    ir::Evaluator evaluator(variant.attention, variant.bindings(), {variant.attention.score, variant.attention.mask}, ir::Arithmetic::F32);
    for (const flex::CpuLevel level : levels()) {
        CAPTURE(flex::name(level));
        const auto kernel = variant.compile(level);
        if (!kernel) return;
        Comparison comparison(ulps, 0);
        for (int32_t b = 0; b < variant.extents[0]; b++)
            for (int32_t h = 0; h < variant.extents[1]; h++)
                for (int32_t q = 0; q < variant.extents[3]; q++) {
                    const int32_t k0 = (b + h + q) % 3 == 0 ? 0 : std::min(q, keys);  // aligned and unaligned starts
                    const int32_t n = keys - k0;
                    std::vector<float> s(size_t(n) + 1);
                    std::vector<uint8_t> mask(size_t(n) + 1, 7);
                    for (int32_t i = 0; i < n; i++) s[size_t(i)] = raw_score(q, i);
                    s[size_t(n)] = 123;
                    const std::vector<float> raw = s;
                    kernel->table().score_row(variant.args(), b, h, q, k0, n, s.data());
                    kernel->table().mask_row(variant.args(), b, h, q, k0, n, mask.data());
                    CHECK(s[size_t(n)] == 123);
                    CHECK(mask[size_t(n)] == 7);
                    for (int32_t i = 0; i < n; i++) {
                        ir::Point point;
                        point.b = b, point.h = h, point.q = q, point.k = k0 + i, point.score = raw[size_t(i)];
                        comparison.point(b, h, q, k0 + i, s[size_t(i)], mask[size_t(i)], evaluator.at(point));
                    }
                }
    }
    CAPTURE("GPU");
    check_gpu_hooks(variant, evaluator, ulps);
}

}  // namespace flexc::test
