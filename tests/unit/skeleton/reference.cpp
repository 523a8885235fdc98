#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "tests/unit/skeleton/attention.h"
#include "tests/unit/skeleton/backward.h"

namespace skeleton_test {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

}  // namespace

float to_element(const std::string& element, float x) {
    if (element == "F32" || element == "TF32" || !std::isfinite(x)) return x;
    if (element == "F16") return static_cast<float>(static_cast<_Float16>(x));
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    std::memcpy(&x, &bits, 4);
    return x;
}

bool keeps(const Case& c, const std::vector<int32_t>& doc, int h, int q, int k) {
    switch (c.mask) {
        case kMaskCausal: return q >= k;
        case kMaskWindow: return q >= k && q - k <= c.amount;
        case kMaskScattered: return (3 * q + 7 * k) % 5 < 2 && q % 5 != 4;
        case kMaskHeads: return k < c.amount * (h + 1);
        case kMaskDocument: return doc[size_t(q)] == doc[size_t(k)];
        case kMaskFrom: return k >= c.amount;
        case kMaskNothing: return false;
        default: return true;
    }
}

double score_of(const Case& c, int h, int q, int k, double score) {
    const double factor = c.factor;
    switch (c.score) {
        case kScoreAlibi: return score + factor * (h + 1) * (k - q);
        case kScoreTimes: return score * factor;
        case kScoreConstant: return factor;
        case kScoreHide: return k % 4 == 1 ? -kInf : score;
        case kScoreOne: return q == 3 && k == c.amount ? factor : score;
        case kScoreSteps: return factor * (k / 50);
        default: return score;
    }
}

Inputs make_inputs(const Instance& instance, const Case& c) {
    Inputs in;
    std::mt19937_64 random(c.seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& x, size_t n) {
        x.resize(n);
        for (float& e : x) e = to_element(instance.element, normal(random));
    };
    fill(in.q, size_t(c.b) * c.h * c.q * c.d);
    fill(in.k, size_t(c.b) * c.hkv * c.k * c.d);
    fill(in.v, size_t(c.b) * c.hkv * c.k * c.dv);
    if (!std::isfinite(c.v_bad))
        for (size_t row = 0; row < size_t(c.b) * c.hkv * c.k; row++)
            if (int(row % size_t(c.k)) >= c.bad_from && row % 7 == 0)
                for (int i = 0; i < c.dv; i += 5) in.v[row * c.dv + i] = c.v_bad;
    if (c.padding)
        for (size_t row = 0; row < size_t(c.b) * c.hkv * c.k; row++) {
            if (int(row % size_t(c.k)) < c.bad_from) continue;
            for (int i = 0; i < c.d; i++) in.k[row * c.d + i] = std::nanf("");
            for (int i = 0; i < c.dv; i++) in.v[row * c.dv + i] = std::nanf("");
        }
    in.doc.resize(size_t(std::max({c.q, c.k, 1})));
    for (size_t i = 0; i < in.doc.size(); i++) in.doc[i] = int32_t(i / 37);
    return in;
}

Expected reference(const Case& c, const Inputs& in) {
    Expected out;
    const size_t rows = size_t(c.b) * c.h * c.q;
    out.o.assign(rows * c.dv, 0);
    out.lse.assign(rows, -kInf);
    out.max_score.assign(rows, -kInf);
    std::vector<double> s(size_t(c.k));
    for (int b = 0; b < c.b; b++)
        for (int h = 0; h < c.h; h++)
            for (int q = 0; q < c.q; q++) {
                const size_t row = (size_t(b) * c.h + h) * c.q + q, kv = (size_t(b) * c.hkv + h / (c.h / c.hkv)) * c.k;
                double greatest = -kInf;
                bool bad = false;
                for (int k = 0; k < c.k; k++) {
                    s[k] = -kInf;
                    if (!keeps(c, in.doc, h, q, k)) continue;
                    double dot = 0;
                    for (int i = 0; i < c.d; i++) dot += double(in.q[row * c.d + i]) * in.k[(kv + k) * c.d + i];
                    s[k] = score_of(c, h, q, k, c.scale * dot);
                    bad |= std::isnan(s[k]) || s[k] == kInf;
                    greatest = std::max(greatest, s[k]);
                }
                double sum = 0;
                for (int k = 0; k < c.k; k++) {
                    if (s[k] == -kInf) continue;
                    const double p = std::exp(s[k] - greatest);
                    sum += p;
                    for (int i = 0; i < c.dv; i++) {
                        const double v = in.v[(kv + k) * c.dv + i];
                        out.o[row * c.dv + i] += std::isfinite(v) ? p * v : v;
                    }
                }
                const bool empty = greatest == -kInf && !bad;
                for (int i = 0; i < c.dv; i++) {
                    double& o = out.o[row * c.dv + i];
                    o = bad ? std::nan("") : empty ? 0 : o / sum;
                }
                out.lse[row] = bad ? std::nan("") : empty ? -kInf : greatest + std::log(sum);
                out.max_score[row] = bad ? std::nan("") : greatest;
            }
    return out;
}

std::string compare(const Instance& instance, const Case& c, const Outcome& outcome, const Expected& expected) {
    if (!outcome.fault.empty()) return outcome.fault;
    // Weights are rounded to 8 or 11 bits before the product with V, results once more; tf32 rounds q, k and v to 11 bits.
    const double of_o = instance.element == "BF16" ? 2e-2 : instance.element == "F16" ? 3e-3 : instance.element == "TF32" ? 5e-3 : 4e-6;
    const double of_lse = instance.element == "TF32" ? 5e-3 : 3e-6;
    const auto differ = [](const std::vector<float>& got, const std::vector<double>& want, double tolerance,
                           const char* what) -> std::string {
        for (size_t i = 0; i < want.size(); i++) {
            const bool same = std::isfinite(want[i]) ? std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i]))
                              : std::isnan(want[i])  ? std::isnan(got[i])
                                                     : got[i] == want[i];
            if (!same)
                return std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) + ", should be " +
                       std::to_string(want[i]);
        }
        return "";
    };
    (void)c;
    std::string text = differ(outcome.lse, expected.lse, of_lse, "lse");
    if (text.empty()) text = differ(outcome.max_score, expected.max_score, of_lse, "max_score");
    if (text.empty()) text = differ(outcome.o, expected.o, of_o, "o");
    return text;
}

std::string check(const Instance& instance, const Case& c) {
    const Inputs inputs = make_inputs(instance, c);
    return compare(instance, c, run(instance, c, inputs), reference(c, inputs));
}

}  // namespace skeleton_test
