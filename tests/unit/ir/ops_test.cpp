// What each operation gives, by hand: edge values first. Every operation is computed twice, by the evaluator on captured scalars and by
// constant folding, and both must give what is written here.
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include <doctest/doctest.h>

#include "ir/passes.h"
#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr int32_t kMin = std::numeric_limits<int32_t>::min(), kMax = std::numeric_limits<int32_t>::max();
constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

std::set<Op> exercised;

bool same(double a, double b) {
    return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

NodeId constant(Graph& g, Type type, double value) {
    return type == Type::F32   ? g.f32(static_cast<float>(value))
           : type == Type::I32 ? g.i32(static_cast<int32_t>(value))
                               : g.boolean(value != 0);
}

/// A root that keeps a value of any type alive through the passes.
NodeId as_score(Graph& g, NodeId id) {
    return g.type(id) == Type::F32 ? id : g.make(Op::ToF32, {id});
}

double folded(Op op, Type type, const std::vector<double>& args, bool* is_constant) {
    Scratch s;
    std::vector<NodeId> operands;
    for (size_t i = 0; i < args.size(); ++i) operands.push_back(constant(s.g, op == Op::Select && i == 0 ? Type::Bool : type, args[i]));
    s.attention.score = as_score(s.g, s.g.make(op, operands));
    optimise(s.attention);
    *is_constant = s.g.as_f32(s.attention.score).has_value();
    return s.at(s.attention.score);
}

void expect(Op op, Type type, std::vector<double> args, double result) {
    exercised.insert(op);
    Scratch s;
    std::vector<NodeId> operands;
    for (size_t i = 0; i < args.size(); ++i) operands.push_back(s.add_scalar(op == Op::Select && i == 0 ? Type::Bool : type, args[i]));
    const NodeId id = s.g.make(op, operands);
    const double got = s.at(id);
    INFO(info(op).name, " of ", args[0], " ", args.size() > 1 ? args[1] : 0.0, " ", args.size() > 2 ? args[2] : 0.0, " gives ", got,
         " not ", result);
    CHECK(same(got, result));
    bool is_constant = false;
    const double constant_result = folded(op, type, args, &is_constant);
    // Folding goes through f32 (as does the root of an i32), and functions are not folded.
    if (info(op).kind != OpKind::Math || is_constant) CHECK(same(constant_result, static_cast<double>(static_cast<float>(result))));
}

void i32(Op op, std::vector<double> args, double result) {
    expect(op, Type::I32, std::move(args), result);
}
void f32(Op op, std::vector<double> args, double result) {
    expect(op, Type::F32, std::move(args), result);
}
void boolean(Op op, std::vector<double> args, double result) {
    expect(op, Type::Bool, std::move(args), result);
}

}  // namespace

TEST_CASE("ops: i32 wraps") {
    i32(Op::Add, {kMax, 1}, kMin);
    i32(Op::Add, {kMin, kMin}, 0);
    i32(Op::Sub, {kMin, 1}, kMax);
    i32(Op::Sub, {3, 5}, -2);
    i32(Op::Mul, {65536, 65536}, 0);
    i32(Op::Mul, {kMin, -1}, kMin);
    i32(Op::Mul, {kMax, kMax}, 1);
    i32(Op::Neg, {kMin}, kMin);
    i32(Op::Neg, {5}, -5);
    i32(Op::Abs, {kMin}, kMin);
    i32(Op::Abs, {-7}, 7);
    i32(Op::Sign, {-9}, -1);
    i32(Op::Sign, {0}, 0);
    i32(Op::Sign, {kMax}, 1);
}

TEST_CASE("ops: floordiv and mod floor, and by zero give 0") {
    i32(Op::FloorDiv, {-1, 3}, -1);
    i32(Op::FloorDiv, {7, 2}, 3);
    i32(Op::FloorDiv, {-7, 2}, -4);
    i32(Op::FloorDiv, {7, -2}, -4);
    i32(Op::FloorDiv, {-7, -2}, 3);
    i32(Op::FloorDiv, {6, -2}, -3);
    i32(Op::FloorDiv, {5, 0}, 0);
    i32(Op::FloorDiv, {kMin, -1}, kMin);
    i32(Op::FloorDiv, {kMin, 1}, kMin);
    i32(Op::Mod, {-1, 3}, 2);
    i32(Op::Mod, {7, 3}, 1);
    i32(Op::Mod, {7, -3}, -2);
    i32(Op::Mod, {-7, -3}, -1);
    i32(Op::Mod, {-6, 3}, 0);
    i32(Op::Mod, {5, 0}, 0);
    i32(Op::Mod, {kMin, -1}, 0);
    i32(Op::Mod, {kMax, kMin}, -1);
}

TEST_CASE("ops: bits and shifts") {
    i32(Op::BitAnd, {12, 10}, 8);
    i32(Op::BitOr, {12, 10}, 14);
    i32(Op::BitXor, {12, 10}, 6);
    i32(Op::BitAnd, {-1, 5}, 5);
    i32(Op::BitNot, {0}, -1);
    i32(Op::BitNot, {kMin}, kMax);
    i32(Op::Shl, {1, 31}, kMin);
    i32(Op::Shl, {3, 30}, -1073741824.0);
    i32(Op::Shl, {1, 32}, 0);
    i32(Op::Shl, {1, -1}, 0);
    i32(Op::Shr, {-8, 1}, -4);
    i32(Op::Shr, {-1, 31}, -1);
    i32(Op::Shr, {-8, 32}, -1);
    i32(Op::Shr, {8, 32}, 0);
    i32(Op::Shr, {-8, -1}, -1);
    i32(Op::Shr, {kMax, 30}, 1);
}

TEST_CASE("ops: min, max, clamp") {
    i32(Op::Min, {-3, 2}, -3);
    i32(Op::Max, {kMin, kMax}, kMax);
    i32(Op::Clamp, {5, 0, 3}, 3);
    i32(Op::Clamp, {-5, 0, 3}, 0);
    i32(Op::Clamp, {2, 0, 3}, 2);
    i32(Op::Clamp, {2, 5, 3}, 3);  // min(max(2, 5), 3)
    f32(Op::Min, {1, kNaN}, kNaN);
    f32(Op::Min, {kNaN, 1}, kNaN);
    f32(Op::Max, {1, kNaN}, kNaN);
    f32(Op::Max, {kNaN, -kInf}, kNaN);
    f32(Op::Min, {-kInf, 1}, -kInf);
    f32(Op::Max, {0.5, 1}, 1);
    f32(Op::Clamp, {kNaN, 0, 1}, kNaN);
    f32(Op::Clamp, {0.5, 0, kNaN}, kNaN);
    f32(Op::Clamp, {kInf, 0, 1}, 1);
}

TEST_CASE("ops: f32 follows IEEE") {
    f32(Op::Add, {0.0, -0.0}, 0.0);
    f32(Op::Add, {-0.0, -0.0}, -0.0);
    f32(Op::Add, {kInf, -kInf}, kNaN);
    f32(Op::Sub, {1, 1}, 0.0);
    f32(Op::Mul, {0.0, -1.0}, -0.0);
    f32(Op::Mul, {0.0, kInf}, kNaN);
    f32(Op::Div, {1, 0.0}, kInf);
    f32(Op::Div, {1, -0.0}, -kInf);
    f32(Op::Div, {0.0, 0.0}, kNaN);
    f32(Op::Div, {1, 4}, 0.25);
    f32(Op::Neg, {0.0}, -0.0);
    f32(Op::Neg, {2.5}, -2.5);
    f32(Op::Abs, {-0.0}, 0.0);
    f32(Op::Abs, {-kInf}, kInf);
    f32(Op::Sign, {-3.5}, -1);
    f32(Op::Sign, {kInf}, 1);
    f32(Op::Sign, {0.0}, 0);
    f32(Op::Sign, {kNaN}, kNaN);
}

TEST_CASE("ops: rounding and functions") {
    f32(Op::Floor, {-0.5}, -1);
    f32(Op::Ceil, {-0.5}, -0.0);
    f32(Op::Round, {0.5}, 0);
    f32(Op::Round, {1.5}, 2);
    f32(Op::Round, {2.5}, 2);
    f32(Op::Round, {-0.5}, -0.0);
    f32(Op::Sqrt, {4}, 2);
    f32(Op::Sqrt, {-1}, kNaN);
    f32(Op::Rsqrt, {4}, 0.5);
    f32(Op::Rsqrt, {0.0}, kInf);
    f32(Op::Exp, {0.0}, 1);
    f32(Op::Exp, {-kInf}, 0);
    f32(Op::Exp2, {10}, 1024);
    f32(Op::Log, {1}, 0);
    f32(Op::Log, {0.0}, -kInf);
    f32(Op::Log, {-1}, kNaN);
    f32(Op::Log2, {8}, 3);
    f32(Op::Tanh, {kInf}, 1);
    f32(Op::Tanh, {0.5}, std::tanh(0.5));
    f32(Op::TanhApprox, {0.5}, std::tanh(0.5));
    f32(Op::Sigmoid, {0}, 0.5);
    f32(Op::Sigmoid, {-kInf}, 0);
    f32(Op::Sigmoid, {kInf}, 1);
    f32(Op::Sin, {0.0}, 0);
    f32(Op::Sin, {kInf}, kNaN);
    f32(Op::Cos, {0.0}, 1);
    f32(Op::Tan, {0.0}, 0);
    f32(Op::Erf, {kInf}, 1);
    f32(Op::Pow, {2, 10}, 1024);
    f32(Op::Pow, {kNaN, 0}, 1);
    f32(Op::Pow, {-8, 1.0 / 3.0}, kNaN);
}

TEST_CASE("ops: comparisons") {
    i32(Op::Eq, {3, 3}, 1);
    i32(Op::Ne, {3, 3}, 0);
    i32(Op::Lt, {kMin, kMax}, 1);
    i32(Op::Lt, {2, 2}, 0);
    i32(Op::Le, {2, 2}, 1);
    i32(Op::Le, {3, 2}, 0);
    f32(Op::Eq, {kNaN, kNaN}, 0);
    f32(Op::Ne, {kNaN, kNaN}, 1);
    f32(Op::Lt, {kNaN, 1}, 0);
    f32(Op::Le, {1, kNaN}, 0);
    f32(Op::Eq, {0.0, -0.0}, 1);
    f32(Op::Lt, {-0.0, 0.0}, 0);
    f32(Op::Le, {-kInf, kInf}, 1);
    boolean(Op::Eq, {1, 1}, 1);
    boolean(Op::Eq, {1, 0}, 0);
    boolean(Op::Ne, {1, 0}, 1);
}

TEST_CASE("ops: logic and select") {
    for (const double a : {0.0, 1.0}) {
        boolean(Op::Not, {a}, 1 - a);
        for (const double b : {0.0, 1.0}) {
            boolean(Op::And, {a, b}, a * b);
            boolean(Op::Or, {a, b}, std::max(a, b));
            boolean(Op::Select, {1, a, b}, a);
            boolean(Op::Select, {0, a, b}, b);
        }
    }
    i32(Op::Select, {1, 7, kMin}, 7);
    i32(Op::Select, {0, 7, kMin}, kMin);
    f32(Op::Select, {0, kNaN, 2.5}, 2.5);  // the other arm's NaN does not matter
    f32(Op::Select, {1, -0.0, 2.5}, -0.0);
}

TEST_CASE("ops: casts") {
    f32(Op::ToI32, {2.9}, 2);
    f32(Op::ToI32, {-2.9}, -2);
    f32(Op::ToI32, {kNaN}, 0);
    f32(Op::ToI32, {1e30}, kMax);
    f32(Op::ToI32, {-kInf}, kMin);
    f32(Op::ToI32, {2147483648.0}, kMax);
    boolean(Op::ToI32, {1}, 1);
    boolean(Op::ToI32, {0}, 0);
    boolean(Op::ToF32, {1}, 1);
    i32(Op::ToF32, {-3}, -3);
    i32(Op::ToF32, {16777217}, 16777217);  // exact in the float64 interpreter
    Scratch s;
    const NodeId x = s.g.make(Op::ToF32, {s.add_scalar(Type::I32, 16777217)});
    CHECK(s.at(x, {}, Arithmetic::F32) == 16777216.0);
    CHECK(s.g.make(Op::ToF32, {x}) == x);
    const NodeId n = s.g.i32(4);
    CHECK(s.g.make(Op::ToI32, {n}) == n);
}

TEST_CASE("ops: loads widen, and give 0 out of range") {
    Scratch s;
    const uint32_t t = s.add_tensor(ElemType::I32, {2, 3}, {10, 11, 12, 20, 21, 22});
    const uint32_t f = s.add_tensor(ElemType::F16, {2}, {0.5, -2});
    const uint32_t b = s.add_tensor(ElemType::Bool, {2}, {0, 1});
    const uint32_t u = s.add_tensor(ElemType::U8, {1}, {255});
    const uint32_t empty = s.add_tensor(ElemType::I32, {0}, {});
    const auto load = [&](uint32_t param, ElemType elem, std::vector<int32_t> at) {
        std::vector<NodeId> indices;
        for (const int32_t i : at) indices.push_back(s.g.i32(i));
        return s.at(s.g.load(param, elem, indices));
    };
    CHECK(load(t, ElemType::I32, {1, 2}) == 22);
    CHECK(load(t, ElemType::I32, {0, 1}) == 11);
    CHECK(load(t, ElemType::I32, {-1, 2}) == 0);
    CHECK(load(t, ElemType::I32, {0, 3}) == 0);  // not row 1, column 0
    CHECK(load(t, ElemType::I32, {0, -1}) == 0);
    CHECK(load(t, ElemType::I32, {2, 0}) == 0);
    CHECK(load(f, ElemType::F16, {1}) == -2);
    CHECK(load(f, ElemType::F16, {kMax}) == 0);
    CHECK(load(b, ElemType::Bool, {1}) == 1);
    CHECK(load(b, ElemType::Bool, {kMin}) == 0);
    CHECK(load(u, ElemType::U8, {0}) == 255);
    CHECK(load(empty, ElemType::I32, {0}) == 0);
    // At each level of a nested read: u8[7] is 0, so this is row 0.
    const std::array<NodeId, 1> outside = {s.g.i32(7)};
    const std::array<NodeId, 2> nested = {s.g.load(u, ElemType::U8, outside), s.g.i32(1)};
    CHECK(s.at(s.g.load(t, ElemType::I32, nested)) == 11);
}

TEST_CASE("ops: rows give 0 out of range") {
    Scratch s;
    const std::vector<double> query = {1.5, 2.5}, key = {3.5};
    Point point;
    point.query_row = query;
    point.key_row = key;
    CHECK(s.at(s.g.row_load(ClauseVar::QueryRow, s.g.i32(1)), point) == 2.5);
    CHECK(s.at(s.g.row_load(ClauseVar::QueryRow, s.g.i32(2)), point) == 0);
    CHECK(s.at(s.g.row_load(ClauseVar::KeyRow, s.g.i32(-1)), point) == 0);
    CHECK(s.at(s.g.row_load(ClauseVar::KeyRow, s.g.i32(0)), point) == 3.5);
}

TEST_CASE("ops: leaves") {
    Scratch s;
    s.bindings.extents = {2, 6, 3, 10, 11, 4, 5};
    Point point;
    point.b = 1, point.h = 5, point.q = 7, point.k = 9, point.d = 3, point.score = 1.25, point.out = -2, point.weight = 0.5;
    point.q_lo = 1, point.q_hi = 2, point.k_lo = 3, point.k_hi = 4;
    CHECK(s.at(s.g.index(IndexVar::B), point) == 1);
    CHECK(s.at(s.g.index(IndexVar::H), point) == 5);
    CHECK(s.at(s.g.index(IndexVar::Hkv), point) == 2);  // 5 // (6 // 3)
    CHECK(s.at(s.g.index(IndexVar::Q), point) == 7);
    CHECK(s.at(s.g.index(IndexVar::K), point) == 9);
    CHECK(s.at(s.g.index(IndexVar::D), point) == 3);
    CHECK(s.at(s.g.score(), point) == 1.25);
    CHECK(s.at(s.g.out(), point) == -2);
    CHECK(s.at(s.g.weight(), point) == 0.5);
    for (const auto& [which, value] :
         {std::pair(TileBound::QLo, 1), std::pair(TileBound::QHi, 2), std::pair(TileBound::KLo, 3), std::pair(TileBound::KHi, 4)})
        CHECK(s.at(s.g.tile_bound(which), point) == value);
    for (uint32_t e = 0; e < kBuiltinExtents; ++e) CHECK(s.at(s.g.extent(e)) == s.bindings.extents[e]);
}

TEST_CASE("ops: reductions") {
    const auto value = [](Op op, Type type, int32_t lo, int32_t hi, const std::vector<double>& values, bool optimised) {
        exercised.insert(op);
        Scratch s;
        const ElemType elem = type == Type::F32 ? ElemType::F32 : type == Type::I32 ? ElemType::I32 : ElemType::Bool;
        const uint32_t t = s.add_tensor(elem, {static_cast<int32_t>(values.size())}, values);
        const NodeId j = s.g.loop_var(0, s.g.i32(lo), s.g.i32(hi));
        s.attention.score = as_score(s.g, s.g.reduce(op, j, s.g.load(t, elem, std::span(&j, 1))));
        if (optimised) optimise(s.attention);
        return s.at(s.attention.score);
    };
    for (const bool optimised : {false, true}) {
        CAPTURE(optimised);
        CHECK(value(Op::ReduceSum, Type::I32, 0, 4, {1, 2, 3, 4}, optimised) == 10);
        CHECK(value(Op::ReduceSum, Type::I32, 1, 3, {1, 2, 3, 4}, optimised) == 5);
        CHECK(value(Op::ReduceSum, Type::I32, 0, 2, {kMax, 1}, optimised) == kMin);
        CHECK(same(value(Op::ReduceSum, Type::F32, 0, 1, {-0.0}, optimised), 0.0));  // the sum starts at +0
        CHECK(value(Op::ReduceMin, Type::I32, 0, 3, {5, -2, 7}, optimised) == -2);
        CHECK(value(Op::ReduceMax, Type::F32, 0, 3, {5, -2, 7}, optimised) == 7);
        CHECK(std::isnan(value(Op::ReduceMax, Type::F32, 0, 3, {5, kNaN, 7}, optimised)));
        CHECK(std::isnan(value(Op::ReduceMin, Type::F32, 0, 3, {kNaN, -2, 7}, optimised)));
        CHECK(value(Op::ReduceAny, Type::Bool, 0, 3, {0, 0, 1}, optimised) == 1);
        CHECK(value(Op::ReduceAny, Type::Bool, 0, 2, {0, 0, 1}, optimised) == 0);
        CHECK(value(Op::ReduceAll, Type::Bool, 0, 2, {1, 1, 0}, optimised) == 1);
        CHECK(value(Op::ReduceAll, Type::Bool, 0, 3, {1, 1, 0}, optimised) == 0);
        // Empty: also where the bounds cross.
        for (const int32_t hi : {0, -3}) {
            CHECK(value(Op::ReduceSum, Type::F32, 0, hi, {1}, optimised) == 0);
            CHECK(value(Op::ReduceAny, Type::Bool, 0, hi, {1}, optimised) == 0);
            CHECK(value(Op::ReduceAll, Type::Bool, 0, hi, {0}, optimised) == 1);
            CHECK(value(Op::ReduceMin, Type::F32, 0, hi, {1}, optimised) == kInf);
            CHECK(value(Op::ReduceMax, Type::F32, 0, hi, {1}, optimised) == -kInf);
            CHECK(value(Op::ReduceMin, Type::I32, 0, hi, {1}, optimised) ==
                  static_cast<double>(static_cast<float>(kMax)) - (optimised ? 0 : 1));
            CHECK(value(Op::ReduceMax, Type::I32, 0, hi, {1}, optimised) == kMin);
        }
    }
}

TEST_CASE("ops: nested reductions, triangular and shared") {
    Scratch s;
    // sum(i in 0..4: sum(j in 0..i + 1: i * 10 + j)) = sum over i of (i + 1) i 10 + i (i + 1) / 2
    const NodeId i = s.g.loop_var(0, s.g.i32(0), s.g.i32(4));
    const NodeId j = s.g.loop_var(1, s.g.i32(0), s.g.make(Op::Add, {i, s.g.i32(1)}));
    const NodeId body = s.g.make(Op::Add, {s.g.make(Op::Mul, {i, s.g.i32(10)}), j});
    const NodeId inner = s.g.reduce(Op::ReduceSum, j, body);
    CHECK(s.at(s.g.reduce(Op::ReduceSum, i, inner)) == 10 * (0 + 2 + 6 + 12) + (0 + 1 + 3 + 6));
    // The variable of a closed reduction inside, of the same depth and bounds: bound anew.
    const NodeId closed = s.g.reduce(Op::ReduceSum, i, i);
    const NodeId outer = s.g.reduce(Op::ReduceSum, i, s.g.make(Op::Mul, {closed, i}));
    CHECK(s.at(outer) == 36);
    s.attention.score = s.g.make(Op::ToF32, {outer});
    optimise(s.attention);
    CHECK(s.g.as_f32(s.attention.score) == 36.0f);  // unrolled and folded
}

TEST_CASE("ops: every operation of the table has been stated above") {
    for (size_t i = 0; i < kOpCount; ++i) {
        const Op op = static_cast<Op>(i);
        if (info(op).kind == OpKind::Leaf || info(op).kind == OpKind::Load) continue;
        CHECK_MESSAGE(exercised.count(op) == 1, info(op).name);
    }
}
