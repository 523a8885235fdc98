// The mistakes are tried from the most telling to the least; the first that applies is reported. Only the tokens around the
// place, the brackets open there and the rules being read are looked at, so the cost of an error is linear in its declaration.
#include "frontend/syntax_error.h"

#include <algorithm>

#include "FlexParser.h"
#include "frontend/error_strategy.h"
#include "frontend/syntax_words.h"

namespace flexc::frontend {

namespace {

using diag::Diagnostic;
using diag::Kind;
using diag::Span;
using P = FlexParser;

constexpr size_t kNone = SIZE_MAX;

bool is_name(size_t type) {
    return type == P::NAME || (type >= P::SCALE && type <= P::NONE);
}

bool is_keyword(size_t type) {
    return type >= P::IMPORT && type <= P::FALSE;
}

bool is_clause_word(size_t type) {
    return (type >= P::SCALE && type <= P::EMIT) || type == P::SCORE || type == P::MASK;
}

bool ends_operand(size_t type) {
    return is_name(type) || type == P::SCORE || type == P::MASK || type == P::INT || type == P::FLOAT || type == P::TRUE ||
           type == P::FALSE || type == P::RPAREN || type == P::RBRACKET || type == P::RBRACE || type == P::DOT;
}

std::string_view closer(size_t open) {
    return open == P::LPAREN ? ")" : open == P::LBRACKET ? "]" : "}";
}

class Explainer {
public:
    Explainer(const SyntaxError& error, diag::Sink& sink)
        : t_(error.tokens), at_(error.at), before_(at_ == 0 ? kNone : at_ - 1), rules_(error.rules), starts_(error.starts), sink_(sink) {
        for (size_t i = starts_.back(); i < at_; ++i) {
            const size_t type = t_.type(i);
            // An earlier statement may have left brackets open.
            if (type == P::SEMI || type == P::RBRACE)
                while (!open_.empty() && t_.type(open_.back()) != P::LBRACE) open_.pop_back();
            if (type == P::LPAREN || type == P::LBRACKET || type == P::LBRACE) open_.push_back(i);
            if ((type == P::RPAREN || type == P::RBRACKET || type == P::RBRACE) && !open_.empty()) open_.pop_back();
        }
    }

    size_t run() {
        (void)(lexical() || comment() || dotted() || words() || end_of_input() || declaration_head() || top_level() || item_start() ||
               conditional() || parameter() || brackets() || missing_semicolon() || equals() || clause_values() || colons() ||
               misspelled() || generic());
        return resume_;
    }

private:
    size_t type() const { return t_.type(at_); }
    size_t type_before() const { return before_ == kNone ? SIZE_MAX : t_.type(before_); }
    bool after_operand() const { return before_ != kNone && ends_operand(type_before()); }
    size_t rule() const { return rules_[0]; }
    bool inside(size_t r) const { return std::find(rules_.begin(), rules_.end(), r) != rules_.end(); }
    std::string quoted(size_t i) const { return fmt::format("`{}`", shortened(t_.text(i))); }

    static std::string shortened(std::string_view text) {
        constexpr size_t kLongest = 40;
        if (text.size() <= kLongest) return std::string(text);
        size_t end = kLongest;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
        return std::string(text.substr(0, end)) + "...";
    }

    std::string found(size_t i) const {
        const size_t type = t_.type(i);
        if (type == P::EOF) return "the end of the file";
        if (is_keyword(type) && type != P::TRUE && type != P::FALSE) return "the keyword " + quoted(i);
        return quoted(i);
    }

    Diagnostic& expected(std::string_view what) { return sink_.report(Kind::expected_token, t_.span(at_), what, found(at_)); }

    /// The bracket that is open in the present statement, or kNone; a brace opens a new statement.
    size_t open_in_statement() const { return open_.empty() || t_.type(open_.back()) == P::LBRACE ? kNone : open_.back(); }

    bool at_declaration_start() const { return rule() == P::RuleDeclaration && starts_[0] == at_; }
    bool at_item_start() const { return rule() == P::RuleItem && starts_[0] == at_; }

    void resume_on_next_line() {
        resume_ = at_ + 1;
        while (resume_ + 1 < t_.size() && t_.same_line(at_, resume_)) ++resume_;
    }

    bool lexical() {
        const std::string_view text = t_.text(at_);
        switch (type()) {
            case P::UNKNOWN: {
                auto& d = sink_.report(Kind::unknown_character, t_.span(at_), describe_character(text));
                if (const std::string_view ascii = ascii_for(text); !ascii.empty())
                    d.fix(t_.span(at_), std::string(ascii), ascii == " " ? "write an ordinary space" : fmt::format("write `{}`", ascii));
                else if (text == "$" || text == "`")
                    d.help("names are made of letters, digits and `_`");
                else if (text == "\\")
                    d.help("an expression may go on over lines without a sign");
                else if (static_cast<unsigned char>(text[0]) >= 0x80)
                    d.help("names are made of ASCII letters, digits and `_`");
                return true;
            }
            case P::BAD_NUMBER: {
                auto& d = sink_.report(Kind::bad_number, t_.span(at_), shortened(text));
                if (const std::string plain = repaired_number(text); !plain.empty())
                    d.fix(t_.span(at_), plain, fmt::format("write `{}`: numbers have no suffix and are decimal or `0x`", shortened(plain)));
                else
                    d.help("numbers look like `12`, `1_000`, `0xff`, `1.5`, `1e30`");
                return true;
            }
            case P::STRING:
            case P::UNTERMINATED_STRING:
            case P::SINGLE_QUOTED:
                if (inside(P::RuleImportDecl))
                    expected("`std` or a path in double quotes on one line").help("write `import \"masks.flex\";`");
                else
                    string();
                return true;
            case P::FOREIGN: {
                auto [help, replacement] = help_for_operator(text);
                if (text == "@" && at_declaration_start()) help = "there are no decorators; a doc comment is written `## text`";
                auto& d = sink_.report(Kind::foreign_operator, t_.span(at_), text);
                if (replacement.empty())
                    d.help(std::string(help));
                else
                    d.fix(t_.span(at_), std::string(replacement), std::string(help));
                return true;
            }
            default: return false;
        }
    }

    /// Strings have no use; `float("-inf")` means a number.
    void string() {
        const std::string_view text = t_.text(at_);
        auto& d = sink_.report(Kind::unexpected_string, t_.span(at_));
        if (text.find("inf") != std::string_view::npos && type_before() == P::LPAREN) {
            const bool negative = text.find('-') != std::string_view::npos;
            d.help(negative ? "infinity is written `inf`: here `-inf`" : "infinity is written `inf`");
        } else {
            d.help("only `import \"file.flex\";` takes one; a comment starts with `#`");
        }
    }

    bool comment() {
        static constexpr const char* kHelp = "a comment starts with `#`, also behind a statement";
        if (type() == P::C_COMMENT) {
            const size_t close = t_.source.find("*/", t_[at_].end);
            sink_.report(Kind::wrong_comment, t_.span(at_), "/*").help("a comment starts with `#`, on each of its lines");
            if (!at_item_start() && !at_declaration_start()) return true;
            resume_ = at_ + 1;
            while (resume_ + 1 < t_.size() && (close == std::string_view::npos || t_[resume_].begin < close + 2)) ++resume_;
            return true;
        }
        if (type() == P::FLOORDIV &&
            !(after_operand() && rule() != P::RuleItem && rule() != P::RuleDeclaration && rule() != P::RuleAttentionDecl)) {
            sink_.report(Kind::wrong_comment, t_.span(at_), "//").help(kHelp);
            if (at_item_start() || at_declaration_start() || rule() == P::RuleAttentionDecl) resume_on_next_line();
            return true;
        }
        // `score = a; // a remark` is above; here `score = a // a remark`, where the remark was read as a divisor.
        if (!after_operand() || !(is_name(type()) || is_keyword(type()) || type() == P::INT)) return false;
        for (size_t i = at_; i-- > starts_.back() && t_.same_line(i, at_);)
            if (t_.type(i) == P::FLOORDIV) {
                sink_.report(Kind::wrong_comment, t_.span(i), "//").help(std::string(kHelp) + "; `//` is floor division");
                return true;
            }
        return false;
    }

    bool dotted() {
        size_t dot = type() == P::DOT ? at_ : type_before() == P::DOT ? before_ : kNone;
        if (dot == kNone || dot == 0 || !(is_name(t_.type(dot - 1)) || ends_operand(t_.type(dot - 1))) || t_.type(dot - 1) == P::INT)
            return false;
        if (!is_name(t_.type(dot + 1)) && !is_keyword(t_.type(dot + 1))) return false;
        size_t first = dot - 1, last = dot + 1;
        while (t_.type(last + 1) == P::DOT && is_name(t_.type(last + 2))) last += 2;
        if (!is_name(t_.type(first))) first = dot;  // `f(x).y`
        const Span span = t_.span(first).to(t_.span(last));
        const std::string_view text = t_.source.substr(span.begin, span.end - span.begin);
        sink_.report(Kind::dotted_name, span, shortened(text)).help(help_for_dotted(text));
        return true;
    }

    /// `lambda`, `def`, `return`...: the word itself, or what follows it where it could have been a name.
    bool words() {
        for (const size_t i : {before_, at_}) {
            if (i == kNone || i < starts_.back() || t_.type(i) != P::NAME || help_for_word(t_.text(i)).empty()) continue;
            const std::string_view word = t_.text(i);
            if (i == before_ && !(is_name(type()) || is_keyword(type()) || type() == P::COLON || type() == P::INT || type() == P::FLOAT ||
                                  type() == P::LBRACE))
                continue;
            if (i == at_ && (t_.type(at_ + 1) == P::ASSIGN || t_.type(at_ + 1) == P::COLON)) continue;  // used as a name
            if (i == before_ && (inside(P::RuleParameter) || rule() == P::RuleDeclaration)) continue;
            auto& d = sink_.report(Kind::foreign_word, t_.span(i), word);
            const std::string help(help_for_word(word));
            if (word.starts_with("el"))
                d.fix(t_.span(i), "else if", help);
            else
                d.help(help);
            return true;
        }
        return false;
    }

    bool end_of_input() {
        const bool next_declaration = starts_declaration(t_, at_) && !at_declaration_start();
        if (type() != P::EOF && !next_declaration) return false;
        if (next_declaration) resume_ = at_;
        if (!open_.empty()) {
            const size_t bracket = open_.back();
            auto& d = sink_.report(Kind::unclosed_bracket, t_.span(bracket), t_.text(bracket));
            if (next_declaration) d.note("the next declaration starts before it", t_.span(at_));
            return true;
        }
        if (after_operand() && (rule() == P::RuleBody || rule() == P::RuleImportDecl)) return semicolon();
        if (at_declaration_start()) return false;
        if (next_declaration) return false;
        sink_.report(Kind::expected_token, t_.after(before_), "the rest of this declaration", found(at_));
        return true;
    }

    bool semicolon() {
        const Span place = t_.after(before_);
        sink_.report(Kind::missing_semicolon, place).fix(place, ";", "every statement ends with `;`");
        resume_ = at_;
        return true;
    }

    bool declaration_head() {
        const size_t kind = rules_.size() >= 2 ? rules_[rules_.size() - 2] : kNone;
        const size_t head = starts_.back();
        if (rule() == P::RuleName || rule() == P::RuleDeclaredName || rule() == P::RuleItem) return false;
        if ((kind == P::RuleScoreDecl || kind == P::RuleMaskDecl) && type() == P::ASSIGN && before_ == head) return false;  // top_level
        if (rule() == P::RuleParameters && starts_[0] == at_) {
            auto& d = expected("`(`");
            if (type() == P::ASSIGN || type() == P::ARROW)
                d.fix(t_.after(before_), "()", "parameters are written also where there are none: `()`");
            else
                d.help("parameters stand in parentheses: `mask band(width: i32) = ...;`");
            return true;
        }
        if (rule() == P::RuleConstDecl && type() == P::ASSIGN && is_name(type_before())) {
            sink_.report(Kind::missing_type, t_.span(before_), "the constant", t_.text(before_))
                .fix(t_.after(before_), ": i32", "write `: i32`, `: f32` or `: bool` behind the name");
            return true;
        }
        if (rule() == P::RuleFnDecl && type_before() == P::RPAREN) {
            auto& d = expected("`->` and the type of the result");
            if (type() == P::COLON)
                d.fix(t_.span(at_), " ->", "write `->` for `:`");
            else
                d.help("a function names its result: `fn twice(x: f32) -> f32 = 2 * x;`");
            return true;
        }
        if ((rule() == P::RuleMaskDecl || rule() == P::RuleScoreDecl) && (type() == P::ARROW || type() == P::COLON)) {
            expected("`=`").help(rule() == P::RuleMaskDecl ? "a mask is always `bool`, and names no type"
                                                           : "a score is always `f32`, and names no type");
            return true;
        }
        if (rule() == P::RuleMaskDecl || rule() == P::RuleScoreDecl || rule() == P::RuleFnDecl || rule() == P::RuleConstDecl) {
            if (type() == P::EQ) return false;
            auto& d = expected("`=`");
            if (type() == P::LBRACE)
                d.fix(t_.after(before_), " =", "a body follows `=`: `= { let x = 1; x };`");
            else
                d.help("a body follows `=`");
            return true;
        }
        if (rule() == P::RuleAttentionDecl &&
            std::find_if(open_.begin(), open_.end(), [&](size_t i) { return t_.type(i) == P::LBRACE; }) == open_.end()) {
            auto& d = expected("`{`");
            if (type() == P::ASSIGN && t_.type(at_ + 1) == P::LBRACE)
                d.fix(t_.span(at_), "", "leave out the `=`");
            else
                d.help("the clauses of an attention stand in braces: `attention name() { mask = causal(); }`");
            return true;
        }
        return false;
    }

    bool top_level() {
        const size_t head = starts_.back();
        const bool bare = before_ == head && type() == P::ASSIGN && (t_.type(head) == P::SCORE || t_.type(head) == P::MASK);
        if (!bare && !at_declaration_start()) return false;
        const bool clause = is_clause_word(type()) && (t_.type(at_ + 1) == P::ASSIGN || type() == P::NORMALIZE || type() == P::EMIT);
        if (bare || clause || type() == P::LET) {
            auto& d = sink_.report(Kind::clause_outside, t_.span(head), t_.text(head));
            if (type() == P::LET)
                d.help("outside of bodies a value is named by `const NAME: i32 = 1;`");
            else
                d.help(fmt::format("clauses belong into an attention: `attention name() {{ {} = ...; }}`", t_.text(head)));
            return true;
        }
        if (type() == P::RBRACE || type() == P::RPAREN || type() == P::RBRACKET) {
            sink_.report(Kind::unmatched_bracket, t_.span(at_), t_.text(at_));
            resume_ = at_ + 1;
            return true;
        }
        auto& d = sink_.report(Kind::expected_declaration, t_.span(at_), found(at_));
        static const std::vector<std::string> kStarts{"import", "const", "fn", "mask", "score", "attention"};
        const std::string near = is_name(type()) ? diag::nearest(t_.text(at_), kStarts) : std::string();
        if (type() == P::SEMI) {
            d.fix(t_.span(at_), "", type_before() == P::RBRACE ? "an attention ends with its `}`, without `;`" : "leave out the `;`");
            resume_ = at_ + 1;
        } else if (!near.empty()) {
            d.fix(t_.span(at_), near, fmt::format("did you mean `{}`?", near));
        } else {
            d.help("a declaration starts with `import`, `const`, `fn`, `mask`, `score` or `attention`");
        }
        return true;
    }

    bool item_start() {
        if (!at_item_start()) return false;
        const std::string name(t_.text(at_));
        if (is_name(type()) && t_.type(at_ + 1) == P::ASSIGN) {
            static const std::vector<std::string> kClauses{"scale",  "score", "mask", "normalize", "sink",
                                                           "blocks", "query", "key",  "output"};
            if (const std::string_view ours = clause_for(name); !ours.empty())
                sink_.report(Kind::unknown_clause, t_.span(at_), name)
                    .fix(t_.span(at_), std::string(ours), fmt::format("the clause is called `{}`", ours));
            else if (const std::string near = diag::nearest(name, kClauses); !near.empty())
                sink_.report(Kind::unknown_clause, t_.span(at_), name)
                    .fix(t_.span(at_), near, fmt::format("did you mean `{}`? (or `let {} = ...` for a value of your own)", near, name));
            else
                sink_.report(Kind::missing_let, t_.span(at_), name)
                    .fix(Span{t_.file, t_[at_].begin, t_[at_].begin}, "let ",
                         fmt::format("write `let {} = ...`; the clauses are `scale score mask normalize sink blocks query key output emit`",
                                     name));
            return true;
        }
        if (is_name(type()) && t_.type(at_ + 1) == P::FOREIGN) {
            ++at_;
            return lexical();
        }
        auto& d = expected("a clause or `let`");
        if (type() == P::SEMI) {
            d.fix(t_.span(at_), "", "leave out the `;`");
            resume_ = at_ + 1;
        } else if (type() == P::IF) {
            d.help("an `if` is a value: `score = if c then a else b;`");
        } else if (type() == P::FN || type() == P::CONST || type() == P::IMPORT || type() == P::ATTENTION) {
            d.help("declare it outside of the attention");
        } else if (is_name(type()) && t_.type(at_ + 1) == P::LPAREN) {
            d.help(fmt::format("give it to a clause: `mask = {}(...);` or `score = {}(...);`", name, name));
        } else {
            d.help("the clauses are `scale score mask normalize sink blocks query key output emit`");
        }
        return true;
    }

    bool conditional() {
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

    bool parameter() {
        if (rule() == P::RuleName || rule() == P::RuleDeclaredName) {
            const size_t parent =
                rules_.size() > 1 ? (rule() == P::RuleName && rules_[1] == P::RuleDeclaredName ? rules_[2] : rules_[1]) : kNone;
            const char* what = parent == P::RuleLet         ? "value"
                               : parent == P::RuleParameter ? "parameter"
                               : parent == P::RuleFnDecl    ? "function"
                               : parent == P::RuleMaskDecl  ? "mask"
                               : parent == P::RuleScoreDecl ? "score"
                               : parent == P::RuleConstDecl ? "constant"
                                                            : "thing";
            if (is_keyword(type())) {
                sink_.report(Kind::reserved_name, t_.span(at_), t_.text(at_), what)
                    .help("it is a word of the language; choose another name");
                return true;
            }
            if (parent == P::RuleItem)
                expected("the name of the output").help("write `emit entropy = mean(-log(weight));`");
            else
                expected("a name");
            return true;
        }
        if (!inside(P::RuleParameters) || inside(P::RuleBody)) return false;
        if (type() == P::GRAD) {
            expected("a parameter").help("`grad` stands before the type: `slope: grad f32[H]`");
            return true;
        }
        if (type() == P::CONST) {
            expected(rule() == P::RuleType || rule() == P::RuleTypeName ? "a type" : "`,` or `)`")
                .help("`const` stands before the name: `const step: i32`");
            return true;
        }
        if (rule() == P::RuleParameter && is_name(type_before()) && (type() == P::COMMA || type() == P::RPAREN || type() == P::ASSIGN)) {
            sink_.report(Kind::missing_type, t_.span(before_), "the parameter", t_.text(before_))
                .help(fmt::format("write `{}: i32`, `{}: f32[H]`, `{}: mask`...", t_.text(before_), t_.text(before_), t_.text(before_)));
            return true;
        }
        if (rule() == P::RuleParameter && is_name(type_before()) && is_name(type())) {
            expected("`:`").help(fmt::format("the name comes first: `{}: {}`", t_.text(at_), t_.text(before_)));
            return true;
        }
        if (rule() == P::RuleParameters && after_operand()) {
            auto& d = expected("`,` or `)`");
            if (type() == P::SEMI) {
                d.fix(t_.span(at_), ",", "parameters are separated by `,`");
                size_t close = at_;
                while (t_.type(close) != P::RPAREN && t_.type(close) != P::LBRACE && t_.type(close) != P::EOF) ++close;
                if (t_.type(close) == P::RPAREN) resume_ = declaration_end(t_, starts_.back(), close);
            }
            return true;
        }
        if (rule() == P::RuleParameters && is_keyword(type()) && t_.type(at_ + 1) == P::COLON) {
            sink_.report(Kind::reserved_name, t_.span(at_), t_.text(at_), "parameter")
                .help("it is a word of the language; choose another name");
            return true;
        }
        if (rule() == P::RuleParameter || rule() == P::RuleParameters) {
            expected(after_operand() ? "`:` and a type" : "a parameter").help("a parameter is written `name: type`");
            return true;
        }
        return false;
    }

    bool brackets() {
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

    /// Whether a statement seems to begin at the offending token.
    bool statement_here() const {
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

    bool missing_semicolon() {
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

    bool equals() {
        if (type() == P::EQ && (rule() == P::RuleItem || rule() == P::RuleLet || rule() == P::RuleMaskDecl || rule() == P::RuleScoreDecl ||
                                rule() == P::RuleFnDecl || rule() == P::RuleConstDecl)) {
            sink_.report(Kind::equals_confusion, t_.span(at_), "==", "=")
                .fix(t_.span(at_), "=", "a definition is written with `=`, a comparison with `==`");
            return true;
        }
        if (type() == P::COLON && rule() == P::RuleItem) {
            sink_.report(Kind::equals_confusion, t_.span(at_), ":", "=")
                .fix(t_.span(at_), " =", "a clause is written `name = expression;`");
            return true;
        }
        if (type() == P::COLON && rule() == P::RuleLet) {
            expected("`=`").help("a `let` names no type: it follows from the value");
            return true;
        }
        if (type() != P::ASSIGN || !after_operand()) return false;
        const size_t before2 = before_ == 0 ? SIZE_MAX : t_.type(before_ - 1);
        if (is_name(type_before()) && (before2 == P::LBRACE || before2 == P::SEMI) && inside(P::RuleBlock)) {
            sink_.report(Kind::missing_let, t_.span(before_), t_.text(before_))
                .fix(Span{t_.file, t_[before_].begin, t_[before_].begin}, "let ", fmt::format("write `let {} = ...`", t_.text(before_)));
            return true;
        }
        sink_.report(Kind::equals_confusion, t_.span(at_), "=", "==").fix(t_.span(at_), "==", "a comparison is written with `==`");
        return true;
    }

    bool clause_values() {
        if (rule() == P::RuleNormalization) {
            expected("`softmax`, `sigmoid` or `none`").help("write `normalize = softmax;`");
            return true;
        }
        if (rule() == P::RuleEmission && !after_operand()) {
            expected("`mean(...)` or `column_sum(...)`")
                .help("write `emit entropy = mean(-log(weight));` or `emit map = column_sum(1.0);`");
            return true;
        }
        if (rule() == P::RuleEmission || rule() == P::RuleNormalization) return false;
        if (rule() == P::RuleItem) {
            const std::string_view word = t_.text(starts_[0]);
            if (type() != P::SEMI && (t_.type(starts_[0]) == P::EMIT || t_.type(starts_[0]) == P::NORMALIZE) && after_operand() &&
                type_before() != P::EMIT && t_.type(before_ - 1) != P::EMIT)
                expected("`;`");
            else
                expected("`=`").help(fmt::format("a clause is written `{} = ...;`", t_.type(starts_[0]) == P::EMIT ? "emit name" : word));
            return true;
        }
        return false;
    }

    bool colons() {
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
        if (type() == P::IN || type() == P::RANGE) {
            expected(after_operand() ? "an operator" : "an expression").help("a reduction is written `sum (j in 0..n: expression)`");
            return true;
        }
        if (open == kNone || t_.type(open) != P::LBRACKET) return false;
        if (type() == P::COLON || type_before() == P::COLON) {
            expected("`,` or `]`").help("`:` stands alone, for a whole row: `dot(x[b, h, q, :], y[b, hkv, k, :])`");
            return true;
        }
        return false;
    }

    bool misspelled() {
        if (!after_operand() || !is_name(type())) return false;
        std::vector<std::string> candidates{"and", "or"};
        if (rule() == P::RuleConditional) candidates = {"and", "or", "then", "else"};
        if (t_.text(at_) == "not") return false;
        const std::string near = diag::nearest(t_.text(at_), candidates);
        if (near.empty()) return false;
        sink_.report(Kind::misspelled_word, t_.span(at_), t_.text(at_)).fix(t_.span(at_), near, fmt::format("did you mean `{}`?", near));
        return true;
    }

    /// `= let x = 1; x;`: what follows up to the next declaration belongs to it.
    void unbraced_let(Diagnostic& d) {
        d.help("a `let` in a body stands in braces: `{ let x = 1; x }`");
        if (inside(P::RuleAttentionDecl)) return;
        resume_ = at_;
        while (t_.type(resume_) != P::EOF && !starts_declaration(t_, resume_)) ++resume_;
    }

    bool generic() {
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
            else if (type() == P::RBRACKET && type_before() == P::LBRACKET && inside(P::RuleType))
                d.help("a tensor names its extents: `f32[H]`, `i32[N + 1]`");
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
            if (tuple) d.help("there are no tuples, and functions have names: `mask = q >= k;`, or `mask name() = condition;` outside");
            if (kind == P::LPAREN && type() == P::COLON && is_name(type_before()) &&
                (t_.type(before_ - 1) == P::LPAREN || t_.type(before_ - 1) == P::COMMA))
                d.fix(t_.span(at_), " =", "an argument is named with `=`: `f(n = 1)`");
        } else if (rule() == P::RuleBlock || (kind == P::LBRACE && type() == P::SEMI)) {
            auto& d = expected("`}`");
            if (type() == P::SEMI) d.fix(t_.span(at_), "", "the last expression of a block has no `;`");
        } else {
            auto& d = expected(rule() == P::RuleBody || rule() == P::RuleImportDecl ? "`;` or an operator" : "an operator");
            if ((type_before() == P::INT || type_before() == P::FLOAT) && is_name(type()))
                d.fix(t_.after(before_), " *", "a product is written with `*`");
            else if (type() == P::NOT)
                d.help("negate the whole condition: `not (a == b)`");
        }
        return true;
    }

    const TokenList& t_;
    size_t at_;
    size_t before_;
    const std::vector<size_t>& rules_;
    const std::vector<size_t>& starts_;
    diag::Sink& sink_;
    std::vector<size_t> open_;  // brackets open at the place, from the start of the declaration
    size_t resume_ = 0;
};

}  // namespace

size_t explain_syntax_error(const SyntaxError& error, diag::Sink& sink) {
    return Explainer(error, sink).run();
}

}  // namespace flexc::frontend
