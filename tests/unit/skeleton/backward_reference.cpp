#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/unit/skeleton/backward.h"

namespace skeleton_test {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// Derivatives of the learned score by what it reads, and by x.
struct Slopes {
    double x, of[kTestGradients];
};

}  // namespace

BackwardInputs make_backward_inputs(const BackwardInstance& instance, const BackwardCase& c, ExpectedGradients* out) {
    BackwardInputs in;
    std::mt19937_64 random(c.seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, size_t n, bool element) {
        x.resize(n);
        for (float& e : x) e = element ? to_element(instance.element, normal(random)) : normal(random);
    };
    const int kb = c.k_shared ? 1 : c.b, vb = c.v_shared ? 1 : c.b;
    const size_t rows = size_t(c.b) * c.h * c.q;
    fill(in.q, rows * c.d, true);
    fill(in.k, size_t(kb) * c.hkv * c.k * c.d, true);
    fill(in.v, size_t(vb) * c.hkv * c.k * c.dv, true);
    fill(in.d_o, rows * c.dv, true);
    fill(in.d_lse, rows, false);
    fill(in.d_max_score, rows, false);
    const int sizes[kTestGradients] = {c.h, c.h * c.q, c.b * c.k, kTable, c.h};
    for (int i = 0; i < kTestGradients; i++) {
        fill(in.value[i], size_t(sizes[i]), false);
        for (float& x : in.value[i]) x = i == kHead || i == kGain ? 1 + 0.25f * x : i == kRow ? x + c.offset : x;
    }
    in.doc.resize(size_t(std::max({c.q, c.k, 1})));
    for (size_t i = 0; i < in.doc.size(); i++) in.doc[i] = int32_t(i / 37);
    const auto spoil = [&](std::vector<float>& x, int length, int columns) {
        for (size_t row = 0; row < x.size() / size_t(columns); row++)
            if (int(row % size_t(length)) >= c.bad_from)
                for (int i = int(row) % 3; i < columns; i += 5) x[row * size_t(columns) + size_t(i)] = c.bad;
    };
    if (c.bad_in == "k") spoil(in.k, c.k, c.d);
    if (c.bad_in == "v") spoil(in.v, c.k, c.dv);
    if (c.bad_in == "q") spoil(in.q, c.q, c.d);
    if (c.bad_in == "do") spoil(in.d_o, c.q, c.dv);

    in.o.assign(rows * c.dv, 0);
    in.lse.assign(rows, -std::numeric_limits<float>::infinity());
    out->dq.assign(in.q.size(), 0);
    out->dk.assign(in.k.size(), 0);
    out->dv.assign(in.v.size(), 0);
    for (int i = 0; i < kTestGradients; i++) out->d_value[i].assign(in.value[i].size(), 0), out->size_of[i].assign(in.value[i].size(), 0);
    const bool has_gain = !(c.properties & 2), learned = c.score == kScoreLearned;
    std::vector<double> s(size_t(c.k)), dot(size_t(c.k));
    for (int b = 0; b < c.b; b++)
        for (int h = 0; h < c.h; h++)
            for (int q = 0; q < c.q; q++) {
                const size_t row = (size_t(b) * c.h + h) * c.q + q;
                const int hkv = h / (c.h / c.hkv);
                const size_t k_row = (size_t(c.k_shared ? 0 : b) * c.hkv + hkv) * c.k,
                             v_row = (size_t(c.v_shared ? 0 : b) * c.hkv + hkv) * c.k;
                const double scale = c.scale * (has_gain ? in.value[kGain][h] : 1.0);
                const auto bucket = [](int q_, int k_) { return (q_ + 3 * k_) % kTable; };
                double greatest = -kInf;
                bool bad = false, any = false;
                for (int k = 0; k < c.k; k++) {
                    s[k] = -kInf;
                    if (!keeps(c, in.doc, h, q, k)) continue;
                    dot[k] = 0;
                    for (int i = 0; i < c.d; i++) dot[k] += double(in.q[row * c.d + i]) * in.k[(k_row + k) * c.d + i];
                    const double x = scale * dot[k];
                    s[k] = learned ? x * in.value[kHead][h] + in.value[kRow][h * c.q + q] + in.value[kKey][b * c.k + k] * 0.5 +
                                         in.value[kBucket][bucket(q, k)]
                                   : score_of(c, h, q, k, x);
                    any |= s[k] != -kInf;
                    bad |= std::isnan(s[k]) || s[k] == kInf;
                    greatest = std::max(greatest, s[k]);
                }
                if (!any) continue;
                double sum = 0;
                int attain = 0;
                for (int k = 0; k < c.k; k++) {
                    if (s[k] == -kInf) continue;
                    sum += std::exp(s[k] - greatest);
                    attain += s[k] == greatest;
                }
                in.lse[row] = float(bad ? std::nan("") : greatest + std::log(sum));
                std::vector<double> o(size_t(c.dv), 0.0);
                for (int k = 0; k < c.k; k++) {
                    if (s[k] == -kInf) continue;
                    for (int i = 0; i < c.dv; i++) o[i] += std::exp(s[k] - greatest) / sum * in.v[(v_row + k) * c.dv + i];
                }
                double delta = -(c.d_lse ? in.d_lse[row] : 0.0), of_delta = std::abs(delta);
                for (int i = 0; i < c.dv; i++) {
                    in.o[row * c.dv + i] = to_element(instance.element, float(bad ? std::nan("") : o[i]));
                    delta += double(in.o[row * c.dv + i]) * in.d_o[row * c.dv + i];
                    of_delta += std::abs(double(in.o[row * c.dv + i]) * in.d_o[row * c.dv + i]);
                }
                for (int k = 0; k < c.k; k++) {
                    if (s[k] == -kInf) continue;
                    const double p = bad ? std::nan("") : std::exp(s[k] - greatest) / sum;
                    double dp = 0, of_dp = 0;
                    for (int i = 0; i < c.dv; i++) {
                        dp += double(in.d_o[row * c.dv + i]) * in.v[(v_row + k) * c.dv + i];
                        of_dp += std::abs(double(in.d_o[row * c.dv + i]) * in.v[(v_row + k) * c.dv + i]);
                    }
                    const double ds = p * (dp - delta) + (c.d_max_score && s[k] == greatest ? in.d_max_score[row] / attain : 0.0);
                    double slope = 1;
                    if (learned) slope = in.value[kHead][h];
                    if (c.score == kScoreTimes) slope = c.factor;
                    if (c.score == kScoreConstant || c.score == kScoreSteps) slope = 0;
                    if (c.score == kScoreOne && q == 3 && k == c.amount) slope = 0;
                    const double dx = ds * slope;
                    for (int i = 0; i < c.d; i++) {
                        out->dq[row * c.d + i] += dx * scale * in.k[(k_row + k) * c.d + i];
                        out->dk[(k_row + k) * c.d + i] += dx * scale * in.q[row * c.d + i];
                    }
                    for (int i = 0; i < c.dv; i++) out->dv[(v_row + k) * c.dv + i] += p * in.d_o[row * c.dv + i];
                    const double of_ds = p * (of_dp + of_delta) + std::abs(ds);
                    const auto add = [&](int gradient, int at, double by) {
                        out->d_value[gradient][at] += ds * by;
                        out->size_of[gradient][at] += of_ds * std::abs(by);
                    };
                    if (has_gain) add(kGain, h, slope * dot[k] * c.scale);
                    if (!learned) continue;
                    add(kHead, h, scale * dot[k]);
                    add(kRow, h * c.q + q, 1);
                    add(kKey, b * c.k + k, 0.5);
                    add(kBucket, bucket(q, k), 1);
                }
            }
    return in;
}

std::string compare(const BackwardInstance& instance, const BackwardCase& c, const Gradients& got, const ExpectedGradients& want) {
    if (!got.fault.empty()) return got.fault;
    // Weights and derivatives are rounded to 8 or 11 bits before the products, results once more; tf32 rounds all operands to 11 bits. Relative to the
    // greatest of a tensor, or for captured tensors to the sum of what was added to an element, before anything cancels.
    // Scores are f32: what is half an ulp of a large one is a relative error of its weight.
    const double of_scores = std::abs(c.offset) * 0x1p-23;
    const double relative = of_scores + (instance.element == "BF16"   ? 8e-3
                                         : instance.element == "F16"  ? 1.5e-3
                                         : instance.element == "TF32" ? 4e-3
                                                                      : 1e-5);
    const auto differ = [&](const std::vector<float>& got_all, const std::vector<double>& want_all, const std::string& what,
                            double tolerance, const std::vector<double>* size_of = nullptr) -> std::string {
        double greatest = 1;
        for (double x : want_all)
            if (std::isfinite(x)) greatest = std::max(greatest, std::abs(x));
        for (size_t i = 0; i < want_all.size(); i++) {
            const bool same = std::isfinite(want_all[i])
                                  ? std::abs(got_all[i] - want_all[i]) <= tolerance * (size_of ? (*size_of)[i] + 1e-4 : greatest)
                                  : !std::isfinite(got_all[i]);
            if (!same)
                return what + "[" + std::to_string(i) + "] is " + std::to_string(got_all[i]) + ", should be " +
                       std::to_string(want_all[i]) + "; greatest " + std::to_string(greatest);
        }
        return "";
    };
    std::string text = differ(got.dv, want.dv, "dv", relative);
    if (text.empty()) text = differ(got.dk, want.dk, "dk", relative);
    if (text.empty()) text = differ(got.dq, want.dq, "dq", relative);
    if ((c.properties & 3) == 3) return text;
    const char* names[] = {"d_head", "d_row", "d_key", "d_bucket", "d_gain"};
    for (int i = 0; i < kTestGradients && text.empty(); i++) {
        if (i != kGain && c.score != kScoreLearned) continue;  // not read
        // Sums of f32, but for the gain's: that is q . (dX K), and dX is rounded there.
        const double tolerance = of_scores + (instance.element == "TF32" ? 4e-3 : i == kGain ? relative / 2 : 1e-5);
        text = differ(got.d_value[i], want.d_value[i], names[i], tolerance, &want.size_of[i]);
    }
    return text;
}

std::string check(const BackwardInstance& instance, const BackwardCase& c) {
    ExpectedGradients expected;
    const BackwardInputs inputs = make_backward_inputs(instance, c, &expected);
    return compare(instance, c, run(instance, c, inputs), expected);
}

}  // namespace skeleton_test
