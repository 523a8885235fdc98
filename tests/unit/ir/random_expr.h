// Random well-typed IR, for tests: expressions of any type with loads, reductions and edge constants, masks of the kind that users
// write, and bindings to evaluate them with. The same seed gives the same.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "ir/interpret.h"
#include "ir/ir.h"

namespace flexc::ir::testing {

class Rng {
public:
    explicit Rng(uint64_t seed) : engine_(seed) {}
    /// In [0, n).
    uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
    int32_t between(int32_t lo, int32_t hi) { return lo + static_cast<int32_t>(engine_() % static_cast<uint64_t>(int64_t{hi} - lo + 1)); }
    bool chance(uint32_t percent) { return below(100) < percent; }
    template <typename T>
    T pick(std::initializer_list<T> options) {
        return options.begin()[below(static_cast<uint32_t>(options.size()))];
    }

private:
    std::mt19937_64 engine_;
};

/// What expressions may use besides constants, parameters, extents and b, h, q, k.
struct ExprOptions {
    bool score = false;
    bool reductions = true;
    bool loads = true;
    bool functions = true;  // exp and its like: not the same in all arithmetics
};

inline constexpr uint32_t kFreeN = kBuiltinExtents, kFreeM = kBuiltinExtents + 1;

/// An attention with parameters of every type and two free extents, N and M.
inline Attention random_params() {
    Attention attention;
    attention.name = "random";
    attention.extents = {"N", "M"};
    const auto scalar = [&](const char* name, Type type) {
        Param param;
        param.name = name;
        param.type = type;
        attention.params.push_back(param);
    };
    const auto tensor = [&](const char* name, ElemType elem, std::initializer_list<Dim> dims) {
        Param param;
        param.name = name;
        param.is_tensor = true;
        param.elem = elem;
        param.dims = dims;
        attention.params.push_back(param);
    };
    const auto extent = [](ExtentVar which) { return Dim{1, static_cast<int32_t>(which), 0}; };
    const Dim n{1, static_cast<int32_t>(kFreeN), 0}, m{1, static_cast<int32_t>(kFreeM), 0}, n_and_1{1, static_cast<int32_t>(kFreeN), 1};
    scalar("w", Type::I32);
    scalar("p", Type::I32);
    scalar("c", Type::F32);
    scalar("flag", Type::Bool);
    tensor("slope", ElemType::F32, {extent(ExtentVar::H)});
    tensor("bias", ElemType::BF16, {n, m});
    tensor("doc", ElemType::I32, {n});
    tensor("off", ElemType::I32, {n_and_1});
    tensor("kinds", ElemType::I8, {extent(ExtentVar::Q), extent(ExtentVar::K)});
    tensor("bytes", ElemType::U8, {m});
    tensor("shorts", ElemType::I16, {Dim{0, -1, 5}});
    tensor("keep", ElemType::Bool, {extent(ExtentVar::K)});
    tensor("tree", ElemType::Bool, {n, n});
    tensor("lengths", ElemType::I32, {extent(ExtentVar::B)});
    tensor("per_kv", ElemType::F16, {extent(ExtentVar::HKV), Dim{2, static_cast<int32_t>(ExtentVar::Q), -1}});
    return attention;
}

class ExprGenerator {
public:
    ExprGenerator(Attention& attention, Rng& rng, ExprOptions options = {})
        : a_(attention), g_(attention.graph), rng_(rng), options_(options) {}

    NodeId value(Type type, int depth) {
        switch (type) {
            case Type::F32: return f32(depth);
            case Type::I32: return i32(depth);
            case Type::Bool: break;
        }
        return boolean(depth);
    }

    /// Conditions of the shapes that masks have, joined at random: windows, blocks, documents, tables.
    NodeId mask(int depth) {
        if (depth <= 0) return condition();
        switch (rng_.below(6)) {
            case 0:
            case 1: return g_.make(Op::And, {mask(depth - 1), mask(depth - 1)});
            case 2: return g_.make(Op::Or, {mask(depth - 1), mask(depth - 1)});
            case 3: return g_.make(Op::Not, {mask(depth - 1)});
            case 4: return g_.make(Op::Select, {mask(depth - 1), mask(depth - 1), mask(depth - 1)});
            default: return condition();
        }
    }

private:
    NodeId q() { return g_.index(IndexVar::Q); }
    NodeId k() { return g_.index(IndexVar::K); }

    NodeId constant_i32() {
        constexpr int32_t kMin = std::numeric_limits<int32_t>::min(), kMax = std::numeric_limits<int32_t>::max();
        return g_.i32(rng_.chance(85) ? rng_.between(-4, 9) : rng_.pick({kMin, kMax, kMin + 1, kMax - 1, 31, 32, 1 << 30, 65536, -65536}));
    }
    NodeId constant_f32() {
        constexpr float kInf = std::numeric_limits<float>::infinity();
        if (rng_.chance(70)) return g_.f32(static_cast<float>(rng_.between(-8, 8)) * 0.5f);
        return g_.f32(rng_.pick({-0.0f, kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), 1e30f, 1e-40f, 0.1f, 3e9f, 16777217.0f}));
    }

    NodeId leaf_i32() {
        if (!loops_.empty() && rng_.chance(40)) return loops_[rng_.below(static_cast<uint32_t>(loops_.size()))];
        switch (rng_.below(8)) {
            case 0:
            case 1: return q();
            case 2:
            case 3: return k();
            case 4: return g_.index(rng_.pick({IndexVar::B, IndexVar::H, IndexVar::Hkv}));
            case 5: return g_.extent(rng_.below(kBuiltinExtents + 2));
            case 6: return g_.scalar(rng_.below(2), Type::I32);
            default: return constant_i32();
        }
    }
    NodeId leaf_f32() {
        if (options_.score && rng_.chance(40)) return g_.score();
        return rng_.chance(25) ? g_.scalar(2, Type::F32) : constant_f32();
    }

    NodeId load(Type type, int depth) {
        std::vector<uint32_t> fitting;
        for (uint32_t p = 0; p < a_.params.size(); ++p)
            if (a_.params[p].is_tensor && widened(a_.params[p].elem) == type) fitting.push_back(p);
        const uint32_t param = fitting[rng_.below(static_cast<uint32_t>(fitting.size()))];
        std::vector<NodeId> indices;
        for (size_t i = 0; i < a_.params[param].dims.size(); ++i) indices.push_back(i32(std::min(depth - 1, 2)));
        return g_.load(param, a_.params[param].elem, indices);
    }

    /// Of few trips whatever the operands are.
    NodeId reduction(Op op, Type body_type, int depth) {
        const auto level = static_cast<uint32_t>(loops_.size());
        NodeId lo = g_.i32(rng_.between(-1, 2)), hi = g_.i32(rng_.between(-1, 6));
        if (rng_.chance(40)) hi = g_.make(Op::Clamp, {i32(depth - 2), g_.i32(-1), g_.i32(5)});
        if (rng_.chance(15)) lo = g_.make(Op::Clamp, {i32(depth - 2), g_.i32(-2), g_.i32(2)});
        const NodeId variable = g_.loop_var(level, lo, hi);
        loops_.push_back(variable);
        const NodeId body = value(body_type, depth - 1);
        loops_.pop_back();
        return g_.reduce(op, variable, body);
    }
    bool may_reduce(int depth) { return options_.reductions && depth >= 2 && loops_.size() < 3 && rng_.chance(8); }
    bool may_load(int depth) { return options_.loads && depth >= 1 && rng_.chance(12); }

    NodeId i32(int depth) {
        if (depth <= 0) return leaf_i32();
        if (may_reduce(depth)) return reduction(rng_.pick({Op::ReduceSum, Op::ReduceMin, Op::ReduceMax}), Type::I32, depth);
        if (may_load(depth)) return load(Type::I32, depth);
        switch (rng_.below(14)) {
            case 0: return leaf_i32();
            case 1: return g_.make(rng_.pick({Op::Neg, Op::Abs, Op::Sign, Op::BitNot}), {i32(depth - 1)});
            case 2: return g_.make(Op::Select, {boolean(depth - 1), i32(depth - 1), i32(depth - 1)});
            case 3: return g_.make(Op::Clamp, {i32(depth - 1), i32(depth - 1), i32(depth - 1)});
            case 4: return g_.make(Op::ToI32, {rng_.chance(50) ? f32(depth - 1) : boolean(depth - 1)});
            case 5: return g_.make(rng_.pick({Op::BitAnd, Op::BitOr, Op::BitXor, Op::Shl, Op::Shr}), {i32(depth - 1), i32(depth - 1)});
            case 6:
            case 7: return g_.make(rng_.pick({Op::FloorDiv, Op::Mod}), {i32(depth - 1), rng_.chance(60) ? constant_i32() : i32(depth - 1)});
            case 8: return g_.make(rng_.pick({Op::Min, Op::Max}), {i32(depth - 1), i32(depth - 1)});
            default: return g_.make(rng_.pick({Op::Add, Op::Sub, Op::Add, Op::Sub, Op::Mul}), {i32(depth - 1), i32(depth - 1)});
        }
    }

    NodeId f32(int depth) {
        if (depth <= 0) return leaf_f32();
        if (may_reduce(depth)) return reduction(rng_.pick({Op::ReduceSum, Op::ReduceMin, Op::ReduceMax}), Type::F32, depth);
        if (may_load(depth)) return load(Type::F32, depth);
        switch (rng_.below(10)) {
            case 0: return leaf_f32();
            case 1: return g_.make(rng_.pick({Op::Neg, Op::Abs, Op::Sign, Op::Sqrt, Op::Floor, Op::Ceil, Op::Round}), {f32(depth - 1)});
            case 2: return g_.make(Op::Select, {boolean(depth - 1), f32(depth - 1), f32(depth - 1)});
            case 3: return g_.make(Op::Clamp, {f32(depth - 1), f32(depth - 1), f32(depth - 1)});
            case 4: return g_.make(Op::ToF32, {rng_.chance(80) ? i32(depth - 1) : boolean(depth - 1)});
            case 5:
                if (!options_.functions) return leaf_f32();
                if (rng_.chance(15)) return g_.make(Op::Pow, {f32(depth - 1), f32(depth - 1)});
                return g_.make(rng_.pick({Op::Exp, Op::Exp2, Op::Log, Op::Log2, Op::Rsqrt, Op::Tanh, Op::TanhApprox, Op::Sigmoid, Op::Sin,
                                          Op::Cos, Op::Tan, Op::Erf}),
                               {f32(depth - 1)});
            case 6: return g_.make(rng_.pick({Op::Min, Op::Max}), {f32(depth - 1), f32(depth - 1)});
            default: return g_.make(rng_.pick({Op::Add, Op::Sub, Op::Mul, Op::Div}), {f32(depth - 1), f32(depth - 1)});
        }
    }

    NodeId boolean(int depth) {
        if (depth <= 0) return rng_.chance(50) ? g_.boolean(rng_.chance(50)) : g_.scalar(3, Type::Bool);
        if (may_reduce(depth)) return reduction(rng_.pick({Op::ReduceAny, Op::ReduceAll}), Type::Bool, depth);
        if (may_load(depth)) return load(Type::Bool, depth);
        switch (rng_.below(9)) {
            case 0: return g_.make(Op::Not, {boolean(depth - 1)});
            case 1: return g_.make(Op::And, {boolean(depth - 1), boolean(depth - 1)});
            case 2: return g_.make(Op::Or, {boolean(depth - 1), boolean(depth - 1)});
            case 3: return g_.make(Op::Select, {boolean(depth - 1), boolean(depth - 1), boolean(depth - 1)});
            case 4: return g_.make(rng_.pick({Op::Eq, Op::Ne}), {boolean(depth - 1), boolean(depth - 1)});
            case 5: return g_.make(compare(), {f32(depth - 1), f32(depth - 1)});
            default: return g_.make(compare(), {i32(depth - 1), i32(depth - 1)});
        }
    }
    Op compare() { return rng_.pick({Op::Eq, Op::Ne, Op::Lt, Op::Le}); }

    /// An i32 as masks compare them: a position, shifted, cut into blocks, looked up.
    NodeId position(int depth) {
        const NodeId base = rng_.chance(50) ? q() : k();
        if (depth <= 0) return base;
        const auto uniform = [&] {
            return rng_.chance(50) ? g_.i32(rng_.between(1, 6)) : rng_.chance(80) ? leaf_uniform() : constant_i32();
        };
        switch (rng_.below(12)) {
            case 0: return g_.make(Op::Add, {position(depth - 1), uniform()});
            case 1: return g_.make(Op::Sub, {position(depth - 1), uniform()});
            case 2: return g_.make(Op::Sub, {position(depth - 1), position(depth - 1)});
            case 3: return g_.make(Op::FloorDiv, {position(depth - 1), uniform()});
            case 4: return g_.make(Op::Mod, {position(depth - 1), uniform()});
            case 5: return g_.make(Op::Abs, {position(depth - 1)});
            case 6: return g_.make(Op::Clamp, {position(depth - 1), uniform(), uniform()});
            case 7: return g_.make(Op::Mul, {position(depth - 1), uniform()});
            case 8: return g_.make(Op::Shr, {position(depth - 1), g_.i32(rng_.between(0, 3))});
            case 9: return g_.make(Op::BitAnd, {position(depth - 1), g_.i32(rng_.pick({1, 3, 7, 5}))});
            case 10: {
                const NodeId at = position(depth - 1);
                return g_.load(6, ElemType::I32, std::span(&at, 1));
            }
            default: return base;
        }
    }
    NodeId leaf_uniform() {
        switch (rng_.below(4)) {
            case 0: return g_.extent(rng_.pick({static_cast<uint32_t>(ExtentVar::Q), static_cast<uint32_t>(ExtentVar::K), kFreeN}));
            case 1: return g_.index(rng_.pick({IndexVar::B, IndexVar::H}));
            default: return g_.scalar(rng_.below(2), Type::I32);
        }
    }
    NodeId condition() {
        switch (rng_.below(10)) {
            case 0: return boolean(3);
            case 1: {
                const NodeId at = position(2);
                return g_.load(11, ElemType::Bool, std::span(&at, 1));
            }
            case 2: {
                const NodeId x = g_.make(Op::ToF32, {position(2)});
                const NodeId y = g_.make(rng_.pick({Op::Add, Op::Mul, Op::Div, Op::Sub}), {x, g_.scalar(2, Type::F32)});
                return g_.make(compare(), {y, constant_f32()});
            }
            case 3:
                if (options_.reductions) return reduction(rng_.pick({Op::ReduceAny, Op::ReduceAll}), Type::Bool, 3);
                [[fallthrough]];
            case 4: return g_.make(compare(), {position(3), position(3)});
            default: return g_.make(compare(), {position(2), rng_.chance(50) ? position(2) : leaf_uniform()});
        }
    }

    Attention& a_;
    Graph& g_;
    Rng& rng_;
    const ExprOptions options_;
    std::vector<NodeId> loops_;
};

/// Small extents with H a multiple of HKV, and values of every kind. Free extents may be 0.
inline Bindings random_bindings(const Attention& attention, Rng& rng) {
    Bindings bindings;
    const int32_t kv_heads = rng.between(1, 2), n = rng.between(0, 7), m = rng.between(0, 5);
    bindings.extents = {rng.between(1, 2),
                        kv_heads * rng.between(1, 3),
                        kv_heads,
                        rng.between(1, 12),
                        rng.between(1, 12),
                        rng.between(1, 4),
                        rng.between(1, 4),
                        n,
                        m};
    for (const Param& param : attention.params) {
        bindings.scalars.push_back(0);
        bindings.tensors.emplace_back();
        constexpr double kInf = std::numeric_limits<double>::infinity();
        const auto float_value = [&]() -> double {
            if (rng.chance(85)) return rng.between(-16, 16) * 0.25;
            return rng.pick({kInf, -kInf, std::numeric_limits<double>::quiet_NaN(), -0.0, 1e30});
        };
        const auto int_value = [&]() -> double {
            if (rng.chance(90)) return rng.between(-3, 12);
            return rng.pick({2147483647.0, -2147483648.0, 2147483640.0, 100000.0});
        };
        if (!param.is_tensor) {
            bindings.scalars.back() = param.type == Type::F32 ? float_value() : param.type == Type::I32 ? int_value() : rng.below(2);
            continue;
        }
        InterpTensor& tensor = bindings.tensors.back();
        size_t count = 1;
        for (const Dim& dim : param.dims) {
            const int64_t size =
                dim.offset + (dim.extent_id < 0 ? 0 : int64_t{dim.multiplier} * bindings.extents[static_cast<size_t>(dim.extent_id)]);
            tensor.dim.push_back(static_cast<int32_t>(size));
            count *= static_cast<size_t>(size);
        }
        for (size_t i = 0; i < count; ++i) {
            double element = 0;
            switch (param.elem) {
                case ElemType::F32:
                case ElemType::F16:
                case ElemType::BF16: element = float_value(); break;
                case ElemType::I32: element = int_value(); break;
                case ElemType::I16: element = rng.between(-300, 300); break;
                case ElemType::I8: element = rng.between(-128, 127); break;
                case ElemType::U8: element = rng.between(0, 255); break;
                case ElemType::Bool: element = rng.below(2); break;
            }
            tensor.values.push_back(element);
        }
    }
    return bindings;
}

inline Point random_point(const Bindings& bindings, Rng& rng) {
    const auto in = [&](ExtentVar which) { return rng.between(0, bindings.extents[static_cast<size_t>(which)] - 1); };
    Point point;
    point.b = in(ExtentVar::B), point.h = in(ExtentVar::H), point.q = in(ExtentVar::Q), point.k = in(ExtentVar::K);
    point.score = rng.chance(90) ? rng.between(-20, 20) * 0.25 : std::numeric_limits<double>::quiet_NaN();
    return point;
}

}  // namespace flexc::ir::testing
