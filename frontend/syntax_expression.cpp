// Syntax errors within expressions: conditionals, brackets, missing semicolons, `=` and `==`, and what fits nothing better.
#include "frontend/syntax_explainer.h"

namespace flexc::frontend {

bool Explainer::conditional() {
    if (type() == P::IF && after_operand() && t_.same_line(before_, at_)) {
        auto& d = sink_.report(Kind::conditional_order, t_.span(at_));
        // `x if c else y`, rewritten if it is a whole bracket or body on one line.
        size_t first = at_;
        while (first > starts_.back() && t_.same_line(first - 1, at_)) {
            const size_t p = t_.type(first - 1);
            if (p == P::ASSIGN || p == P::LPAREN || p == P::COMMA || p == P::LBRACE || p == P::SEMI) break;
            --first;
        }
        size_t middle = at_ + 1;
        while (t_.type(middle) != P::ELSE && t_.type(middle) != P::EOF && t_.type(middle) != P::SEMI) ++middle;
        size_t end = middle + 1;
        while (t_.type(end) != P::SEMI && t_.type(end) != P::EOF && t_.type(end) != P::COMMA && t_.type(end) != P::RPAREN) ++end;
        const auto slice = [&](size_t a, size_t b) { return std::string(t_.source.substr(t_[a].begin, t_[b - 1].end - t_[a].begin)); };
        const bool simple = t_.type(middle) == P::ELSE && middle > at_ + 1 && end > middle + 1 && first < at_ &&
                            t_[end - 1].end - t_[first].begin < 80 && t_.same_line(first, end - 1) &&
                            std::none_of(
                                t_.tokens.begin() + static_cast<ptrdiff_t>(first), t_.tokens.begin() + static_cast<ptrdiff_t>(end),
                                [](const Token& k) { return k.type == P::LPAREN || k.type == P::RPAREN; });
        if (simple) {
            const std::string text =
                fmt::format("if {} then {} else {}", slice(at_ + 1, middle), slice(first, at_), slice(middle + 1, end));
            d.fix(t_.span(first).to(t_.span(end - 1)), text, fmt::format("write `{}`", text));
        } else {
            d.help("write `if c then a else b`");
        }
        return true;
    }
    if (rule() != P::RuleConditional || !after_operand()) return false;
    // Complete conditionals inside have one `then` for each `if`.
    ptrdiff_t missing = 0, depth = 0;
    for (size_t i = starts_[0]; i < at_; ++i) {
        const size_t k = t_.type(i);
        depth += k == P::LPAREN || k == P::LBRACKET || k == P::LBRACE;
        depth -= k == P::RPAREN || k == P::RBRACKET || k == P::RBRACE;
        if (depth == 0) missing += (k == P::IF) - (k == P::THEN);
    }
    if (type() == P::NAME && !diag::nearest(t_.text(at_), {"then", "else"}).empty()) return misspelled();
    if (missing > 0) {
        auto& d = expected("`then`");
        if (type() == P::COLON)
            d.fix(t_.span(at_), " then", "write `then` for `:`");
        else
            d.fix(t_.after(before_), " then", "a conditional is written `if c then a else b`");
    } else {
        expected("`else`").help(type() == P::PIPE ? "`|>` binds loosest: put `(score |> f(a))` in parentheses"
                                                  : "an `if` is a value, so it needs both: `if c then a else b`");
    }
    return true;
}

bool Explainer::brackets() {
    const size_t open = open_in_statement();
    if (type() == P::SEMI && open != kNone && after_operand()) {
        sink_.report(Kind::unclosed_bracket, t_.span(open), t_.text(open))
            .note(fmt::format("`{}` is expected before this", closer(t_.type(open))), t_.span(at_));
        return true;
    }
    if (type() != P::RPAREN && type() != P::RBRACKET && type() != P::RBRACE) return false;
    if (!after_operand()) return false;
    if (open != kNone && closer(t_.type(open)) != t_.text(at_)) {
        expected(fmt::format("`{}`", closer(t_.type(open)))).note("to close this", t_.span(open));
        return true;
    }
    if (open == kNone && type() != P::RBRACE) {
        sink_.report(Kind::unmatched_bracket, t_.span(at_), t_.text(at_));
        return true;
    }
    return false;
}

bool Explainer::statement_here() const {
    const size_t next = t_.type(at_ + 1);
    switch (type()) {
        case P::RBRACE:
        case P::LET:
        case P::FN:
        case P::ATTENTION:
        case P::IMPORT:
        case P::CONST: return true;
        case P::EMIT: return next == P::ASSIGN || is_name(next);
        case P::NORMALIZE: return true;
        case P::SCORE:
        case P::MASK: return next == P::ASSIGN || is_name(next);
        default: return is_name(type()) && next == P::ASSIGN;
    }
}

bool Explainer::missing_semicolon() {
    if (!after_operand() || !statement_here() || !(t_.first_on_line(at_) || type() == P::RBRACE || type() == P::LET)) return false;
    const size_t open = open_in_statement();
    if (open == kNone) return rule() == P::RuleBody || rule() == P::RuleItem || rule() == P::RuleImportDecl ? semicolon() : false;
    // Inside a bracket that is closed further on, a comma is missing instead.
    size_t depth = 1;
    for (size_t i = at_; t_.type(i) != P::EOF && t_.type(i) != P::SEMI; ++i) {
        depth += t_.type(i) == P::LPAREN || t_.type(i) == P::LBRACKET;
        depth -= t_.type(i) == P::RPAREN || t_.type(i) == P::RBRACKET;
        if (depth == 0) return false;
    }
    sink_.report(Kind::unclosed_bracket, t_.span(open), t_.text(open)).note("the next statement starts before it", t_.span(at_));
    resume_ = at_;
    return true;
}

bool Explainer::equals() {
    if (type() == P::EQ && (rule() == P::RuleItem || rule() == P::RuleLet || rule() == P::RuleMaskDecl || rule() == P::RuleScoreDecl ||
                            rule() == P::RuleFnDecl || rule() == P::RuleConstDecl)) {
        sink_.report(Kind::equals_confusion, t_.span(at_), "==", "=")
            .fix(t_.span(at_), "=", "a definition is written with `=`, a comparison with `==`");
        return true;
    }
    if (type() == P::COLON && rule() == P::RuleItem) {
        sink_.report(Kind::equals_confusion, t_.span(at_), ":", "=").fix(t_.span(at_), " =", "a clause is written `name = expression;`");
        return true;
    }
    if (type() == P::COLON && rule() == P::RuleLet) {
        size_t assign = at_;
        while (t_.type(assign) != P::ASSIGN && t_.type(assign) != P::SEMI && t_.type(assign) != P::EOF) ++assign;
        auto& d = expected("`=`");
        if (t_.type(assign) == P::ASSIGN)
            d.fix(Span{t_.file, t_[before_].end, t_[assign - 1].end}, "", "a `let` names no type: it follows from the value");
        else
            d.help("a `let` names no type: it follows from the value");
        return true;
    }
    if (type() == P::ASSIGN && (type_before() == P::LT || type_before() == P::GT) && rule() != P::RuleItem) {
        const std::string sign(type_before() == P::LT ? "<=" : ">=");
        sink_.report(Kind::expected_expression, t_.span(at_), found(at_))
            .fix(t_.span(before_).to(t_.span(at_)), sign, fmt::format("write `{}`, without a blank", sign));
        return true;
    }
    if (type() != P::ASSIGN || !after_operand()) return false;
    if (const size_t next = t_.type(at_ + 1); t_[at_].end == t_[at_ + 1].begin && (next == P::LT || t_.text(at_ + 1) == "!")) {
        const std::string given = next == P::LT ? "=<" : "=!";
        const std::string sign = next == P::LT ? "<=" : "!=";
        sink_.report(Kind::equals_confusion, t_.span(at_).to(t_.span(at_ + 1)), given, sign)
            .fix(t_.span(at_).to(t_.span(at_ + 1)), sign, fmt::format("write `{}`", sign));
        return true;
    }
    const size_t before2 = before_ == 0 ? SIZE_MAX : t_.type(before_ - 1);
    if (is_name(type_before()) && (before2 == P::LBRACE || before2 == P::SEMI) && inside(P::RuleBlock)) {
        sink_.report(Kind::missing_let, t_.span(before_), t_.text(before_))
            .fix(Span{t_.file, t_[before_].begin, t_[before_].begin}, "let ", fmt::format("write `let {} = ...`", t_.text(before_)));
        return true;
    }
    sink_.report(Kind::equals_confusion, t_.span(at_), "=", "==").fix(t_.span(at_), "==", "a comparison is written with `==`");
    return true;
}

bool Explainer::clause_values() {
    if (rule() == P::RuleNormalization) {
        expected("`softmax`, `sigmoid` or `none`").help("write `normalize = softmax;`");
        return true;
    }
    if (rule() == P::RuleEmission && !after_operand()) {
        expected("`mean(...)` or `column_sum(...)`").help("write `emit entropy = mean(-log(weight));` or `emit map = column_sum(1.0);`");
        return true;
    }
    if (rule() == P::RuleEmission || rule() == P::RuleNormalization) return false;
    if (rule() == P::RuleItem) {
        const std::string_view word = t_.text(starts_[0]);
        if (type() != P::SEMI && (t_.type(starts_[0]) == P::EMIT || t_.type(starts_[0]) == P::NORMALIZE) && after_operand() &&
            type_before() != P::EMIT && t_.type(before_ - 1) != P::EMIT)
            expected("`;`");
        else if (t_.type(starts_[0]) == P::EMIT)
            expected("`=`").help("write `emit entropy = mean(-log(weight));` or `emit map = column_sum(1.0);`");
        else if (before_ == starts_[0] && is_name(type()) && t_.type(at_ + 1) == P::LPAREN && (word == "mask" || word == "score"))
            expected("`=`").help(
                fmt::format("a {0} with a name is declared outside of the attention: `{0} {1}(...) = ...;`", word, t_.text(at_)));
        else if (before_ == starts_[0] && (is_name(type()) || type() == P::LPAREN || type() == P::NOT))
            expected("`=`").fix(t_.after(before_), " =", fmt::format("a clause is written `{} = ...;`", word));
        else
            expected("`=`").help(fmt::format("a clause is written `{} = ...;`", word));
        return true;
    }
    return false;
}

bool Explainer::colons() {
    const size_t open = open_in_statement();
    if (rule() == P::RuleSuffix && open != kNone && t_.type(open) == P::LPAREN) {
        // Within `sum (j in lo..n: e)`.
        const bool has_in = t_.type(open + 2) == P::IN;
        bool range = false;
        for (size_t i = open; i < at_; ++i) range = range || t_.type(i) == P::RANGE;
        if (has_in && after_operand()) {
            expected(range ? "`:`" : "`..`").help("a reduction is written `sum (j in 0..n: expression)`");
            return true;
        }
    }
    if (type() == P::RANGE && type_before() == P::LBRACKET) {
        expected("an index").help("an access has one index for each dimension: `x[b, h, q, k]`");
        return true;
    }
    if (type() == P::IN && after_operand() && (rule() != P::RuleSuffix || open == kNone || before_ != open + 1)) {
        // `k in [0, 1]`, `k in range(0, 4)`
        const std::string_view name = is_name(type_before()) ? t_.text(before_) : std::string_view("x");
        expected("an operator")
            .help(fmt::format("a range is asked for by comparisons, `0 <= {0} < 4`, a set by `{0} == 0 or {0} == 2`", name));
        return true;
    }
    if (type() == P::IN || type() == P::RANGE) {
        expected(after_operand() ? "an operator" : "an expression").help("a reduction is written `sum (j in 0..n: expression)`");
        return true;
    }
    if (open == kNone || t_.type(open) != P::LBRACKET) return false;
    if ((type() == P::COLON || type_before() == P::COLON) && inside(P::RuleType)) {
        expected("an extent").help("a tensor names its extents: `f32[H]`, `i32[N + 1]`; a name of its own is bound by the array given");
        return true;
    }
    if (type() == P::COLON || type_before() == P::COLON) {
        expected("`,` or `]`").help("`:` stands alone, for a whole row: `dot(x[b, h, q, :], y[b, hkv, k, :])`");
        return true;
    }
    return false;
}

bool Explainer::misspelled() {
    if (!after_operand() || !is_name(type())) return false;
    std::vector<std::string> candidates{"and", "or"};
    if (rule() == P::RuleConditional) candidates = {"and", "or", "then", "else"};
    if (t_.text(at_) == "not") return false;
    const std::string near = diag::nearest(t_.text(at_), candidates);
    if (near.empty()) return false;
    sink_.report(Kind::misspelled_word, t_.span(at_), t_.text(at_)).fix(t_.span(at_), near, fmt::format("did you mean `{}`?", near));
    return true;
}

void Explainer::unbraced_let(Diagnostic& d) {
    d.help("a `let` in a body stands in braces: `{ let x = 1; x }`");
    if (inside(P::RuleAttentionDecl)) return;
    resume_ = at_;
    while (t_.type(resume_) != P::EOF && !starts_declaration(t_, resume_)) ++resume_;
}

bool Explainer::generic() {
    if (rule() == P::RuleType || rule() == P::RuleTypeName) {
        expected(after_operand() ? "`,` or `]`" : "a type").help("the types are `f32 i32 bool`, `mask`, and tensors such as `f32[H]`");
        return true;
    }
    if (!after_operand()) {
        auto& d = sink_.report(Kind::expected_expression, t_.span(at_), found(at_));
        if (type() == P::NOT)
            d.help("`not` binds looser than a comparison: put `(not x)` in parentheses");
        else if (type() == P::IF)
            d.help("put `(if c then a else b)` in parentheses");
        else if (type() == P::LBRACE)
            d.help("put the block in parentheses: `({ let x = 1; x })`");
        else if ((type() == P::RBRACKET || type() == P::STAR) && type_before() == P::LBRACKET && inside(P::RuleType))
            d.help("a tensor names its extents: `f32[H]`, `i32[N + 1]`; a name of its own is bound by the array given");
        else if (type() == P::LBRACKET)
            d.help("there are no lists: several numbers are a tensor, given at launch; several conditions are joined by `and` and `or`");
        else if (type() == P::MASK)
            d.help("`mask` is a clause; a mask is called by its name, as in `causal()`");
        else if (type() == P::BAR)
            d.help("an absolute value is `abs(x)`");
        else if (type() == P::ASSIGN && type_before() == P::RANGE)
            d.help("a range is written `lo..hi`, and `hi` is not in it");
        else if (type() == P::LET)
            unbraced_let(d);
        else if (type() == P::RBRACKET && type_before() == P::LBRACKET)
            d.help("an access has one index for each dimension: `x[b, h]`");
        else if (type() == P::RBRACE && inside(P::RuleBlock))
            d.help("a block ends with an expression, without `;`: `{ let x = 1; x }`");
        else if (type() == P::PLUS)
            d.help("there is no sign `+`; leave it out");
        else if (type() == P::DOT && type_before() == P::RANGE)
            d.fix(t_.span(at_), "", "a range is written `lo..hi`, and `hi` is not in it");
        return true;
    }
    const size_t open = open_.empty() ? kNone : open_.back();
    const size_t kind = open == kNone ? kNone : t_.type(open);
    if (kind == P::LPAREN || kind == P::LBRACKET) {
        const bool tuple = type() == P::COMMA;
        auto& d = expected(tuple ? fmt::format("`{}`", closer(kind)) : fmt::format("`,` or `{}`", closer(kind)));
        d.note("in this bracket", t_.span(open));
        if (tuple && kind == P::LPAREN && open > 0 && t_.type(open - 1) == P::IF)
            d.help("write `if c then a else b`, or `select(c, a, b)`");
        else if (tuple && kind == P::LPAREN && open > 0 && t_.type(open - 1) == P::LBRACKET)
            d.help("the indices stand in the brackets without parentheses: `x[b, h]`");
        else if (tuple)
            d.help("there are no tuples, and functions have names: `mask = q >= k;`, or `mask name() = condition;` outside");
        if (kind == P::LPAREN && type() == P::COLON && is_name(type_before()) &&
            (t_.type(before_ - 1) == P::LPAREN || t_.type(before_ - 1) == P::COMMA))
            d.fix(t_.span(at_), " =", "an argument is named with `=`: `f(n = 1)`");
    } else if (rule() == P::RuleBlock || (kind == P::LBRACE && type() == P::SEMI)) {
        auto& d = expected("`}`");
        if (type() == P::SEMI) d.fix(t_.span(at_), "", "the last expression of a block has no `;`");
    } else {
        auto& d = expected(rule() == P::RuleBody || rule() == P::RuleImportDecl ? "`;` or an operator" : "an operator");
        const size_t next = t_.type(at_ + 1);
        if (type() == P::COMMA && open != kNone && inside(P::RuleAttentionDecl) &&
            (next == P::LET || next == P::RBRACE || t_.type(at_ + 2) == P::ASSIGN)) {
            d.fix(t_.span(at_), ";", "a clause ends with `;`");
            resume_ = at_ + 1;
        } else if (type() == P::COMMA && type_before() == P::INT && next == P::INT && t_[at_].end == t_[at_ + 1].begin) {
            d.fix(t_.span(at_), "_", "digits are grouped by `_`: `1_000`");
        } else if (const bool mask =
                       t_.type(starts_.back()) == P::MASK || (rules_.size() > 2 && t_.type(starts_[rules_.size() - 3]) == P::MASK);
                   type() == P::COMMA && mask) {
            d.fix(t_.span(at_), " and", "conditions are joined by `and`");
        } else if (type_before() == P::RPAREN && before_ > 2 && t_.type(before_ - 2) == P::LPAREN &&
                   (is_name(type()) || type() == P::SCORE) && !type_for(t_.text(before_ - 1)).empty()) {
            const std::string_view ours = type_for(t_.text(before_ - 1));
            d.help(fmt::format("a conversion is written `{}({})`", ours.starts_with('f') || ours == "bf16" ? "f32" : "i32", t_.text(at_)));
        } else if ((type_before() == P::INT || type_before() == P::FLOAT) && (is_name(type()) || type() == P::SCORE))
            d.fix(t_.after(before_), " *", "a product is written with `*`");
        else if (type() == P::NOT)
            d.help("negate the whole condition: `not (a == b)`");
    }
    return true;
}

}  // namespace flexc::frontend
