#include "frontend/query_context.h"

#include <algorithm>

#include "FlexLexer.h"
#include "frontend/error_strategy.h"
#include "frontend/lex.h"

namespace flexc::frontend {

namespace {

using P = FlexLexer;
using Place = CursorContext::Place;
using Local = CursorContext::Local;

bool is_word(std::string_view text) {
    return !text.empty() && (text[0] == '_' || (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'));
}

std::optional<ast::DeclKind> declaration_kind(size_t type) {
    switch (type) {
        case P::IMPORT: return ast::DeclKind::Import;
        case P::CONST: return ast::DeclKind::Const;
        case P::FN: return ast::DeclKind::Fn;
        case P::MASK: return ast::DeclKind::Mask;
        case P::SCORE: return ast::DeclKind::Score;
        case P::ATTENTION: return ast::DeclKind::Attention;
        default: return std::nullopt;
    }
}

std::optional<ast::ClauseKind> clause_kind(size_t type) {
    switch (type) {
        case P::SCALE: return ast::ClauseKind::Scale;
        case P::SCORE: return ast::ClauseKind::Score;
        case P::MASK: return ast::ClauseKind::Mask;
        case P::NORMALIZE: return ast::ClauseKind::Normalize;
        case P::SINK: return ast::ClauseKind::Sink;
        case P::BLOCKS: return ast::ClauseKind::Blocks;
        case P::QUERY: return ast::ClauseKind::Query;
        case P::KEY: return ast::ClauseKind::Key;
        case P::OUTPUT: return ast::ClauseKind::Output;
        case P::EMIT: return ast::ClauseKind::Emit;
        default: return std::nullopt;
    }
}

class Reader {
public:
    Reader(const TokenList& tokens, size_t end, CursorContext& out) : tokens_(tokens), end_(end), out_(out) {}

    void run() {
        for (at_ = 0; at_ < end_; ++at_) step();
        finish();
    }

private:
    enum class Open : uint8_t { Parameters, TypeExtents, Index, Paren, Call, Block, Attention };
    struct Frame {
        Open kind;
        size_t locals;  // in scope outside of it
        size_t begin;   // token
        size_t commas = 0;
        size_t entry = 0;  // first token of this argument or parameter
    };

    [[nodiscard]] size_t type(size_t i) const { return tokens_.type(i); }
    [[nodiscard]] std::string text(size_t i) const { return std::string(tokens_.text(i)); }
    [[nodiscard]] size_t previous() const { return at_ == 0 ? P::EOF : type(at_ - 1); }

    void begin_declaration() {
        stack_.clear();
        out_.locals.clear();
        out_.clauses_given.clear();
        out_.clause.reset();
        out_.decl = declaration_kind(type(at_));
        lets_.clear();
        header_ = true;
        value_ = false;
    }
    void end_declaration() {
        out_.decl.reset();
        out_.clause.reset();
        out_.locals.clear();
        out_.clauses_given.clear();
        stack_.clear();
        header_ = value_ = false;
    }

    void push(Open kind) { stack_.push_back({kind, out_.locals.size(), at_, 0, at_ + 1}); }
    void pop() {
        if (stack_.empty()) return;
        if (stack_.back().kind != Open::Parameters && stack_.back().kind != Open::TypeExtents) out_.locals.resize(stack_.back().locals);
        stack_.pop_back();
    }

    void step() {
        const size_t t = type(at_);
        if (starts_declaration(tokens_, at_) || (!out_.decl && declaration_kind(t))) return begin_declaration();
        switch (t) {
            case P::LPAREN:
                if (header_ && stack_.empty() && !value_)
                    push(Open::Parameters);
                else
                    push(at_ > 0 && is_word(tokens_.text(at_ - 1)) && !operator_word(previous()) ? Open::Call : Open::Paren);
                return;
            case P::LBRACKET: push(in_type() ? Open::TypeExtents : Open::Index); return;
            case P::LBRACE:
                if (header_ && !value_ && out_.decl == ast::DeclKind::Attention) {
                    push(Open::Attention);
                    header_ = false;
                } else {
                    push(Open::Block);
                }
                return;
            case P::RPAREN:
            case P::RBRACKET: pop(); return;
            case P::RBRACE: {
                pop();
                if (stack_.empty() && type(at_ + 1) != P::SEMI && out_.decl) end_declaration();
                return;
            }
            case P::COMMA:
                if (!stack_.empty()) {
                    ++stack_.back().commas;
                    stack_.back().entry = at_ + 1;
                }
                return;
            case P::COLON:
                if (!stack_.empty() && stack_.back().kind == Open::Parameters && at_ > 0) parameter();
                return;
            case P::IN:
                if (at_ >= 2 && type(at_ - 2) == P::LPAREN)
                    out_.locals.push_back({Local::Kind::Loop, text(at_ - 1), text(at_ - 1) + ": i32"});
                return;
            case P::ASSIGN:
                if (stack_.empty()) value_ = true;
                return;
            case P::SEMI:
                if (stack_.empty()) {
                    end_declaration();
                } else if (stack_.back().kind == Open::Attention) {
                    out_.clause.reset();
                    finish_let();
                } else if (stack_.back().kind == Open::Block) {
                    finish_let();
                }
                return;
            case P::LET:
                finish_let();  // one that ended with a block
                if (is_word(tokens_.text(at_ + 1)) && at_ + 1 < end_) lets_.emplace_back(text(at_ + 1), stack_.size());
                return;
            default: break;
        }
        if (!stack_.empty() && stack_.back().kind == Open::Attention && statement_start(at_)) {
            finish_let();
            out_.clause = clause_kind(t);
            if (out_.clause && at_ + 1 < end_) out_.clauses_given.push_back(text(at_));
        }
    }

    /// At a `;`: the innermost `let` being written, if it is of this block, is in scope from here on.
    void finish_let() {
        while (!lets_.empty() && lets_.back().second > stack_.size()) lets_.pop_back();
        if (lets_.empty() || lets_.back().second != stack_.size()) return;
        out_.locals.push_back({Local::Kind::Let, lets_.back().first, "let " + lets_.back().first});
        lets_.pop_back();
    }

    /// At the colon of a parameter.
    void parameter() {
        size_t stop = at_ + 1;
        int depth = 0;
        for (; stop < end_; ++stop) {
            const size_t t = type(stop);
            if (depth == 0 && (t == P::COMMA || t == P::RPAREN)) break;
            depth += (t == P::LBRACKET || t == P::LPAREN) - (t == P::RBRACKET || t == P::RPAREN);
        }
        const bool tensor =
            std::any_of(tokens_.tokens.begin() + static_cast<std::ptrdiff_t>(at_),
                        tokens_.tokens.begin() + static_cast<std::ptrdiff_t>(stop), [](const Token& t) { return t.type == P::LBRACKET; });
        const size_t first = type(at_ + 1) == P::GRAD ? at_ + 2 : at_ + 1;
        const bool mask = type(first) == P::MASK;
        std::string detail(tokens_.source.substr(tokens_[at_ - 1].begin, tokens_[stop - 1].end - tokens_[at_ - 1].begin));
        std::replace(detail.begin(), detail.end(), '\n', ' ');
        out_.locals.push_back({mask     ? Local::Kind::Mask
                               : tensor ? Local::Kind::Tensor
                                        : Local::Kind::Scalar,
                               text(at_ - 1), std::move(detail)});
        // Names in its extents that nothing else declares.
        for (size_t i = first + 1; tensor && i < stop; ++i)
            if (type(i) == P::NAME) {
                const std::string name = text(i);
                static constexpr std::string_view kExtents[] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
                if (std::find(std::begin(kExtents), std::end(kExtents), name) != std::end(kExtents)) continue;
                if (std::any_of(out_.locals.begin(), out_.locals.end(), [&](const Local& l) { return l.name == name; })) continue;
                out_.locals.push_back({Local::Kind::Extent, name, name + ": i32"});
            }
    }

    [[nodiscard]] static bool operator_word(size_t t) {
        return t == P::AND || t == P::OR || t == P::NOT || t == P::IF || t == P::THEN || t == P::ELSE || t == P::IN;
    }
    [[nodiscard]] bool in_type() const {
        if (at_ < 2) return false;
        const size_t before = type(at_ - 2);
        const bool names_type = before == P::COLON || before == P::GRAD || before == P::ARROW;
        return names_type && (stack_.empty() || stack_.back().kind == Open::Parameters);
    }
    /// Whether token `i` is the first of a clause or `let`.
    [[nodiscard]] bool statement_start(size_t i) const {
        const size_t before = i == 0 ? P::EOF : type(i - 1);
        return before == P::LBRACE || before == P::SEMI || (before == P::RBRACE && tokens_.first_on_line(i));
    }

    void finish() {
        const size_t before = end_ == 0 ? P::EOF : type(end_ - 1);
        at_ = end_;
        call();
        out_.place = place(before);
        out_.block_start = !stack_.empty() && (stack_.back().kind == Open::Block || stack_.back().kind == Open::Attention) &&
                           (before == P::LBRACE || before == P::SEMI);
    }

    void call() {
        for (size_t i = stack_.size(); i-- > 0;) {
            const Frame& f = stack_[i];
            if (f.kind == Open::Block || f.kind == Open::Attention || f.kind == Open::Parameters) return;
            if (f.kind != Open::Call) continue;
            CursorContext::Call c;
            c.name = text(f.begin - 1);
            c.argument = f.commas;
            if (type(f.entry + 1) == P::ASSIGN && f.entry + 1 < end_) c.named = text(f.entry);
            c.argument_start = i + 1 == stack_.size() && f.entry == end_;
            out_.call = std::move(c);
            return;
        }
    }

    [[nodiscard]] Place place(size_t before) const {
        if (!out_.decl) return Place::Declaration;
        if (*out_.decl == ast::DeclKind::Import) return before == P::IMPORT ? Place::Import : Place::Nothing;
        if (before == P::LET || before == P::EMIT) return Place::Nothing;
        if (stack_.empty() && !value_) {
            if (before == P::COLON || before == P::ARROW) return Place::Type;
            return Place::Nothing;
        }
        if (!stack_.empty()) {
            const Frame& f = stack_.back();
            if (f.kind == Open::Parameters) {
                if (before == P::COLON || before == P::GRAD) return Place::Type;
                if (before == P::LPAREN || before == P::COMMA) return Place::Parameter;
                const bool default_value = [&] {
                    for (size_t i = f.entry; i < end_; ++i)
                        if (type(i) == P::ASSIGN) return true;
                    return false;
                }();
                if (!default_value) return Place::Nothing;
            }
            if (f.kind == Open::TypeExtents) return operand_expected(before) ? Place::Extent : Place::Nothing;
            if (f.kind == Open::Attention) {
                if (statement_start(end_)) return Place::Clause;
                if (out_.clause == ast::ClauseKind::Normalize) return Place::Normalize;
                if (out_.clause == ast::ClauseKind::Emit) return before == P::ASSIGN ? Place::Emission : Place::Nothing;
                if (out_.clause == ast::ClauseKind::Blocks) return before == P::ASSIGN ? Place::Blocks : Place::Nothing;
                if (end_ >= 2 && clause_kind(before) && statement_start(end_ - 1)) return Place::Nothing;  // `=` comes next
            }
        }
        if (before == P::PIPE) return Place::Pipe;
        return operand_expected(before) ? Place::Expression : Place::Operator;
    }

    [[nodiscard]] static bool operand_expected(size_t before) {
        switch (before) {
            case P::RPAREN:
            case P::RBRACKET:
            case P::RBRACE:
            case P::INT:
            case P::FLOAT:
            case P::NAME:
            case P::TRUE:
            case P::FALSE:
            case P::DOT: return false;
            case P::SCORE:
            case P::QUERY:
            case P::KEY: return false;
            default: return true;
        }
    }

    const TokenList& tokens_;
    size_t end_;
    CursorContext& out_;
    size_t at_ = 0;
    std::vector<Frame> stack_;
    bool header_ = false;                               // before the body of a declaration
    bool value_ = false;                                // behind its `=`
    std::vector<std::pair<std::string, size_t>> lets_;  // being written, with the brackets around them
};

}  // namespace

CursorContext context_at(std::string_view text, uint32_t offset) {
    CursorContext out;
    offset = std::min(offset, static_cast<uint32_t>(text.size()));
    out.word_begin = offset;
    const std::string_view before = text.substr(0, offset);

    // In a comment or a string: `#` outside of quotes on this line.
    const size_t newline = before.rfind('\n');
    bool quoted = false;
    for (const char c : before.substr(newline == std::string_view::npos ? 0 : newline + 1)) {
        if (c == '"') quoted = !quoted;
        if (c == '#' && !quoted) return out;
    }
    if (quoted) return out;

    const auto is_name = [](char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
    uint32_t begin = offset;
    while (begin > 0 && is_name(text[begin - 1])) --begin;
    const bool number = begin < offset && text[begin] >= '0' && text[begin] <= '9';
    out.word_begin = begin;
    out.word = text.substr(begin, offset - begin);

    constexpr size_t kMaxTokens = 1'000'000;
    const LexedFile lexed(0, text.substr(0, begin), kMaxTokens);
    if (lexed.truncated) return out;
    // The last is the end of the file, which stands for the word.
    Reader(lexed.list, lexed.list.size() - 1, out).run();
    if (number) out.place = Place::Nothing;
    return out;
}

}  // namespace flexc::frontend
