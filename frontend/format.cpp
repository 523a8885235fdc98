// Reads the tokens of a file without syntax errors by recursive descent and lays them out as a document.
//
// Between two tokens stands a line (a place to break), a blank, or nothing. A comment behind a token makes the next line a hard one; where
// there is none before the next token, one is put in. So each comment stays behind the token that it was behind, except that commas and
// semicolons go before it, and reading the result gives the same document again: that is why formatting is idempotent.
#include "frontend/format.h"

#include <algorithm>
#include <array>

#include "FlexLexer.h"
#include "frontend/format_writer.h"
#include "frontend/lex.h"
#include "frontend/parse.h"

namespace flexc::frontend {

namespace {

using P = FlexLexer;
using Kind = Doc::Kind;

/// The levels of binary operators, loosest first; `not` stands between 1 and 2.
constexpr size_t kComparison = 2;
constexpr size_t kLevels = 9;
constexpr std::array<std::array<size_t, 6>, kLevels> kOperators = {{{P::OR},
                                                                    {P::AND},
                                                                    {P::EQ, P::NE, P::LT, P::LE, P::GT, P::GE},
                                                                    {P::BAR},
                                                                    {P::CARET},
                                                                    {P::AMP},
                                                                    {P::SHL, P::SHR},
                                                                    {P::PLUS, P::MINUS},
                                                                    {P::STAR, P::SLASH, P::FLOORDIV, P::PERCENT}}};

/// The level of an operator, or kLevels.
size_t level_of(size_t type) {
    for (size_t level = 0; level < kLevels; ++level)
        if (type != 0 && std::find(kOperators[level].begin(), kOperators[level].end(), type) != kOperators[level].end()) return level;
    return kLevels;
}

/// How the lines of a broken chain of operators stand to its first line.
enum class Chain : uint8_t { Indented, Level };

class Layout : private FormatWriter {
public:
    using FormatWriter::FormatWriter;

    std::string run() {
        Doc* file = arena_.make(Kind::Concat);
        bool after_attention = false;
        while (type() != P::EOF) {
            const bool attention = type() == P::ATTENTION;
            if (at_ > 0) hard(file, comments_[at_].any_blank() ? first_blank() : attention || after_attention);
            declaration(file);
            after_attention = attention;
        }
        if (!comments_[at_].above.empty()) {
            if (at_ > 0) hard(file, first_blank());
            comments_above(file, true);
        }
        return print_doc(*DocArena::finish(file), kFormatWidth);
    }

private:
    // ---- declarations ----

    void declaration(Doc* to) {
        const size_t kind = type();
        token(to, true);
        space(to);
        token(to);  // the name, or the path of an import
        switch (kind) {
            case P::IMPORT: token(to); return;
            case P::CONST:
                token(to);
                space(to);
                type_ref(to);
                break;
            case P::ATTENTION:
                if (type() == P::LPAREN)
                    parameters(to);
                else
                    extra(to, "()");
                space(to);
                attention(to);
                return;
            case P::FN:
                parameters(to);
                spaced_token(to);  // ->
                type_ref(to);
                break;
            default: parameters(to); break;
        }
        space(to);
        token(to);  // =
        value_on_new_line(to);
        token_or(to, P::SEMI, ";");
    }

    void parameters(Doc* to) {
        list(to, P::RPAREN, true, [&](Doc* one) {
            if (type() == P::CONST) {
                token(one);
                space(one);
            }
            token(one);
            token(one);  // :
            space(one);
            if (type() == P::GRAD) {
                token(one);
                space(one);
            }
            type_ref(one);
            if (type() != P::ASSIGN) return;
            spaced_token(one);
            expression(one);
        });
    }

    void type_ref(Doc* to) {
        token(to);
        if (type() == P::LBRACKET) list(to, P::RBRACKET, false, [&](Doc* one) { expression(one); });
    }

    /// A bracketed list, one entry a line where it does not fit on one; a comma then follows the last, if the grammar has it.
    template <class Entry>
    void list(Doc* to, size_t closing, bool last_comma, const Entry& entry) {
        Doc* group = arena_.make(Kind::Group);
        token(group);
        if (type() == closing && here().above.empty()) {
            if (behind_) line(group, false);
            token(group);
        } else {
            Doc* inside = arena_.make(Kind::Indent);
            if (type() != closing) line(inside, false);
            while (type() != closing) {
                Doc* one = arena_.make(Kind::Concat);
                entry(one);
                add(inside, DocArena::finish(one));
                if (type() == closing) {
                    if (last_comma) {
                        Doc* comma = arena_.make(Kind::IfBroken);
                        comma->text = ",";
                        add(inside, comma);
                    }
                    break;
                }
                const bool is_last = type(1) == closing;
                if (is_last && !here().any()) {  // written anew where the list is broken
                    ++at_;
                    Doc* comma = arena_.make(Kind::IfBroken);
                    comma->text = ",";
                    add(inside, comma);
                    break;
                }
                token(inside);
                if (!is_last) line(inside, true);
            }
            comments_before_close(inside);
            add(group, DocArena::finish(inside));
            close(group);
        }
        add(to, DocArena::finish(group));
    }

    // ---- attentions ----

    /// The sign `=` of neighbouring clauses stands in one column.
    struct Clause {
        Doc* pad;
        size_t width;
    };
    void align(std::vector<Clause>& run) {
        size_t widest = 0;
        for (const Clause& c : run) widest = std::max(widest, c.width);
        static constexpr std::string_view kBlanks = "                ";
        for (const Clause& c : run) *c.pad = *arena_.text(kBlanks.substr(0, std::min(widest - c.width, kBlanks.size())));
        run.clear();
    }

    void attention(Doc* to) {
        token(to);  // {
        Doc* items = arena_.make(Kind::Indent);
        std::vector<Doc*> holders;
        std::vector<Clause> run;
        bool first = true;
        while (type() != P::RBRACE) {
            hard(items, !first && first_blank());
            const bool clause = type() != P::LET && type() != P::EMIT && type() != P::NORMALIZE;
            if (!clause || first || here().any_blank() || !here().above.empty()) align(run);
            Doc* one = arena_.make(Kind::Concat);
            item(one, clause ? &run : nullptr);
            add(items, one);
            holders.push_back(one);
            first = false;
        }
        align(run);
        for (Doc* one : holders) DocArena::finish(one);
        close_block(to, items, first);
    }

    void close_block(Doc* to, Doc* inside, bool empty) {
        const bool comments = !here().above.empty();
        if (comments) {
            hard(inside, !empty && first_blank());
            comments_above(inside, true);
            comments_[at_].above.clear();
        }
        add(to, DocArena::finish(inside));
        if (!empty || comments || behind_) hard(to);
        token(to);
    }

    void item(Doc* to, std::vector<Clause>* run) {
        const size_t kind = type();
        const size_t width = tokens_[at_].end - tokens_[at_].begin;
        if (kind == P::LET) return let(to);
        token(to, true);
        if (kind == P::NORMALIZE) {
            if (type() == P::ASSIGN && !here().any())
                ++at_;
            else if (type() == P::ASSIGN) {
                space(to);
                token(to);
            }
            space(to);
            token(to);
            token(to);
            return;
        }
        if (kind == P::EMIT) {
            space(to);
            token(to);
            spaced_token(to);  // =
            token(to);         // mean
            bracketed(to, 0, [&](Doc* inside) { value(inside, Chain::Level); });
            token(to);
            return;
        }
        if (run) {
            run->push_back({arena_.make(Kind::Text), width});
            add(to, run->back().pad);
        }
        space(to);
        token(to);  // =
        value_on_this_line(to);
        token_or(to, P::SEMI, ";");
    }

    void let(Doc* to) {
        token(to, true);
        space(to);
        token(to);
        space(to);
        token(to);  // =
        value_on_this_line(to);
        token_or(to, P::SEMI, ";");
    }

    // ---- values ----

    /// After `=`: a value that needs several lines starts on one of its own.
    void value_on_new_line(Doc* to) {
        if (type() == P::LBRACE || opens_blocks()) {
            space(to);
            value(to, Chain::Indented);
            return;
        }
        Doc* group = arena_.make(Kind::Group);
        Doc* inside = arena_.make(Kind::Indent);
        line(inside, true);
        value(inside, Chain::Indented);
        add(group, DocArena::finish(inside));
        add(to, DocArena::finish(group));
    }
    /// After `=`: its first line stands behind the sign, unless it is an `if`.
    void value_on_this_line(Doc* to) {
        if (type() == P::IF && !opens_blocks()) return value_on_new_line(to);
        space(to);
        value(to, Chain::Indented);
    }

    /// An `if` here whose first branch is a block.
    [[nodiscard]] bool opens_blocks() const {
        if (type() != P::IF) return false;
        size_t depth = 1;  // of `if`
        for (size_t i = at_ + 1; i < tokens_.size(); ++i) {
            const size_t t = tokens_.type(i);
            if (t == P::LPAREN || t == P::LBRACKET || t == P::LBRACE) {
                i = matching(i);
                continue;
            }
            depth += t == P::IF;
            if (t == P::THEN && --depth == 0) return tokens_.type(i + 1) == P::LBRACE;
            if (t == P::SEMI || t == P::EOF) return false;
        }
        return false;
    }
    /// The bracket that closes the one at `open`.
    [[nodiscard]] size_t matching(size_t open) const {
        if (closing_.empty()) {
            closing_.resize(tokens_.size());
            std::vector<size_t> stack;
            for (size_t i = 0; i < tokens_.size(); ++i) {
                const size_t t = tokens_.type(i);
                if (t == P::LPAREN || t == P::LBRACKET || t == P::LBRACE) stack.push_back(i);
                if ((t == P::RPAREN || t == P::RBRACKET || t == P::RBRACE) && !stack.empty()) {
                    closing_[stack.back()] = i;
                    stack.pop_back();
                }
            }
        }
        return closing_[open];
    }

    void value(Doc* to, Chain chain) {
        if (type() == P::LBRACE)
            block(to);
        else
            expression(to, chain);
    }

    void block(Doc* to) {
        Doc* inside = arena_.make(Kind::Indent);
        if (type(1) != P::LET) {  // a value alone
            Doc* group = arena_.make(Kind::Group);
            token(group);
            line(inside, true);
            value(inside, Chain::Level);
            comments_before_close(inside);
            add(group, DocArena::finish(inside));
            const bool comments = !here().above.empty();
            comments_[at_].above.clear();
            line(group, true);
            line_->hard |= comments;
            token(group);
            add(to, DocArena::finish(group));
            return;
        }
        token(to);
        bool first = true;
        while (type() == P::LET) {
            hard(inside, !first && first_blank());
            let(inside);
            first = false;
        }
        hard(inside, first_blank());
        if (!here().above.empty()) {
            comments_above(inside, true, false);
            comments_[at_].above.clear();
        }
        value(inside, Chain::Indented);
        close_block(to, inside, false);
    }

    void expression(Doc* to, Chain chain = Chain::Indented) {
        Doc* left = arena_.make(Kind::Concat);
        conditional(left, chain);
        if (type() != P::PIPE) {
            add(to, DocArena::finish(left));
            return;
        }
        operators(to, left, chain, [&] { return type() == P::PIPE; }, [&](Doc* right) { postfix(right); });
    }

    /// `left`, then operators and their right sides, each on a line of its own if they do not fit on one.
    template <class Is, class Operand>
    Doc* operators(Doc* to, Doc* left, Chain chain, const Is& is, const Operand& operand) {
        Doc* group = arena_.make(Kind::Group);
        add(group, DocArena::finish(left));
        Doc* rest = arena_.make(chain == Chain::Indented ? Kind::Indent : Kind::Concat);
        while (is()) {
            line(rest, true);
            token(rest);
            space(rest);
            operand(rest);
        }
        add(group, DocArena::finish(rest));
        add(to, DocArena::finish(group));
        return rest;
    }

    void conditional(Doc* to, Chain chain) {
        if (type() != P::IF) return binary(to, 0, chain);
        Doc* group = arena_.make(Kind::Group);
        while (true) {
            token(group);  // if
            space(group);
            expression(group);
            space(group);
            token(group);  // then
            bool braces = branch(group);
            if (braces)
                space(group);
            else
                line(group, true);
            token(group);  // else
            if (type() != P::IF) {
                branch(group);
                break;
            }
            space(group);
        }
        add(to, DocArena::finish(group));
    }

    /// Whether it is a block.
    bool branch(Doc* to) {
        if (type() == P::LBRACE) {
            space(to);
            block(to);
            return true;
        }
        Doc* group = arena_.make(Kind::Group);
        Doc* inside = arena_.make(Kind::Indent);
        line(inside, true);
        conditional(inside, Chain::Indented);
        add(group, DocArena::finish(inside));
        add(to, DocArena::finish(group));
        return false;
    }

    /// Operators of this level and tighter ones.
    void binary(Doc* to, size_t level, Chain chain) {
        Doc* left = arena_.make(Kind::Concat);
        if (type() == P::NOT && level <= kComparison) {
            negation(left);
        } else {
            unary(left);
        }
        Doc* tighter = nullptr;
        for (size_t l = kLevels; l-- > level;) {
            if (level_of(type()) != l) continue;
            if (tighter) tighter->kind = Kind::Indent;  // only the loosest can stand level
            Doc* whole = arena_.make(Kind::Concat);
            tighter = operators(
                whole, left, chain, [&] { return level_of(type()) == l; }, [&](Doc* right) { binary(right, l + 1, Chain::Indented); });
            left = whole;
        }
        add(to, DocArena::finish(left));
    }

    void negation(Doc* to) {
        while (type() == P::NOT) {
            token(to);
            space(to);
        }
        binary(to, kComparison, Chain::Indented);
    }

    void unary(Doc* to) {
        while (type() == P::MINUS || type() == P::TILDE) token(to);
        postfix(to);
    }

    void postfix(Doc* to) {
        primary(to);
        while (true) {
            if (type() == P::LBRACKET) {
                list(to, P::RBRACKET, false, [&](Doc* one) {
                    if (type() == P::COLON)
                        token(one);
                    else
                        expression(one);
                });
            } else if (type() == P::LPAREN) {
                if (type(2) == P::IN)
                    reduction(to);
                else
                    arguments(to);
            } else {
                return;
            }
        }
    }

    void arguments(Doc* to) {
        list(to, P::RPAREN, true, [&](Doc* one) {
            if (type(1) == P::ASSIGN) {
                token(one);
                spaced_token(one);
            }
            value(one, Chain::Indented);
        });
    }

    /// `(j in lo..n: e)`
    void reduction(Doc* to) {
        Doc* group = arena_.make(Kind::Group);
        token(group);
        token(group);
        spaced_token(group);
        expression(group);
        // `1. ..` and `.. .5` are two tokens each.
        const bool apart = tokens_.type(at_ - 1) == P::DOT || tokens_.text(at_ + 1).starts_with('.');
        if (apart) space(group);
        token(group);
        if (apart) space(group);
        expression(group);
        token(group);  // :
        Doc* inside = arena_.make(Kind::Indent);
        line(inside, true);
        value(inside, Chain::Level);
        comments_before_close(inside);
        add(group, DocArena::finish(inside));
        close(group);
        add(to, DocArena::finish(group));
    }

    /// What stands between brackets; `doubled` more of them, within, are left out.
    template <class Inside>
    void bracketed(Doc* to, size_t doubled, const Inside& inside) {
        Doc* group = arena_.make(Kind::Group);
        token(group);
        at_ += doubled;
        Doc* step = arena_.make(Kind::Indent);
        line(step, false);
        inside(step);
        at_ += doubled;
        comments_before_close(step);
        add(group, DocArena::finish(step));
        close(group);
        add(to, DocArena::finish(group));
    }

    void primary(Doc* to) {
        if (type() != P::LPAREN) {
            const bool integer = type() == P::INT;
            token(to);
            if (integer && type() == P::DOT) token(to);
            return;
        }
        // `((x))` is `(x)`.
        const size_t closing = matching(at_);
        size_t doubled = 0;
        const auto bare = [&](size_t open) {
            return tokens_.type(open) == P::LPAREN && matching(open) + doubled + 1 == closing && !comments_[open].any() &&
                   !comments_[matching(open)].any();
        };
        while (bare(at_ + doubled + 1)) ++doubled;
        bracketed(to, doubled, [&](Doc* inside) { value(inside, Chain::Level); });
    }

    mutable std::vector<size_t> closing_;
};

constexpr size_t kNoLimit = SIZE_MAX;  // the parser has its own

}  // namespace

std::optional<Formatted> format(const diag::SourceManager& sources, diag::FileId id, diag::Sink& sink) {
    diag::Sink found;
    const std::unique_ptr<ast::File> before = parse(sources, id, found);
    if (found.has_errors()) {
        (void)parse(sources, id, sink);  // reports them again, there
        return std::nullopt;
    }
    const std::string_view text = sources.file(id).text();
    const LexedFile lexed(id, text, kNoLimit);
    Formatted result;
    result.text = Layout(lexed.list).run();

    diag::SourceManager scratch;
    const diag::FileId again = scratch.add("formatted", result.text);
    const std::unique_ptr<ast::File> after = parse(scratch, again, found);
    result.faithful = !found.has_errors() && ast::print(*before) == ast::print(*after);

    const size_t newline = text.find('\n');
    if (newline != std::string_view::npos && newline > 0 && text[newline - 1] == '\r') {
        std::string crlf;
        crlf.reserve(result.text.size() + result.text.size() / 16);
        for (const char c : result.text) {
            if (c == '\n') crlf += '\r';
            crlf += c;
        }
        result.text = std::move(crlf);
    }
    return result;
}

}  // namespace flexc::frontend
