// An application with a compiled variant inside: examples/gallery/sliding_window.flex, built ahead of time into an object.
// It runs that on random arrays, and checks one row with a loop.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "runtime/launch.h"

extern "C" const flex_cpu_kernel flex_cpu_kernel_sliding_window;  // in sliding_window.o

namespace {

constexpr int64_t kHeads = 4, kLength = 300, kDim = 64;
constexpr int32_t kWindow = 20;

std::vector<float> random_array(uint32_t seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<float> out(kHeads * kLength * kDim);
    std::generate(out.begin(), out.end(), [&] { return normal(engine); });
    return out;
}

flex::Tensor view(std::vector<float>& array) {
    return flex::Tensor::contiguous(array.data(), flex::DType::F32, {1, kHeads, kLength, kDim});
}

/// o[0, h, row, 0] from the definition.
double expected(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v, int64_t h, int64_t row) {
    double total = 0, sum = 0;
    for (int64_t col = std::max<int64_t>(0, row - kWindow); col <= row; ++col) {
        const float* a = &q[static_cast<size_t>((h * kLength + row) * kDim)];
        const float* b = &k[static_cast<size_t>((h * kLength + col) * kDim)];
        double score = 0;
        for (int64_t d = 0; d < kDim; ++d) score += double{a[d]} * b[d];
        const double weight = std::exp(score / std::sqrt(double{kDim}));
        total += weight;
        sum += weight * v[static_cast<size_t>((h * kLength + col) * kDim)];
    }
    return sum / total;
}

}  // namespace

int main() {
    if (flex::host_level() < flex::CpuLevel::Avx2) {
        std::puts("this machine has no AVX2; build the object with --level generic");
        return 3;
    }
    std::vector<float> q = random_array(1), k = random_array(2), v = random_array(3), o(q.size());
    int32_t window = kWindow;

    // What the variant takes: the parameter list of the .flex file.
    flex::KernelDesc desc;
    desc.name = "sliding_window";
    flex::ParamDesc param;
    param.name = "window";
    param.dtype = flex::DType::I32;
    desc.params = {param};

    flex::AttentionArrays arrays;
    arrays.q = view(q);
    arrays.k = view(k);
    arrays.v = view(v);
    arrays.o = view(o);
    const std::vector<flex::Argument> args = {{"window", flex::Tensor::contiguous(&window, flex::DType::I32, {})}};

    const flex::Status status = flex::launch_cpu(desc, flex_cpu_kernel_sliding_window, arrays, args);
    if (!status.ok()) {
        std::printf("%s\n", status.text().c_str());
        return 1;
    }
    const int64_t h = 3, row = 200;
    const double got = o[static_cast<size_t>((h * kLength + row) * kDim)], want = expected(q, k, v, h, row);
    std::printf("o[0, %d, %d, 0] = %.6f, by a plain loop %.6f\n", static_cast<int>(h), static_cast<int>(row), got, want);
    return std::abs(got - want) < 1e-5 ? 0 : 1;
}
