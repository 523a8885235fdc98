// Algebraic rules. Every rule holds for all values: for f32 with NaN, infinities and both zeros, to the last bit (so x + 0, which turns -0 into +0,
// stays, and x + -0 goes); for i32 with wrapping. A rule gives an existing value, or one built of values already simplified;
// what it enables higher up is found in the same sweep, what it enables lower down in the next.
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "ir/passes.h"
#include "ir/rewrite.h"
#include "ir/scalar_ops.h"

namespace flexc::ir {

namespace {

/// The node under rewriting, as the rules see it.
class Rules {
public:
    Rules(Graph& graph, const Node& node, std::span<const NodeId> operands) : graph_(graph), op_(node.op), count_(operands.size()) {
        for (size_t i = 0; i < count_ && i < args_.size(); ++i) args_[i] = operands[i];
        if (count_ > 0) type_ = graph.type(args_[count_ > 1 && (node.op == Op::Select) ? 1 : 0]);
    }

    /// The simpler value, or an invalid id.
    NodeId apply() {
        switch (info(op_).kind) {
            case OpKind::Unary:
            case OpKind::Math:
            case OpKind::Cast:
            case OpKind::Binary: return type_ == Type::I32 ? arithmetic_i32() : type_ == Type::F32 ? arithmetic_f32() : NodeId{};
            case OpKind::Logic: return logic();
            case OpKind::Compare: return compare();
            case OpKind::Select: return select();
            case OpKind::Reduce: return reduce();
            case OpKind::Leaf:
            case OpKind::Load: break;
        }
        return {};
    }

private:
    NodeId a() const { return args_[0]; }
    NodeId b() const { return args_[1]; }
    NodeId c() const { return args_[2]; }
    bool is(NodeId id, Op op) const { return graph_[id].op == op; }
    bool is(NodeId id, int32_t value) const { return graph_.as_i32(id) == value; }
    bool is_bool(NodeId id, bool value) const { return graph_.as_bool(id) == value; }
    bool is_bits(NodeId id, float value) const {
        const auto constant = graph_.as_f32(id);
        return constant && std::bit_cast<uint32_t>(*constant) == std::bit_cast<uint32_t>(value);
    }
    NodeId of(NodeId id, size_t i = 0) const { return graph_.operand(id, i); }
    NodeId make(Op op, std::initializer_list<NodeId> operands) { return graph_.make(op, operands); }
    NodeId not_(NodeId x) { return is(x, Op::Not) ? of(x) : make(Op::Not, {x}); }
    bool are_opposite(NodeId x, NodeId y) const { return (is(x, Op::Not) && of(x) == y) || (is(y, Op::Not) && of(y) == x); }
    /// Puts a constant operand second. Only for commutative operations.
    void constant_second() {
        const auto is_const = [&](NodeId id) { return is(id, Op::ConstF32) || is(id, Op::ConstI32) || is(id, Op::ConstBool); };
        if (is_const(a()) && !is_const(b())) std::swap(args_[0], args_[1]);
    }

    NodeId arithmetic_i32();
    NodeId add_i32();
    NodeId sub_i32();
    NodeId mul_i32();
    NodeId divide_i32();
    NodeId bits_i32();
    NodeId shift_i32();
    NodeId extremum();
    NodeId arithmetic_f32();
    NodeId logic();
    NodeId and_or(Op op, bool neutral);
    NodeId compare();
    NodeId compare_equal(bool wanted);
    NodeId select();
    NodeId reduce();
    NodeId neutral_of_reduction();

    Graph& graph_;
    const Op op_;
    Type type_ = Type::F32;  // of the first operand; select: of the second
    size_t count_;
    std::array<NodeId, 3> args_{};
};

NodeId Rules::arithmetic_i32() {
    switch (op_) {
        case Op::Neg:
            if (is(a(), Op::Neg)) return of(a());
            if (is(a(), Op::Sub)) return make(Op::Sub, {of(a(), 1), of(a(), 0)});
            return {};
        case Op::Abs:
            if (is(a(), Op::Abs)) return a();
            if (is(a(), Op::Neg)) return make(Op::Abs, {of(a())});  // also of INT_MIN
            return {};
        case Op::Sign: return is(a(), Op::Sign) ? a() : NodeId{};
        case Op::BitNot: return is(a(), Op::BitNot) ? of(a()) : NodeId{};
        case Op::Add: return add_i32();
        case Op::Sub: return sub_i32();
        case Op::Mul: return mul_i32();
        case Op::FloorDiv:
        case Op::Mod: return divide_i32();
        case Op::BitAnd:
        case Op::BitOr:
        case Op::BitXor: return bits_i32();
        case Op::Shl:
        case Op::Shr: return shift_i32();
        case Op::Min:
        case Op::Max: return extremum();
        case Op::Clamp: return b() == c() ? c() : NodeId{};
        default: return {};
    }
}

NodeId Rules::add_i32() {
    constant_second();
    if (is(b(), 0)) return a();
    if (is(b(), Op::Neg)) return make(Op::Sub, {a(), of(b())});
    if (is(a(), Op::Neg)) return make(Op::Sub, {b(), of(a())});
    if (is(b(), Op::Sub) && of(b(), 1) == a()) return of(b(), 0);  // a + (x - a)
    if (is(a(), Op::Sub) && of(a(), 1) == b()) return of(a(), 0);
    if (const auto constant = graph_.as_i32(b())) {
        if (is(a(), Op::Add))
            if (const auto inner = graph_.as_i32(of(a(), 1)))
                return make(Op::Add, {of(a(), 0), graph_.i32(scalar::add(*inner, *constant))});
        if (is(a(), Op::Sub))
            if (const auto inner = graph_.as_i32(of(a(), 0)))  // (c - x) + d
                return make(Op::Sub, {graph_.i32(scalar::add(*inner, *constant)), of(a(), 1)});
    }
    return {};
}

NodeId Rules::sub_i32() {
    if (a() == b()) return graph_.i32(0);
    if (is(a(), 0)) return make(Op::Neg, {b()});
    if (is(b(), Op::Neg)) return make(Op::Add, {a(), of(b())});
    if (const auto constant = graph_.as_i32(b())) return make(Op::Add, {a(), graph_.i32(scalar::neg(*constant))});
    if (is(a(), Op::Add) && of(a(), 0) == b()) return of(a(), 1);  // (b + x) - b
    if (is(a(), Op::Add) && of(a(), 1) == b()) return of(a(), 0);
    if (is(b(), Op::Sub) && of(b(), 0) == a()) return of(b(), 1);  // a - (a - x)
    return {};
}

NodeId Rules::mul_i32() {
    constant_second();
    if (is(b(), 0)) return b();
    if (is(b(), 1)) return a();
    if (is(b(), -1)) return make(Op::Neg, {a()});
    if (const auto constant = graph_.as_i32(b()); constant && is(a(), Op::Mul))
        if (const auto inner = graph_.as_i32(of(a(), 1))) return make(Op::Mul, {of(a(), 0), graph_.i32(scalar::mul(*inner, *constant))});
    return {};
}

NodeId Rules::divide_i32() {
    if (is(a(), 0) || is(b(), 0)) return graph_.i32(0);
    if (op_ == Op::FloorDiv) {
        if (is(b(), 1)) return a();
        if (is(b(), -1)) return make(Op::Neg, {a()});
        // (x // m) // n = x // (m n) for positive m, n
        const auto outer = graph_.as_i32(b());
        if (outer && *outer > 0 && is(a(), Op::FloorDiv))
            if (const auto inner = graph_.as_i32(of(a(), 1)); inner && *inner > 0 && int64_t{*inner} * *outer <= scalar::kIntMax)
                return make(Op::FloorDiv, {of(a(), 0), graph_.i32(*inner * *outer)});
        return {};
    }
    if (is(b(), 1) || is(b(), -1) || a() == b()) return graph_.i32(0);
    if (is(a(), Op::Mod) && of(a(), 1) == b()) return a();
    return {};
}

NodeId Rules::bits_i32() {
    constant_second();
    if (a() == b()) return op_ == Op::BitXor ? graph_.i32(0) : a();
    if (is(b(), 0)) return op_ == Op::BitAnd ? b() : a();
    if (is(b(), -1)) return op_ == Op::BitAnd ? a() : op_ == Op::BitOr ? b() : make(Op::BitNot, {a()});
    return {};
}

NodeId Rules::shift_i32() {
    if (is(b(), 0) || is(a(), 0)) return a();
    const auto count = graph_.as_i32(b());
    if (count && (*count < 0 || *count > 31)) {
        if (op_ == Op::Shl) return graph_.i32(0);
        if (*count != 31) return make(Op::Shr, {a(), graph_.i32(31)});
    }
    return {};
}

/// min and max of i32 and f32.
NodeId Rules::extremum() {
    if (a() == b()) return a();
    for (const auto& [x, y] : {std::pair(a(), b()), std::pair(b(), a())}) {
        if (is(x, op_) && (of(x, 0) == y || of(x, 1) == y)) return x;  // min(min(x, y), y)
        if (type_ != Type::I32) continue;
        if (is(y, op_ == Op::Min ? scalar::kIntMax : scalar::kIntMin)) return x;
        if (is(y, op_ == Op::Min ? scalar::kIntMin : scalar::kIntMax)) return y;
    }
    return {};
}

NodeId Rules::arithmetic_f32() {
    switch (op_) {
        case Op::Neg: return is(a(), Op::Neg) ? of(a()) : NodeId{};
        case Op::Abs:
            if (is(a(), Op::Abs)) return a();
            if (is(a(), Op::Neg)) return make(Op::Abs, {of(a())});
            return {};
        case Op::Sign: return is(a(), Op::Sign) ? a() : NodeId{};
        case Op::Add:
            constant_second();
            if (is_bits(b(), -0.0f)) return a();
            if (is(b(), Op::Neg)) return make(Op::Sub, {a(), of(b())});
            if (is(a(), Op::Neg)) return make(Op::Sub, {b(), of(a())});
            return {};
        case Op::Sub:
            if (is_bits(b(), 0.0f)) return a();
            if (is(b(), Op::Neg)) return make(Op::Add, {a(), of(b())});
            return {};
        case Op::Mul:
            constant_second();
            if (is_bits(b(), 1.0f)) return a();
            if (is_bits(b(), -1.0f)) return make(Op::Neg, {a()});
            if (is(a(), Op::Neg) && is(b(), Op::Neg)) return make(Op::Mul, {of(a()), of(b())});
            return {};
        case Op::Div:
            if (is_bits(b(), 1.0f)) return a();
            if (is_bits(b(), -1.0f)) return make(Op::Neg, {a()});
            if (const auto divisor = graph_.as_f32(b())) {  // by a power of two whose inverse is normal
                int exponent = 0;
                const bool power = std::isfinite(*divisor) && std::fabs(std::frexp(*divisor, &exponent)) == 0.5f;
                if (power && std::isnormal(*divisor) && std::isnormal(1.0f / *divisor))
                    return make(Op::Mul, {a(), graph_.f32(1.0f / *divisor)});
            }
            return {};
        case Op::Min:
        case Op::Max: return extremum();
        case Op::Floor:
        case Op::Ceil:
        case Op::Round:
            if (is(a(), Op::Floor) || is(a(), Op::Ceil) || is(a(), Op::Round) || is(a(), Op::ToF32)) return a();  // already integral
            return {};
        default: return {};
    }
}

NodeId Rules::logic() {
    if (op_ == Op::And) return and_or(Op::Or, true);
    if (op_ == Op::Or) return and_or(Op::And, false);
    // not
    if (is(a(), Op::Not)) return of(a());
    if (is(a(), Op::Eq)) return make(Op::Ne, {of(a(), 0), of(a(), 1)});  // also of NaN
    if (is(a(), Op::Ne)) return make(Op::Eq, {of(a(), 0), of(a(), 1)});
    const bool is_i32 = !graph_.operands(a()).empty() && graph_.type(of(a())) == Type::I32;
    if (is_i32 && is(a(), Op::Lt)) return make(Op::Le, {of(a(), 1), of(a(), 0)});
    if (is_i32 && is(a(), Op::Le)) return make(Op::Lt, {of(a(), 1), of(a(), 0)});
    return {};
}

/// and (neutral true), or (neutral false). `dual` is the other one.
NodeId Rules::and_or(Op dual, bool neutral) {
    if (a() == b()) return a();
    for (const auto& [x, y] : {std::pair(a(), b()), std::pair(b(), a())}) {
        if (is_bool(y, neutral)) return x;
        if (is_bool(y, !neutral)) return y;
        if (is(x, op_) && (of(x, 0) == y || of(x, 1) == y)) return x;   // (x and y) and y
        if (is(x, dual) && (of(x, 0) == y || of(x, 1) == y)) return y;  // (x or y) and y
    }
    if (are_opposite(a(), b())) return graph_.boolean(!neutral);
    return {};
}

NodeId Rules::compare() {
    if (op_ == Op::Eq) return compare_equal(true);
    if (op_ == Op::Ne) return compare_equal(false);
    if (a() == b() && op_ == Op::Lt) return graph_.boolean(false);  // also of NaN
    if (type_ != Type::I32) return {};
    if (op_ == Op::Lt) {
        if (is(a(), scalar::kIntMax) || is(b(), scalar::kIntMin)) return graph_.boolean(false);
    } else {
        if (a() == b() || is(a(), scalar::kIntMin) || is(b(), scalar::kIntMax)) return graph_.boolean(true);
    }
    return {};
}

/// eq (wanted) and ne (not wanted).
NodeId Rules::compare_equal(bool wanted) {
    if (a() == b() && type_ != Type::F32) return graph_.boolean(wanted);
    if (type_ == Type::Bool) {
        constant_second();
        if (is_bool(b(), true)) return wanted ? a() : not_(a());
        if (is_bool(b(), false)) return wanted ? not_(a()) : a();
        if (are_opposite(a(), b())) return graph_.boolean(!wanted);
        if (is(a(), Op::Not) && is(b(), Op::Not)) return make(op_, {of(a()), of(b())});
        return {};
    }
    if (type_ != Type::I32) return {};
    constant_second();
    const auto constant = graph_.as_i32(b());
    if (!constant) return {};
    if (is(a(), Op::Add))  // x + c == d: wrapping addition is a bijection
        if (const auto inner = graph_.as_i32(of(a(), 1))) return make(op_, {of(a(), 0), graph_.i32(scalar::sub(*constant, *inner))});
    if (is(a(), Op::Sub) && *constant == 0) return make(op_, {of(a(), 0), of(a(), 1)});
    if (is(a(), Op::Neg)) return make(op_, {of(a()), graph_.i32(scalar::neg(*constant))});
    return {};
}

NodeId Rules::select() {
    const NodeId condition = a(), yes = b(), no = c();
    if (is_bool(condition, true)) return yes;
    if (is_bool(condition, false)) return no;
    if (yes == no) return yes;
    if (is(condition, Op::Not)) return make(Op::Select, {of(condition), no, yes});
    if (is(yes, Op::Select) && of(yes, 0) == condition) return make(Op::Select, {condition, of(yes, 1), no});
    if (is(no, Op::Select) && of(no, 0) == condition) return make(Op::Select, {condition, yes, of(no, 2)});
    if (type_ != Type::Bool) return {};
    if (is_bool(yes, true)) return is_bool(no, false) ? condition : make(Op::Or, {condition, no});
    if (is_bool(no, false)) return make(Op::And, {condition, yes});
    if (is_bool(yes, false)) return is_bool(no, true) ? not_(condition) : make(Op::And, {not_(condition), no});
    if (is_bool(no, true)) return make(Op::Or, {not_(condition), yes});
    return {};
}

NodeId Rules::neutral_of_reduction() {
    const Type type = graph_.type(b());
    constexpr float kInf = std::numeric_limits<float>::infinity();
    switch (op_) {
        case Op::ReduceSum: return type == Type::F32 ? graph_.f32(0.0f) : graph_.i32(0);
        case Op::ReduceAny: return graph_.boolean(false);
        case Op::ReduceAll: return graph_.boolean(true);
        case Op::ReduceMin: return type == Type::F32 ? graph_.f32(kInf) : graph_.i32(scalar::kIntMax);
        default: return type == Type::F32 ? graph_.f32(-kInf) : graph_.i32(scalar::kIntMin);
    }
}

NodeId Rules::reduce() {
    const NodeId variable = a(), body = b();
    const NodeId lo = of(variable, 0), hi = of(variable, 1);
    const auto first = graph_.as_i32(lo), last = graph_.as_i32(hi);
    if (lo == hi || (first && last && *last <= *first)) return neutral_of_reduction();
    if (graph_.free_loops(body) >> graph_[variable].payload & 1) return {};

    // The same value each trip.
    switch (op_) {
        case Op::ReduceAny: return make(Op::And, {make(Op::Lt, {lo, hi}), body});
        case Op::ReduceAll: return make(Op::Or, {make(Op::Le, {hi, lo}), body});
        case Op::ReduceSum:
            if (is_bits(body, 0.0f) || is_bits(body, -0.0f)) return graph_.f32(0.0f);  // the sum starts at +0
            if (graph_.type(body) == Type::F32) return {};  // n times a value is rounded otherwise than n additions
            return make(Op::Select, {make(Op::Lt, {lo, hi}), make(Op::Mul, {body, make(Op::Sub, {hi, lo})}), graph_.i32(0)});
        default: return make(Op::Select, {make(Op::Lt, {lo, hi}), body, neutral_of_reduction()});
    }
}

}  // namespace

NodeId simplify_node(Graph& out, const Node& node, std::span<const NodeId> operands) {
    const NodeId simpler = Rules(out, node, operands).apply();
    return simpler.valid() ? simpler : out.like(node, operands);
}

void simplify(Attention& attention) {
    rewrite(attention, simplify_node);
}

}  // namespace flexc::ir
