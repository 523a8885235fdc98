// A flex_cpu_kernel in plain C++, in place of generated code, and the attention it stands for in double precision.
//
// One parameter, `mode`, chooses the variant (Mode); `doc: i32[N]` and `slope: f32[H]` serve those that need them.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/launch.h"

namespace flex::test {

enum Mode : int32_t {
    kNone,
    kCausal,       // k <= q
    kAlibiCausal,  // causal, score + slope[h] * (k - q)
    kWindow,       // |q - k| <= 20
    kDocument,     // doc[q] == doc[k]; N must be at least Q and K
    kHeads,        // h + k even: differs between the heads of a group
    kHoles,        // (k / 64) % 2 == (q / 64) % 2
    kNothing,      // no pair attends
    kScaled,       // scale depends on the row
    kInfinite,     // score is -inf where k % 3 == 0
};

[[nodiscard]] KernelDesc plain_desc();
/// Vectors of `lanes` floats are promised; states and ranges are exact (`tight`) or as loose as the contract allows.
[[nodiscard]] const flex_cpu_kernel& plain_kernel(int lanes, bool tight);

struct Problem {
    int B = 1, H = 1, HKV = 1, Q = 1, K = 1, D = 1, DV = 1;
    DType dtype = DType::F32;
    Mode mode = kNone;
    bool one_kv_batch = false;
};

/// Arrays of a problem with random values, contiguous, and room for the results.
struct Data {
    explicit Data(const Problem& problem, uint32_t seed = 1);
    Data(Data&&) = default;  // a copy's views would point into the original
    [[nodiscard]] std::vector<Argument> args();

    Problem p;
    std::vector<uint8_t> q, k, v, o;
    std::vector<float> lse, max_score, slope;
    std::vector<int32_t> doc;
    int32_t mode;
    AttentionArrays arrays;
};

[[nodiscard]] double get(const Tensor& t, std::initializer_list<int64_t> index);
void set(const Tensor& t, std::initializer_list<int64_t> index, float value);

/// o, lse and max_score in double precision. o is [B, H, Q, DV].
struct Expected {
    std::vector<double> o, lse, max_score;
};
[[nodiscard]] Expected naive(Data& data);

/// Largest |got - want| / (1 + |want|) over all outputs; infinite if NaN and inf do not stand in the same places.
[[nodiscard]] double error(Data& data, const Expected& want);

}  // namespace flex::test
