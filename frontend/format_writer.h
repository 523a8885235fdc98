// Puts tokens with their comments into a document, one after the other. What the layout of the language makes of it is in format.cpp.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "FlexLexer.h"
#include "frontend/format_comments.h"
#include "frontend/format_doc.h"

namespace flexc::frontend {

class FormatWriter {
public:
    explicit FormatWriter(const TokenList& tokens) : tokens_(tokens), comments_(gather_comments(tokens)) {}

protected:
    using P = FlexLexer;
    using Kind = Doc::Kind;

    [[nodiscard]] size_t type(size_t ahead = 0) const { return tokens_.type(at_ + ahead); }
    [[nodiscard]] const TokenComments& here() const { return comments_[std::min(at_, comments_.size() - 1)]; }
    /// Whether a blank line stands before the first thing that comes before the token.
    [[nodiscard]] bool first_blank() const { return here().above.empty() ? here().blank_before : here().above.front().blank_before; }

    void add(Doc* to, Doc* part) { to->parts.push_back(part); }

    void line(Doc* to, bool spaced) {
        Doc* l = arena_.line(spaced);
        l->hard = behind_;
        behind_ = false;
        line_ = l;
        add(to, l);
    }
    void hard(Doc* to, bool blank = false) {
        line(to, true);
        line_->hard = true;
        line_->blank = blank;
    }
    /// A new line where the layout has none, for a comment.
    void forced(Doc* to) {
        Doc* step = arena_.make(Kind::Indent);
        hard(step);
        add(to, DocArena::finish(step));
    }

    /// The comments above a token, at the start of a line. `ends`: with nothing behind them, as before a closing brace.
    void comments_above(Doc* to, bool blanks, bool ends = true) {
        const TokenComments& c = comments_[at_];
        for (size_t i = 0; i < c.above.size(); ++i) {
            if (i > 0) hard(to, blanks && c.above[i].blank_before);
            add(to, arena_.text(c.above[i].text));
        }
        if (!ends && !c.above.empty()) hard(to, blanks && c.blank_before);
    }

    /// The token here with its comments; `statement`: blank lines between those above it stay.
    void token(Doc* to, bool statement = false) {
        const TokenComments& c = comments_[at_];
        const bool joins = (type() == P::COMMA || type() == P::SEMI) && !c.any();
        if (!c.above.empty()) {
            if (line_) {
                line_->hard = true;
                comments_above(to, statement, false);
            } else {
                Doc* step = arena_.make(Kind::Indent);
                hard(step);
                comments_above(step, statement, false);
                add(to, DocArena::finish(step));
            }
        } else if (behind_ && !joins) {
            forced(to);
        }
        add(to, arena_.text(tokens_.text(at_)));
        line_ = nullptr;
        if (!c.behind.empty()) {
            Doc* comment = arena_.make(Kind::Comment);
            comment->text = c.behind;
            add(to, comment);
            behind_ = true;
        }
        ++at_;
    }
    /// Text that the source need not have; comments go behind it.
    void extra(Doc* to, std::string_view text) {
        add(to, arena_.text(text));
        line_ = nullptr;
    }
    void space(Doc* to) {
        if (!behind_) add(to, arena_.text(" "));
    }
    void spaced_token(Doc* to) {
        space(to);
        token(to);
        space(to);
    }
    /// The token if it is there, else the text.
    void token_or(Doc* to, size_t wanted, std::string_view text) {
        if (type() == wanted)
            token(to);
        else
            extra(to, text);
    }

    /// A closing bracket: comments above it belong to what it closes.
    void comments_before_close(Doc* inside) {
        if (here().above.empty()) return;
        hard(inside);
        comments_above(inside, false);
    }
    void close(Doc* to) {
        const bool comments = !here().above.empty();
        if (comments) comments_[at_].above.clear();
        line(to, false);
        line_->hard |= comments;
        token(to);
    }

    const TokenList& tokens_;
    std::vector<TokenComments> comments_;
    DocArena arena_;
    size_t at_ = 0;
    Doc start_;
    Doc* line_ = &start_;  // the line just before, if no token stands between
    bool behind_ = false;  // a comment waits for the end of the line
};

}  // namespace flexc::frontend
