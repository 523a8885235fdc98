// What the language does not allow, sentence by sentence.
#include "tests/language/cases.h"

namespace flexc::language {

std::vector<Rejection> rejections() {
    const std::string text = "text";
    const std::string decl = "declarations";
    const std::string expr = "expressions";
    const auto in = [](const std::string& body) { return "attention t(w: f32[N], n: i32, x: f32, on: bool) { score = score + w[n] + x + f32(on); " + body + " }"; };
    return {
        {text, "a variable never does [adapt]: `f32(x)`", "attention t(n: i32) { score = score * n; }", "E2003", {}},
        {text, "a constant of type i32 is no literal", "const N1: i32 = 2; attention t { score = score * N1; }", "E2003", {}},
        {text, "a `let` is no literal", "attention t { let a = 2; score = score * a; }", "E2003", {}},
        {text, "no implicit int-to-float, nor back", "attention t(w: f32[N]) { score = w[score]; }", "E2024", {}},

        {decl, "names are unique in it", "fn f(a: i32) -> i32 = a; mask f() = k == 0; attention t { mask = f(); }", "E2002", {}},
        {decl, "imported names do not clash", "import std; mask causal() = q > k; attention t { mask = causal(); }", "E2009", {}},
        {decl, "imported names do not clash with each other", "import \"a.flex\"; import \"b.flex\"; attention t { mask = m(); }", "E2009",
         {{"a.flex", "mask m() = q > k;"}, {"b.flex", "mask m() = q < k;"}}},
        {decl, "no recursion", "fn f(a: i32) -> i32 = g(a) + 1; fn g(a: i32) -> i32 = f(a); attention t { score = f32(f(1)); }", "E2010", {}},
        {decl, "no recursion of masks through arguments", "mask f(m: mask) = m() and f(m()); attention t { mask = f(true); }", "E2010", {}},
        {decl, "no recursion of constants", "const A: i32 = A + 1; attention t { score = f32(A); }", "E2010", {}},
        {decl, "a cycle is an error", "import \"a.flex\"; attention t {}", "E2007", {{"a.flex", "import \"b.flex\";"}, {"b.flex", "import \"a.flex\";"}}},
        {decl, "a cycle through the main file is an error", "import \"a.flex\"; attention t {}", "E2007", {{"a.flex", "import \"main.flex\";"}}},
        {decl, "a missing import is an error", "import \"none.flex\"; attention t {}", "E2006", {}},
        {decl, "fn sees its parameters and constants only: no index", "fn f(a: i32) -> i32 = a + q; attention t { score = f32(f(1)); }", "E2032", {}},
        {decl, "fn sees its parameters and constants only: no extent", "fn f(a: i32) -> i32 = a + Q; attention t { score = f32(f(1)); }", "E2032", {}},
        {decl, "fn sees its parameters and constants only: no mask that reads an index", "mask m() = k > 0; fn f(a: i32) -> bool = m(q = a); attention t { mask = f(1); }", "E2032", {}},
        {decl, "a mask is bool", "mask m() = k % 2; attention t { mask = m(); }", "E2003", {}},
        {decl, "a score is f32", "score m() = k; attention t { score = m(); }", "E2003", {}},
        {decl, "a mask does not see the score", "mask m() = score > 0; attention t { mask = m(); }", "E2032", {}},
        {decl, "a mask does not see the score through a score function", "score f() = score; mask m() = f() > 0; attention t { mask = m(); }", "E2032", {}},
        {decl, "(not `fn`) masks", "fn f(m: mask) -> bool = m(); attention t { mask = f(true); }", "E2035", {}},
        {decl, "parameters of an attention: scalars and tensors", "attention t(m: mask) { mask = m(); }", "E2035", {}},
        {decl, "none of these [values of a `const`] is an error", "attention t(const a: i32) { score = f32(a); }", "E3001", {}},
        {decl, "`grad` marks a float tensor", "attention t(w: grad i32[N]) { score = f32(w[0]); }", "E2034", {}},
        {decl, "`grad` marks a tensor", "attention t(w: grad f32) { score = w; }", "E2034", {}},
        {decl, "an extent is a * NAME + c with constants", "attention t(w: f32[N * M]) { score = w[0]; }", "E2030", {}},
        {decl, "an extent is not a runtime parameter", "attention t(n: i32, w: f32[n]) { score = w[n]; }", "E2030", {}},
        {decl, "a free name must bind to one value wherever it occurs in one parameter list",
         "mask f(a: i32[N], c: i32[N]) = a[0] == c[0]; attention t(a: i32[4], c: i32[5]) { mask = f(a, c); }", "E2031", {}},
        {decl, "a free name must bind to one value, symbolically too",
         "mask f(a: i32[N], c: i32[N + 1]) = a[0] == c[0]; attention t(a: i32[M], c: i32[M]) { mask = f(a, c); }", "E2031", {}},
        {decl, "A parameter may not take the name of an extent", "attention t(H: f32) { score = H; }", "E2005", {}},
        {decl, "A parameter may not take the name of an index", "attention t(q: f32) { score = q; }", "E2005", {}},
        {decl, "A parameter may not take the name of a builtin", "attention t(exp: f32) { score = exp; }", "E2005", {}},
        {decl, "A parameter may not take the name of a builtin constant", "attention t(pi: f32) { score = pi; }", "E2005", {}},
        {decl, "Clauses each at most once", "attention t { score = score; score = score; }", "E2033", {}},
        {decl, "`scale` may use b, h, q, parameters: not k", in("scale = f32(k);"), "E2032", {}},
        {decl, "`scale` may not use the score", in("scale = score;"), "E2032", {}},
        {decl, "`let` comes before the clauses that use it", "attention t { score = a; let a = score; }", "E2040", {}},
        {decl, "a `let` that uses `score` may not be used by `mask`", in("let a = score; mask = a > 0;"), "E2032", {}},
        {decl, "a `let` that uses `score` may not be used by `scale`", in("let a = score; scale = a;"), "E2032", {}},
        {decl, "a `let` that uses `score` may not be used by `mask`, through another", in("let a = score; let c = a > 0; mask = c;"), "E2032", {}},
        {decl, "No shadowing, ever: of a parameter", in("let n = 1; mask = k == n;"), "E2004", {}},
        {decl, "No shadowing, ever: of a let", in("let a = 1; mask = { let a = 2; k == a };"), "E2004", {}},
        {decl, "No shadowing, ever: of a reduction variable", in("mask = any (j in 0..2: any (j in 0..2: j == k));"), "E2004", {}},
        {decl, "No shadowing, ever: of a declaration", "fn a(i: i32) -> i32 = i; attention t { let a = 1; mask = k == a; }", "E2004", {}},
        {decl, "No shadowing, ever: of an index", in("let q = 1; mask = k == q;"), "E2005", {}},
        {decl, "positional [arguments] come first", "fn f(a: i32, c: i32) -> i32 = a + c; attention t { score = f32(f(a = 1, 2)); }", "E1", {}},
        {decl, "a `fn` has no indices to replace", "fn f(a: i32) -> i32 = a; attention t { score = f32(f(1, q = 2)); }", "E2036", {}},
        {decl, "`x |> f(a)` wants a score function", "import std; attention t { score = score |> causal(); }", "E2037", {}},

        {expr, "`& | ^ ~ << >>` are for i32; on bools the diagnostic proposes `and or != not`", in("mask = (q > k) & (k > 0);"), "E2022", {}},
        {expr, "`~` of a bool", in("mask = ~(q > k);"), "E2022", {}},
        {expr, "`<` does not compare bool", in("mask = (q > k) < (k > 0);"), "E2023", {}},
        {expr, "`/` is float only", in("mask = k / 2 == 1;"), "E2021", {}},
        {expr, "`//` is integer only", in("scale = x // 2.0;"), "E2023", {}},
        {expr, "`and` takes bool", in("mask = k and on;"), "E2023", {}},
        {expr, "both sides of `if` have one type", in("scale = if on then x else n;"), "E2003", {}},
        {expr, "one index a dimension", in("scale = w[0, 1];"), "E2017", {}},
        {expr, "`x[b, h, q, :]` only inside `dot`", in("scale = w[:];"), "E2025", {}},
        {expr, "an index is i32", in("scale = w[1.0];"), "E2024", {}},
        {expr, "a tensor stands with its indices", in("scale = w;"), "E2018", {}},
        {expr, "a mask is called", "import std; attention t { mask = causal; }", "E2020", {}},
        {expr, "bounds of a reduction are i32", in("scale = sum (j in 0..x: 1.0);"), "E2023", {}},
        {expr, "overflow in a constant is an error", "const A: i32 = 2147483647; const C: i32 = A + 1; attention t { score = f32(C); }", "E2028", {}},
        {expr, "a literal out of range is an error", in("mask = k == 2147483648;"), "E2029", {}},
    };
}

}  // namespace flexc::language
