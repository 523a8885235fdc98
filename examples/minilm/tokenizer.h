// BERT's tokeniser: text in UTF-8 -> numbers of word pieces. Devlin et al., "BERT" (2019); Wu et al., "Google's Neural Machine Translation System" (2016)
// for the pieces. Words are the longest pieces of the vocabulary from the left; pieces inside a word begin with "##" there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

class Tokenizer {
public:
    /// `vocabulary`: vocab.txt, one piece a line. Throws std::runtime_error if it cannot be read or lacks a special piece.
    explicit Tokenizer(const std::string& vocabulary);

    /// [CLS], the pieces, [SEP]: at most `limit` in all, what is longer is cut.
    [[nodiscard]] std::vector<int32_t> encode(std::string_view text, size_t limit) const;
    [[nodiscard]] size_t size() const { return pieces_.size(); }

private:
    void add_word(const std::u32string& word, std::vector<int32_t>& out) const;
    [[nodiscard]] int32_t special(const std::string& piece) const;

    std::unordered_map<std::string, int32_t> pieces_;
    int32_t unknown_ = 0, begin_ = 0, end_ = 0;
};
