#include <algorithm>
#include <numeric>

#include "tests/emulator/cases.h"

namespace emulator_test {

namespace {

using Half = _Float16;

std::string vector_add(Gpu& gpu) {
    Numbers numbers(1);
    constexpr int kCount = 1000;
    auto a = numbers.uniforms(kCount), b = numbers.uniforms(kCount);
    uint64_t out = gpu.allocate(kCount * 4);
    if (auto error = gpu.launch("vector_add", {8, 1, 1}, {128, 1, 1}, 0, {gpu.upload(a), gpu.upload(b), out, kCount}); !error.empty())
        return error;
    std::vector<float> right(kCount);
    std::transform(a.begin(), a.end(), b.begin(), right.begin(), std::plus<>());
    return compare("out", gpu.download<float>(out, kCount), right);
}

std::string saxpy(Gpu& gpu) {
    Numbers numbers(2);
    auto x = numbers.uniforms(4 * 1001), y = numbers.uniforms(4 * 1001);
    uint64_t address = gpu.upload(y);
    if (auto error = gpu.launch("saxpy", {3, 1, 1}, {96, 1, 1}, 0, {2.5f, gpu.upload(x), address, 1001}); !error.empty()) return error;
    for (size_t i = 0; i < y.size(); ++i) y[i] = std::fma(2.5f, x[i], y[i]);
    return compare("y", gpu.download<float>(address, y.size()), y);
}

std::string transpose(Gpu& gpu) {
    constexpr int kRows = 75, kColumns = 41;
    std::vector<int> in(kRows * kColumns), right(in.size());
    std::iota(in.begin(), in.end(), 0);
    for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns; ++c) right[static_cast<size_t>(c * kRows + r)] = r * kColumns + c;
    uint64_t out = gpu.allocate(in.size() * 4);
    if (auto error = gpu.launch("transpose", {2, 3, 1}, {32, 8, 1}, 0, {gpu.upload(in), out, kRows, kColumns}); !error.empty())
        return error;
    return compare("out", gpu.download<int>(out, in.size()), right);
}

template <typename A, typename B>
std::vector<double> product(const std::vector<A>& a, const std::vector<B>& b, int m, int n, int k, bool b_transposed) {
    std::vector<double> c(static_cast<size_t>(m * n));
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            double sum = 0;
            for (int l = 0; l < k; ++l)
                sum += static_cast<double>(static_cast<float>(a[static_cast<size_t>(i * k + l)])) *
                       static_cast<double>(static_cast<float>(b[static_cast<size_t>(b_transposed ? j * k + l : l * n + j)]));
            c[static_cast<size_t>(i * n + j)] = sum;
        }
    return c;
}

std::string matmul_shared(Gpu& gpu) {
    constexpr int kM = 37, kN = 29, kK = 50;
    Numbers numbers(3);
    auto a = numbers.uniforms(kM * kK), b = numbers.uniforms(kK * kN);
    uint64_t c = gpu.allocate(kM * kN * 4);
    if (auto error = gpu.launch("matmul_shared", {2, 3, 1}, {16, 16, 1}, 0, {gpu.upload(a), gpu.upload(b), c, kM, kN, kK}); !error.empty())
        return error;
    return compare("c", gpu.download<float>(c, kM * kN), product(a, b, kM, kN, kK, false), 1e-5);
}

std::string stencil(Gpu& gpu) {
    constexpr int kCount = 500;
    Numbers numbers(4);
    auto in = numbers.uniforms(kCount);
    uint64_t out = gpu.allocate(kCount * 4);
    if (auto error = gpu.launch("stencil", {4, 1, 1}, {128, 1, 1}, 132 * 4, {gpu.upload(in), out, kCount}); !error.empty()) return error;
    std::vector<float> right(kCount);
    const float coefficients[] = {1, -2, 3, -4, 5};
    for (int i = 0; i < kCount; ++i)
        for (int j = 0; j < 5; ++j)
            if (i + j >= 2 && i + j - 2 < kCount) right[static_cast<size_t>(i)] += coefficients[j] * in[static_cast<size_t>(i + j - 2)];
    uint32_t calls = 0;
    gpu.read(&calls, gpu.variable("calls"), sizeof calls);
    if (calls != kCount) return "the counter is " + std::to_string(calls);
    return compare("out", gpu.download<float>(out, kCount), right, 1e-5);
}

std::string sum_float(Gpu& gpu) {
    Numbers numbers(5);
    auto in = numbers.integers(3000, 100);
    std::vector<float> floats(in.begin(), in.end());
    uint64_t out = gpu.upload(std::vector<float>{0});
    if (auto error = gpu.launch("sum_float", {3, 1, 1}, {256, 1, 1}, 0, {gpu.upload(floats), out, 3000}); !error.empty()) return error;
    return compare("sum", gpu.download<float>(out, 1), std::vector<int>{std::accumulate(in.begin(), in.end(), 0)});
}

std::string reduce_int(Gpu& gpu) {
    Numbers numbers(6);
    auto in = numbers.integers(1000, 1 << 20);
    for (int& x : in) x -= 1 << 19;
    std::vector<int> right{0, INT32_MAX, INT32_MIN, 0};
    uint64_t out = gpu.upload(right);
    if (auto error = gpu.launch("reduce_int", {8, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), out, 1000}); !error.empty()) return error;
    for (int x : in) right = {right[0] + x, std::min(right[1], x), std::max(right[2], x), right[3] ^ x};
    return compare("out", gpu.download<int>(out, 4), right);
}

std::string sum_last_block(Gpu& gpu) {
    Numbers numbers(7);
    auto in = numbers.integers(2000, 100);
    std::vector<float> floats(in.begin(), in.end());
    uint64_t out = gpu.allocate(4), parts = gpu.allocate(7 * 4);
    for (int round = 0; round < 2; ++round)  // the counter wraps to zero for the next launch
        if (auto error = gpu.launch("sum_last_block", {7, 1, 1}, {128, 1, 1}, 0, {gpu.upload(floats), parts, out, 2000}); !error.empty())
            return error;
    return compare("sum", gpu.download<float>(out, 1), std::vector<int>{std::accumulate(in.begin(), in.end(), 0)});
}

std::string histogram(Gpu& gpu) {
    Numbers numbers(8);
    std::vector<uint8_t> in(3000);
    std::vector<uint32_t> right(256);
    for (auto& x : in) ++right[x = static_cast<uint8_t>(numbers.below(200))];
    uint64_t bins = gpu.upload(std::vector<uint32_t>(256));
    if (auto error = gpu.launch("histogram", {3, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), bins, 3000}); !error.empty()) return error;
    return compare("bins", gpu.download<uint32_t>(bins, 256), right);
}

std::string scan(Gpu& gpu) {
    Numbers numbers(9);
    auto in = numbers.integers(700, 1000), right = in;
    std::partial_sum(in.begin(), in.end(), right.begin());
    uint64_t out = gpu.allocate(700 * 4);
    if (auto error = gpu.launch("scan", {1, 1, 1}, {704, 1, 1}, 0, {gpu.upload(in), out, 700}); !error.empty()) return error;
    return compare("out", gpu.download<int>(out, 700), right);
}

std::string atomics(Gpu& gpu) {
    constexpr int kThreads = 96;
    uint64_t product = gpu.upload(std::vector<float>{1}), sum = gpu.upload(std::vector<double>{0}),
             count = gpu.upload(std::vector<uint64_t>{0});
    uint64_t order = gpu.upload(std::vector<uint32_t>(kThreads + 1));
    if (auto error = gpu.launch("atomics", {1, 1, 1}, {kThreads, 1, 1}, 0, {product, sum, count, order}); !error.empty()) return error;
    float right = 1;
    for (int i = 0; i < kThreads; ++i) right *= 1.0625f;
    auto seen = gpu.download<uint32_t>(order, kThreads + 1);
    std::sort(seen.begin() + 1, seen.end());
    for (uint32_t i = 0; i < kThreads; ++i)
        if (seen[i + 1] != i) return "thread " + std::to_string(i) + " has no place";
    if (auto wrong = compare("product", gpu.download<float>(product, 1), std::vector<float>{right}); !wrong.empty()) return wrong;
    if (auto wrong = compare("sum", gpu.download<double>(sum, 1), std::vector<double>{kThreads * 0.5}); !wrong.empty()) return wrong;
    return compare("count", gpu.download<uint64_t>(count, 1), std::vector<uint64_t>{uint64_t{kThreads} << 33});
}

std::string cub_sort(Gpu& gpu) {
    Numbers numbers(10);
    std::vector<uint32_t> keys(1024);
    for (auto& key : keys) key = numbers.bits();
    uint64_t address = gpu.upload(keys);
    if (auto error = gpu.launch("cub_sort", {2, 1, 1}, {128, 1, 1}, 0, {address}); !error.empty()) return error;
    std::sort(keys.begin(), keys.begin() + 512);
    std::sort(keys.begin() + 512, keys.end());
    return compare("keys", gpu.download<uint32_t>(address, 1024), keys);
}

std::string cub_scan(Gpu& gpu) {
    Numbers numbers(11);
    auto in = numbers.integers(128, 1000), right = in;
    std::exclusive_scan(in.begin(), in.end(), right.begin(), 0);
    uint64_t out = gpu.allocate(512), total = gpu.allocate(4);
    if (auto error = gpu.launch("cub_scan", {1, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), out, total}); !error.empty()) return error;
    if (auto wrong = compare("out", gpu.download<int>(out, 128), right); !wrong.empty()) return wrong;
    return compare("total", gpu.download<int>(total, 1), std::vector<int>{std::accumulate(in.begin(), in.end(), 0)});
}

std::string groups(Gpu& gpu) {
    Numbers numbers(12);
    auto in = numbers.integers(128, 100);
    uint64_t tiles = gpu.allocate(64), odd = gpu.upload(std::vector<int>{0}), whole = gpu.allocate(4);
    if (auto error = gpu.launch("groups", {1, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), tiles, odd, whole}); !error.empty()) return error;
    std::vector<int> right(16);
    int odds = 0, sum = 0;
    for (size_t i = 0; i < 128; ++i) {
        right[i / 8] += in[i];
        odds += in[i] % 2 ? in[i] : 0;
    }
    for (size_t i = 0; i < 16; ++i)
        if (std::any_of(in.begin() + static_cast<ptrdiff_t>(i * 8), in.begin() + static_cast<ptrdiff_t>(i * 8 + 8),
                        [](int x) { return x > 90; }))
            sum += 8 * in[i * 8 + 3];
    if (auto wrong = compare("tiles", gpu.download<int>(tiles, 16), right); !wrong.empty()) return wrong;
    if (auto wrong = compare("odd", gpu.download<int>(odd, 1), std::vector<int>{odds}); !wrong.empty()) return wrong;
    return compare("whole", gpu.download<int>(whole, 1), std::vector<int>{sum});
}

/// For kernels that sum a tile of each round in reverse.
template <typename T>
std::string rounds_of(Gpu& gpu, const char* kernel, int width, int rounds) {
    Numbers numbers(13);
    auto integers = numbers.integers(static_cast<size_t>(rounds * width), 1000);
    std::vector<T> in(integers.begin(), integers.end()), right(static_cast<size_t>(width));
    for (int r = 0; r < rounds; ++r)
        for (int i = 0; i < width; ++i) right[static_cast<size_t>(i)] += in[static_cast<size_t>(r * width + width - 1 - i)];
    uint64_t out = gpu.allocate(static_cast<size_t>(width) * sizeof(T));
    auto threads = static_cast<uint32_t>(width);
    if (auto error = gpu.launch(kernel, {1, 1, 1}, {threads, 1, 1}, 0, {gpu.upload(in), out, rounds}); !error.empty()) return error;
    return compare("out", gpu.download<T>(out, right.size()), right);
}
template <typename T>
std::string reversed_rounds(Gpu& gpu, const char* kernel, int width) {
    std::string problem;
    for (int rounds = 1; rounds <= 9 && problem.empty(); ++rounds) problem = rounds_of<T>(gpu, kernel, width, rounds);
    return problem;
}
std::string barrier_copy(Gpu& gpu) {
    return reversed_rounds<int>(gpu, "barrier_copy", 256);
}
std::string pipeline_copy(Gpu& gpu) {
    return reversed_rounds<float>(gpu, "pipeline_copy", 128);
}

std::string group_copy(Gpu& gpu) {
    std::vector<int> in(333), right(333);
    std::iota(in.begin(), in.end(), 5);
    std::reverse_copy(in.begin(), in.end(), right.begin());
    uint64_t out = gpu.allocate(333 * 4);
    if (auto error = gpu.launch("group_copy", {1, 1, 1}, {64, 1, 1}, 333 * 4, {gpu.upload(in), out, 333}); !error.empty()) return error;
    return compare("out", gpu.download<int>(out, 333), right);
}

std::string wmma_matmul(Gpu& gpu) {
    constexpr int kM = 32, kN = 48, kK = 64;
    Numbers numbers(14);
    auto a = numbers.uniforms<Half>(kM * kK), b = numbers.uniforms<Half>(kK * kN);
    uint64_t c = gpu.allocate(kM * kN * 4);
    if (auto error = gpu.launch("wmma_matmul", {kN / 16, kM / 16, 1}, {32, 1, 1}, 0, {gpu.upload(a), gpu.upload(b), c, kN, kK});
        !error.empty())
        return error;
    return compare("c", gpu.download<float>(c, kM * kN), product(a, b, kM, kN, kK, false), 1e-4);
}

std::string mma_pipeline(Gpu& gpu) {
    constexpr int kM = 64, kN = 128, kK = 160;
    Numbers numbers(15);
    auto a = numbers.uniforms<BFloat>(kM * kK), b = numbers.uniforms<BFloat>(kN * kK);
    uint64_t c = gpu.allocate(kM * kN * 4);
    std::vector<Argument> arguments{gpu.upload(a), gpu.upload(b), c, kN, kK};
    if (auto error = gpu.launch("mma_pipeline", {kN / 64, kM / 64, 1}, {128, 1, 1}, 2 * 3 * 64 * 32 * 2, arguments); !error.empty())
        return error;
    return compare("c", gpu.download<float>(c, kM * kN), product(a, b, kM, kN, kK, true), 1e-4);
}

std::string collatz(Gpu& gpu) {
    uint64_t out = gpu.allocate(200 * 4);
    if (auto error = gpu.launch("collatz", {4, 1, 1}, {64, 1, 1}, 0, {out, 200}); !error.empty()) return error;
    std::vector<int> right(200);
    for (size_t i = 0; i < 200; ++i)
        for (uint64_t x = i + 1; x != 1; ++right[i]) x = x % 2 ? 3 * x + 1 : x / 2;
    return compare("out", gpu.download<int>(out, 200), right);
}

std::string indirect(Gpu& gpu) {
    Numbers numbers(16);
    auto which = numbers.integers(64, 3), right = which;
    for (int i = 0; i < 64; ++i) {
        int& x = right[static_cast<size_t>(i)];
        x = x == 0 ? i * 7 : x == 1 ? i + 7 : i - 7;
    }
    uint64_t out = gpu.allocate(256);
    if (auto error = gpu.launch("indirect", {1, 1, 1}, {64, 1, 1}, 0, {gpu.upload(which), out}); !error.empty()) return error;
    return compare("out", gpu.download<int>(out, 64), right);
}

int ackermann(int m, int n) {
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

std::string recursion(Gpu& gpu) {
    uint64_t out = gpu.allocate(128);
    if (auto error = gpu.launch("recursion", {1, 1, 1}, {32, 1, 1}, 0, {out}); !error.empty()) return error;
    std::vector<int> right;
    for (int i = 0; i < 32; ++i) right.push_back(ackermann(i % 3, i % 5));
    return compare("out", gpu.download<int>(out, 32), right);
}

std::string cases(Gpu& gpu) {
    Numbers numbers(17);
    auto in = numbers.integers(96, 10), right = in;
    for (uint32_t i = 0; i < 96; ++i) {
        int& x = right[i];
        switch (x) {
            case 0: x = 5; break;
            case 1: x = static_cast<int>(i * 3); break;
            case 2: x = 98; break;
            case 3: x = 103; break;
            case 4: x = __builtin_popcount(i); break;
            case 5: x = i ? __builtin_clz(i) : 32; break;
            case 6: x = __builtin_ffs(static_cast<int>(i)); break;
            case 7: x = static_cast<int>(__builtin_bitreverse32(i) >> 20); break;
            default: x = -1;
        }
    }
    uint64_t out = gpu.allocate(96 * 4);
    if (auto error = gpu.launch("cases", {1, 1, 1}, {96, 1, 1}, 0, {gpu.upload(in), out}); !error.empty()) return error;
    return compare("out", gpu.download<int>(out, 96), right);
}

std::string local_sort(Gpu& gpu) {
    Numbers numbers(18);
    auto in = numbers.integers(32 * 16, 100), right = in;
    for (size_t i = 0; i < 32; ++i)
        std::sort(right.begin() + static_cast<ptrdiff_t>(i * 16), right.begin() + static_cast<ptrdiff_t>(i * 16 + 16));
    uint64_t out = gpu.allocate(in.size() * 4);
    if (auto error = gpu.launch("local_sort", {1, 1, 1}, {32, 1, 1}, 0, {gpu.upload(in), out}); !error.empty()) return error;
    return compare("out", gpu.download<int>(out, in.size()), right);
}

std::string math_float(Gpu& gpu) {
    std::vector<float> in{0, 1, -1, 0.5f, 100, -80, 1e-20f, 1e20f, 3.14159f, -2.5f, 1e-40f, 7e5f, INFINITY, -INFINITY, NAN};
    Numbers numbers(19);
    while (in.size() < 64) in.push_back(numbers.uniform(-10, 10));
    std::vector<double> right;
    for (float f : in) {
        double x = static_cast<double>(f), a = std::fabs(x);
        for (double y :
             {std::exp(x), std::log(a), std::sin(x), std::cos(x), std::tanh(x), std::sqrt(a), 1 / std::sqrt(a), std::pow(a, 1.5),
              std::erf(x), std::atan2(x, 2.0), std::fmod(x, 0.75), std::round(x), std::cbrt(x), 1 / x, std::exp2(x), std::hypot(x, 3.0)})
            right.push_back(static_cast<double>(static_cast<float>(y)));
    }
    uint64_t out = gpu.allocate(right.size() * 4);
    if (auto error = gpu.launch("math_float", {2, 1, 1}, {32, 1, 1}, 0, {gpu.upload(in), out, 64}); !error.empty()) return error;
    // CUDA's own bounds are a few units in the last place; subnormal results may be off by the unit there.
    return compare("out", gpu.download<float>(out, right.size()), right, 2e-38, 8 * 0x1p-24);
}

std::string math_double(Gpu& gpu) {
    std::vector<double> in{0, 1, -1, 0.5, 100, -300, 1e-200, 1e200, 3.14159, -2.5, INFINITY, NAN};
    Numbers numbers(20);
    while (in.size() < 32) in.push_back(static_cast<double>(numbers.uniform(-10, 10)));
    std::vector<double> right;
    for (double x : in)
        for (double y : {std::exp(x), std::log(std::fabs(x)), std::sin(x), std::sqrt(std::fabs(x)), std::pow(std::fabs(x), 0.3), 1 / x})
            right.push_back(y);
    uint64_t out = gpu.allocate(right.size() * 8);
    if (auto error = gpu.launch("math_double", {1, 1, 1}, {32, 1, 1}, 0, {gpu.upload(in), out, 32}); !error.empty()) return error;
    return compare("out", gpu.download<double>(out, right.size()), right, 0, 4 * 0x1p-53);
}

std::string halves(Gpu& gpu) {
    Numbers numbers(21);
    auto a = numbers.uniforms<Half>(64, -2, 2), b = numbers.uniforms<Half>(64, -2, 2);
    std::vector<Half> sums(64), right(64);
    for (size_t i = 0; i < 64; ++i)
        sums[i] = Half(std::fma(static_cast<double>(a[i]), static_cast<double>(b[i]), static_cast<double>(Half(a[i] + b[i]))));
    for (size_t i = 0; i < 64; ++i) {
        auto exponential = Half(std::exp(static_cast<float>(b[i])));
        right[i] = sums[i & ~size_t{1}] > Half(0) ? std::min(sums[i], exponential) : Half(sums[i] * b[i]);
    }
    uint64_t out = gpu.allocate(128);
    if (auto error = gpu.launch("halves", {1, 1, 1}, {32, 1, 1}, 0, {gpu.upload(a), gpu.upload(b), out}); !error.empty()) return error;
    return compare("out", gpu.download<Half>(out, 64), right, 0, 0x1p-10);
}

}  // namespace

std::vector<Case> nvcc_cases() {
    return {
        {"vector_add", "nvcc_basic", vector_add, ""},
        {"saxpy", "nvcc_basic", saxpy, ""},
        {"transpose", "nvcc_basic", transpose, "transpose"},
        {"matmul_shared", "nvcc_basic", matmul_shared, "matmul_shared"},
        {"stencil", "nvcc_basic", stencil, "stencil"},
        {"sum_float", "nvcc_reduce", sum_float, "sum_float"},
        {"reduce_int", "nvcc_reduce", reduce_int, ""},
        {"sum_last_block", "nvcc_reduce", sum_last_block, "sum_last_block"},
        {"histogram", "nvcc_reduce", histogram, "histogram"},
        {"scan", "nvcc_reduce", scan, "scan"},
        {"atomics", "nvcc_reduce", atomics, ""},
        {"cub_sort", "nvcc_blocks", cub_sort, "cub_sort"},
        {"cub_scan", "nvcc_blocks", cub_scan, "cub_scan"},
        {"groups", "nvcc_blocks", groups, "groups"},
        {"barrier_copy", "nvcc_blocks", barrier_copy, "barrier_copy"},
        {"pipeline_copy", "nvcc_blocks", pipeline_copy, "pipeline_copy"},
        {"group_copy", "nvcc_blocks", group_copy, "group_copy"},
        {"wmma_matmul", "nvcc_tensor", wmma_matmul, ""},
        {"mma_pipeline", "nvcc_tensor", mma_pipeline, "mma_pipeline"},
        {"collatz", "nvcc_control", collatz, ""},
        {"indirect", "nvcc_control", indirect, ""},
        {"recursion", "nvcc_control", recursion, ""},
        {"cases", "nvcc_control", cases, ""},
        {"local_sort", "nvcc_control", local_sort, ""},
        {"math_float", "nvcc_control", math_float, ""},
        {"math_double", "nvcc_control", math_double, ""},
        {"halves", "nvcc_control", halves, ""},
    };
}

}  // namespace emulator_test
