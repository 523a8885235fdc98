#include "frontend/syntax_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

namespace flexc::frontend {

namespace {

struct Word {
    std::string_view word;
    std::string_view help;
    bool statement = false;
};

constexpr std::string_view kFunction = "a function is written `fn name(x: f32) -> f32 = expression;`, a mask `mask name() = condition;`";
constexpr std::string_view kLet = "a value is named by `let x = expression;`, and its type follows from the value";
constexpr std::string_view kLoop = "the only loops are reductions: `sum (j in 0..n: expression)`, and `any all min max`";
constexpr std::string_view kReturn = "a body is its last expression, without a word before it";

constexpr std::string_view kBefore = "compute it before the launch, and pass the result as a tensor";

constexpr Word kWords[] = {
    {"def", kFunction, true},
    {"func", kFunction, true},
    {"function", kFunction, true},
    {"fun", kFunction, true},
    {"void", kFunction, true},
    {"inline", kFunction, true},
    {"static", kFunction, true},
    {"extern", kFunction, true},
    {"__global__", kFunction, true},
    {"__device__", kFunction, true},
    {"template", kFunction, true},
    {"lambda", "functions have names: declare `fn` or `mask` outside, and pass a mask as an expression such as `causal() and k < 4`",
     false},
    {"return", kReturn, true},
    {"yield", kReturn, true},
    {"for", kLoop, true},
    {"while", kLoop, true},
    {"do", kLoop, true},
    {"elif", "write `else if`", false},
    {"elseif", "write `else if`", false},
    {"elsif", "write `else if`", false},
    {"endif", "an `if` ends with its `else` branch", false},
    {"var", kLet, true},
    {"auto", kLet, true},
    {"val", kLet, true},
    {"mut", "values never change; `let` gives each a new name", false},
    {"int", kLet, true},
    {"float", kLet, true},
    {"double", kLet, true},
    {"class", "a file holds `import`, `const`, `fn`, `mask`, `score` and `attention` declarations", true},
    {"struct", "a file holds `import`, `const`, `fn`, `mask`, `score` and `attention` declarations", true},
    {"type", "a file holds `import`, `const`, `fn`, `mask`, `score` and `attention` declarations", true},
    {"from", "write `import std;`, or `import \"masks.flex\";`", true},
    {"include", "write `import std;`, or `import \"masks.flex\";`", true},
    {"use", "write `import std;`, or `import \"masks.flex\";`", true},
    {"using", "write `import std;`, or `import \"masks.flex\";`", true},
    {"pass", "leave the clause out: every clause has a default", true},
    {"switch", "write `if c then a else if d then b else c`", true},
    {"match", "write `if c then a else if d then b else c`", true},
    {"is", "compare with `==`; nothing is `None` here", false},
    {"as", "a conversion is written `f32(x)` or `i32(x)`", false},
    {"print", "nothing is printed: `flexc show` draws a mask or a score", true},
    {"assert", "nothing is asserted: an attention is a set of clauses", true},
    {"raise", "nothing fails: every expression has a value", true},
    {"try", "nothing fails: every expression has a value", true},
    {"with", kLet, true},
    {"global", kLet, true},
    {"nonlocal", kLet, true},
    {"del", kLet, true},
    {"async", kFunction, true},
    {"xor", "for `bool` write `!=`, for `i32` write `^`", false},
    {"mod", "write `%`", false},
    {"div", "write `//`", false},
    {"where", "a condition inside an expression is `if c then a else b`", false},
    {"when", "a condition inside an expression is `if c then a else b`", false},
    {"unless", "write `if not c then a else b`", false},
};

// What has no name here, and what is written in its place.
constexpr Word kIdioms[] = {
    {"and_masks", "masks are joined by `and`: `causal() and sliding_window(n)`"},
    {"or_masks", "masks are joined by `or`: `causal() or prefix(n)`"},
    {"noop_mask", "leave the clause out: without a mask everything is attended to"},
    {"create_block_mask", "there is no block mask to make: write the condition, `mask = q >= k`, and flexc finds the blocks"},
    {"create_mask", "write the condition: `mask = q >= k`; `flexc show` draws it"},
    {"flex_attention", "the attention is what the clauses say; `flexc run` or the program that links it calls it"},
    {"None", "leave the clause out: every clause has a default"},
    {"searchsorted", kBefore},
    {"bucketize", kBefore},
    {"cumsum", kBefore},
    {"argsort", kBefore},
    {"sort", kBefore},
    {"topk", kBefore},
    {"bincount", kBefore},
    {"unique", kBefore},
    {"mean", "a mean is `sum (j in 0..N: t[j]) / f32(N)`"},
    {"e", "Euler's number is `exp(1.0)`"},
    {"masked_fill", "write `if c then a else b`; keys are hidden in the clause `mask`"},
    {"program_id", "positions are `b h q k`; blocks are chosen by the compiler"},
    {"threadIdx", "positions are `b h q k`; blocks and threads are chosen by the compiler"},
    {"blockIdx", "positions are `b h q k`; blocks and threads are chosen by the compiler"},
    {"blockDim", "positions are `b h q k`; blocks and threads are chosen by the compiler"},
    {"load", "an element is read by its indices: `x[i, j]`"},
    {"rand", "nothing is random: pass random numbers as a tensor"},
    {"randn", "nothing is random: pass random numbers as a tensor"},
    {"randint", "nothing is random: pass random numbers as a tensor"},
    {"dropout", "there is no dropout: nothing in an attention is random"},
    {"print", "nothing is printed: `flexc show` draws a mask or a score"},
    {"static_cast", "a conversion is written `f32(x)` or `i32(x)`"},
    {"causal_mask", "write `q >= k`, or `import std;` and `causal()`"},
    {"item", "an element of a tensor is a number already: leave it out"},
    {"T", "exchange the indices instead: `x[j, i]`"},
    {"mT", "exchange the indices instead: `x[j, i]`"},
    {"transpose", "exchange the indices instead: `x[j, i]`"},
    {"permute", "exchange the indices instead: `x[j, i]`"},
    {"view", "an element is read by its indices: `x[i, j]`"},
    {"reshape", "an element is read by its indices: `x[i, j]`"},
    {"unsqueeze", "an element is read by its indices: `x[i, j]`"},
    {"squeeze", "an element is read by its indices: `x[i, j]`"},
    {"expand", "an element is read by its indices: `x[i, j]`"},
    {"flatten", "an element is read by its indices: `x[i, j]`"},
    {"index_select", "an element is read by its indices: `x[i, j]`"},
    {"gather", "an element is read by its indices: `x[i, j]`"},
    {"take", "an element is read by its indices: `x[i, j]`"},
    {"contiguous", "leave it out: layouts are a matter of the launch"},
    {"cuda", "leave it out: devices are a matter of the launch"},
    {"device", "leave it out: devices are a matter of the launch"},
    {"detach", "leave it out: only parameters marked `grad` have gradients"},
    {"tensor", "tensors are not made here but given at launch: declare a parameter `x: f32[N]`"},
    {"zeros", "tensors are not made here but given at launch: declare a parameter `x: f32[N]`"},
    {"ones", "tensors are not made here but given at launch: declare a parameter `x: f32[N]`"},
    {"full", "tensors are not made here but given at launch: declare a parameter `x: f32[N]`"},
    {"einsum", "the product of q and k is `score`; that of captured rows is `dot(x[i, :], y[j, :])`"},
    {"matmul", "the product of q and k is `score`; that of captured rows is `dot(x[i, :], y[j, :])`"},
    {"bmm", "the product of q and k is `score`; that of captured rows is `dot(x[i, :], y[j, :])`"},
    {"finfo", "what is hidden has the score `-inf`"},
    {"iinfo", "the least `i32` is `-2147483648`, the greatest `2147483647`"},
    {"NEG_INF", "write `-inf`"},
    {"NEG_INFINITY", "write `-inf`"},
    {"MASK_VALUE", "write `-inf`"},
    {"DEFAULT_MASK_VALUE", "write `-inf`"},
    {"nan", "there is no NaN to write; a hidden key has the score `-inf`, or better a false `mask`"},
    {"NaN", "there is no NaN to write; a hidden key has the score `-inf`, or better a false `mask`"},
    {"NAN", "there is no NaN to write; a hidden key has the score `-inf`, or better a false `mask`"},
    {"isinf", "write `abs(x) == inf`"},
    {"isfinite", "write `abs(x) < inf`"},
    {"v", "the values are no part of the score; what happens to the result is the clause `output`"},
    {"len", "the extents are `B H HKV Q K D DV`, and the names in the types of tensors"},
    {"arange", "a position is an index: `q` of queries, `k` of keys"},
    {"range", "the only loops are reductions: `sum (j in 0..n: expression)`, and `any all min max`"},
    {"mod", "write `a % b`"},
    {"fmod", "write `a - b * floor(a / b)`"},
    {"remainder", "write `a % b`"},
    {"floor_divide", "write `a // b`"},
    {"logical_and", "write `a and b`"},
    {"logical_or", "write `a or b`"},
    {"logical_not", "write `not a`"},
    {"logical_xor", "write `a != b`"},
    {"isnan", "write `x != x`"},
    {"softmax", "the softmax follows the clauses; what comes before it is `score`, what is left out `mask`"},
    {"tril", "write `mask = q >= k`"},
    {"triu", "write `mask = q <= k`"},
    {"softplus", "write `log(1.0 + exp(x))`"},
    {"relu", "write `max(x, 0.0)`"},
    {"square", "write `x * x`"},
    {"torch", "there is no `torch`: builtin functions are used by their plain names"},
    {"np", "there is no `np`: builtin functions are used by their plain names"},
};
constexpr std::pair<std::string_view, OperatorHelp> kOperators[] = {
    {"&&", {"write `and`", "and"}},
    {"||", {"write `or`", "or"}},
    {"!", {"write `not`", "not "}},
    {"?", {"write `if c then a else b`", ""}},
    {"**", {"write `pow(x, y)`, or `x * x`", ""}},
    {"%%", {"write `%`", "%"}},
    {"===", {"write `==`", "=="}},
    {"!==", {"write `!=`", "!="}},
    {"<>", {"write `!=`", "!="}},
    {"=>", {"functions have names: `fn name(x: f32) -> f32 = expression;`; \"at least\" is `>=`", ""}},
    {":=", {"write `let x = expression;`", ""}},
    {">>>", {"`>>` keeps the sign; mask the result with `&` for a logical shift", ""}},
    {"::", {"names have no qualifiers: what is imported is used by its plain name", ""}},
    {"@", {"a product of rows is `dot(x[b, h, q, :], y[b, hkv, k, :])`", ""}},
};

struct Lookalike {
    std::string_view utf8;
    std::string_view ascii;
};
constexpr Lookalike kLookalikes[] = {
    {"×", "*"},
    {"·", "*"},
    {"÷", "/"},
    {"−", "-"},
    {"–", "-"},
    {"—", "-"},
    {"≤", "<="},
    {"≥", ">="},
    {"⩽", "<="},
    {"⩾", ">="},
    {"≦", "<="},
    {"≧", ">="},
    {"∗", "*"},
    {"⋅", "*"},
    {"∕", "/"},
    {"‐", "-"},
    {"‑", "-"},
    {"‒", "-"},
    {"―", "-"},
    {"﹣", "-"},
    {"－", "-"},
    {"＋", "+"},
    {"＊", "*"},
    {"／", "/"},
    {"＜", "<"},
    {"＞", ">"},
    {"［", "["},
    {"］", "]"},
    {"｛", "{"},
    {"｝", "}"},
    {"、", ","},
    {"。", "."},
    {"«", "\""},
    {"»", "\""},
    {"„", "\""},
    {"′", "'"},
    {"″", "\""},
    {"\xE2\x80\xAF", " "},
    {"\xE3\x80\x80", " "},
    {"\xE2\x80\x89", " "},
    {"\xE2\x80\x8B", " "},
    {"≠", "!="},
    {"≡", "=="},
    {"∧", "and"},
    {"∨", "or"},
    {"¬", "not "},
    {"“", "\""},
    {"”", "\""},
    {"‘", "'"},
    {"’", "'"},
    {"；", ";"},
    {"：", ":"},
    {"，", ","},
    {"（", "("},
    {"）", ")"},
    {"＝", "="},
    {"→", "->"},
    {"…", ".."},
    {"π", "pi"},
    {"∞", "inf"},
    {"\xC2\xA0", " "},
};

}  // namespace

std::string_view help_for_idiom(std::string_view name) {
    for (const Word& idiom : kIdioms)
        if (idiom.word == name) return idiom.help;
    return {};
}

std::string_view type_for(std::string_view name) {
    static constexpr std::pair<std::string_view, std::string_view> kTypes[] = {
        {"float32", "f32"},   {"float", "f32"}, {"float64", "f32"}, {"double", "f32"}, {"float16", "f16"}, {"half", "f16"},
        {"bfloat16", "bf16"}, {"int32", "i32"}, {"int64", "i32"},   {"int", "i32"},    {"long", "i32"},    {"int16", "i16"},
        {"short", "i16"},     {"int8", "i8"},   {"uint8", "u8"},    {"bool", "bool"},  {"bool_", "bool"},
    };
    for (const auto& [theirs, ours] : kTypes)
        if (theirs == name) return ours;
    return {};
}

std::string_view clause_for(std::string_view name) {
    static constexpr std::pair<std::string_view, std::string_view> kClauses[] = {
        {"mask_mod", "mask"},       {"block_mask", "mask"}, {"attn_mask", "mask"}, {"attention_mask", "mask"},
        {"score_mod", "score"},     {"scores", "score"},    {"logits", "score"},   {"attn_bias", "score"},
        {"softmax_scale", "scale"}, {"sm_scale", "scale"},  {"scaling", "scale"},  {"sinks", "sink"},
    };
    for (const auto& [theirs, ours] : kClauses)
        if (theirs == name) return ours;
    return {};
}

std::string_view help_for_word(std::string_view word) {
    const Word* found = std::find_if(std::begin(kWords), std::end(kWords), [&](const Word& w) { return w.word == word; });
    return found == std::end(kWords) ? std::string_view{} : found->help;
}

std::string_view help_for_option(std::string_view name) {
    static constexpr std::pair<std::string_view, std::string_view> kOptions[] = {
        {"is_causal", "write `mask = q >= k;`"},
        {"causal", "write `mask = q >= k;`"},
        {"enable_gqa", "leave it out: the shapes of q and k tell the number of their heads"},
        {"return_lse", "leave it out: `lse` is among the outputs"},
        {"dropout", "there is no dropout: nothing in an attention is random"},
        {"dropout_p", "there is no dropout: nothing in an attention is random"},
        {"kernel_options", "leave it out: blocks and stages are chosen by the compiler"},
        {"BLOCK_SIZE", "leave it out: blocks are chosen by the compiler"},
        {"BLOCK_M", "leave it out: blocks are chosen by the compiler"},
        {"BLOCK_N", "leave it out: blocks are chosen by the compiler"},
        {"window_size", "write `mask = q >= k and q - k < WINDOW;`, with a parameter or a number for WINDOW"},
        {"sliding_window", "write `mask = q >= k and q - k < WINDOW;`, with a parameter or a number for WINDOW"},
        {"alibi_slopes", "declare a parameter `slope: f32[H]`, and write `score = score + slope[h] * f32(k - q);`"},
        {"bias", "add it to the score: `score = score + bias[b, h, q, k];`, for a parameter `bias: f32[B, H, Q, K]`"},
        {"softcap", "write `score = 30.0 * tanh(score / 30.0);`"},
        {"logits_soft_cap", "write `score = 30.0 * tanh(score / 30.0);`"},
        {"value", "there is no clause for v; what happens to the result is `output`"},
    };
    for (const auto& [option, help] : kOptions)
        if (option == name) return help;
    return {};
}

bool begins_foreign_statement(std::string_view word) {
    return std::any_of(std::begin(kWords), std::end(kWords), [&](const Word& w) { return w.word == word && w.statement; });
}

OperatorHelp help_for_operator(std::string_view op) {
    for (const auto& [name, help] : kOperators)
        if (name == op) return help;
    return {"values never change: give the new value a name by `let`, or write the whole clause as `score = score + ...`", ""};
}

std::string describe_character(std::string_view utf8) {
    uint32_t point = static_cast<unsigned char>(utf8[0]);
    if (utf8.size() > 1) {
        point &= 0xFFu >> (utf8.size() + 1);
        for (size_t i = 1; i < utf8.size(); ++i) point = point << 6 | (static_cast<unsigned char>(utf8[i]) & 0x3Fu);
    }
    const bool invisible = point < 0x20 || (point >= 0x7F && point <= 0xA0) || (point >= 0x200B && point <= 0x200F) ||
                           (point >= 0x2028 && point <= 0x202F) || (point >= 0x2060 && point <= 0x206F) || point == 0xFEFF;
    if (invisible) return fmt::format("the invisible character U+{:04X}", point);
    if (point < 0x80) return fmt::format("`{}`", utf8);
    return fmt::format("`{}` (U+{:04X})", utf8, point);
}

std::string_view ascii_for(std::string_view utf8) {
    for (const Lookalike& l : kLookalikes)
        if (l.utf8 == utf8) return l.ascii;
    return {};
}

std::string help_for_dotted(std::string_view dotted) {
    const std::string_view last = dotted.substr(dotted.rfind('.') + 1);
    static constexpr std::string_view kSame[] = {"exp",   "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "sigmoid", "sin",
                                                 "cos",   "tan",  "abs", "min",  "max",  "clamp", "pow",  "floor",   "ceil",
                                                 "round", "sign", "erf", "sum",  "any",  "all",   "dot"};
    if (last == "where") return "write `if c then a else b`, or `select(c, a, b)`";
    if (dotted.starts_with("std.") && dotted.find('.', 4) == std::string_view::npos)
        return fmt::format("what is imported has its plain name: write `{}(...)`", last);
    if (const std::string_view first = dotted.substr(0, dotted.find('.'));
        first == "threadIdx" || first == "blockIdx" || first == "blockDim")
        return std::string(help_for_idiom(first));
    if (last == "select" || last == "cond") return "write `if c then a else b`, or `select(c, a, b)`";
    if (last == "inf" || last == "pi") return fmt::format("write `{}`", last);
    if (last == "minimum" || last == "fmin") return "write `min(a, b)`";
    if (last == "maximum" || last == "fmax") return "write `max(a, b)`";
    if (last == "float" || last == "to" || last == "float32") return "write `f32(x)`";
    if (last == "int" || last == "long" || last == "int32") return "write `i32(x)`";
    if (last == "logical_and") return "write `a and b`";
    if (last == "logical_or") return "write `a or b`";
    if (last == "logical_not") return "write `not a`";
    if (std::find(std::begin(kSame), std::end(kSame), last) != std::end(kSame)) return fmt::format("write `{}(...)`", last);
    if (last == "shape" || last == "size") return "the extents are `B H HKV Q K D DV`, and the names in the types of tensors";
    if (const std::string_view help = help_for_idiom(last); !help.empty()) return std::string(help);
    return "builtin functions and what is imported are used by their plain names";
}

std::string repaired_number(std::string_view number) {
    const auto digits_until = [&](size_t from, auto accept) {
        size_t i = from;
        while (i < number.size() && (accept(number[i]) || number[i] == '_')) ++i;
        return i;
    };
    if (number.size() > 2 && number[0] == '0' && std::string_view("bBoO").find(number[1]) != std::string_view::npos) {
        const unsigned base = number[1] == 'b' || number[1] == 'B' ? 2 : 8;
        uint64_t value = 0;
        for (const char c : number.substr(2)) {
            if (c == '_') continue;
            if (c < '0' || static_cast<unsigned>(c - '0') >= base || value >> 32 != 0) return {};
            value = value * base + static_cast<unsigned>(c - '0');
        }
        return std::to_string(value);
    }
    const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
    size_t end = digits_until(0, digit);
    if (end < number.size() && number[end] == '.') end = digits_until(end + 1, digit);
    if (end < number.size() && (number[end] == 'e' || number[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < number.size() && (number[exponent] == '+' || number[exponent] == '-')) ++exponent;
        if (exponent < number.size() && digit(number[exponent])) end = digits_until(exponent, digit);
    }
    const std::string_view suffix = number.substr(end);
    static constexpr std::string_view kSuffixes[] = {"f", "F", "f32", "_f32", "u", "U", "l", "L", "ul", "UL", "i32", "_i32", "u32", "h"};
    if (std::find(std::begin(kSuffixes), std::end(kSuffixes), suffix) == std::end(kSuffixes)) return {};
    std::string plain(number.substr(0, end));
    while (plain.ends_with('_')) plain.pop_back();
    return plain;
}

}  // namespace flexc::frontend
