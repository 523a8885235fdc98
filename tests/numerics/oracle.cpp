#include "tests/numerics/oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace numerics {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

double sum_error(double u, double n) {
    return u * std::min(n, 3 * std::sqrt(n));
}

/// |ds/dx| by a central difference; where the clause is not smooth the larger one-sided slope is as good a bound.
double slope(const ScoreFn& score, int b, int h, int q, int k, double x) {
    const double step = 1e-6 * (1 + std::fabs(x));
    const double here = score(b, h, q, k, x);
    const double up = std::fabs(score(b, h, q, k, x + step) - here) / step;
    const double down = std::fabs(here - score(b, h, q, k, x - step)) / step;
    const double worst = std::max(up, down);
    return std::isfinite(worst) ? worst : 1;
}

}  // namespace

Output attention(const Inputs& in, const Variant& variant, const Precision& precision) {
    const Shape& s = in.shape;
    const double u = precision.u;
    const size_t rows = static_cast<size_t>(s.b) * s.h * s.q;
    Output out;
    out.o.assign(rows * s.dv, 0);
    out.o_bound.assign(rows * s.dv, 0);
    out.lse.assign(rows, -kInf);
    out.lse_bound.assign(rows, 0);
    out.max_score.assign(rows, -kInf);
    out.max_score_bound.assign(rows, 0);

    std::vector<double> score(s.k), error(s.k), weighted_error(s.dv), magnitude(s.dv), plain(s.dv);
    std::vector<int> kept;
    for (int b = 0; b < s.b; ++b)
        for (int h = 0; h < s.h; ++h)
            for (int q = 0; q < s.q; ++q) {
                const size_t row = (static_cast<size_t>(b) * s.h + h) * s.q + q;
                const size_t kv_head = static_cast<size_t>(s.kvb == 1 ? 0 : b) * s.hkv + h / (s.h / s.hkv);
                const double* query = in.q.data() + row * s.d;
                const double scale = variant.scale ? variant.scale(b, h, q) : 1 / std::sqrt(static_cast<double>(s.d));

                // s(k) on M, without the keys whose score is -inf.
                kept.clear();
                double max = -kInf;
                for (int k = 0; k < s.k; ++k) {
                    if (variant.mask && !variant.mask(b, h, q, k)) continue;
                    const double* key = in.k.data() + (kv_head * s.k + k) * s.d;
                    double dot = 0, largest = 0, squares = 0;
                    for (int i = 0; i < s.d; ++i) {
                        const double product = query[i] * key[i];
                        dot += product;
                        largest = std::max(largest, std::fabs(dot));
                        squares += product * product;
                    }
                    largest = std::max(largest, 3 * std::sqrt(squares));
                    const double x = scale * dot;
                    score[k] = variant.score ? variant.score(b, h, q, k, x) : x;
                    if (score[k] == -kInf) continue;
                    const double gain = variant.score ? slope(variant.score, b, h, q, k, x) : 1;
                    error[k] =
                        (sum_error(u, s.d + 4) + precision.products) * gain * std::fabs(scale) * largest +
                        (variant.score ? variant.score_ops * u * (1 + std::fabs(x) + std::fabs(score[k]) + std::fabs(score[k] - x)) : 0) +
                        variant.score_error * std::fabs(score[k]);
                    kept.push_back(k);
                    if (!(score[k] <= max)) max = score[k];  // a NaN sticks
                    out.max_score_bound[row] = std::max(out.max_score_bound[row], error[k] + u * std::fabs(score[k]));
                    if (std::isnan(max)) break;
                }
                if (kept.empty()) continue;
                out.max_score[row] = max;
                if (std::isnan(max) || max == kInf) {
                    // A score of NaN or +inf makes the row NaN. Of lse and max_score it is only asked that they are not finite.
                    out.lse[row] = out.max_score[row] = std::numeric_limits<double>::quiet_NaN();
                    std::fill_n(out.o.begin() + row * s.dv, s.dv, std::numeric_limits<double>::quiet_NaN());
                    continue;
                }

                double sum = 0, sum_p_error = 0;
                std::fill(weighted_error.begin(), weighted_error.end(), 0);
                std::fill(magnitude.begin(), magnitude.end(), 0);
                std::fill(plain.begin(), plain.end(), 0);
                double* o = out.o.data() + row * s.dv;
                for (const int k : kept) {
                    const double p = std::exp(score[k] - max);
                    const double e = error[k] + u * (4 * (max - score[k]) + 8);
                    const double* value = in.v.data() + (kv_head * s.k + k) * s.dv;
                    sum += p;
                    sum_p_error += p > 0 ? p * e : 0;
                    for (int i = 0; i < s.dv; ++i) {
                        o[i] += p * value[i];
                        magnitude[i] += p * std::fabs(value[i]);
                        plain[i] += std::fabs(value[i]);
                        if (p > 0) weighted_error[i] += p * e * std::fabs(value[i]);
                    }
                }
                sum_p_error /= sum;
                const double k_error = sum_error(u, static_cast<double>(kept.size()));
                out.lse[row] = max + std::log(sum);
                out.lse_bound[row] = sum_p_error + k_error + 4 * u * (1 + std::fabs(out.lse[row]));
                for (int i = 0; i < s.dv; ++i) {
                    o[i] /= sum;
                    magnitude[i] /= sum;
                    out.o_bound[row * s.dv + i] = weighted_error[i] / sum + sum_p_error * magnitude[i] +
                                                  (k_error + 4 * u + precision.weights) * magnitude[i] + precision.out * std::fabs(o[i]) +
                                                  precision.weights_tiny * plain[i] / sum + precision.tiny + 0x1p-126 * u * s.k;
                }
            }
    return out;
}

}  // namespace numerics
