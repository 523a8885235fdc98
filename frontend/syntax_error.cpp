// The mistakes are tried from the most telling to the least; the first that applies is reported. Only the tokens around the
// place, the brackets open there and the rules being read are looked at, so the cost of an error is linear in its declaration.
#include "frontend/syntax_error.h"

#include "frontend/syntax_explainer.h"

namespace flexc::frontend {

size_t Explainer::run() {
    (void)((lexical() && further_signs()) || comment() || imported() || dotted() || words() || end_of_input() || declaration_head() ||
           top_level() || item_start() || conditional() || parameter() || brackets() || missing_semicolon() || equals() ||
           clause_values() || colons() || misspelled() || generic());
    return resume_;
}

std::string Explainer::found(size_t i) const {
    const size_t type = t_.type(i);
    if (type == P::EOF) return "the end of the file";
    if (is_keyword(type) && type != P::TRUE && type != P::FALSE) return "the keyword " + quoted(i);
    return quoted(i);
}

void Explainer::resume_on_next_line() {
    resume_ = at_ + 1;
    while (resume_ + 1 < t_.size() && t_.same_line(at_, resume_)) ++resume_;
}

bool Explainer::lexical() {
    const std::string_view text = t_.text(at_);
    switch (type()) {
        case P::UNKNOWN: {
            const std::string_view ascii = ascii_for(text);
            if (ascii == "\"" || ascii == "'") {
                string();
                return true;
            }
            auto& d = sink_.report(Kind::unknown_character, t_.span(at_), describe_character(text));
            if (!ascii.empty())
                d.fix(t_.span(at_), std::string(ascii), ascii == " " ? "write an ordinary space" : fmt::format("write `{}`", ascii));
            else if (text == "$" || text == "`")
                d.help("names are made of letters, digits and `_`");
            else if (text == "\\")
                d.help("an expression may go on over lines without a sign");
            else if (text == "²" || text == "³")
                d.help(text == "²" ? "a square is written `x * x`" : "a cube is written `x * x * x`");
            else if (static_cast<unsigned char>(text[0]) >= 0x80)
                d.help("names are made of ASCII letters, digits and `_`");
            return true;
        }
        case P::BAD_NUMBER: {
            auto& d = sink_.report(Kind::bad_number, t_.span(at_), shortened(text));
            if (const std::string plain = repaired_number(text); !plain.empty())
                d.fix(t_.span(at_), plain, fmt::format("write `{}`: numbers have no suffix and are decimal or `0x`", shortened(plain)));
            else if (rule() == P::RuleName || rule() == P::RuleDeclaredName)
                d.help("a name begins with a letter or `_`");
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
            if (assignment(d)) return true;
            if (replacement.empty())
                d.help(std::string(help));
            else
                d.fix(t_.span(at_), std::string(replacement), std::string(help));
            return true;
        }
        default: return false;
    }
}

/// `score += x`: a clause that adds to itself, written out.
bool Explainer::assignment(Diagnostic& d) {
    const std::string_view sign = t_.text(at_);
    if (sign.size() != 2 || sign[1] != '=' || std::string_view("+-*/").find(sign[0]) == std::string_view::npos) return false;
    if (rule() != P::RuleItem || t_.type(starts_[0]) != P::SCORE || before_ != starts_[0]) return false;
    size_t last = at_ + 1;
    bool sum = false;
    for (; t_.type(last) != P::SEMI && t_.type(last) != P::RBRACE && t_.type(last) != P::EOF && t_.same_line(at_, last); ++last)
        sum = sum || t_.type(last) == P::PLUS || t_.type(last) == P::MINUS;
    if (last == at_ + 1) return false;
    const std::string_view value = t_.source.substr(t_[at_ + 1].begin, t_[last - 1].end - t_[at_ + 1].begin);
    const bool brackets = sum && sign[0] != '+';
    const std::string whole = fmt::format("= score {} {}{}{}", sign[0], brackets ? "(" : "", value, brackets ? ")" : "");
    d.fix(t_.span(at_).to(t_.span(last - 1)), whole,
          fmt::format("values never change, a clause gives the new one: `score {};`", shortened(whole)));
    return true;
}

/// The other foreign signs of the statement, so that they need not be found one by one.
bool Explainer::further_signs() {
    for (size_t i = at_ + 1; t_.type(i) != P::SEMI && t_.type(i) != P::EOF && t_.type(i) != P::LBRACE && t_.type(i) != P::RBRACE; ++i) {
        if (starts_declaration(t_, i)) break;
        const std::string_view text = t_.text(i);
        if (t_.type(i) == P::FOREIGN) {
            if (const auto [help, replacement] = help_for_operator(text); !replacement.empty())
                sink_.report(Kind::foreign_operator, t_.span(i), text).fix(t_.span(i), std::string(replacement), std::string(help));
        } else if (t_.type(i) == P::UNKNOWN) {
            if (const std::string_view ascii = ascii_for(text); !ascii.empty() && ascii != " " && ascii != "\"" && ascii != "'")
                sink_.report(Kind::unknown_character, t_.span(i), describe_character(text))
                    .fix(t_.span(i), std::string(ascii), fmt::format("write `{}`", ascii));
        }
    }
    return true;
}

void Explainer::string() {
    const std::string_view text = t_.text(at_);
    auto& d = sink_.report(Kind::unexpected_string, t_.span(at_));
    const std::string_view inner = text.size() > 2 ? text.substr(1, text.size() - 2) : std::string_view();
    const bool name =
        !inner.empty() && std::isdigit(static_cast<unsigned char>(inner[0])) == 0 &&
        std::all_of(inner.begin(), inner.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
    if (type() == P::STRING && t_.type(at_ + 1) == P::STRING && t_[at_ + 1].begin == t_[at_].end) {
        d.help("a comment starts with `#`; a doc comment, `## text`, stands above its declaration");
    } else if (rule() == P::RuleNormalization || rule() == P::RuleName || rule() == P::RuleDeclaredName) {
        if (name)
            d.fix(t_.span(at_), std::string(inner), fmt::format("names stand without quotes: `{}`", shortened(inner)));
        else
            d.help("names stand without quotes, and are made of letters, digits and `_`");
    } else if (inside(P::RuleType)) {
        d.help("extents stand without quotes: `f32[H, N]`");
    } else if (rule() == P::RuleParameter || type_before() == P::EQ || type_before() == P::NE || t_.type(at_ + 1) == P::EQ ||
               t_.type(at_ + 1) == P::NE) {
        d.help("a choice is a number or a `bool`: declare `mode: i32` or `causal: bool`, and write `if causal then ... else ...`");
    } else if (text.find("inf") != std::string_view::npos && type_before() == P::LPAREN) {
        const bool negative = text.find('-') != std::string_view::npos;
        d.help(negative ? "infinity is written `inf`: here `-inf`" : "infinity is written `inf`");
    } else {
        d.help("only `import \"file.flex\";` takes one; a comment starts with `#`");
    }
}

bool Explainer::comment() {
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

bool Explainer::dotted() {
    size_t dot = type() == P::DOT ? at_ : type_before() == P::DOT ? before_ : kNone;
    if (dot == kNone || dot == 0 || !(is_name(t_.type(dot - 1)) || ends_operand(t_.type(dot - 1))) || t_.type(dot - 1) == P::INT)
        return false;
    if (!is_name(t_.type(dot + 1)) && !is_keyword(t_.type(dot + 1))) return false;
    size_t first = dot - 1, last = dot + 1;
    while (t_.type(last + 1) == P::DOT && is_name(t_.type(last + 2))) last += 2;
    if (!is_name(t_.type(first))) first = dot;  // `f(x).y`
    const Span span = t_.span(first).to(t_.span(last));
    const std::string_view text = t_.source.substr(span.begin, span.end - span.begin);
    auto& d = sink_.report(Kind::dotted_name, span, shortened(text));
    if (inside(P::RuleType) || rule() == P::RuleParameters) {
        const std::string_view ours = type_for(t_.text(last));
        if (ours.empty())
            d.help("a captured tensor is written with its extents: `f32[H, N]`");
        else
            d.fix(span, std::string(ours), fmt::format("write `{}`", ours));
        return true;
    }
    d.help(help_for_dotted(text));
    return true;
}

/// `import std.*`, `import std as s`, `import std/masks`
bool Explainer::imported() {
    if (!inside(P::RuleImportDecl) || t_.type(starts_.back()) != P::IMPORT || !after_operand()) return false;
    if (starts_.back() + 1 != before_ || t_.text(before_) != "std" || !t_.same_line(before_, at_)) return false;
    expected("`;`").help("write `import std;`: it brings all of its masks, scores and functions, by their plain names");
    return true;
}

bool Explainer::words() {
    for (const size_t i : {before_, at_}) {
        if (i == kNone || i < starts_.back() || t_.type(i) != P::NAME || help_for_word(t_.text(i)).empty()) continue;
        const std::string_view word = t_.text(i);
        if (i == before_ &&
            !(is_name(type()) || is_keyword(type()) || type() == P::COLON || type() == P::INT || type() == P::FLOAT || type() == P::LBRACE))
            continue;
        if (i == at_ && (t_.type(at_ + 1) == P::ASSIGN || t_.type(at_ + 1) == P::COLON)) continue;  // used as a name
        if (i == before_ && rule() == P::RuleFnDecl) continue;                                      // a type
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

bool Explainer::end_of_input() {
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

bool Explainer::semicolon() {
    const Span place = t_.after(before_);
    sink_.report(Kind::missing_semicolon, place).fix(place, ";", "every statement ends with `;`");
    resume_ = at_;
    return true;
}

bool Explainer::declaration_head() {
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
        const std::string type(type_of_literal(at_ + 1));
        auto& d = sink_.report(Kind::missing_type, t_.span(before_), "the constant", t_.text(before_));
        if (type.empty())
            d.help("write `: i32`, `: f32` or `: bool` behind the name");
        else
            d.fix(t_.after(before_), ": " + type, fmt::format("write `: {}` behind the name", type));
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
        size_t last = at_;  // of `sliding-window`
        while (t_.type(last) == P::MINUS && is_name(t_.type(last + 1)) && t_[last].end == t_[last + 1].begin) last += 2;
        if (type() == P::ASSIGN && t_.type(at_ + 1) == P::LBRACE) {
            d.fix(t_.span(at_), "", "leave out the `=`");
        } else if (type() == P::ARROW) {
            d.help("an attention has clauses in braces and no result type: `attention name() { mask = causal(); }`");
        } else if (is_name(type()) && t_.type(at_ + 1) == P::COLON) {
            d.help("parameters stand in parentheses: `attention name(window: i32) { ... }`");
        } else if (last > at_) {
            std::string name(t_.text(before_));
            for (size_t i = at_ + 1; i < last; i += 2) name += "_" + std::string(t_.text(i));
            d.fix(t_.span(before_).to(t_.span(last - 1)), name, fmt::format("a name has no `-`: write `{}`", shortened(name)));
        } else
            d.help("the clauses of an attention stand in braces: `attention name() { mask = causal(); }`");
        return true;
    }
    return false;
}

bool Explainer::top_level() {
    const size_t head = starts_.back();
    const bool bare = before_ == head && type() == P::ASSIGN && (t_.type(head) == P::SCORE || t_.type(head) == P::MASK);
    if (!bare && !at_declaration_start()) return false;
    const bool clause = is_clause_word(type()) && (t_.type(at_ + 1) == P::ASSIGN || type() == P::NORMALIZE || type() == P::EMIT);
    if (bare || clause || type() == P::LET) {
        auto& d = sink_.report(Kind::clause_outside, t_.span(head), t_.text(head));
        if (type() == P::LET)
            d.help(fmt::format("outside of bodies a value is named by `const`: write `{}`",
                               is_name(t_.type(at_ + 1)) ? constant(at_ + 1) : "const NAME: i32 = 1;"));
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
    } else if (is_name(type()) && t_.type(at_ + 1) == P::ASSIGN) {
        d.help(fmt::format(
            "a value that is known when compiling is a constant: `{}`; one that is given at launch is a parameter of the attention",
            constant(at_)));
    } else {
        d.help("a declaration starts with `import`, `const`, `fn`, `mask`, `score` or `attention`");
    }
    return true;
}

bool Explainer::item_start() {
    if (!at_item_start()) return false;
    const std::string name(t_.text(at_));
    if (is_name(type()) && t_.type(at_ + 1) == P::ASSIGN) {
        if (const std::string_view help = help_for_option(name); !help.empty()) {
            sink_.report(Kind::unknown_clause, t_.span(at_), name).help(std::string(help));
            return true;
        }
        static const std::vector<std::string> kClauses{"scale", "score", "mask", "normalize", "sink", "blocks", "query", "key", "output"};
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
    if (type() == P::CONST && is_name(t_.type(at_ + 1))) {
        auto& d = expected("a clause or `let`");
        const size_t named = is_name(t_.type(at_ + 2)) ? at_ + 2 : at_ + 1;
        if (t_.type(at_ + 2) == P::ASSIGN)
            d.fix(t_.span(at_), "let", "inside of an attention a value is named by `let`");
        else
            d.help(fmt::format("inside of an attention a value is named by `let {} = ...;`, without a type", t_.text(named)));
        return true;
    }
    auto& d = expected("a clause or `let`");
    if (type() == P::SEMI) {
        d.fix(t_.span(at_), "", "leave out the `;`");
        resume_ = at_ + 1;
    } else if (type() == P::IF) {
        d.help("an `if` is a value and stands in a clause: `score = if c then a else b;`, or `mask = c;` where it hides keys");
    } else if (type() == P::FN || type() == P::CONST || type() == P::IMPORT || type() == P::ATTENTION) {
        d.help("declare it outside of the attention");
    } else if (is_name(type()) && t_.type(at_ + 1) == P::LPAREN) {
        const std::string text = statement_text(at_);
        const std::string call = text.empty() ? name + "(...)" : text;
        d.help(fmt::format("give it to a clause: `mask = {};` or `score = {};`", call, call));
    } else if (const std::string text = statement_text(at_);
               is_name(type()) && !text.empty() && t_.type(at_ + 1) != P::COLON &&
               (t_.type(at_ + 1) > P::RANGE || t_.type(at_ + 1) == P::SEMI || is_name(t_.type(at_ + 1)))) {
        if (type() == P::SOFTMAX || type() == P::SIGMOID || type() == P::NONE)
            d.help(fmt::format("write `normalize = {};`", name));
        else if (is_name(t_.type(at_ + 1)) && t_.type(at_ + 2) == P::ASSIGN)
            d.fix(t_.span(at_), "let",
                  fmt::format("a value is named by `let {} = ...;`, and its type follows from the value", t_.text(at_ + 1)));
        else if (t_.type(at_ + 1) == P::SEMI)
            d.help(
                fmt::format("a mask is called and given to a clause: `mask = {}();`; the clauses are `scale score mask normalize sink "
                            "blocks query key output emit`",
                            name));
        else
            d.help(fmt::format("give it to a clause: `mask = {};`, `score = ...;`", text));
    } else {
        d.help("the clauses are `scale score mask normalize sink blocks query key output emit`");
    }
    return true;
}

bool Explainer::parameter() {
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
            auto& d = sink_.report(Kind::reserved_name, t_.span(at_), t_.text(at_), what);
            if (parent == P::RuleLet && inside(P::RuleAttentionDecl) && is_clause_word(type()) && before_ != kNone)
                d.fix(Span{t_.file, t_[before_].begin, t_[at_].begin}, "",
                      fmt::format("the clause is written without `let`: `{} = ...;`", t_.text(at_)));
            else
                d.help("it is a word of the language; choose another name");
            return true;
        }
        if (parent == P::RuleItem)
            expected("the name of the output").help("write `emit entropy = mean(-log(weight));`");
        else if (parent == P::RuleAttentionDecl)
            expected("a name").help("an attention has a name: `attention name(window: i32) { ... }`");
        else if (parent == P::RuleImportDecl)
            expected("`std` or a path").help("write `import std;`, or `import \"masks.flex\";`");
        else if (parent == P::RuleLet && type() == P::LPAREN)
            expected("a name").help("there are no tuples: each value has a `let` of its own");
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
    if (rule() == P::RuleParameter && (is_name(type_before()) || type_before() == P::SCORE) &&
        (type() == P::COMMA || type() == P::RPAREN || type() == P::ASSIGN)) {
        untyped_parameter();
        return true;
    }
    if (rule() == P::RuleParameter && is_name(type_before()) && (is_name(type()) || type() == P::LBRACKET || type() == P::STAR)) {
        // `int window`, `f32[H] slope`, `float* slope`
        size_t name = at_;
        while (name + 1 < t_.size() && (t_.type(name) != P::NAME || t_.type(name - 1) == P::LBRACKET || t_.type(name - 1) == P::COMMA) &&
               t_.type(name) != P::RPAREN && t_.type(name) != P::COLON)
            ++name;
        auto& d = expected("`:` and a type");
        if (t_.type(name) != P::NAME)
            d.help("a parameter is written `name: type`, as in `slope: f32[H]`");
        else if (type() == P::STAR)
            d.help(fmt::format("the name comes first, and a tensor names its extents: `{}: f32[N]`", shortened(t_.text(name))));
        else
            d.help(fmt::format("the name comes first: `{}: {}`", shortened(t_.text(name)),
                               shortened(t_.source.substr(t_[before_].begin, t_[name - 1].end - t_[before_].begin))));
        return true;
    }
    if (rule() == P::RuleParameters && after_operand()) {
        auto& d = expected("`,` or `)`");
        if ((type() == P::LPAREN || type() == P::LT) && t_.type(before_ - 1) == P::COLON)
            d.help(fmt::format("the extents of a tensor stand in brackets: `{}[H]`",
                               t_.text(before_) == "Tensor" || t_.text(before_) == "tensor" ? "f32" : t_.text(before_)));
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

/// Of `b`, `q_idx` or `score` as a parameter, what a mask or a score sees anyway; of others, the forms of types.
void Explainer::untyped_parameter() {
    const std::string_view name = t_.text(before_);
    auto& d = sink_.report(Kind::missing_type, t_.span(before_), "the parameter", name);
    const size_t head = t_.type(starts_.back());
    static constexpr std::string_view kIndices[] = {"b",     "h",     "q",     "k",     "hkv",  "q_idx", "kv_idx",
                                                    "k_idx", "b_idx", "h_idx", "batch", "head", "kv",    "score"};
    const bool index = std::find(std::begin(kIndices), std::end(kIndices), name) != std::end(kIndices);
    if (index && head == P::MASK)
        d.help("a mask sees `b h q k hkv` without parameters: `mask causal() = q >= k;`");
    else if (index && head == P::SCORE)
        d.help("a score function sees `score b h q k hkv` without parameters: `score double() = 2.0 * score;`");
    else if (index && head == P::ATTENTION)
        d.help("the clauses see `score b h q k hkv` without parameters; parameters are what a launch gives besides q, k and v");
    else if (index)
        d.help("the parameters of a `fn` have types, and names of their own: `q_pos: i32`");
    else if (const std::string_view literal = type() == P::ASSIGN ? type_of_literal(at_ + 1) : std::string_view(); !literal.empty())
        d.fix(t_.after(before_), fmt::format(": {}", literal), fmt::format("write `{}: {}`", name, literal));
    else if (head == P::MASK || head == P::SCORE)
        d.help(fmt::format("write `{0}: i32`, `{0}: f32[H]`, `{0}: mask`...", name));
    else
        d.help(fmt::format("write `{0}: i32`, `{0}: f32`, `{0}: f32[H]`...", name));
}

/// `f32`, `i32` or `bool` if a literal stands there, else nothing.
std::string_view Explainer::type_of_literal(size_t i) const {
    if (t_.type(i) == P::MINUS) ++i;
    switch (t_.type(i)) {
        case P::INT: return t_.type(i + 1) == P::DOT ? "f32" : "i32";
        case P::FLOAT: return "f32";
        case P::TRUE:
        case P::FALSE: return "bool";
        default: return {};
    }
}

/// The declaration of the constant that is given a value there: `W = 128`.
std::string Explainer::constant(size_t name) const {
    const std::string_view type = t_.type(name + 1) == P::ASSIGN ? type_of_literal(name + 2) : std::string_view();
    std::string value = type.empty() ? std::string() : statement_text(name + 2);
    return fmt::format("const {}: {} = {};", shortened(t_.text(name)), type.empty() ? "i32" : type, value.empty() ? "..." : value);
}

/// What stands from there to the end of the statement or line; nothing if it is long.
std::string Explainer::statement_text(size_t from) const {
    size_t last = from;
    while (t_.type(last) != P::SEMI && t_.type(last) != P::LBRACE && t_.type(last) != P::RBRACE && t_.type(last) != P::EOF &&
           t_.same_line(from, last))
        ++last;
    if (last == from) return {};
    const std::string_view text = t_.source.substr(t_[from].begin, t_[last - 1].end - t_[from].begin);
    return text.size() > 60 || text.find('#') != std::string_view::npos ? std::string() : std::string(text);
}

size_t explain_syntax_error(const SyntaxError& error, diag::Sink& sink) {
    return Explainer(error, sink).run();
}

}  // namespace flexc::frontend
