#include <cmath>

#include "tests/gradients/problem.h"

namespace numerics {

using flex::DType;

namespace {

Captured floats(Random& random, const char* name, std::vector<int64_t> shape) {
    return random_floats(random, name, std::move(shape));
}

}  // namespace

double unit_of_scores(const std::string& label) {
    constexpr double kLargest = 900 * 4;  // of "scores that are large": 900 x, for x of a normal distribution
    return label == "scores that are large" ? kLargest * 0x1p-24 : 0;
}

const std::vector<Special>& specials() {
    static const std::vector<Special> all = {
        {"scale", "attention a(x: grad f32[H], y: grad f32[H, Q]) { scale = x[h] * y[h, q]; mask = q >= k; }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.h}), floats(r, "y", {s.h, s.q})}; }},
        {"bias of all kinds",
         "attention a(full: grad f32[B, H, Q, K], rel: grad f32[64], row: grad f16[H, Q], head: grad f32[H], col: grad f32[HKV, K]) {\n"
         "  score = score * row[h, q] + full[b, h, q, k] + rel[q - k + 20] * head[h] + rel[k] + col[hkv, k]; }",
         [](Random& r, const Shape& s) {
             std::vector<Captured> c = {floats(r, "full", {s.b, s.h, s.q, s.k}), floats(r, "rel", {64}), floats(r, "row", {s.h, s.q}),
                                        floats(r, "head", {s.h}), floats(r, "col", {s.hkv, s.k})};
             c[2].dtype = DType::F16;
             for (double& x : c[2].values) x = rounded(DType::F16, x);
             return c;
         }},
        {"sink",
         "attention a(x: grad f32[H], y: grad f32[H]) { sink = x[h] * 2.0; score = score + y[h] * f32(k - q) * 0.125; mask = q >= k and q "
         "% 4 != 2; }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.h}), floats(r, "y", {s.h})}; }},
        {"sinks that are large",
         "attention a(x: grad f32[H, Q], y: grad f32[3]) { sink = 100.0 * x[h, q] + sum(j in 0..3: y[j] * f32(j)); score = score * 8.0 + "
         "y[1]; }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.h, s.q}), floats(r, "y", {3})}; }},
        {"in reductions",
         "attention a(x: grad f32[Q, 5], y: grad f32[K, 5], n: i32 = 4) { score = score + sum(j in 0..n: x[q, j] * y[k, j]) * max(j in "
         "0..5: "
         "x[q, j]); }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.q, 5}), floats(r, "y", {s.k, 5})}; }},
        {"many row reads",
         "attention a(x: grad f32[12, Q]) { score = score * (x[0,q] + x[1,q]*x[2,q] + x[3,q] + x[4,q]*x[5,q]) + tanh(x[6,q]) * x[7,q] * "
         "x[8,q] "
         "+ x[9,q]*score + x[10,q]; mask = q - k < 9; }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {12, s.q})}; }},
        {"gathers",
         "attention a(t: grad bf16[7, H], i: i32[Q], j: i32[K]) { score = softplus(t[i[q] + j[k], h]) + score; mask = j[k] < 9; }\nfn "
         "softplus(x: f32) -> f32 = log(1.0 + exp(x));",
         [](Random& r, const Shape& s) {
             std::vector<Captured> c = {floats(r, "t", {7, s.h})};
             c[0].dtype = DType::BF16;
             for (double& x : c[0].values) x = rounded(DType::BF16, x);
             std::vector<int> i, j;
             for (int n = 0; n < s.q; ++n) i.push_back(r.integer(-1, 6));
             for (int n = 0; n < s.k; ++n) j.push_back(r.integer(-2, 4));
             c.push_back(tensor("i", DType::I32, {s.q}, i));
             c.push_back(tensor("j", DType::I32, {s.k}, j));
             return c;
         }},
        {"scores that are large", "attention a(x: grad f32[H]) { score = score * 40.0 + 900.0 * x[h]; mask = q >= k or k < 3; }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.h})}; }},
        {"ties", "attention a(x: grad f32[K], i: i32[K]) { score = f32(i[k] % 3) + 0.0 * score + x[k]; mask = q + 30 >= k; }",
         [](Random& r, const Shape& s) {
             Captured x = floats(r, "x", {s.k});
             for (double& value : x.values) value = std::round(value);
             std::vector<int> i;
             for (int n = 0; n < s.k; ++n) i.push_back(r.integer(0, 50));
             return std::vector{x, tensor("i", DType::I32, {s.k}, i)};
         }},
        {"more gradients than bounds",
         "attention a(a0: grad f32[H], a1: grad f32[Q], a2: grad f32[K], a3: grad f32[8], a4: grad f32[8], a5: grad f32[8], a6: grad "
         "f32[8],\n"
         "            a7: grad f32[8], a8: grad f32[8], a9: grad f32[B, H, Q, K]) {\n"
         "  let near = (q - k + 16) // 4;\n"
         "  scale = 0.3 + 0.1 * a7[h] * a8[q % 8];\n"
         "  score = score * a0[h] + a1[q] * a2[k] + a3[near] + a4[k % 8] * 100.0 + a5[q % 8] * a6[near] * 0.001 + a9[b, h, q, k]; }",
         [](Random& r, const Shape& s) {
             std::vector<Captured> c = {floats(r, "a0", {s.h}), floats(r, "a1", {s.q}), floats(r, "a2", {s.k})};
             for (const char* name : {"a3", "a4", "a5", "a6", "a7", "a8"}) c.push_back(floats(r, name, {8}));
             for (double& x : c[4].values) x = double(float(x * 0.01));
             c.push_back(floats(r, "a9", {s.b, s.h, s.q, s.k}));
             return c;
         }},
        {"rows without keys", "attention a(x: grad f32[K]) { score = score + x[k]; mask = k < q - 40; }",
         [](Random& r, const Shape& s) { return std::vector{floats(r, "x", {s.k})}; }},
    };
    return all;
}

std::optional<Hidden> hidden_problem(DType type) {
    const Shape shape{1, 2, 1, 90, 200, 24, 24, 1};
    auto attention = differentiated("hidden", "attention a(n: i32, m: i32) { mask = k < n and q < m; }", {});
    if (!attention) return std::nullopt;
    Random random(5);
    Problem p;
    p.in = random_inputs(random, shape, type);
    p.captured = {scalar("n", 150), scalar("m", 70)};
    const auto rows = static_cast<size_t>(shape.h * shape.q);
    p.d_o.assign(rows * static_cast<size_t>(shape.dv), 0.5);
    p.d_lse.assign(rows, 0.25);
    p.d_max_score.assign(rows, 0.75);
    Problem dirty = p;
    for (int k = 150; k < shape.k; ++k)
        for (int d = 0; d < shape.d; ++d) {
            dirty.in.k[static_cast<size_t>(k * shape.d + d)] = k % 2 ? HUGE_VAL : std::nan("");
            dirty.in.v[static_cast<size_t>(k * shape.d + d)] = k % 3 ? -HUGE_VAL : std::nan("");
        }
    for (int h = 0; h < shape.h; ++h)
        for (int q = 70; q < shape.q; ++q)
            for (int d = 0; d < shape.d; ++d) {
                dirty.in.q[static_cast<size_t>((h * shape.q + q) * shape.d + d)] = std::nan("");
                dirty.d_o[static_cast<size_t>((h * shape.q + q) * shape.d + d)] = HUGE_VAL;
            }
    return Hidden{std::move(*attention), std::move(p), std::move(dirty)};
}

}  // namespace numerics
