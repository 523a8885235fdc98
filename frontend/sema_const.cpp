#include "frontend/sema_const.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

namespace flexc::sema {

namespace {

using diag::Kind;
using ir::Op;

constexpr int kMaxSteps = 1'000'000;
constexpr int kMaxDepth = 1024;  // of the walk, calls included

float as_float(const Value& v) {
    return std::bit_cast<float>(v.bits);
}
int32_t as_int(const Value& v) {
    return static_cast<int32_t>(v.bits);
}
Value of(float x) {
    return {Type::F32, std::bit_cast<uint32_t>(x)};
}
Value of(int32_t x) {
    return {Type::I32, static_cast<uint32_t>(x)};
}
Value of(bool x) {
    return {Type::Bool, x ? 1u : 0u};
}

/// One call: the arguments, and the reduction variables and lets evaluated so far.
struct Frame {
    std::vector<Value> args;
    std::vector<int32_t> loops;
    std::map<std::pair<const Let*, std::vector<int32_t>>, Value> lets;
};

struct Evaluator {
    diag::Sink& sink;
    Span origin;
    int steps = 0;
    int depth = 0;

    std::optional<Value> overflow(const Node* n) {
        sink.report(Kind::constant_overflow, n->span);
        return std::nullopt;
    }

    std::optional<Value> too_deep() {
        sink.report(Kind::constant_too_deep, origin);
        return std::nullopt;
    }

    std::optional<Value> eval(const Node* n, Frame& frame) {
        if (++steps > kMaxSteps || depth >= kMaxDepth) return too_deep();
        ++depth;
        const std::optional<Value> result = dispatch(n, frame);
        --depth;
        return result;
    }

    std::optional<Value> dispatch(const Node* n, Frame& frame) {
        switch (n->kind) {
            case NodeKind::Literal: return Value{n->type, n->bits};
            case NodeKind::LoopVar: return of(frame.loops[n->index]);
            case NodeKind::Param: return frame.args[n->index];
            case NodeKind::LetRef: {
                const std::vector<int32_t> outer(frame.loops.begin(), frame.loops.begin() + n->let->loops);
                if (const auto found = frame.lets.find({n->let, outer}); found != frame.lets.end()) return found->second;
                const std::optional<Value> value = eval(n->let->value, frame);
                if (value) frame.lets.emplace(std::pair{n->let, outer}, *value);
                return value;
            }
            case NodeKind::Op: return operation(n, frame);
            case NodeKind::Chain: {
                for (const Link& l : n->links) {
                    const auto a = eval(l.left, frame);
                    const auto b = eval(l.right, frame);
                    if (!a || !b) return std::nullopt;
                    if (!compare(l, *a, *b)) return of(false);
                }
                return of(true);
            }
            case NodeKind::Reduce: return reduce(n, frame);
            case NodeKind::Call: {
                if (n->callee->kind != ast::DeclKind::Fn || !n->callee->body) break;
                Frame inner;
                for (const Node* a : n->args) {
                    const auto value = eval(a, frame);
                    if (!value) return std::nullopt;
                    inner.args.push_back(*value);
                }
                return eval(n->callee->body, inner);
            }
            case NodeKind::Error: return std::nullopt;  // reported
            default: break;
        }
        sink.report(Kind::not_constant, n->span, "this");
        return std::nullopt;
    }

    static bool compare(const Link& l, const Value& left, const Value& right) {
        const Value& a = l.exchanged ? right : left;
        const Value& b = l.exchanged ? left : right;
        const auto apply = [&](auto x, auto y) {
            switch (l.op) {
                case Op::Eq: return x == y;
                case Op::Ne: return x != y;
                case Op::Lt: return x < y;
                default: return x <= y;
            }
        };
        return a.type == Type::F32 ? apply(as_float(a), as_float(b)) : apply(as_int(a), as_int(b));
    }

    std::optional<Value> reduce(const Node* n, Frame& frame) {
        const auto lo = eval(n->args[0], frame);
        const auto hi = eval(n->args[1], frame);
        if (!lo || !hi) return std::nullopt;
        const bool is_float = n->type == Type::F32;
        Value total;
        switch (n->op) {
            case Op::ReduceSum: total = is_float ? of(0.0f) : of(0); break;
            case Op::ReduceAny: total = of(false); break;
            case Op::ReduceAll: total = of(true); break;
            case Op::ReduceMin:
                total = is_float ? of(std::numeric_limits<float>::infinity()) : of(std::numeric_limits<int32_t>::max());
                break;
            default: total = is_float ? of(-std::numeric_limits<float>::infinity()) : of(std::numeric_limits<int32_t>::min()); break;
        }
        for (int64_t i = as_int(*lo); i < as_int(*hi); ++i) {
            frame.loops.push_back(static_cast<int32_t>(i));
            const auto term = eval(n->args[2], frame);
            frame.loops.pop_back();
            if (!term) return std::nullopt;
            const auto next = n->op == Op::ReduceAny   ? std::optional(of((total.bits | term->bits) != 0))
                              : n->op == Op::ReduceAll ? std::optional(of((total.bits & term->bits) != 0))
                                                       : arithmetic(n,
                                                                    n->op == Op::ReduceSum   ? Op::Add
                                                                    : n->op == Op::ReduceMin ? Op::Min
                                                                                             : Op::Max,
                                                                    total, *term);
            if (!next) return std::nullopt;
            total = *next;
        }
        return total;
    }

    std::optional<Value> operation(const Node* n, Frame& frame) {
        std::array<Value, 3> v{};
        for (size_t i = 0; i < n->args.size(); ++i) {
            if (n->op == Op::Select && i == 1) {  // only the chosen side: the other one may overflow
                const auto chosen = eval(n->args[v[0].bits ? 1 : 2], frame);
                return chosen;
            }
            const auto value = eval(n->args[i], frame);
            if (!value) return std::nullopt;
            v[i] = *value;
        }
        switch (n->op) {
            case Op::Not: return of(v[0].bits == 0);
            case Op::And: return of((v[0].bits & v[1].bits) != 0);
            case Op::Or: return of((v[0].bits | v[1].bits) != 0);
            case Op::ToF32: return v[0].type == Type::F32 ? v[0] : of(static_cast<float>(as_int(v[0])));
            case Op::ToI32: {
                if (v[0].type != Type::F32) return of(as_int(v[0]));
                const float x = as_float(v[0]);
                if (std::isnan(x)) return of(0);
                if (x >= 2147483648.0f) return of(std::numeric_limits<int32_t>::max());
                if (x < -2147483648.0f) return of(std::numeric_limits<int32_t>::min());
                return of(static_cast<int32_t>(x));
            }
            case Op::Clamp: {
                const auto above = arithmetic(n, Op::Max, v[0], v[1]);
                return above ? arithmetic(n, Op::Min, *above, v[2]) : std::nullopt;
            }
            default: return arithmetic(n, n->op, v[0], v[1]);
        }
    }

    std::optional<Value> arithmetic(const Node* n, Op op, const Value& a, const Value& b) {
        if (a.type == Type::F32) return of(floating(op, as_float(a), as_float(b)));
        const int64_t x = as_int(a);
        const int64_t y = as_int(b);
        int64_t result = 0;
        switch (op) {
            case Op::Neg: result = -x; break;
            case Op::Abs: result = std::abs(x); break;
            case Op::Sign: result = (x > 0) - (x < 0); break;
            case Op::BitNot: result = ~x; break;
            case Op::Add: result = x + y; break;
            case Op::Sub: result = x - y; break;
            case Op::Mul: result = x * y; break;
            case Op::FloorDiv: result = y == 0 ? 0 : x / y - (x % y != 0 && (x < 0) != (y < 0)); break;
            case Op::Mod: result = y == 0 ? 0 : x % y + (x % y != 0 && (x < 0) != (y < 0) ? y : 0); break;
            case Op::Min: result = std::min(x, y); break;
            case Op::Max: result = std::max(x, y); break;
            case Op::BitAnd: result = x & y; break;
            case Op::BitOr: result = x | y; break;
            case Op::BitXor: result = x ^ y; break;
            case Op::Shl: result = y < 0 || y > 31 ? 0 : x * (int64_t{1} << y); break;
            case Op::Shr: result = y < 0 || y > 31 ? (x < 0 ? -1 : 0) : x >> y; break;
            default: break;
        }
        if (result > std::numeric_limits<int32_t>::max() || result < std::numeric_limits<int32_t>::min()) return overflow(n);
        return of(static_cast<int32_t>(result));
    }

    /// Transcendental functions in double, rounded once.
    static float floating(Op op, float a, float b) {
        const double x = a;
        const auto rounded = [](double value) { return static_cast<float>(value); };
        switch (op) {
            case Op::Neg: return -a;
            case Op::Abs: return std::abs(a);
            case Op::Sign: return std::isnan(a) ? a : static_cast<float>((a > 0) - (a < 0));
            case Op::Add: return a + b;
            case Op::Sub: return a - b;
            case Op::Mul: return a * b;
            case Op::Div: return a / b;
            case Op::Min: return std::isnan(a) || std::isnan(b) ? std::numeric_limits<float>::quiet_NaN() : std::fmin(a, b);
            case Op::Max: return std::isnan(a) || std::isnan(b) ? std::numeric_limits<float>::quiet_NaN() : std::fmax(a, b);
            case Op::Exp: return rounded(std::exp(x));
            case Op::Exp2: return rounded(std::exp2(x));
            case Op::Log: return rounded(std::log(x));
            case Op::Log2: return rounded(std::log2(x));
            case Op::Sqrt: return rounded(std::sqrt(x));
            case Op::Rsqrt: return rounded(1.0 / std::sqrt(x));
            case Op::Tanh:
            case Op::TanhApprox: return rounded(std::tanh(x));
            case Op::Sigmoid: return rounded(1.0 / (1.0 + std::exp(-x)));
            case Op::Sin: return rounded(std::sin(x));
            case Op::Cos: return rounded(std::cos(x));
            case Op::Tan: return rounded(std::tan(x));
            case Op::Erf: return rounded(std::erf(x));
            case Op::Floor: return std::floor(a);
            case Op::Ceil: return std::ceil(a);
            case Op::Round: return std::nearbyint(a);
            case Op::Pow: return rounded(std::pow(x, static_cast<double>(b)));
            default: return 0;
        }
    }
};

}  // namespace

std::optional<Value> evaluate_constant(const Node* node, diag::Sink& sink) {
    if (node->type == Type::Error) return std::nullopt;
    Evaluator evaluator{sink, node->span};
    Frame frame;
    return evaluator.eval(node, frame);
}

std::optional<Value> parse_value(std::string_view text, Type type) {
    if (type == Type::Bool) {
        if (text == "true" || text == "1") return of(true);
        if (text == "false" || text == "0") return of(false);
        return std::nullopt;
    }
    std::string digits;
    for (const char c : text)
        if (c != '_') digits += c;
    if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
    const char* end = digits.data() + digits.size();
    if (type == Type::I32) {
        const bool negative = !digits.empty() && digits[0] == '-';
        const char* begin = digits.data() + (negative ? 1 : 0);
        const bool hex = end - begin > 2 && begin[0] == '0' && (begin[1] == 'x' || begin[1] == 'X');
        uint64_t magnitude = 0;
        const auto result = std::from_chars(begin + (hex ? 2 : 0), end, magnitude, hex ? 16 : 10);
        if (result.ec != std::errc{} || result.ptr != end || magnitude > 2147483647u + (negative ? 1u : 0u)) return std::nullopt;
        return of(static_cast<int32_t>(negative ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude)));
    }
    float value = 0;
    const auto result = std::from_chars(digits.data(), end, value);
    if (result.ptr != end || digits.empty()) return std::nullopt;
    if (result.ec == std::errc::result_out_of_range) {
        const double wide = std::strtod(digits.c_str(), nullptr);
        if (std::abs(wide) > static_cast<double>(std::numeric_limits<float>::max())) return std::nullopt;
        value = static_cast<float>(wide);
    } else if (result.ec != std::errc{}) {
        return std::nullopt;
    }
    return of(value);
}

}  // namespace flexc::sema
