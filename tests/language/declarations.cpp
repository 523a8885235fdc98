#include "tests/language/builders.h"

namespace flexc::language {

std::vector<Case> declaration_cases() {
    const std::string s = "declarations";
    std::vector<Case> c;
    const auto program = [&](std::string sentence, std::string source, double expected, std::vector<Array> arrays = {}) {
        Case one = value(s, std::move(sentence), "0", expected, std::move(arrays));
        one.source = std::move(source);
        c.push_back(one);
    };

    program("Declarations (any order in a file)",
            "attention t { score = twice(A); } fn twice(x: f32) -> f32 = x * B2; const A: f32 = B2 + 1; const B2: f32 = 2;", 6);
    program("names are unique in it; an attention and an imported name may be the same",
            "import std; attention causal { mask = causal(); score = 5.0; }", 5);
    {
        Case one = value(s, "import \"masks.flex\"; relative to this file; each file once", "0", 10);
        one.source =
            "import \"lib/a.flex\"; import \"lib/b.flex\"; import std; attention t { score = first(1.0) + second(1.0); mask = causal(); }";
        one.files = {{"lib/a.flex", "import \"common.flex\"; fn first(x: f32) -> f32 = x + C;"},
                     {"lib/b.flex", "import \"./common.flex\"; import \"../lib/common.flex\"; fn second(x: f32) -> f32 = x + C;"},
                     {"lib/common.flex", "const C: f32 = 4.0;"}};
        c.push_back(one);
    }
    program("const TILE: i32 = 24", "const TILE: i32 = 24; const T2: i32 = TILE * 2 // 5; attention t { score = f32(k + T2); }", 9);
    program("fn bucket(d: i32, n: i32) -> i32 = min(d, n)",
            "fn bucket(d: i32, n: i32) -> i32 = min(d, n); attention t { score = f32(bucket(k + 9, 4)); }", 4);
    program("a body is an expression, or a block: lets, then an expression",
            "fn ramp(d: i32) -> f32 = { let x = f32(d); let y = x + 1; x * y }; attention t { score = ramp(3); }", 12);
    program("fn takes tensors, and their extents are values in its body",
            "fn last(x: f32[N]) -> f32 = x[N - 1]; attention t(w: f32[M]) { score = last(w); }", 7, {vector("w", {1, 2, 7})});
    {
        Case one = value(s, "mask sees b h q k hkv and the extents", "0", 0);
        one.source =
            "mask everything() = b == 1 and h == 3 and q == 2 and k == 4 and hkv == 1 and B == 2 and H == 4 and HKV == 2 and Q == 3 and K "
            "== 5 and D == 1 and DV == 1;"
            "attention t { mask = everything(); }";
        one.shape = {2, 4, 2, 3, 5, 1, 1};
        one.expected = {
            {"o", {1, 3, 2, 0}, 114}, {"lse", {1, 3, 2}, 1}, {"lse", {0, 3, 2}, -kInf}, {"lse", {1, 2, 2}, -kInf}, {"o", {1, 3, 1, 0}, 0}};
        c.push_back(one);
    }
    {
        Case one = value(s, "score lin(slope: f32[H]) = score + slope[h] * f32(k - q)", "0", 0, {vector("slope", {1, 10})});
        one.source =
            "score lin(slope: f32[H]) = score + slope[h] * f32(k - q); attention t(slope: grad f32[H]) { score = lin(slope); mask = k == "
            "2; }";
        one.shape = {1, 2, 1, 2, 3, 1, 1};
        one.expected = {{"lse", {0, 0, 0}, 3}, {"lse", {0, 0, 1}, 2}, {"lse", {0, 1, 0}, 21}, {"lse", {0, 1, 1}, 11}};
        c.push_back(one);
    }
    {
        // The whole example: documents of 3 and 2 tokens.
        const std::string example = R"(
import std;
score lin(slope: f32[H]) = score + slope[h] * f32(k - q);
mask within(inner: mask, doc: i32[N], off: i32[N + 1]) =
    doc[q] == doc[k] and inner(q = q - off[doc[q]], k = k - off[doc[k]]);
## ALiBi inside documents.
attention packed(slope: grad f32[H], doc: i32[N], off: i32[N + 1], window: i32 = 1024, const step: i32 = 2) {
    let d = q - k;
    scale = 1.0 / sqrt(f32(D));
    score = lin(slope) |> softcap(30.0);
    mask  = within(causal() or d < step, doc, off) and d <= window;
})";
        Case one =
            mask_rows(s, "the example `packed`: within(causal() or d < step, doc, off) and d <= window", example, {1, 1, 1, 5, 5, 1, 1},
                      {"111..", "111..", ".11..", "...11", "...11"},
                      {vector("slope", {0}), vector("doc", {0, 0, 0, 1, 1}), vector("off", {0, 3, 5, 5, 5, 5}), scalar("window", 1)});
        c.push_back(one);
    }
    program("A default makes an argument optional",
            "attention t(w: i32 = 3 * 4, x: f32 = 1, y: bool = true) { score = f32(w) + x + f32(y); }", 14);
    program("A default makes an argument optional: a given one counts", "attention t(w: i32 = 3) { score = f32(w); }", 8, {scalar("w", 8)});
    program("a default of a mask or score parameter",
            "score up(a: f32, b2: f32 = 2) = score * b2 + a; attention t { score = up(1.0) + up(a = 2.0, b2 = 3.0); }", 8);
    {
        Case one = value(s, "`const` ones are folded at compile time (from `-D` or the default)", "0", 75);
        one.source =
            "attention t(const n: i32 = 4, const on: bool, const x: f32 = 1, w: f32[n]) { score = if on then w[n - 1] + x else 0.0; }";
        one.consts = {{"n", "2"}, {"on", "true"}, {"x", "5e1"}};
        one.arrays = {vector("w", {15, 25})};
        c.push_back(one);
    }
    program("`fn`, `mask` and `score` may take scalars, tensors and (not `fn`) masks",
            "score pick(inner: mask, w: f32[N], i: i32) = if inner() then w[i] else 0.0; attention t(w: f32[N]) { score = pick(k == 0, w, "
            "1); }",
            6, {vector("w", {5, 6})});
    {
        Case one = value(s, "Extents: a constant, one of B H HKV Q K D DV, a free name, or a * NAME + c", "0", 0);
        one.source =
            "const TILE: i32 = 2; attention t(a: f32[3], b2: f32[H, DV], c: f32[M], d2: f32[N + 1], e: f32[2 * N - 1], f: f32[TILE * N], "
            "g: f32[1 + N * 3 - 2]) {"
            " score = f32(M * 100 + N) + a[2] + b2[1, 2] + c[M - 1] + d2[N] + e[2 * N - 2] + f[TILE * N - 1] + g[3 * N - 2]; }";
        one.shape = {1, 2, 1, 1, 1, 1, 3};
        const auto ramp = [](int n, double last) {
            std::vector<double> v(static_cast<size_t>(n), 0.0);
            v.back() = last;
            return v;
        };
        one.arrays = {vector("a", ramp(3, 0.5)), {"b2", {2, 3}, ramp(6, 1)}, vector("c", ramp(4, 2)), vector("d2", ramp(3, 4)),
                      vector("e", ramp(3, 8)),   vector("f", ramp(4, 16)),   vector("g", ramp(5, 32))};
        one.expected = {{"lse", {0, 0, 0}, 402 + 0.5 + 63}};
        c.push_back(one);
    }
    program("in `mask` and `score` a free name is bound by the tensor passed",
            "score size(x: f32[N]) = f32(N); score tail(x: f32[N + 1]) = f32(N); attention t(w: f32[M], u: f32[2 * M + 3]) { score = "
            "size(w) + tail(w) * 10 + size(u) * 100 + tail(u) * 1000; }",
            2 + 10 + 700 + 6000, {vector("w", {0, 0}), vector("u", {0, 0, 0, 0, 0, 0, 0})});
    program("a free name is bound by a * NAME", "score half(x: f32[2 * N]) = f32(N); attention t(u: f32[4 * M]) { score = half(u); }", 6,
            {vector("u", std::vector<double>(12, 0.0))});
    {
        Case one = value(s, "Clauses in any order, all optional: none at all is softmax(q k / sqrt(D)) v", "0", 0);
        one.source = "attention t {}";
        one.shape = {1, 1, 1, 1, 2, 4, 1};
        one.arrays = {{"k", {1, 1, 2, 4}, {1, 1, 1, 1, 0, 0, 0, 0}}};
        const double z = std::exp(2.0) + 1;
        one.expected = {{"lse", {0, 0, 0}, std::log(z)}, {"o", {0, 0, 0, 0}, 1 / z}, {"max_score", {0, 0, 0}, 2}};
        c.push_back(one);
    }
    {
        Case one = value(s, "`scale` (default `1/sqrt(D)`; may use b, h, q, parameters)", "0", 0, {scalar("p", 2)});
        one.source = "attention t(p: f32) { scale = f32(1 + b + 2 * h + 4 * q) * p; }";
        one.shape = {2, 2, 1, 2, 1, 3, 1};
        one.expected = {{"lse", {0, 0, 0}, 6}, {"lse", {1, 0, 0}, 12}, {"lse", {0, 1, 0}, 18}, {"lse", {1, 1, 1}, 48}};
        c.push_back(one);
    }
    {
        Case one = value(s, "`score` is scale * dot(q, k) in f32", "0", 0);
        one.source = "attention t { score = score * 10; scale = 0.5; }";
        one.shape = {1, 1, 1, 1, 1, 3, 1};
        one.arrays = {{"q", {1, 1, 1, 3}, {1, 2, 3}}, {"k", {1, 1, 1, 3}, {4, 5, 6}}};
        one.expected = {{"lse", {0, 0, 0}, 160}};
        c.push_back(one);
    }
    {
        Case one = value(s, "`mask` (default true)", "0", 0);
        one.source = "attention t { score = 0.0; }";
        one.shape = {1, 1, 1, 1, 3, 1, 1};
        one.expected = {{"lse", {0, 0, 0}, std::log(3.0)}, {"o", {0, 0, 0, 0}, 1}};
        c.push_back(one);
    }
    program("`let` comes before the clauses that use it", "attention t { let a = score + 1; let c = a * a; score = c + a; mask = true; }",
            6);
    program("A call of a score function is an f32 value that reads the present `score`",
            "score f(a: f32) = score * a; attention t { score = f(2.0) + f(3.0) + score; }", 6);
    program("`x |> f(a)` calls `f(a)` with `score = x`",
            "score f(a: f32) = score * a + 1; attention t { score = score + 1 |> f(2.0) |> f(3.0); }", 16);
    program("`x |> f` without parentheses", "score f() = score + 5; attention t { score = score |> f; }", 6);
    program("So `softcap(30.0) + bias[q, k]` adds after capping",
            "import std; attention t(bias: f32[Q, K]) { score = softcap(0.001) + bias[q, k]; }", 50.001, {{"bias", {1, 1}, {50}}});
    program("evaluated by name: a mask argument is any bool expression over the indices",
            "score pick(m: mask) = if m(k = 7) and not m() then 1.0 else 0.0; attention t(x: i32) { score = pick(k * x == 21); }", 1,
            {scalar("x", 3)});
    {
        Case one = mask_rows(s, "may replace `b h q k hkv score` by named arguments, all at once (`inner(q = k, k = q)`)",
                             "mask turned(inner: mask) = inner(q = k, k = q); attention t { mask = turned(q >= k); }",
                             {1, 1, 1, 3, 3, 1, 1}, {"111", ".11", "..1"});
        c.push_back(one);
        one = mask_rows(s, "the replacement reaches everything inside",
                        "mask base() = q >= k; mask a(m: mask) = m(); mask outer(m: mask) = a(m(k = k + 1), q = q + 1); attention t { let "
                        "e = base(); mask = outer(e and k > 0); }",
                        {1, 1, 1, 3, 3, 1, 1}, {"1..", "11.", "111"});
        c.push_back(one);
        one = mask_rows(s, "the replacement reaches everything inside: a `let` is an abbreviation",
                        "import std; attention t { let d = q - k; mask = batchify(d >= 0, 2); }", {1, 1, 1, 4, 4, 1, 1},
                        {"1...", "11..", "..1.", "..11"});
        c.push_back(one);
    }
    program("a call may replace the score", "score f() = score + 1; attention t { score = f(score = 10.0) + f(score = f()); }", 14);
    program("an ordinary argument is evaluated where the call stands",
            "score f(x: i32) = f32(x * 100 + q * 10 + k); attention t { score = f(q + k + 3, q = 4, k = 5); }", 345);
    {
        Case one = value(s, "`hkv` follows `h`", "0", 0);
        one.source = "score g() = f32(h * 10 + hkv); attention t { score = g(h = H - 1 - h) + 1000 * g(hkv = 7) + 1000000 * g(h = h); }";
        one.shape = {1, 4, 2, 1, 1, 1, 1};
        one.expected = {{"lse", {0, 0, 0}, 31 + 1000.0 * 7 + 1e6 * 0}, {"lse", {0, 3, 0}, 0 + 1000.0 * 37 + 1e6 * 31}};
        c.push_back(one);
    }
    program("Ordinary parameters may be named too; positional ones come first",
            "fn f(a: i32, b2: i32, c: i32) -> f32 = f32(a * 100 + b2 * 10 + c); attention t { score = f(1, c = 3, b2 = 2); }", 123);
    {
        Case one = value(s, "`hkv = h // (H // HKV)`", "0", 0);
        one.source = "attention t { score = f32(hkv); }";
        one.shape = {1, 6, 2, 1, 1, 1, 1};
        one.expected = {
            {"lse", {0, 0, 0}, 0}, {"lse", {0, 2, 0}, 0}, {"lse", {0, 3, 0}, 1}, {"lse", {0, 5, 0}, 1}, {"o", {0, 5, 0, 0}, 10}};
        c.push_back(one);
    }
    program("`grad` marks a float tensor; it reads as any other", "attention t(w: grad bf16[N]) { score = w[1]; }", 2.5,
            {vector("w", {1, 2.5})});
    program(
        "No shadowing: the same name in blocks beside each other is no shadowing",
        "attention t { score = (if k == 0 then { let a = 1.0; a } else { let a = 2.0; a }) + sum(j in 0..2: 1.0) + sum(j in 0..3: 1.0); }",
        6);
    return c;
}

}  // namespace flexc::language
