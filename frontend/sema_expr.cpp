// Literals, types and operators.
#include <bit>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "frontend/sema_body.h"

namespace flexc::sema {

using ir::Op;

Node* Context::node(NodeKind kind, Type type, Span span) const {
    Node& n = program.nodes.emplace_back();
    n.kind = kind;
    n.type = type;
    n.span = span;
    return &n;
}

// ---- literals ----

Node* BodyChecker::literal(Type type, uint32_t bits, Span span) {
    Node* n = context_.node(NodeKind::Literal, type, span);
    n->bits = bits;
    return n;
}

Node* BodyChecker::int_literal(const ast::Expr& e) {
    Node* n = literal(Type::I32, static_cast<uint32_t>(e.value), e.span);
    n->adapts = true;
    n->exact = static_cast<double>(e.value);
    n->overflows = e.value > static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
    if (e.value == UINT64_MAX) {  // saturated: the text has the value
        std::string digits;
        for (const char c : e.text)
            if (c != '_') digits += c;
        n->exact = std::strtod(digits.c_str(), nullptr);
    }
    return n;
}

Node* BodyChecker::float_literal(const ast::Expr& e) {
    std::string digits;
    for (const char c : e.text)
        if (c != '_') digits += c;
    float value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (result.ec == std::errc::result_out_of_range) {
        // Too small is a zero, or nearly; too large is a mistake.
        const double wide = std::strtod(digits.c_str(), nullptr);
        value = static_cast<float>(wide <= static_cast<double>(FLT_MAX) ? wide : 0.0);
        if (wide > static_cast<double>(FLT_MAX)) sink_.report(Kind::literal_range, e.span, e.text, "f32").help("infinity is `inf`");
    } else if (result.ec != std::errc{}) {
        return context_.error(e.span);  // the parser has reported it
    }
    return literal(Type::F32, std::bit_cast<uint32_t>(value), e.span);
}

Node* BodyChecker::settle(Node* n) {
    if (!n->adapts) return n;
    if (n->kind == NodeKind::Op) {  // a select of literals
        settle(n->args[1]);
        settle(n->args[2]);
        n->adapts = false;
        return n;
    }
    n->adapts = false;
    if (!n->overflows) return n;
    const std::string text = context_.text(n->span);
    const bool plain = text.find_first_not_of("0123456789abcdefABCDEFxX_") == std::string::npos;
    if (!plain) {
        sink_.report(Kind::constant_overflow, n->span);
        return n;
    }
    auto& d = sink_.report(Kind::literal_range, n->span, text, "i32");
    if (n->exact <= 4294967295.0 && text.find_first_of("xX") != std::string::npos)
        d.help(fmt::format("the `i32` with these bits is `{}`", static_cast<int32_t>(static_cast<uint32_t>(n->exact))));
    else
        d.help("an `i32` goes up to 2147483647");
    return n;
}

Node* BodyChecker::adapt(Node* n) {
    if (n->kind == NodeKind::Literal) {
        const auto value = static_cast<float>(n->exact);
        return literal(Type::F32, std::bit_cast<uint32_t>(value), n->span);
    }
    return op(Op::Select, Type::F32, n->span, {n->args[0], adapt(n->args[1]), adapt(n->args[2])});
}

Node* BodyChecker::literal_op(Op o, Span span, const std::vector<Node*>& args) {
    for (const Node* a : args)
        if (!a->adapts || a->kind != NodeKind::Literal) return nullptr;
    const double a = args[0]->exact;
    const double b = args.size() > 1 ? args[1]->exact : 0;
    const double c = args.size() > 2 ? args[2]->exact : 0;
    const auto bits = [](double x) { return std::abs(x) < 9e18 ? static_cast<int64_t>(x) : 0; };
    const auto ia = static_cast<int32_t>(bits(a));
    const auto ib = static_cast<int32_t>(bits(b));
    double exact = 0;
    bool overflows = false;
    for (const Node* n : args) overflows |= n->overflows;
    switch (o) {
        case Op::Neg:
            exact = -a;
            overflows = overflows && a != 2147483648.0;
            break;
        case Op::Abs: exact = std::abs(a); break;
        case Op::Sign: exact = (a > 0) - (a < 0); break;
        case Op::Add: exact = a + b; break;
        case Op::Sub: exact = a - b; break;
        case Op::Mul: exact = a * b; break;
        case Op::FloorDiv: exact = b == 0 ? 0 : std::floor(a / b); break;
        case Op::Mod: exact = b == 0 ? 0 : a - b * std::floor(a / b); break;
        case Op::Min: exact = std::min(a, b); break;
        case Op::Max: exact = std::max(a, b); break;
        case Op::Clamp: exact = std::min(std::max(a, b), c); break;
        case Op::BitNot: exact = ~ia; break;
        case Op::BitAnd: exact = ia & ib; break;
        case Op::BitOr: exact = ia | ib; break;
        case Op::BitXor: exact = ia ^ ib; break;
        case Op::Shl: exact = ib < 0 || ib > 31 ? 0 : std::ldexp(a, ib); break;
        case Op::Shr: exact = ib < 0 || ib > 31 ? (ia < 0 ? -1 : 0) : ia >> ib; break;
        default: return nullptr;
    }
    if (!std::isfinite(exact)) exact = 0, overflows = true;
    overflows |= exact > 2147483647.0 || exact < -2147483648.0;
    Node* n = literal(Type::I32, static_cast<uint32_t>(static_cast<int64_t>(overflows ? 0 : exact)), span);
    n->adapts = true;
    n->exact = exact;
    n->overflows = overflows;
    return n;
}

// ---- types ----

std::string BodyChecker::short_text(Span span) const {
    std::string text = context_.text(span);
    return text.size() < 60 && text.find('\n') == std::string::npos ? text : "...";
}

diag::Diagnostic& BodyChecker::mismatch(Type wanted, const Node* found) {
    auto& d = sink_.report(Kind::type_mismatch, found->span, name(wanted), name(found->type));
    const std::string text = context_.text(found->span);
    const std::string inner = short_text(found->span);
    const bool bracketed = inner.size() > 2 && inner.front() == '(' && inner.back() == ')';
    const auto cast = [&](std::string_view function, std::string_view tail) {
        const std::string shown = fmt::format("{}{}", function, bracketed ? inner : "(" + inner + ")");
        if (inner == text)
            d.fix(found->span, shown, fmt::format("write `{}`{}", shown, tail));
        else
            d.help(fmt::format("write `{}`{}", shown, tail));
    };
    if (wanted == Type::F32) {
        if (found->type == Type::Bool && clause_ == ast::ClauseKind::Score)
            d.help(fmt::format("keys are hidden in the clause `mask`: `mask = {};`", inner));
        cast("f32", found->type == Type::Bool ? ", which is 0 or 1" : "");
    } else if (const bool digits = text.find_first_not_of("0123456789_.") == std::string::npos;
               wanted == Type::I32 && found->kind == NodeKind::Literal && digits && !text.starts_with('.') &&
               text.find_first_not_of('0', text.find('.') + 1) == std::string::npos) {
        const std::string whole = text.substr(0, text.find('.'));
        d.fix(found->span, whole, fmt::format("write `{}`", whole));
    } else if (wanted == Type::I32) {
        cast("i32", found->type == Type::Bool ? ", which is 0 or 1" : ", which truncates");
    } else if (found->kind == NodeKind::Literal && (text.find_first_not_of("0123456789._") == std::string::npos)) {
        const bool truth = text.find_first_of("123456789") != std::string::npos;
        d.fix(found->span, truth ? "true" : "false", truth ? "write `true`" : "write `false`");
    } else if (found->kind == NodeKind::Op && found->op == Op::Select) {
        d.help(fmt::format("a condition is wanted, as it is: `{}`", short_text(found->args[0]->span)));
    } else {
        d.help(fmt::format("compare it: `{} != {}`", inner, found->type == Type::F32 ? "0.0" : "0"));
    }
    return d;
}

Node* BodyChecker::want(Node* n, Type wanted) {
    if (n->type == Type::Error || wanted == Type::Error) return n;
    if (n->type == wanted) return settle(n);
    if (wanted == Type::F32 && n->adapts) return adapt(n);
    mismatch(wanted, n);
    return context_.error(n->span);
}

bool BodyChecker::unify(Node*& left, Node*& right, std::string_view what, const std::string& help) {
    if (left->type == Type::Error || right->type == Type::Error) return false;
    if (left->type == right->type) return true;
    if (left->type == Type::F32 && right->adapts) {
        right = adapt(right);
        return true;
    }
    if (right->type == Type::F32 && left->adapts) {
        left = adapt(left);
        return true;
    }
    // The side to change is the one that f32(...) or i32(...) mends.
    const auto rank = [](Type t) { return t == Type::F32 ? 2 : t == Type::I32 ? 1 : 0; };
    const bool left_is_wider = rank(left->type) > rank(right->type);
    const Node* wide = left_is_wider ? left : right;
    const Node* narrow = left_is_wider ? right : left;
    auto& d = mismatch(wide->type, narrow).note(fmt::format("{} one type on both sides; this is `{}`", what, name(wide->type)), wide->span);
    if (!help.empty()) d.help(help);
    return false;
}

Node* BodyChecker::op(Op o, Type type, Span span, std::vector<Node*> args) {
    for (const Node* a : args)
        if (a->type == Type::Error) return context_.error(span);
    Node* n = context_.node(NodeKind::Op, type, span);
    n->op = o;
    n->args = std::move(args);
    gather_reads(n);
    return n;
}

Node* BodyChecker::truth(Node* n, std::string_view what) {
    if (n->type == Type::Error || n->type == Type::Bool) return n;
    auto& d = sink_.report(Kind::bad_operand, n->span, what, "`bool`", name(n->type));
    if (n->kind == NodeKind::Call && n->callee->kind == ast::DeclKind::Score)
        d.help(fmt::format("score functions are chained by `|>`: `score |> {}`", short_text(n->span)));
    else
        d.help(fmt::format("compare it: `{} != {}`", short_text(n->span), n->type == Type::F32 ? "0.0" : "0"));
    if (n->type == Type::I32 && (what == "and" || what == "or"))
        d.help(fmt::format("on the bits of integers it is `{}`", what == "and" ? "&" : "|"));
    return context_.error(n->span);
}

// ---- operators ----

Node* BodyChecker::expr(const ast::Expr& e, Type wanted) {
    return want(expr(e), wanted);
}

Node* BodyChecker::expr(const ast::Expr& e) {
    switch (e.kind) {
        case ast::ExprKind::IntLiteral: return int_literal(e);
        case ast::ExprKind::FloatLiteral: return float_literal(e);
        case ast::ExprKind::BoolLiteral: return literal(Type::Bool, e.value != 0, e.span);
        case ast::ExprKind::Name: return name_value(e);
        case ast::ExprKind::Unary: return unary(e);
        case ast::ExprKind::Binary: return binary(e);
        case ast::ExprKind::Chain: return chain(e);
        case ast::ExprKind::If: return conditional(e);
        case ast::ExprKind::Call: return call(e);
        case ast::ExprKind::Index: return index(e);
        case ast::ExprKind::Slice: sink_.report(Kind::slice_outside_dot, e.span); return context_.error(e.span);
        case ast::ExprKind::Reduce: return reduce(e);
        case ast::ExprKind::Block: return block(e);
        case ast::ExprKind::Pipe: return pipe(e);
    }
    return context_.error(e.span);
}

Node* BodyChecker::unary(const ast::Expr& e) {
    Node* a = expr(*e.args[0]);
    if (a->type == Type::Error) return context_.error(e.span);
    if (e.unary == ast::UnaryOp::Not) {
        if (a->type == Type::I32) {
            sink_.report(Kind::bad_operand, a->span, "not", "`bool`", name(a->type)).help("the bits of an integer are inverted by `~`");
            return context_.error(e.span);
        }
        return op(Op::Not, Type::Bool, e.span, {truth(a, "not")});
    }
    if (e.unary == ast::UnaryOp::BitNot) {
        if (a->type == Type::Bool) {
            sink_.report(Kind::bits_of_bool, e.operator_span, "~").fix(e.operator_span, "not ", "write `not`");
            return context_.error(e.span);
        }
        if (a->type == Type::F32) {
            sink_.report(Kind::bad_operand, a->span, "~", "`i32`", name(a->type));
            return context_.error(e.span);
        }
        if (Node* n = literal_op(Op::BitNot, e.span, {a})) return n;
        return op(Op::BitNot, Type::I32, e.span, {settle(a)});
    }
    if (a->type == Type::Bool) {
        sink_.report(Kind::bad_operand, a->span, "-", "`f32` or `i32`", name(a->type)).help("the opposite of a condition is `not`");
        return context_.error(e.span);
    }
    if (Node* n = literal_op(Op::Neg, e.span, {a})) return n;
    return op(Op::Neg, a->type, e.span, {settle(a)});
}

Node* BodyChecker::binary(const ast::Expr& e) {
    Node* a = expr(*e.args[0]);
    Node* b = expr(*e.args[1]);
    const std::string_view sign = ast::text(e.binary);
    if (e.binary == ast::BinaryOp::And || e.binary == ast::BinaryOp::Or)
        return op(e.binary == ast::BinaryOp::And ? Op::And : Op::Or, Type::Bool, e.span, {truth(a, sign), truth(b, sign)});
    if (a->type == Type::Error || b->type == Type::Error) return context_.error(e.span);

    switch (e.binary) {
        case ast::BinaryOp::Add:
        case ast::BinaryOp::Sub:
        case ast::BinaryOp::Mul: {
            for (const Node* side : {a, b})
                if (side->type == Type::Bool) {
                    const Type other = side == a ? b->type : a->type;
                    const std::string_view cast = other == Type::F32 ? "f32" : "i32";
                    auto& d = sink_.report(Kind::bad_operand, side->span, sign, "numbers", name(Type::Bool));
                    if (clause_ == ast::ClauseKind::Score && other == Type::F32 && sign == "*")
                        d.help(fmt::format("keys are hidden in the clause `mask`: `mask = {};`; a score of 0 is not hidden",
                                           short_text(side->span)));
                    d.help(other == Type::Bool ? "conditions are combined by `and`, `or` and `!=`"
                                               : fmt::format("`{}(...)` of a condition is 0 or 1", cast));
                    return context_.error(e.span);
                }
            const Op o = e.binary == ast::BinaryOp::Add ? Op::Add : e.binary == ast::BinaryOp::Sub ? Op::Sub : Op::Mul;
            if (Node* n = literal_op(o, e.span, {a, b})) return n;
            if (!unify(a, b, fmt::format("`{}` takes", sign))) return context_.error(e.span);
            return op(o, a->type, e.span, {settle(a), settle(b)});
        }
        case ast::BinaryOp::Div: {
            // Two literals adapt; a literal beside an integer does not make the division one of f32.
            if (a->type == Type::I32 && b->type == Type::I32 && !(a->adapts && b->adapts)) {
                sink_.report(Kind::integer_division, e.operator_span)
                    .fix(e.operator_span, "//", "`//` divides integers, rounding down")
                    .help("for an `f32` quotient, convert both sides: `f32(...) / f32(...)`");
                return context_.error(e.span);
            }
            return op(Op::Div, Type::F32, e.span, {want(a, Type::F32), want(b, Type::F32)});
        }
        case ast::BinaryOp::FloorDiv:
        case ast::BinaryOp::Mod:
        case ast::BinaryOp::BitOr:
        case ast::BinaryOp::BitXor:
        case ast::BinaryOp::BitAnd:
        case ast::BinaryOp::Shl:
        case ast::BinaryOp::Shr: {
            static constexpr std::array kOps = {Op::Or,  Op::And, Op::BitOr, Op::BitXor, Op::BitAnd,   Op::Shl, Op::Shr,
                                                Op::Add, Op::Sub, Op::Mul,   Op::Div,    Op::FloorDiv, Op::Mod};
            const Op o = kOps[static_cast<size_t>(e.binary)];
            const bool bitwise = e.binary != ast::BinaryOp::FloorDiv && e.binary != ast::BinaryOp::Mod;
            if (bitwise && (a->type == Type::Bool || b->type == Type::Bool)) {
                const std::string_view logic = e.binary == ast::BinaryOp::BitAnd   ? "and"
                                               : e.binary == ast::BinaryOp::BitOr  ? "or"
                                               : e.binary == ast::BinaryOp::BitXor ? "!="
                                                                                   : "";
                auto& d = sink_.report(Kind::bits_of_bool, e.operator_span, sign);
                if (!logic.empty()) d.fix(e.operator_span, std::string(logic), fmt::format("write `{}`", logic));
                if (a->type != b->type && !logic.empty())
                    d.help(fmt::format("`{}` binds tighter than a comparison: mind the parentheses", sign));
                return context_.error(e.span);
            }
            for (const Node* side : {a, b})
                if (side->type != Type::I32) {
                    auto& d = sink_.report(Kind::bad_operand, side->span, sign, "`i32`", name(side->type));
                    if (side->type == Type::F32 && e.binary == ast::BinaryOp::FloorDiv) d.help("for `f32`, write `floor(a / b)`");
                    if (side->type == Type::F32 && e.binary == ast::BinaryOp::Mod) d.help("for `f32`, write `a - b * floor(a / b)`");
                    if (side->type == Type::F32 && sign == "|") d.help("score functions are chained by `|>`");
                    if (side->type == Type::F32 && sign == "^") d.help("a power is `pow(x, y)`, a square `x * x`");
                    return context_.error(e.span);
                }
            if (Node* n = literal_op(o, e.span, {a, b})) return n;
            return op(o, Type::I32, e.span, {settle(a), settle(b)});
        }
        default: return context_.error(e.span);
    }
}

/// What was computed is rarely equal to anything. Stored values may be, infinity is, and `x != x` asks for NaN.
void BodyChecker::warn_of_float_equality(std::string_view sign, const Node& a, const Node& b) {
    const auto literal = [](const Node& n) { return n.kind == NodeKind::Literal; };
    const auto stored = [&](const Node& n) { return literal(n) || n.kind == NodeKind::Load || n.kind == NodeKind::Param; };
    const auto infinite = [](const Node& n) {
        const Node& value = n.kind == NodeKind::Op && n.args.size() == 1 ? *n.args[0] : n;
        return value.kind == NodeKind::Literal && value.bits == std::bit_cast<uint32_t>(std::numeric_limits<float>::infinity());
    };
    if (infinite(a) || infinite(b) || (stored(a) && stored(b)) || context_.text(a.span) == context_.text(b.span)) return;
    sink_.report(Kind::float_equality, a.span.to(b.span), sign)
        .help(sign == "==" ? "write `abs(a - b) < 1e-6`, or compare integers" : "write `abs(a - b) >= 1e-6`, or compare integers");
}

/// `flag == 1`: a condition beside the number that stands for it in Python.
bool BodyChecker::compares_with_truth(ast::CompareOp sign, const Node* a, const Node* b) {
    if (sign != ast::CompareOp::Eq && sign != ast::CompareOp::Ne) return false;
    const Node* flag = a->type == Type::Bool ? a : b;
    const Node* number = flag == a ? b : a;
    if (flag->type != Type::Bool || number->kind != NodeKind::Literal || !number->adapts || number->exact < 0 || number->exact > 1)
        return false;
    const bool holds = (number->exact == 1) == (sign == ast::CompareOp::Eq);
    auto& d = sink_.report(Kind::type_mismatch, number->span, name(Type::Bool), name(Type::I32));
    const std::string text = short_text(flag->span);
    const std::string whole = holds ? text : fmt::format("not {}", text);
    if (text == "...")
        d.help("a `bool` is a condition by itself");
    else
        d.fix(a->span.to(b->span), whole, fmt::format("a `bool` is a condition by itself: write `{}`", whole));
    return true;
}

Node* BodyChecker::chain(const ast::Expr& e) {
    std::vector<Node*> operands;
    bool error = false;
    for (const ast::Expr* a : e.args) operands.push_back(expr(*a));
    for (const Node* n : operands) error |= n->type == Type::Error;
    if (error) return context_.error(e.span);

    for (size_t i = 1; i + 1 < e.args.size(); ++i) {
        // `a >= b & c < d` compares with `b & c`.
        const ast::Expr& middle = *e.args[i];
        if (middle.kind != ast::ExprKind::Binary || middle.parenthesised) continue;
        if (middle.binary == ast::BinaryOp::BitAnd || middle.binary == ast::BinaryOp::BitOr)
            sink_.report(Kind::bits_in_chain, middle.operator_span, ast::text(middle.binary))
                .help(fmt::format("two conditions are joined by `{}`; if bits are meant, write `({})`",
                                  middle.binary == ast::BinaryOp::BitAnd ? "and" : "or", short_text(middle.span)));
    }
    Node* result = context_.node(NodeKind::Chain, Type::Bool, e.span);
    for (size_t i = 0; i < e.chain.size(); ++i) {
        const ast::CompareOp sign = e.chain[i];
        Node* a = operands[i];
        Node* b = operands[i + 1];
        const bool chained = e.chain.size() > 1 && (a->type == Type::Bool) != (b->type == Type::Bool);
        if (compares_with_truth(sign, a, b)) return context_.error(e.span);
        if (!unify(a, b, fmt::format("`{}` compares", ast::text(sign)),
                   chained ? "comparisons form a chain: `x < y == z` is `x < y and y == z`; parentheses make it `(x < y) == z`" : ""))
            return context_.error(e.span);
        const bool equality = sign == ast::CompareOp::Eq || sign == ast::CompareOp::Ne;
        if (!equality && a->type == Type::Bool) {
            sink_.report(Kind::bad_operand, a->span, ast::text(sign), "numbers", name(a->type))
                .help("conditions are compared by `==` and `!=`");
            return context_.error(e.span);
        }
        if (equality && a->type == Type::F32) warn_of_float_equality(ast::text(sign), *a, *b);
        // A middle literal is settled for each of its links apart: the other one may want it as f32.
        const auto own = [&](Node* n) {
            if (!n->adapts) return n;
            Node* copy = context_.node(n->kind, n->type, n->span);
            *copy = *n;
            return settle(copy);
        };
        static constexpr std::array kOps = {Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Lt, Op::Le};
        const bool exchanged = sign == ast::CompareOp::Gt || sign == ast::CompareOp::Ge;
        result->links.push_back({kOps[static_cast<size_t>(sign)], own(a), own(b), exchanged});
    }
    gather_reads(result);
    return result;
}

Node* BodyChecker::select(Node* condition, Node* yes, Node* no, Span span, std::string_view what) {
    condition = truth(condition, what);
    if (yes->type == Type::Error || no->type == Type::Error || condition->type == Type::Error) return context_.error(span);
    if (!unify(yes, no, fmt::format("`{}` gives", what))) return context_.error(span);
    const bool adapts = yes->adapts && no->adapts;
    if (!adapts) yes = settle(yes), no = settle(no);
    Node* n = op(Op::Select, yes->type, span, {condition, yes, no});
    n->adapts = adapts;
    return n;
}

Node* BodyChecker::conditional(const ast::Expr& e) {
    Node* condition = expr(*e.args[0]);
    Node* yes = expr(*e.args[1]);
    Node* no = expr(*e.args[2]);
    return select(condition, yes, no, e.span, "if");
}

Let* BodyChecker::let(const ast::Let& l) {
    Let& result = context_.program.lets.emplace_back();
    result.name = l.name.text;
    result.span = l.name.span;
    result.loops = loops_;
    result.value = settle(expr(*l.value));
    if (declare(l.name, Local{Local::Kind::Let, 0, &result, l.name.span}, "`let`")) decl_.lets.push_back(&result);
    return &result;
}

Node* BodyChecker::block(const ast::Expr& e) {
    const size_t before = scope_.size();
    std::vector<std::string_view> pending;
    for (const ast::Let& l : e.lets)
        if (later_lets_.try_emplace(l.name.text, l.name.span).second) pending.push_back(l.name.text);
    for (const ast::Let& l : e.lets) {
        let(l);
        later_lets_.erase(l.name.text);
    }
    for (const std::string_view p : pending) later_lets_.erase(p);
    Node* result = e.args.empty() ? context_.error(e.span) : expr(*e.args[0]);
    forget(before);
    return result;
}

}  // namespace flexc::sema
