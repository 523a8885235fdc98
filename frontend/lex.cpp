#include "frontend/lex.h"

#include <algorithm>

#include "FlexLexer.h"

namespace flexc::frontend {

namespace {

/// The bytes of a text as ANTLR's character stream, without a copy: token positions are then byte offsets. The lexer's
/// tables are fast for characters below 0x80 only, so that multi-byte sequences are shown to it as the two control
/// characters that the grammar's UNKNOWN names.
class ByteStream : public antlr4::CharStream {
public:
    explicit ByteStream(std::string_view text) : text_(text) {}

    void consume() override { at_ = std::min(at_ + 1, text_.size()); }
    size_t LA(ssize_t i) override {
        if (i == 0) return 0;
        const auto index = static_cast<ssize_t>(at_) + (i > 0 ? i - 1 : i);
        if (index < 0 || static_cast<size_t>(index) >= text_.size()) return antlr4::IntStream::EOF;
        const auto byte = static_cast<unsigned char>(text_[static_cast<size_t>(index)]);
        if (byte >= 0x80) return byte >= 0xC0 ? 1 : 2;
        return byte == 1 || byte == 2 ? 3 : byte;
    }
    ssize_t mark() override { return -1; }
    void release(ssize_t) override {}
    size_t index() override { return at_; }
    void seek(size_t index) override { at_ = std::min(index, text_.size()); }
    size_t size() override { return text_.size(); }
    std::string getSourceName() const override { return {}; }
    std::string getText(const antlr4::misc::Interval& i) override {
        if (i.a < 0 || static_cast<size_t>(i.a) >= text_.size() || i.b < i.a) return {};
        return std::string(text_.substr(static_cast<size_t>(i.a), static_cast<size_t>(i.b - i.a + 1)));
    }
    std::string toString() const override { return std::string(text_); }

private:
    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

LexedFile::LexedFile(diag::FileId file, std::string_view text, size_t max_tokens) {
    list.file = file;
    list.source = text;
    ByteStream bytes(text);
    FlexLexer lexer(&bytes);
    lexer.removeErrorListeners();  // the lexer accepts every byte
    std::vector<std::unique_ptr<antlr4::Token>> tokens;
    while (true) {
        std::unique_ptr<antlr4::Token> token = lexer.nextToken();
        const bool end = token->getType() == antlr4::Token::EOF;
        const auto begin = static_cast<uint32_t>(end ? text.size() : token->getStartIndex());
        list.tokens.push_back({token->getType(), begin, end ? begin : static_cast<uint32_t>(token->getStopIndex() + 1)});
        tokens.push_back(std::move(token));
        if (end) break;
        if (tokens.size() > max_tokens) {
            truncated = true;
            return;
        }
    }
    source = std::make_unique<antlr4::ListTokenSource>(std::move(tokens));
    stream = std::make_unique<antlr4::BufferedTokenStream>(source.get());
    stream->fill();
}

}  // namespace flexc::frontend
