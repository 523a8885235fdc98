// Every operation of the IR, in each of the forms it has in generated code (a scalar of the row, a vector of keys, a
// mixture, a constant operand), on ordinary and on extreme operands.
#include <doctest/doctest.h>
#include <cmath>
#include <limits>

#include "variant.h"

using namespace flexc;
using ir::NodeId;
using ir::Op;
using ir::Type;
using test::Variant;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const std::vector<double> kFloats = {
    0.0,           -0.0,  1.0,  -1.0,  0.5,    -0.5,  1.5,  2.5,       -2.5,       3.7,        -3.7,         1e-40,        -1e-40,
    1e30,          -1e30, 3e38, -3e38, kInf,   -kInf, kNan, 8388607.5, -8388607.5, 16777217.0, 2147483520.0, 2147483648.0, -2147483648.0,
    -2147483904.0, 0.1,   7.0,  1e-3,  100.25, -17.0, 1e10, 42.0,      -0.75,      65504.0,    5.0};
const std::vector<double> kInts = {0,          1,           -1,     2,       -2,         3,      -3,   7,          -7,
                                   31,         32,          33,     -31,     -32,        100,    -100, 2147483647, -2147483648.0,
                                   2147483646, -2147483647, 65536,  -65536,  12345,      -12345, 5,    8,          24,
                                   1000003,    46341,       -46341, 1 << 30, -(1 << 30), 6,      4,    16,         128,
                                   9};

struct Operands {
    Variant v;
    NodeId f_k, f_q, f_mixed, i_k, i_q, i_mixed, p_k, p_q;
    Operands() : v({1, 2, 1, 37, 37, 8, 8}) {
        const uint32_t floats = v.tensor(ir::ElemType::F32, {37}, kFloats), ints = v.tensor(ir::ElemType::I32, {37}, kInts);
        f_k = v.load(floats, {v.k});
        f_q = v.load(floats, {v.q});
        i_k = v.load(ints, {v.k});
        i_q = v.load(ints, {v.q});
        p_k = v.make(Op::Lt, {i_k, v.g.i32(3)});
        p_q = v.make(Op::Lt, {i_q, v.g.i32(3)});
    }
    NodeId pick(Type type, int form) {
        if (type == Type::F32) return form == 0 ? f_k : form == 1 ? f_q : v.g.f32(2.5f);
        if (type == Type::I32) return form == 0 ? i_k : form == 1 ? i_q : v.g.i32(-3);
        return form == 0 ? p_k : form == 1 ? p_q : v.g.boolean(true);
    }
    // Checks any value: floats as the score, bools as the mask, integers by their upper 24 bits and the parity of the lower 8.
    void check(NodeId value, double ulps) {
        switch (v.g.type(value)) {
            case Type::F32: v.attention.score = value; break;
            case Type::Bool: v.attention.mask = value; break;
            case Type::I32: {
                v.attention.score = v.make(Op::ToF32, {v.make(Op::Shr, {value, v.g.i32(8)})});
                NodeId parity = value;
                for (const int shift : {4, 2, 1}) parity = v.make(Op::BitXor, {parity, v.make(Op::Shr, {parity, v.g.i32(shift)})});
                v.attention.mask = v.make(Op::Eq, {v.make(Op::BitAnd, {parity, v.g.i32(1)}), v.g.i32(0)});
                break;
            }
        }
        test::check_hooks(v, ulps);
    }
};

double allowed(Op op) {
    switch (op) {
        case Op::Tanh:
        case Op::TanhApprox:
        case Op::Sigmoid:
        case Op::Erf: return 3;
        case Op::Exp:
        case Op::Exp2:
        case Op::Log:
        case Op::Log2:
        case Op::Rsqrt: return 2;
        case Op::Sin:
        case Op::Cos:
        case Op::Tan:
        case Op::Pow:
        case Op::Div: return 1;  // on a GPU, by what is the same for all keys
        default: return 0;
    }
}

}  // namespace

TEST_CASE("operations on values of the row and of the key") {
    int checked = 0;
    for (size_t o = 0; o < ir::kOpCount; o++) {
        const Op op = Op(o);
        const ir::OpInfo& info = ir::info(op);
        if (info.arity < 1 || info.kind == ir::OpKind::Leaf || info.kind == ir::OpKind::Load || info.kind == ir::OpKind::Reduce) continue;
        CAPTURE(info.name);
        for (const Type type : {Type::F32, Type::I32, Type::Bool}) {
            std::vector<Type> types(size_t(info.arity), type);
            if (op == Op::Select) types[0] = Type::Bool;
            if (!ir::result_type(op, types)) continue;
            // Forms of the operands: key, row, constant.
            for (int form = 0; form < 2; form++) {
                static constexpr int kForms[2][3] = {{0, 1, 2}, {1, 1, 1}};
                CAPTURE(form);
                Operands operands;
                std::vector<NodeId> ids;
                for (size_t i = 0; i < types.size(); i++) ids.push_back(operands.pick(types[i], kForms[form][i]));
                operands.check(operands.v.g.make(op, ids), allowed(op));
                checked++;
            }
        }
    }
    CHECK(checked > 80);
}

TEST_CASE("division by constants") {
    for (const int32_t divisor : {0, -1, 2, -3, 10, 1 << 30, INT32_MAX, INT32_MIN})
        for (const Op op : {Op::FloorDiv, Op::Mod}) {
            CAPTURE(divisor);
            for (const int form : {0, 1}) {
                Operands operands;
                operands.check(operands.v.make(op, {operands.pick(Type::I32, form), operands.v.g.i32(divisor)}), 0);
            }
        }
}

TEST_CASE("leaves") {
    Variant v({3, 6, 2, 7, 21, 8, 16});
    const NodeId window = v.scalar_i32(-4), slope = v.scalar_f32(0.1f), flag = v.scalar_bool(true);
    NodeId sum = v.make(Op::Mul, {v.b, v.g.i32(1000)});
    for (const NodeId term : {v.h, v.q, v.k, v.hkv, window}) sum = v.make(Op::Add, {v.make(Op::Mul, {sum, v.g.i32(3)}), term});
    for (uint32_t e = 0; e < ir::kBuiltinExtents; e++) sum = v.make(Op::BitXor, {sum, v.g.extent(e)});
    v.attention.score = v.make(Op::Add, {v.make(Op::Mul, {v.make(Op::ToF32, {sum}), slope}), v.score});
    v.attention.mask = v.make(Op::And, {flag, v.make(Op::Le, {v.k, v.make(Op::Add, {v.q, v.hkv})})});
    test::check_hooks(v);
}

TEST_CASE("a score and a mask that are constants, or nothing") {
    Variant v;
    v.attention.score = v.g.f32(1.5f);
    v.attention.mask = v.g.boolean(false);
    test::check_hooks(v);
    v.attention.score = v.score;
    v.attention.mask = v.make(Op::Lt, {v.b, v.g.i32(1)});
    test::check_hooks(v);
}
