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

/// |ds/dx| by a central difference; where the clause is not smooth the larger one-sided slope is as good a bound. `number`: k of a score, d of an output.
double slope(const ScoreFn& clause, int b, int h, int q, int number, double x) {
    const double step = 1e-6 * (1 + std::fabs(x));
    const double here = clause(b, h, q, number, x);
    const double up = std::fabs(clause(b, h, q, number, x + step) - here) / step;
    const double down = std::fabs(here - clause(b, h, q, number, x - step)) / step;
    const double worst = std::max(up, down);
    return std::isfinite(worst) ? worst : 1;
}

double norm(const double* row, int n) {
    double squares = 0;
    for (int i = 0; i < n; ++i) squares += row[i] * row[i];
    return std::sqrt(squares);
}

/// Rows after a clause that transforms them, and the greatest norm of a row before and after: its rounding errors are relative to that.
struct Rows {
    std::vector<double> values, norms;
};
template <class Clause>
Rows transformed(const double* from, int rows, int d, const Clause& clause) {
    Rows out{{from, from + static_cast<size_t>(rows) * d}, std::vector<double>(rows)};
    for (int row = 0; row < rows; ++row) {
        const double* raw = from + static_cast<size_t>(row) * d;
        for (int i = 0; i < d; ++i) out.values[static_cast<size_t>(row) * d + i] = clause(row, i, raw);
        out.norms[row] = std::max(norm(raw, d), norm(out.values.data() + static_cast<size_t>(row) * d, d));
    }
    return out;
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
        for (int h = 0; h < s.h; ++h) {
            Rows keys;
            const size_t first_key = (static_cast<size_t>(s.kvb == 1 ? 0 : b) * s.hkv + h / (s.h / s.hkv)) * s.k;
            if (variant.key)
                keys = transformed(in.k.data() + first_key * s.d, s.k, s.d,
                                   [&](int k, int i, const double* raw) { return variant.key(b, h / (s.h / s.hkv), k, i, raw); });
            for (int q = 0; q < s.q; ++q) {
                const size_t row = (static_cast<size_t>(b) * s.h + h) * s.q + q;
                const size_t kv_head = static_cast<size_t>(s.kvb == 1 ? 0 : b) * s.hkv + h / (s.h / s.hkv);
                const double* query = in.q.data() + row * s.d;
                Rows own;
                if (variant.query)
                    own = transformed(query, 1, s.d, [&](int, int i, const double* raw) { return variant.query(b, h, q, i, raw); });
                if (variant.query) query = own.values.data();
                const double scale = variant.scale ? variant.scale(b, h, q) : 1 / std::sqrt(static_cast<double>(s.d));

                // s(k) on M, without the keys whose score is -inf.
                kept.clear();
                double max = -kInf;
                for (int k = 0; k < s.k; ++k) {
                    if (variant.mask && !variant.mask(b, h, q, k)) continue;
                    const double* key = in.k.data() + (kv_head * s.k + k) * s.d;
                    double transforms = 0;  // |q| |k|, where either was transformed
                    if (variant.query || variant.key)
                        transforms = (variant.query ? own.norms[0] : norm(query, s.d)) * (variant.key ? keys.norms[k] : norm(key, s.d));
                    if (variant.key) key = keys.values.data() + static_cast<size_t>(k) * s.d;
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
                        ((sum_error(u, s.d + 4) + precision.products) * largest + kRowOps * u * transforms) * gain * std::fabs(scale) +
                        (variant.score ? variant.score_ops * u * (1 + std::fabs(x) + std::fabs(score[k]) + std::fabs(score[k] - x)) : 0) +
                        variant.score_error * std::fabs(score[k]);
                    kept.push_back(k);
                    if (!(score[k] <= max)) max = score[k];  // a NaN sticks
                    out.max_score_bound[row] = std::max(out.max_score_bound[row], error[k] + u * std::fabs(score[k]));
                    if (std::isnan(max)) break;
                }
                const bool each = variant.normalize != Variant::Normalize::Softmax;
                double* const o = out.o.data() + row * s.dv;
                double* const o_bound = out.o_bound.data() + row * s.dv;
                // What stores a row does at last, whether it has keys or not.
                const auto finish = [&] {
                    for (int i = 0; i < s.dv; ++i) {
                        if (variant.output) {
                            const double raw = o[i];
                            const double gain = slope(variant.output, b, h, q, i, raw);
                            o[i] = variant.output(b, h, q, i, raw);
                            o_bound[i] = gain * o_bound[i] + kScoreOps * u * (1 + std::fabs(raw) + std::fabs(o[i]));
                        }
                        o_bound[i] += precision.out * std::fabs(o[i]) + precision.tiny;
                    }
                };
                const double sink = variant.sink && !each ? variant.sink(b, h, q) : -kInf;
                if (kept.empty()) {
                    out.lse[row] = sink == kInf ? std::numeric_limits<double>::quiet_NaN() : sink;
                    if (std::isfinite(sink)) out.lse_bound[row] = 4 * u * (1 + std::fabs(sink));
                    if (variant.output) finish();
                    continue;
                }
                out.max_score[row] = max;
                const bool bad_sink = std::isnan(sink) || sink == kInf;
                if (std::isnan(max) || (max == kInf && !each) || bad_sink) {
                    // A score of NaN or +inf makes the row NaN. Of lse and max_score it is only asked that they are not finite.
                    out.lse[row] = std::numeric_limits<double>::quiet_NaN();
                    if (!bad_sink) out.max_score[row] = std::numeric_limits<double>::quiet_NaN();
                    std::fill_n(out.o.begin() + row * s.dv, s.dv, std::numeric_limits<double>::quiet_NaN());
                    continue;
                }

                // The sink is one more key, without a value.
                const double top = std::max(max, sink), p_sink = std::exp(sink - top);
                double sum = p_sink, sum_p_error = p_sink > 0 ? p_sink * u * (4 * (top - sink) + 8 + std::fabs(sink)) : 0;
                std::fill(weighted_error.begin(), weighted_error.end(), 0);
                std::fill(magnitude.begin(), magnitude.end(), 0);
                std::fill(plain.begin(), plain.end(), 0);
                for (const int k : kept) {
                    const double p = std::exp(score[k] - top);
                    const double e = error[k] + u * (4 * (top - score[k]) + 8);
                    const double* value = in.v.data() + (kv_head * s.k + k) * s.dv;
                    sum += p;
                    sum_p_error += p > 0 ? p * e : 0;
                    const double sigmoid = 1 / (1 + std::exp(-score[k]));
                    const double weight = !each ? p : variant.normalize == Variant::Normalize::Sigmoid ? sigmoid : score[k];
                    const double weight_error = !each ? p * e
                                                : variant.normalize == Variant::Normalize::Sigmoid
                                                    ? sigmoid * ((1 - sigmoid) * error[k] + 8 * u)
                                                    : error[k];
                    for (int i = 0; i < s.dv; ++i) {
                        o[i] += weight * value[i];
                        magnitude[i] += std::fabs(weight * value[i]);
                        plain[i] += std::fabs(value[i]);
                        if (weight_error > 0) weighted_error[i] += weight_error * std::fabs(value[i]);
                    }
                }
                sum_p_error /= sum;
                const double k_error = sum_error(u, static_cast<double>(kept.size()));
                out.lse[row] = top + std::log(sum);
                out.lse_bound[row] = sum_p_error + k_error + 4 * u * (1 + std::fabs(out.lse[row]));
                const double total = each ? 1 : sum;  // the weights' denominator, and its relative error
                const double total_error = each ? 0 : sum_p_error;
                for (int i = 0; i < s.dv; ++i) {
                    o[i] /= total;
                    magnitude[i] /= total;
                    o_bound[i] = weighted_error[i] / total + total_error * magnitude[i] +
                                 (k_error + 4 * u + precision.weights) * magnitude[i] + precision.weights_tiny * plain[i] / total +
                                 0x1p-126 * u * s.k;
                }
                finish();
            }
        }
    return out;
}

}  // namespace numerics
