// What each name and word of the language means, for hovers and completion. docs/language.md is the reference.
#include <algorithm>

#include "frontend/query.h"

namespace flexc::frontend {

const std::vector<LanguageWord>& language_words() {
    using K = LanguageWord::Kind;
    static const std::vector<LanguageWord> words = {
        {"b", K::Index, "b: i32", "The batch element, in [0, `B`)."},
        {"h", K::Index, "h: i32", "The query head, in [0, `H`)."},
        {"hkv", K::Index, "hkv: i32", "The KV head that the query head `h` reads: `h // (H // HKV)`."},
        {"q", K::Index, "q: i32", "The position of the query, in [0, `Q`)."},
        {"k", K::Index, "k: i32", "The position of the key, in [0, `K`)."},
        {"B", K::Extent, "B: i32", "The batch size."},
        {"H", K::Extent, "H: i32", "The number of query heads, a multiple of `HKV`."},
        {"HKV", K::Extent, "HKV: i32", "The number of KV heads."},
        {"Q", K::Extent, "Q: i32", "The number of queries."},
        {"K", K::Extent, "K: i32", "The number of keys."},
        {"D", K::Extent, "D: i32", "The head dimension of q and k."},
        {"DV", K::Extent, "DV: i32", "The head dimension of v."},
        {"exp", K::Function, "exp(x: f32) -> f32", "e to the power `x`."},
        {"exp2", K::Function, "exp2(x: f32) -> f32", "2 to the power `x`."},
        {"log", K::Function, "log(x: f32) -> f32", "The natural logarithm. Of a negative number it is NaN, of 0 `-inf`."},
        {"log2", K::Function, "log2(x: f32) -> f32", "The logarithm to base 2."},
        {"sqrt", K::Function, "sqrt(x: f32) -> f32", "The square root. Of a negative number it is NaN."},
        {"rsqrt", K::Function, "rsqrt(x: f32) -> f32", "`1 / sqrt(x)`."},
        {"tanh", K::Function, "tanh(x: f32) -> f32", "The hyperbolic tangent."},
        {"tanh_approx", K::Function, "tanh_approx(x: f32) -> f32", "The hyperbolic tangent of the hardware: relative error up to 2^-10.9."},
        {"sigmoid", K::Function, "sigmoid(x: f32) -> f32", "`1 / (1 + exp(-x))`."},
        {"sin", K::Function, "sin(x: f32) -> f32", "The sine of `x` in radians."},
        {"cos", K::Function, "cos(x: f32) -> f32", "The cosine of `x` in radians."},
        {"tan", K::Function, "tan(x: f32) -> f32", "The tangent of `x` in radians."},
        {"erf", K::Function, "erf(x: f32) -> f32", "The error function."},
        {"floor", K::Function, "floor(x: f32) -> f32", "Rounded down to an integer."},
        {"ceil", K::Function, "ceil(x: f32) -> f32", "Rounded up to an integer."},
        {"round", K::Function, "round(x: f32) -> f32", "Rounded to the nearest integer, half to even."},
        {"pow", K::Function, "pow(x: f32, y: f32) -> f32", "`x` to the power `y`, as C's `powf`."},
        {"abs", K::Function, "abs(x)", "The absolute value, of f32 or i32."},
        {"sign", K::Function, "sign(x)", "-1, 0 or 1, of f32 or i32."},
        {"min", K::Function, "min(x, y)", "The lesser of two f32 or two i32; NaN if one is. As a reduction: `min(j in lo..hi: e)`."},
        {"max", K::Function, "max(x, y)", "The greater of two f32 or two i32; NaN if one is. As a reduction: `max(j in lo..hi: e)`."},
        {"clamp", K::Function, "clamp(x, lo, hi)", "`min(max(x, lo), hi)`, of f32 or i32."},
        {"select", K::Function, "select(condition: bool, a, b)", "`if condition then a else b`."},
        {"f32", K::Type, "f32(x) -> f32", "32-bit floats. `f32(x)` converts an i32, or a bool to 0 or 1."},
        {"i32", K::Type, "i32(x) -> i32",
         "32-bit integers. `i32(x)` converts an f32 (it truncates and saturates; NaN gives 0) or a bool to 0 or 1."},
        {"dot", K::Function, "dot(x[..., :], y[..., :])",
         "The sum of products over the last dimension of two tensors: `dot(x[b, h, q, :], w[d, :])`."},
        {"sum", K::Reduction, "sum(j in lo..hi: e)", "The sum of `e` for `j` in [lo, hi); 0 if there are none."},
        {"any", K::Reduction, "any(j in lo..hi: e)", "Whether `e` holds for some `j` in [lo, hi); false if there are none."},
        {"all", K::Reduction, "all(j in lo..hi: e)", "Whether `e` holds for every `j` in [lo, hi); true if there are none."},
        {"inf", K::Constant, "inf: f32", "Infinity. A score of `-inf` is the same as masked."},
        {"pi", K::Constant, "pi: f32", "3.14159..."},
        {"true", K::Constant, "true: bool", ""},
        {"false", K::Constant, "false: bool", ""},
        {"bool", K::Type, "bool", "A condition, or an element of a tensor of conditions."},
        {"f16", K::Type, "f16", "Elements of tensors: half precision; a load widens to f32."},
        {"bf16", K::Type, "bf16", "Elements of tensors: bfloat16; a load widens to f32."},
        {"i16", K::Type, "i16", "Elements of tensors: 16-bit integers; a load widens to i32."},
        {"i8", K::Type, "i8", "Elements of tensors: 8-bit integers; a load widens to i32."},
        {"u8", K::Type, "u8", "Elements of tensors: bytes; a load widens to i32."},
        {"scale", K::Clause, "scale = e", "Clause: the factor of the dot product, f32. Reads `b h hkv q`. Default `1 / sqrt(D)`."},
        {"score", K::Clause, "score: f32",
         "In expressions: the present score, `scale * dot(q, k)` in an attention's clause. `score = e` is the clause that gives the logit; "
         "it reads `b h hkv q k score`."},
        {"mask", K::Clause, "mask = e",
         "Clause: whether key `k` counts for query `q`, bool. Reads `b h hkv q k`. Default `true`. `mask` is also the type of a condition "
         "passed by name, and declares one."},
        {"normalize", K::Clause, "normalize softmax",
         "Clause: `softmax`, `sigmoid` (each weight is sigmoid(score)) or `none` (the score is the weight)."},
        {"sink", K::Clause, "sink = e", "Clause: an extra logit in the denominator, without a value, f32. Reads `b h hkv q`."},
        {"blocks", K::Clause, "blocks = name",
         "Clause: a captured `i32[B, H, R, J]`. Queries and keys are cut into R regions; a query sees the regions listed for its own."},
        {"query", K::Clause, "query = e", "Clause: element `d` of the row that replaces q, f32. `query[i]` is the given row."},
        {"key", K::Clause, "key = e",
         "Clause: element `d` of the row that replaces k, f32; once for each KV head. `key[i]` is the given row."},
        {"output", K::Clause, "output = e", "Clause: element `d` of the output, f32; `o` is the normalised one."},
        {"emit", K::Clause, "emit name = mean(e)",
         "Clause: a further output. `mean(e)`: the sum over k of weight * e, `[B, H, Q]`. `column_sum(e)`: the sum over q, `[B, H, K]`."},
        {"mean", K::Word, "mean(e)", "In `emit`: the sum over k of weight * e, for each row."},
        {"column_sum", K::Word, "column_sum(e)", "In `emit`: the sum over q of weight * e, for each key."},
        {"softmax", K::Word, "softmax", "In `normalize`: weights are exp(score) over their sum. The default."},
        {"none", K::Word, "none", "In `normalize`: the score is the weight."},
        {"d", K::ClauseName, "d: i32", "In the clauses `query`, `key` and `output`: the element of the row."},
        {"o", K::ClauseName, "o: f32", "In the clause `output`: element `d` of the normalised output."},
        {"weight", K::ClauseName, "weight: f32", "In an `emit`: the attention weight."},
        {"import", K::Word, "import std;",
         "Brings in the functions, masks, scores and constants of `std` or of a file: `import \"masks.flex\";`."},
        {"const", K::Word, "const NAME: type = e;",
         "A constant, computed when compiling. At a parameter of an attention: folded at compile time, set by `-D NAME=VALUE`."},
        {"fn", K::Word, "fn name(x: f32) -> f32 = e;", "A function of its parameters and of constants."},
        {"attention", K::Word, "attention name(parameters) { clauses }",
         "A variant that can be compiled, run and linked. Its parameters are what a launch captures."},
        {"grad", K::Word, "name: grad f32[H]", "Asks for the gradient of a captured float tensor."},
        {"let", K::Word, "let name = e;", "An abbreviation: writing the expression in its place means the same."},
        {"if", K::Word, "if c then a else b", "One of two values of one type. Branches may be blocks."},
        {"then", K::Word, "if c then a else b", "One of two values of one type."},
        {"else", K::Word, "if c then a else b", "One of two values of one type."},
        {"in", K::Word, "sum(j in lo..hi: e)", "The range of a reduction, half-open."},
        {"and", K::Word, "a and b", "Both conditions hold. Binds tighter than `or`."},
        {"or", K::Word, "a or b", "One of the conditions holds."},
        {"not", K::Word, "not a", "The condition does not hold. Binds looser than a comparison."},
    };
    return words;
}

const LanguageWord* language_word(std::string_view name) {
    const std::vector<LanguageWord>& words = language_words();
    const auto found = std::find_if(words.begin(), words.end(), [&](const LanguageWord& w) { return w.name == name; });
    return found == words.end() ? nullptr : &*found;
}

}  // namespace flexc::frontend
