// The gallery's scores: inputs, and the definition of each in C++.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "tests/numerics/case.h"

namespace numerics {

namespace {

using flex::DType;

Shape general(int which) {
    return which == 0 ? Shape{.b = 2, .h = 2, .hkv = 2, .q = 37, .k = 53, .d = 16, .dv = 16, .kvb = 2}
                      : Shape{.b = 2, .h = 6, .hkv = 2, .q = 65, .k = 130, .d = 40, .dv = 24, .kvb = 1};
}

Case score_case(Shape shape, ScoreFn score, std::vector<Captured> captured = {}) {
    Case c;
    c.shape = shape;
    c.captured = std::move(captured);
    c.variant.score = std::move(score);
    return c;
}

Case alibi(Random&, int which) {
    const Shape s = general(which);
    return score_case(s, [=](int, int h, int q, int k, double x) { return x - (q - k) * std::pow(2.0, -8.0 * (h + 1) / s.h); });
}

Case alibi_slopes(Random& random, int which) {
    const Shape s = general(which);
    const Captured slope = random_floats(random, "slope", {s.h});
    return score_case(s, [=](int, int h, int q, int k, double x) { return x - (q - k) * slope.values[h]; }, {slope});
}

Case softcap(Random&, int which) {
    const float cap = which == 0 ? 2.5F : 30.0F;
    return score_case(general(which),
                      [=](int, int, int, int, double x) { return static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap)); },
                      {scalar_f32("c", cap)});
}

Case softcap_approx(Random& random, int which) {
    Case c = softcap(random, which);
    c.variant.score_error = 0x1p-10;  // 2^-10.9 for the function, as ops.def states
    return c;
}

/// The buckets by their definition: bucket j >= exact begins at the smallest distance n with n^span >= exact^span (max/exact)^(j - exact).
int t5_bucket(int distance, int buckets, int max_distance) {
    const int exact = buckets / 2;
    if (distance < exact) return std::max(distance, 0);
    int bucket = exact;
    while (bucket + 1 < buckets) {
        const double edge =
            exact * std::pow(static_cast<double>(max_distance) / exact, static_cast<double>(bucket + 1 - exact) / (buckets - exact));
        if (distance < edge - 1e-9) break;
        ++bucket;
    }
    return bucket;
}

Case relative_bias(Random& random, int which) {
    Shape s = general(which);
    if (which == 1) s.q = 170, s.k = 190;  // beyond the largest distance
    if (which == 2) s = {.b = 1, .h = 3, .hkv = 1, .q = 170, .k = 150, .d = 8, .dv = 8, .kvb = 1};
    const Captured table = random_floats(random, "T", {32, s.h});
    const bool bidirectional = which == 2;
    Case c = score_case(s,
                        [=](int, int h, int q, int k, double x) {
                            int bucket = 0;
                            if (!bidirectional)
                                bucket = t5_bucket(q - k, 32, 128);
                            else
                                bucket = (k > q ? 16 : 0) + t5_bucket(std::abs(k - q), 16, 128);
                            return x + table.values[static_cast<size_t>(bucket * s.h + h)];
                        },
                        {table});
    if (bidirectional) c.consts["bidirectional"] = "true";
    return c;
}

Case graphormer_spatial(Random& random, int which) {
    const Shape s = general(which);
    const int distances = 6;
    const Captured table = random_floats(random, "T", {s.h, distances});
    std::vector<int> dist(static_cast<size_t>(s.b) * s.q * s.k);
    for (int& d : dist) d = random.integer(0, distances - 1);
    return score_case(s,
                      [=](int b, int h, int q, int k, double x) { return x + table.values[h * distances + dist[(b * s.q + q) * s.k + k]]; },
                      {table, tensor("dist", DType::I32, {s.b, s.q, s.k}, dist)});
}

Case graphormer_edge(Random& random, int which) {
    const Shape s = general(which);
    const int types = 5, longest = which == 0 ? 3 : 4;
    const Captured table = random_floats(random, "E", {s.h, types});
    std::vector<int> length(static_cast<size_t>(s.b) * s.q * s.k), type(length.size() * longest);
    for (int& n : length) n = random.integer(0, longest);
    for (int& t : type) t = random.integer(0, types - 1);
    return score_case(
        s,
        [=](int b, int h, int q, int k, double x) {
            const size_t pair = (static_cast<size_t>(b) * s.q + q) * s.k + k;
            if (length[pair] == 0) return x;
            double mean = 0;
            for (int n = 0; n < length[pair]; ++n) mean += table.values[h * types + type[pair * longest + n]] / length[pair];
            return x + mean;
        },
        {table, tensor("ty", DType::I32, {s.b, s.q, s.k, longest}, type), tensor("len", DType::I32, {s.b, s.q, s.k}, length)});
}

Case sandwich(Random&, int which) {
    const Shape s = general(which);
    const int longest = std::max(s.q, s.k), off = longest - 1, dim = 16;
    Captured table{"R", DType::F32, {2 * longest - 1}, {}}, ratio{"hs", DType::F32, {s.h}, {}};
    for (int d = -off; d <= off; ++d) {
        double sum = 0;
        for (int i = 0; i < dim / 2; ++i) sum += std::cos(d / std::pow(10000.0, 2.0 * i / dim));
        table.values.push_back(static_cast<double>(static_cast<float>(sum)));
    }
    for (int h = 0; h < s.h; ++h) ratio.values.push_back(static_cast<double>(static_cast<float>(s.h / (8.0 * (h + 1)))));
    return score_case(
        s, [=](int, int h, int q, int k, double x) { return x + table.values[static_cast<size_t>(off + q - k)] * ratio.values[h]; },
        {table, ratio, scalar("off", off)});
}

Case mla_rope(Random& random, int which) {
    const Shape s = general(which);
    const int rotary = which == 0 ? 8 : 20;
    const Captured qr = random_floats(random, "qr", {s.b, s.h, s.q, rotary}), kr = random_floats(random, "kr", {s.b, s.hkv, s.k, rotary});
    return score_case(s,
                      [=](int b, int h, int q, int k, double x) {
                          const size_t query = ((static_cast<size_t>(b) * s.h + h) * s.q + q) * rotary;
                          const size_t key = ((static_cast<size_t>(b) * s.hkv + h / (s.h / s.hkv)) * s.k + k) * rotary;
                          double dot = 0;
                          for (int i = 0; i < rotary; ++i) dot += qr.values[query + i] * kr.values[key + i];
                          return x + dot / std::sqrt(static_cast<double>(s.d));
                      },
                      {qr, kr});
}

Case swin_bias_2d(Random& random, int which) {
    const int height = which == 0 ? 5 : 9, width = which == 0 ? 7 : 12;
    Shape s = general(which);
    s.q = s.k = height * width;
    const int across = 2 * width - 1, down = 2 * height - 1;
    const Captured table = random_floats(random, "T", {s.h, across * down});
    return score_case(s,
                      [=](int, int h, int q, int k, double x) {
                          const int row = q / width - k / width + height - 1, column = q % width - k % width + width - 1;
                          return x + table.values[static_cast<size_t>((h * down + row) * across + column)];
                      },
                      {table, scalar("window_h", height), scalar("window_w", width)});
}

Case squared(Random&, int which) {
    return score_case(general(which), [](int, int, int, int, double x) { return x * x; });
}

Case times_two(Random&, int which) {
    return score_case(general(which), [](int, int, int, int, double x) { return x + x; });
}

Case head_scale(Random& random, int which) {
    const Shape s = general(which);
    const Captured factor = random_floats(random, "s", {s.h});
    return score_case(s, [=](int, int h, int, int, double x) { return x * factor.values[h]; }, {factor});
}

Case trig(Random&, int which) {
    return score_case(general(which),
                      [](int b, int, int, int, double x) { return std::sin(std::cos(x)) + std::tan(static_cast<double>(b)); });
}

Case log_activation(Random&, int which) {
    const float offset = which == 0 ? 1.0F : 2.5F;
    Case c = score_case(general(which),
                        [=](int, int, int, int, double x) {
                            const double gelu = x * std::erfc(-x / std::sqrt(2.0)) / 2;
                            return std::log(gelu + static_cast<double>(offset));
                        },
                        {scalar_f32("offset", offset)});
    c.inexact_constants = true;
    return c;
}

}  // namespace

Captured random_floats(Random& random, std::string name, std::vector<int64_t> shape) {
    Captured captured{std::move(name), DType::F32, std::move(shape), {}};
    int64_t count = 1;
    for (const int64_t extent : captured.shape) count *= extent;
    for (int64_t i = 0; i < count; ++i) captured.values.push_back(random.normal_f32());
    return captured;
}

std::vector<GalleryTest> score_tests() {
    return {{"alibi", alibi},
            {"alibi_slopes", alibi_slopes},
            {"softcap", softcap},
            {"softcap_approx", softcap_approx},
            {"relative_bias", relative_bias, 3},
            {"graphormer_spatial", graphormer_spatial},
            {"graphormer_edge", graphormer_edge},
            {"sandwich", sandwich},
            {"mla_rope", mla_rope},
            {"swin_bias_2d", swin_bias_2d},
            {"squared", squared},
            {"times_two", times_two},
            {"head_scale", head_scale},
            {"trig", trig},
            {"log_activation", log_activation}};
}

}  // namespace numerics
