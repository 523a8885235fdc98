#include "tokenizer.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "unicode_tables.h"

namespace {

constexpr size_t kLongestWord = 100;  // a longer word is unknown

template <size_t N>
bool in(const CodeRange (&ranges)[N], char32_t c) {
    const auto* found =
        std::upper_bound(std::begin(ranges), std::end(ranges), c, [](char32_t x, const CodeRange& r) { return x < r.first; });
    return found != std::begin(ranges) && c <= found[-1].last;
}

bool is_punctuation(char32_t c) {
    if (c < 0x80) return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    return in(kPunctuation, c);
}

/// Ideographs are words of their own.
bool is_ideograph(char32_t c) {
    constexpr CodeRange kBlocks[] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},   {0x20000, 0x2a6df},
                                     {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f}};
    return in(kBlocks, c);
}

bool is_space(char32_t c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || in(kSpaces, c) || c == 0x2028 || c == 0x2029;
}

/// The next code point; U+FFFD for what is not UTF-8.
char32_t next_code(std::string_view& text) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    const size_t length = first < 0x80                    ? 1
                          : first >= 0xc2 && first < 0xe0 ? 2
                          : first >= 0xe0 && first < 0xf0 ? 3
                          : first >= 0xf0 && first < 0xf5 ? 4
                                                          : 0;
    char32_t code = length == 1 ? first : first & (0x7fu >> length);
    bool sound = length > 0 && length <= text.size();
    for (size_t i = 1; sound && i < length; ++i) {
        sound = (byte(i) & 0xc0) == 0x80;
        code = code << 6 | (byte(i) & 0x3f);
    }
    constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    sound = sound && code >= kLeast[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    text.remove_prefix(sound ? length : 1);
    return sound ? code : 0xfffd;
}

std::string utf8(std::u32string_view text) {
    std::string out;
    for (const char32_t c : text) {
        if (c < 0x80) {
            out += static_cast<char>(c);
            continue;
        }
        const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        constexpr char32_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
        out += static_cast<char>(kLead[more] | c >> (6 * more));
        for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (c >> (6 * i) & 0x3f));
    }
    return out;
}

/// Lower case, decomposed, without accents.
void fold(char32_t c, std::u32string& out) {
    if (c < 0x80) {
        out += c >= 'A' && c <= 'Z' ? c + 32 : c;
    } else if (c >= 0xac00 && c < 0xd7a4) {  // Hangul, Unicode standard 3.12
        const char32_t index = c - 0xac00;
        out += 0x1100 + index / 588;
        out += 0x1161 + index % 588 / 28;
        if (index % 28) out += 0x11a7 + index % 28;
    } else if (!in(kMarks, c)) {
        const auto* found =
            std::lower_bound(std::begin(kFolds), std::end(kFolds), c, [](const CodeFold& f, char32_t x) { return f.from < x; });
        if (found == std::end(kFolds) || found->from != c) {
            out += c;
            return;
        }
        for (const char32_t to : {found->first, found->second, found->third})
            if (to) out += to;
    }
}

}  // namespace

Tokenizer::Tokenizer(const std::string& vocabulary) {
    std::ifstream file(vocabulary);
    if (!file) throw std::runtime_error(vocabulary + ": it cannot be read");
    for (std::string line; std::getline(file, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        pieces_.emplace(line, static_cast<int32_t>(pieces_.size()));
    }
    unknown_ = special("[UNK]");
    begin_ = special("[CLS]");
    end_ = special("[SEP]");
}

int32_t Tokenizer::special(const std::string& piece) const {
    const auto found = pieces_.find(piece);
    if (found == pieces_.end()) throw std::runtime_error("the vocabulary has no " + piece);
    return found->second;
}

void Tokenizer::add_word(const std::u32string& word, std::vector<int32_t>& out) const {
    const size_t before = out.size();
    for (size_t begin = 0; begin < word.size();) {
        size_t end = word.size() <= kLongestWord ? word.size() : 0;
        for (; end > begin; --end) {
            const auto found = pieces_.find((begin ? "##" : "") + utf8(std::u32string_view(word).substr(begin, end - begin)));
            if (found == pieces_.end()) continue;
            out.push_back(found->second);
            break;
        }
        if (end <= begin) {  // no piece fits: the word as a whole is unknown
            out.resize(before);
            out.push_back(unknown_);
            return;
        }
        begin = end;
    }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, size_t limit) const {
    std::vector<int32_t> out = {begin_};
    std::u32string word;
    const auto finish = [&] {
        if (!word.empty()) add_word(word, out);
        word.clear();
    };
    while (!text.empty() && out.size() < limit) {
        const char32_t c = next_code(text);
        if (c == 0 || c == 0xfffd || (in(kControls, c) && !is_space(c))) continue;
        if (is_space(c)) {
            finish();
            continue;
        }
        const bool ideograph = is_ideograph(c);
        if (ideograph) finish();
        std::u32string folded;
        fold(c, folded);
        for (const char32_t each : folded) {
            if (is_punctuation(each)) {
                finish();
                add_word({each}, out);
            } else if (is_space(each)) {
                finish();
            } else {
                word += each;
            }
        }
        if (ideograph) finish();
    }
    finish();
    out.resize(std::min(out.size(), std::max<size_t>(limit, 2) - 1));
    out.push_back(end_);
    return out;
}
