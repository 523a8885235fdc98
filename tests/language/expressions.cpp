#include "tests/language/builders.h"

namespace flexc::language {

namespace {

const std::string s = "expressions";

void precedence(std::vector<Case>& c) {
    const auto rule = [&](const std::string& condition) { c.push_back(truth(s, "Expressions, loosest first: " + condition, condition)); };
    rule("(if k == 0 then 1 else 2 + 5) == 1");
    rule("(if k == 1 then 1 else 2 + 5) == 7");
    rule("true or true and false");
    rule("not k == 1 or k == 0");
    rule("not (k == 0) == false");
    rule("1 + 2 * 3 == 7");
    rule("2 * 7 // 3 % 3 == 1");
    rule("10 - 3 - 2 == 5");
    rule("-1 // 2 * 2 == -2");
    rule("1 | 2 ^ 2 & 6 == 1 | (2 ^ (2 & 6))");
    rule("(k + 4 | 2 ^ 7 & 3) == 5");
    rule("1 << 2 + 1 == 8");
    rule("3 & 1 << 1 == 2");
    rule("1 + k << 3 >> 1 == 4");
    rule("-k - -3 == 3");
    rule("~k + 1 == 0");
    rule("- ~k == 1");
    rule("(2 < 3) == true or false");
    c.push_back(value(s, "Expressions, loosest first: |> is looser than if", "(if k == 0 then score + 1 else score |> f(3.0))", 6));
    c.back().source = "score f(a: f32) = score * a; " + c.back().source;
    c.push_back(truth(s, "chains: `lo <= k < hi` means both",
                      "(0 <= k < 1) and not (0 < k < 1) and not (-1 <= k < 0) and (3 > 2 > 1) and not (3 > 2 > 2) and (1 < 2 >= 2 != 3)"));
    c.push_back(truth(s, "chains may mix literals with f32 and i32", "(0 < score < 1.5) and (0 <= k < 5 > k)"));
    c.push_back(truth(s, "`==` and `!=` also on bool", "(true == true) and (true != false) and ((k == 0) != (k == 1))"));
    c.push_back(value(s, "`if` works on any type and evaluates safely either way",
                      "(if (if k == 0 then true else false) then f32(if k == 1 then 1 // k else 4) else log(-1.0))", 4));
}

void integers(std::vector<Case>& c) {
    const auto rule = [&](const std::string& sentence, const std::string& condition) { c.push_back(truth(s, sentence, condition)); };
    rule("i32 wraps", "(k + 2147483647) + 1 == -2147483648");
    rule("i32 wraps: subtraction", "(k + -2147483648) - 1 == 2147483647");
    rule("i32 wraps: multiplication", "(k + 65536) * 65536 == 0 and (k + 2147483647) * 2 == -2");
    rule("i32 wraps: negation", "-(k + -2147483648) == -2147483648 and abs(k + -2147483648) == -2147483648");
    rule("`//` and `%` floor (`-1 // 3 = -1`, `-1 % 3 = 2`)", "(k - 1) // 3 == -1 and (k - 1) % 3 == 2 and -1 // 3 == -1 and -1 % 3 == 2");
    rule("`//` and `%` floor with a negative divisor",
         "(k + 7) // -2 == -4 and (k + 7) % -2 == -1 and (k - 7) // -2 == 3 and (k - 7) % -2 == -1");
    rule("by zero they give 0", "(k + 5) // k == 0 and (k + 5) % k == 0 and 5 // 0 == 0 and 5 % 0 == 0");
    rule("`INT_MIN // -1 = INT_MIN`", "(k + -2147483648) // (k - 1) == -2147483648 and (k + -2147483648) % (k - 1) == 0");
    rule("`>>` is arithmetic", "(k - 8) >> 1 == -4 and (k - 1) >> 31 == -1 and (k + 8) >> 2 == 2");
    rule("a shift count outside 0..31 gives 0, or the sign for `>>`",
         "(k + 5) << (k + 32) == 0 and (k + 5) << (k - 1) == 0 and (k + 5) >> (k + 32) == 0 and (k - 5) >> (k + 32) == -1 and (k - 5) >> "
         "(k - 1) == -1");
    rule("a shift within 0..31", "(k + 1) << 31 == -2147483648 and (k + 3) << 31 == -2147483648 and (k + 5) << 0 == 5");
    rule("`& | ^ ~` are for i32", "((k + 12) & 10) == 8 and ((k + 12) | 10) == 14 and ((k + 12) ^ 10) == 6 and ~(k + 12) == -13");
    rule("`abs min max clamp sign` also take i32",
         "abs(k - 3) == 3 and min(k, 2) == 0 and max(k, 2) == 2 and clamp(k + 9, -1, 4) == 4 and clamp(k - 9, -1, 4) == -1 and sign(k - 3) "
         "== -1 and sign(k) == 0 and sign(k + 2) == 1");
    rule("clamp with crossed bounds is min(max(x, lo), hi)", "clamp(k + 5, 8, 2) == 2 and clamp(k + 1, 8, 2) == 2");
}

void floats(std::vector<Case>& c) {
    const auto rule = [&](const std::string& sentence, const std::string& condition) { c.push_back(truth(s, sentence, condition)); };
    rule("f32 follows IEEE: NaN is not equal to itself",
         "not (score - score) / (score - score) == 0 and (inf - inf != inf - inf) and not (inf - inf < 1) and not (inf - inf >= 1)");
    rule("f32 follows IEEE: division by zero", "score / (score - score) == inf and -score / (score - score) == -inf");
    rule("f32 follows IEEE: the sign of zero", "1 / (-(score - score)) == -inf");
    rule("`i32(x)` truncates", "i32(score * 2.9) == 2 and i32(score * -2.9) == -2 and i32(score * 0.5) == 0");
    rule("`i32(x)` saturates",
         "i32(score * 3e9) == 2147483647 and i32(score * -3e9) == -2147483648 and i32(score * inf) == 2147483647 and i32(-inf * score) == "
         "-2147483648");
    rule("`i32(x)`: NaN gives 0", "i32(inf - inf * score) == 0");
    rule("`f32(bool)`, `i32(bool)` give 0 or 1", "f32(k == 0) == 1 and f32(k == 1) == 0 and i32(k == 0) == 1 and i32(k == 1) == 0");
    rule("`round` is half to even",
         "round(score * 0.5) == 0 and round(score * 1.5) == 2 and round(score * 2.5) == 2 and round(score * -1.5) == -2 and round(score * "
         "2.6) == 3");
    rule("floor and ceil", "floor(score * -1.5) == -2 and ceil(score * -1.5) == -1 and floor(score * 1.5) == 1 and ceil(score * 1.5) == 2");
    rule("`pow` is C's `powf`",
         "pow(score * 2, 10) == 1024 and pow(score * -2, 3) == -8 and pow(score - 1, 0) == 1 and pow(score * 4, -0.5) == 0.5 and "
         "pow(-score, 0.5) != pow(-score, 0.5)");
    rule("abs, min, max, sign on f32",
         "abs(-score) == 1 and min(score, 2) == 1 and max(score, 2) == 2 and sign(-score * 3) == -1 and sign(score - score) == 0");
    rule("`clamp(x, lo, hi)`", "clamp(score * 5, 0, 2) == 2 and clamp(score * -5, 0, 2) == 0 and clamp(score, 0, 2) == 1");
    rule("min and max of a NaN are NaN",
         "min(inf - inf, score) != min(inf - inf, score) and max(score, inf - inf) != max(score, inf - inf)");
    rule("`select(c, a, b)`", "select(k == 0, 1, 2) == 1 and select(k == 1, 1.5, 2.5) == 2.5 and select(k == 0, true, false)");

    const auto function = [&](const std::string& expression, double expected) {
        c.push_back(value(s, "the usual math functions: " + expression, expression, expected));
    };
    function("exp(score)", std::exp(1.0));
    function("exp2(score * 3)", 8);
    function("log(score * 10)", std::log(10.0));
    function("log2(score * 8)", 3);
    function("sqrt(score * 2)", std::sqrt(2.0));
    function("rsqrt(score * 4)", 0.5);
    function("tanh(score)", std::tanh(1.0));
    function("sigmoid(score)", 1 / (1 + std::exp(-1.0)));
    function("sin(score)", std::sin(1.0));
    function("cos(score)", std::cos(1.0));
    function("tan(score)", std::tan(1.0));
    function("erf(score)", std::erf(1.0));
    c.push_back(value(s, "plus `tanh_approx`", "tanh_approx(score)", std::tanh(1.0)));
    c.back().tolerance = 1e-3;
}

void loads(std::vector<Case>& c) {
    const std::vector<Array> x = {{"x", {2, 3}, {1, 2, 3, 4, 5, 6}}};
    c.push_back(value(s, "Loads `x[i, j]`: one index a dimension", "x[k + 1, 2] * 10 + x[0, 1]", 62, x, "x: f32[N, M]"));
    c.push_back(value(s, "out of range (negative too: nothing wraps around) gives 0",
                      "x[k + 2, 0] + x[k, 3] + x[k - 1, 0] + x[0, k - 1] + x[k + 2147483647, k + 2147483647] + 0.5", 0.5, x,
                      "x: f32[2, 3]"));
    c.push_back(truth(s, "out of range gives false", "not g[k + 3] and not g[k - 1] and g[k]", {vector("g", {1, 1})}, "g: bool[N]"));
    c.push_back(value(s, "at each level of a nested read", "f32(x[y[k + 9]] * 100 + x[y[k]] * 10 + y[x[k + 1]])", 7 * 100 + 0 + 5,
                      {vector("x", {7, 1}), vector("y", {9, 5})}, "x: i32[N], y: i32[M]"));
    c.push_back(value(s, "u8 unsigned; i8 and i16 signed; all widen to i32", "f32(a[0] * 2 + b2[0] + c[0])", 510 - 128 - 32768,
                      {vector("a", {255}), vector("b2", {-128}), vector("c", {-32768})}, "a: u8[1], b2: i8[1], c: i16[1]"));
    c.push_back(value(s, "f16 and bf16 widen to f32", "a[0] + b2[0] * score", 3.5, {vector("a", {1.5}), vector("b2", {2})},
                      "a: f16[1], b2: bf16[1]"));
    {
        Case one = value(s, "dot(x[b, h, q, :], y[b, hkv, k, :])", "dot(x[b, h, q, :], y[b, hkv, k, :])", 0, {},
                         "x: f32[B, H, Q, R], y: f32[B, HKV, K, R]");
        one.shape = {2, 2, 1, 2, 1, 1, 1};
        Array a{"x", {2, 2, 2, 3}, {}};
        for (int i = 0; i < 24; ++i) a.values.push_back(i);
        one.arrays = {a, {"y", {2, 1, 1, 3}, {1, 10, 100, 1000, 10000, 100000}}};
        one.expected = {{"lse", {0, 0, 0}, 210}, {"lse", {0, 1, 1}, 9 + 100 + 1100}, {"lse", {1, 0, 0}, 12000 + 130000 + 1400000}};
        c.push_back(one);
    }
    c.push_back(value(s, "dot of integer tensors, of rank 1", "f32(dot(x[:], y[:]))", 1 * 4 + 2 * 5,
                      {vector("x", {1, 2}), vector("y", {4, 5})}, "x: i32[N], y: i16[N]"));
}

void reductions(std::vector<Case>& c) {
    const auto rule = [&](const std::string& sentence, const std::string& condition) { c.push_back(truth(s, sentence, condition)); };
    rule("Reductions are half-open",
         "sum (j in 2..5: j) == 9 and sum (j in 0..3: 1.0) == 3 and max (j in 0..3: j * j) == 4 and min (j in 1..3: -j) == -2");
    rule("any and all",
         "any (j in 0..3: j == 2) and not any (j in 0..3: j == 3) and all (j in 0..3: j < 3) and not all (j in 0..3: j < 2)");
    rule("Empty: 0, false, true",
         "sum (j in 3..3: 1.0) == 0 and sum (j in 3..1: j + 1) == 0 and not any (j in k..k: true) and all (j in k..k: false)");
    rule("Empty: +inf, -inf", "min (j in 0..k: score) == inf and max (j in 0..k: score) == -inf");
    rule("Empty: (INT_MAX, INT_MIN)", "min (j in 0..k: j) == 2147483647 and max (j in 0..k: j) == -2147483648");
    c.push_back(value(s, "bounds are any i32 values, captured or computed", "f32(sum (j in n..x[0]: j)) + f32(sum (j in k - 2..k + 1: j))",
                      3 + 4 - 3, {scalar("n", 3), vector("x", {5})}, "n: i32, x: i32[N]"));
    rule("reductions nest", "sum (i in 0..3: sum (j in 0..i: i * 10 + j)) == 10 + 20 + 21");
    rule("a reduction whose bound is the outer variable, and a body that reads both", "max (i in 0..4: sum (j in i..4: j)) == 6");
    rule("the value of a reduction inside another of the same bounds", "{ let t = sum (i in 0..3: i); sum (i in 0..3: i * t) == 9 }");
    Case twice = truth(s, "the value of a reduction passed to a function that reduces over the same bounds", "f(sum (i in 0..3: i)) == 9");
    twice.source = "fn f(t: i32) -> i32 = sum (i in 0..3: i * t); " + twice.source;
    c.push_back(twice);
    Case by_name =
        truth(s, "a reduction inside a mask argument that is called inside a reduction", "count(sum (i in 0..3: i * k) == 6) == 1");
    by_name.source =
        "score counted(inner: mask) = f32(sum (i in 0..3: i32(inner(k = i)))); attention t { score = f32(counted(sum (i in 0..3: i * k) == "
        "6) == 1); }";
    c.push_back(by_name);
}

}  // namespace

std::vector<Case> expression_cases() {
    std::vector<Case> c;
    precedence(c);
    integers(c);
    floats(c);
    loads(c);
    reductions(c);
    return c;
}

}  // namespace flexc::language
