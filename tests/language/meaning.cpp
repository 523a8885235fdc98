#include "tests/language/builders.h"

namespace flexc::language {

std::vector<Case> meaning_cases() {
    const std::string s = "meaning";
    std::vector<Case> c;
    const auto add = [&](std::string sentence, std::string source, Shape shape, std::vector<Array> arrays, std::vector<Expected> expected) {
        Case one;
        one.section = s;
        one.sentence = std::move(sentence);
        one.source = std::move(source);
        one.shape = shape;
        one.arrays = std::move(arrays);
        one.expected = std::move(expected);
        c.push_back(std::move(one));
    };
    const Array bias = {"w", {2, 3}, {1, 2, 3, -1, 0, 5}};
    {
        const double z = std::exp(1.0) + std::exp(3.0);
        add("o = sum over M of softmax(s)_k v_k; lse = ln sum over M of exp(s(k))",
            "attention t(w: f32[Q, K]) { score = w[q, k]; mask = k != 1; }", {1, 1, 1, 2, 3, 1, 1}, {bias},
            {{"lse", {0, 0, 0}, std::log(z)},
             {"o", {0, 0, 0, 0}, 2 * std::exp(3.0) / z},
             {"max_score", {0, 0, 0}, 3},
             {"max_score", {0, 0, 1}, 5}});
    }
    add("What stands under a false mask never matters, even NaN or inf", "attention t(w: f32[Q, K]) { score = w[q, k]; mask = k == 1; }",
        {1, 1, 1, 2, 3, 1, 1}, {{"w", {2, 3}, {kNan, 2, kInf, -kInf, 3, kNan}}, {"v", {1, 1, 3, 1}, {kNan, 7, kInf}}},
        {{"lse", {0, 0, 0}, 2}, {"o", {0, 0, 0, 0}, 7}, {"lse", {0, 0, 1}, 3}, {"o", {0, 0, 1, 0}, 7}, {"max_score", {0, 0, 1}, 3}});
    add("A score of -inf is the same as masked", "attention t(w: f32[Q, K]) { score = w[q, k]; }", {1, 1, 1, 2, 3, 1, 1},
        {{"w", {2, 3}, {-kInf, 2, -kInf, -kInf, -kInf, -kInf}}, {"v", {1, 1, 3, 1}, {5, 7, 9}}},
        {{"lse", {0, 0, 0}, 2}, {"o", {0, 0, 0, 0}, 7}, {"lse", {0, 0, 1}, -kInf}, {"o", {0, 0, 1, 0}, 0}});
    add("NaN or +inf under a true mask gives NaN in that row, and in that row only", "attention t(w: f32[Q, K]) { score = w[q, k]; }",
        {1, 1, 1, 3, 2, 1, 1}, {{"w", {3, 2}, {kNan, 1, kInf, 1, 4, 4}}},
        {{"lse", {0, 0, 0}, kNan},
         {"o", {0, 0, 0, 0}, kNan},
         {"lse", {0, 0, 1}, kNan},
         {"o", {0, 0, 1, 0}, kNan},
         {"max_score", {0, 0, 0}, kNan},
         {"max_score", {0, 0, 1}, kNan},
         {"lse", {0, 0, 2}, 4 + std::log(2.0)},
         {"o", {0, 0, 2, 0}, 0.5}});
    add("An empty M gives o = 0, lse = -inf", "attention t { mask = q > k; }", {1, 1, 1, 2, 2, 1, 1}, {},
        {{"o", {0, 0, 0, 0}, 0}, {"lse", {0, 0, 0}, -kInf}, {"max_score", {0, 0, 0}, -kInf}, {"lse", {0, 0, 1}, 1}});
    add("An empty M: no keys at all", "attention t {}", {1, 1, 1, 2, 0, 1, 1}, {}, {{"o", {0, 0, 1, 0}, 0}, {"lse", {0, 0, 1}, -kInf}});
    add("Scores of -1e30 are finite: a row of only such scores is uniform over them", "attention t { score = -1e30; mask = k < 3; }",
        {1, 1, 1, 1, 4, 1, 1}, {}, {{"o", {0, 0, 0, 0}, 1}, {"max_score", {0, 0, 0}, -1e30}});
    add("a NaN in q shows in its row only", "attention t {}", {1, 1, 1, 2, 2, 1, 1}, {{"q", {1, 1, 2, 1}, {kNan, 1}}},
        {{"o", {0, 0, 0, 0}, kNan}, {"o", {0, 0, 1, 0}, 0.5}});
    add("batch, heads and grouped heads see their own q, k and v", "attention t {}", {2, 4, 2, 1, 1, 1, 1}, {},
        {{"o", {0, 0, 0, 0}, 0}, {"o", {0, 1, 0, 0}, 0}, {"o", {0, 2, 0, 0}, 10}, {"o", {1, 3, 0, 0}, 110}});
    return c;
}

std::vector<Case> clause_cases() {
    const std::string s = "clauses";
    std::vector<Case> c;
    const auto add = [&](std::string sentence, std::string source, Shape shape, std::vector<Array> arrays, std::vector<Expected> expected) {
        Case one;
        one.section = s;
        one.sentence = std::move(sentence);
        one.source = std::move(source);
        one.shape = shape;
        one.arrays = std::move(arrays);
        one.expected = std::move(expected);
        c.push_back(std::move(one));
    };
    const Array v12 = {"v", {1, 1, 2, 1}, {1, 2}};
    add("`sink = expr(h)` (an extra logit in the denominator)", "attention t(w: grad f32[H]) { score = 0.0; sink = w[h]; }",
        {1, 2, 1, 1, 2, 1, 1}, {vector("w", {0, std::log(2.0)}), v12},
        {{"o", {0, 0, 0, 0}, 1}, {"lse", {0, 0, 0}, std::log(3.0)}, {"o", {0, 1, 0, 0}, 0.75}, {"max_score", {0, 1, 0}, 0}});
    add("`normalize sigmoid`: each weight by itself, no denominator", "attention t { normalize sigmoid; score = f32(k); }",
        {1, 1, 1, 1, 2, 1, 1}, {v12}, {{"o", {0, 0, 0, 0}, 0.5 + 2 / (1 + std::exp(-1.0))}});
    add("`normalize none`: the scores are the weights", "attention t { normalize none; score = f32(k + 3); mask = k >= 0 and k < 2; }",
        {1, 1, 1, 1, 2, 1, 1}, {v12}, {{"o", {0, 0, 0, 0}, 11}});
    add("`query/key = transform`: rows before the product, element by element",
        "attention t { scale = 1; query = query[D - 1 - d] * f32(q + 1); key = key[d] + f32(10 * k + d); }", {1, 1, 1, 2, 1, 2, 1},
        {{"q", {1, 1, 2, 2}, {1, 2, 3, 4}}, {"k", {1, 1, 1, 2}, {5, 7}}},
        {{"lse", {0, 0, 0}, 2 * 5 + 1 * 8}, {"lse", {0, 0, 1}, 8 * 5 + 6 * 8}});
    add("a row is 0 outside [0, D)", "attention t { scale = 1; query = query[d + 1] + query[d - 1]; }", {1, 1, 1, 1, 1, 2, 1},
        {{"q", {1, 1, 1, 2}, {1, 2}}}, {{"lse", {0, 0, 0}, 3}});
    add("a transform may take a dot product with the row", "attention t(w: f32[D, D]) { scale = 1; query = dot(query[:], w[d, :]); }",
        {1, 1, 1, 1, 1, 2, 1}, {{"q", {1, 1, 1, 2}, {1, 2}}, {"w", {2, 2}, {1, 10, 100, 1000}}}, {{"lse", {0, 0, 0}, 21 + 2100}});
    add("`output = expr over o, d` (gates)",
        "attention t(g: f32[B, H, Q, DV]) { output = o * sigmoid(g[b, h, q, d]) + f32(d); score = 0.0; }", {1, 1, 1, 1, 1, 1, 2},
        {{"v", {1, 1, 1, 2}, {4, 8}}, {"g", {1, 1, 1, 2}, {0, 0}}}, {{"o", {0, 0, 0, 0}, 2}, {"o", {0, 0, 0, 1}, 5}});
    {
        const double z = 1 + std::exp(1.0);
        const double p0 = 1 / z;
        const double p1 = std::exp(1.0) / z;
        add("`emit NAME = mean(expr)`: row statistics under the attention weights",
            "attention t { score = f32(k); emit place = mean(f32(k)); emit s2 = mean(score * 2); emit entropy = mean(-log(weight)); }",
            {1, 1, 1, 1, 2, 1, 1}, {},
            {{"place", {0, 0, 0}, p1}, {"s2", {0, 0, 0}, 2 * p1}, {"entropy", {0, 0, 0}, -(p0 * std::log(p0) + p1 * std::log(p1))}});
        add("`emit NAME = column_sum(expr)`: attention maps, summed over queries",
            "attention t { score = f32(k); mask = q == 0 or k == 0; emit map = column_sum(f32(q + 1)); }", {1, 1, 1, 2, 2, 1, 1}, {},
            {{"map", {0, 0, 0}, p0 + 2}, {"map", {0, 0, 1}, p1}});
    }
    add("`blocks = tensor`: a query attends to the keys of the listed regions",
        "attention t(r: i32[B, H, R, J]) { score = 0.0; blocks = r; }", {1, 1, 1, 4, 4, 1, 1}, {{"r", {1, 1, 2, 1}, {1, 0}}},
        {{"o", {0, 0, 0, 0}, 2.5}, {"o", {0, 0, 3, 0}, 0.5}, {"lse", {0, 0, 0}, std::log(2.0)}});
    return c;
}

std::vector<Case> std_cases() {
    const std::string s = "std";
    const std::string use = "import std; ";
    const Shape six = {1, 1, 1, 6, 6, 1, 1};
    std::vector<Case> c;
    c.push_back(mask_rows(s, "Masks `causal()`", use + "attention t { mask = causal(); }", {1, 1, 1, 3, 3, 1, 1}, {"1..", "11.", "111"}));
    c.push_back(mask_rows(s, "`sliding_window(window: i32)` (q - k <= window and q >= k)",
                          use + "attention t { mask = sliding_window(1); }", {1, 1, 1, 4, 4, 1, 1}, {"1...", "11..", ".11.", "..11"}));
    c.push_back(mask_rows(s, "`dilated_window(window, dilation)`", use + "attention t { mask = dilated_window(4, 2); }", six,
                          {"1.1.1.", ".1.1.1", "1.1.1.", ".1.1.1", "1.1.1.", ".1.1.1"}));
    c.push_back(mask_rows(s, "`global_sliding_window(window, g: bool[N])`",
                          use + "attention t(g: bool[N]) { mask = global_sliding_window(1, g); }", {1, 1, 1, 4, 4, 1, 1},
                          {"1111", "111.", "1111", "1.11"}, {vector("g", {1, 0, 0, 0})}));
    c.push_back(mask_rows(s, "`prefix_lm(prefix: i32)`", use + "attention t(p: i32) { mask = prefix_lm(p); }", {1, 1, 1, 3, 3, 1, 1},
                          {"11.", "11.", "111"}, {scalar("p", 2)}));
    c.push_back(mask_rows(s, "`document(inner: mask, doc: i32[N], off: i32[M])`",
                          use + "attention t(doc: i32[N], off: i32[M]) { mask = document(q >= k and k < 1, doc, off); }",
                          {1, 1, 1, 5, 5, 1, 1}, {"1....", "1....", "..1..", "..1..", "..1.."},
                          {vector("doc", {0, 0, 1, 1, 1}), vector("off", {0, 2, 5})}));
    c.push_back(mask_rows(s, "`padding(len: i32[B])`", use + "attention t(len: i32[B]) { mask = padding(len); }", {2, 1, 1, 1, 3, 1, 1},
                          {"11."}, {vector("len", {1, 2})}, 1));
    c.push_back(mask_rows(s, "`batchify(inner: mask, n: i32)`", use + "attention t { mask = batchify(causal(), 2); }",
                          {1, 1, 1, 4, 4, 1, 1}, {"1...", "11..", "..1.", "..11"}));
    c.push_back(mask_rows(s, "`natten_2d`", use + "attention t { mask = natten_2d(3, 3, 3, 1); }", {1, 1, 1, 9, 9, 1, 1},
                          {"1..1..1..", ".1..1..1.", "..1..1..1", "1..1..1..", ".1..1..1."}));
    c.push_back(mask_rows(s, "`block_diffusion`", use + "attention t { mask = block_diffusion(2, 1); }", {1, 1, 1, 4, 4, 1, 1},
                          {"1...", ".11.", "..1.", "..11"}));
    Case alibi = value(s, "Scores `alibi()` (slopes exp2(-8 (h + 1) / H))", "0", 0);
    alibi.source = use + "attention t { score = alibi(); mask = k == 3; }";
    alibi.shape = {1, 4, 1, 2, 4, 1, 1};
    alibi.expected = {{"lse", {0, 0, 0}, 1 + 3 * 0.25}, {"lse", {0, 1, 1}, 1 + 2 * 0.0625}, {"lse", {0, 3, 0}, 1 + 3.0 / 256}};
    c.push_back(alibi);
    Case slopes = alibi;
    slopes.sentence = "`alibi_slopes(slope: f32[H])`";
    slopes.source = use + "attention t(slope: grad f32[H]) { score = alibi_slopes(slope); mask = k == 3; }";
    slopes.arrays = {vector("slope", {1, 2, 3, 4})};
    slopes.expected = {{"lse", {0, 0, 0}, 4}, {"lse", {0, 3, 1}, 9}};
    c.push_back(slopes);
    Case softcap = value(s, "`softcap(c: f32)`", "softcap(2)", 2 * std::tanh(0.5));
    softcap.source = use + softcap.source;
    c.push_back(softcap);
    softcap = value(s, "`softcap_approx`", "softcap_approx(2)", 2 * std::tanh(0.5));
    softcap.source = use + softcap.source;
    softcap.tolerance = 1e-3;
    c.push_back(softcap);
    Case bias = value(s, "`relative_bias`", "0", 0, {{"T", {8, 2}, {0, 10, 1, 11, 2, 12, 3, 13, 4, 14, 5, 15, 6, 16, 7, 17}}});
    bias.source = use + "attention t(T: grad f32[N, H]) { score = relative_bias(T); mask = k == 0; }";
    bias.shape = {1, 2, 1, 128, 2, 1, 1};
    bias.expected = {{"lse", {0, 0, 0}, 1}, {"lse", {0, 0, 3}, 4}, {"lse", {0, 1, 2}, 13}, {"lse", {0, 0, 127}, 8}};
    c.push_back(bias);
    return c;
}

std::vector<Case> all_cases() {
    std::vector<Case> all;
    for (auto part : {text_cases(), declaration_cases(), expression_cases(), meaning_cases(), clause_cases(), std_cases()})
        all.insert(all.end(), part.begin(), part.end());
    return all;
}

}  // namespace flexc::language
