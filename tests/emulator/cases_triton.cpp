#include <algorithm>
#include <numeric>

#include "tests/emulator/cases.h"

namespace emulator_test {

namespace {

using Half = _Float16;
constexpr Dim kFourWarps{128, 1, 1};

template <typename T>
double real(T x) {
    return static_cast<double>(static_cast<float>(x));
}

std::string softmax(Gpu& gpu) {
    constexpr int kRows = 3, kColumns = 777, kStride = 800;
    Numbers numbers(1);
    auto in = numbers.uniforms(kRows * kStride, -5, 5);
    uint64_t out = gpu.upload(std::vector<float>(in.size()));
    if (auto error =
            gpu.launch("softmax", {kRows, 1, 1}, kFourWarps, 16, {out, gpu.upload(in), kStride, kColumns, uint64_t{0}, uint64_t{0}});
        !error.empty())
        return error;
    std::vector<double> right(in.size());
    for (size_t r = 0; r < kRows; ++r) {
        double sum = 0;
        for (size_t c = 0; c < kColumns; ++c) sum += right[r * kStride + c] = std::exp(real(in[r * kStride + c]));
        for (size_t c = 0; c < kColumns; ++c) right[r * kStride + c] /= sum;
    }
    return compare("out", gpu.download<float>(out, in.size()), right, 1e-9, 1e-5);
}

std::string layer_norm(Gpu& gpu) {
    constexpr int kRows = 2, kColumns = 700;
    Numbers numbers(2);
    auto in = numbers.uniforms<Half>(kRows * kColumns, -3, 5);
    auto weight = numbers.uniforms(kColumns), bias = numbers.uniforms(kColumns);
    uint64_t out = gpu.allocate(in.size() * 4);
    std::vector<Argument> arguments{out, gpu.upload(in), gpu.upload(weight), gpu.upload(bias), kColumns, 1e-5f, uint64_t{0}, uint64_t{0}};
    if (auto error = gpu.launch("layer_norm", {kRows, 1, 1}, kFourWarps, 1024, arguments); !error.empty()) return error;
    std::vector<double> right;
    for (size_t r = 0; r < kRows; ++r) {
        double mean = 0, square = 0;
        for (size_t c = 0; c < kColumns; ++c) {
            mean += real(in[r * kColumns + c]) / kColumns;
            square += real(in[r * kColumns + c]) * real(in[r * kColumns + c]) / kColumns;
        }
        for (size_t c = 0; c < kColumns; ++c)
            right.push_back((real(in[r * kColumns + c]) - mean) / std::sqrt(square - mean * mean + 1e-5) * real(weight[c]) + real(bias[c]));
    }
    return compare("out", gpu.download<float>(out, in.size()), right, 1e-5);
}

std::string scan(Gpu& gpu) {
    constexpr int kColumns = 500;
    Numbers numbers(3);
    auto in = numbers.integers(2 * kColumns, 1000), right = in;
    std::partial_sum(in.begin(), in.begin() + kColumns, right.begin());
    std::partial_sum(in.begin() + kColumns, in.end(), right.begin() + kColumns);
    uint64_t out = gpu.allocate(in.size() * 4);
    if (auto error = gpu.launch("scan", {2, 1, 1}, kFourWarps, 64, {out, gpu.upload(in), kColumns, uint64_t{0}, uint64_t{0}});
        !error.empty())
        return error;
    return compare("out", gpu.download<int>(out, in.size()), right);
}

template <typename In>
std::vector<double> product(const std::vector<In>& a, const std::vector<In>& b, int m, int n, int k) {
    std::vector<double> right;
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            double sum = 0;
            for (int l = 0; l < k; ++l) sum += real(a[static_cast<size_t>(i * k + l)]) * real(b[static_cast<size_t>(l * n + j)]);
            right.push_back(sum);
        }
    return right;
}
template <typename In, typename Out>
std::string matmul_of(Gpu& gpu, int tile_m, int tile_n, uint32_t shared, int m, int n, int k, double absolute, double relative) {
    Numbers numbers(4);
    auto a = numbers.uniforms<In>(static_cast<size_t>(m * k)), b = numbers.uniforms<In>(static_cast<size_t>(k * n));
    uint64_t c = gpu.allocate(static_cast<size_t>(m * n) * sizeof(Out));
    std::vector<Argument> arguments{gpu.upload(a), gpu.upload(b), c, m, n, k, k, n, n, uint64_t{0}, uint64_t{0}};
    Dim grid{static_cast<uint32_t>((m + tile_m - 1) / tile_m), static_cast<uint32_t>((n + tile_n - 1) / tile_n), 1};
    if (auto error = gpu.launch("matmul", grid, kFourWarps, shared, arguments); !error.empty()) return error;
    const std::vector<double> right = product(a, b, m, n, k);
    return compare("c", gpu.download<Out>(c, right.size()), right, absolute, relative);
}
/// Several lengths: the ring of stages ends in a different one.
template <typename In, typename Out>
std::string matmul(Gpu& gpu, int tile_m, int tile_n, uint32_t shared, int m, int n, double absolute, double relative) {
    std::string problem;
    for (int k : {16, 64, 96, 112, 160})
        if (problem.empty()) problem = matmul_of<In, Out>(gpu, tile_m, tile_n, shared, m, n, k, absolute, relative);
    return problem;
}
std::string matmul_f16(Gpu& gpu) {
    return matmul<Half, Half>(gpu, 64, 64, 16384, 80, 96, 0.01, 0x1p-10);
}
std::string matmul_bf16(Gpu& gpu) {
    return matmul<BFloat, float>(gpu, 32, 64, 6144, 48, 80, 1e-4, 1e-5);
}
std::string matmul_tf32(Gpu& gpu) {
    return matmul<float, float>(gpu, 32, 32, 16384, 32, 48, 0.02, 0x1p-9);
}

template <typename T>
std::string attention(Gpu& gpu, bool causal, int queries, int keys, double tolerance, uint32_t shared = 24576) {
    constexpr int kHeads = 2, kDim = 64, kTile = 64;
    Numbers numbers(5);
    auto q = numbers.uniforms<T>(static_cast<size_t>(kHeads * queries * kDim), -2, 2),
         k = numbers.uniforms<T>(static_cast<size_t>(kHeads * keys * kDim), -2, 2);
    auto v = numbers.uniforms<T>(k.size());
    uint64_t o = gpu.allocate(q.size() * sizeof(T)), lse = gpu.allocate(static_cast<size_t>(kHeads * queries) * 4);
    std::vector<Argument> arguments{gpu.upload(q),  gpu.upload(k), gpu.upload(v),  o,           lse,        0.125f, queries, keys,
                                    queries * kDim, keys * kDim,   queries * kDim, uint64_t{0}, uint64_t{0}};
    Dim grid{static_cast<uint32_t>((queries + kTile - 1) / kTile), kHeads, 1};
    if (auto error = gpu.launch("attention", grid, kFourWarps, shared, arguments); !error.empty()) return error;
    std::vector<double> right, right_lse;
    for (int h = 0; h < kHeads; ++h)
        for (int i = 0; i < queries; ++i) {
            // Without keys, a row is 0 / 0.
            std::vector<double> weight(static_cast<size_t>(keys)), row(kDim, keys ? 0.0 : NAN);
            double sum = 0;
            for (int j = 0; j < keys && (!causal || j <= i); ++j) {
                double score = 0;
                for (int d = 0; d < kDim; ++d)
                    score += real(q[static_cast<size_t>((h * queries + i) * kDim + d)]) *
                             real(k[static_cast<size_t>((h * keys + j) * kDim + d)]);
                sum += weight[static_cast<size_t>(j)] = std::exp(score * 0.125);
            }
            for (int j = 0; j < keys; ++j)
                for (int d = 0; d < kDim; ++d)
                    row[static_cast<size_t>(d)] +=
                        weight[static_cast<size_t>(j)] / sum * real(v[static_cast<size_t>((h * keys + j) * kDim + d)]);
            right.insert(right.end(), row.begin(), row.end());
            right_lse.push_back(std::log(sum));
        }
    if (auto wrong = compare("lse", gpu.download<float>(lse, right_lse.size()), right_lse, 1e-4); !wrong.empty()) return wrong;
    return compare("o", gpu.download<T>(o, right.size()), right, tolerance, tolerance);
}
std::string attention_f16(Gpu& gpu) {
    std::string problem;
    for (int keys : {100, 64, 20, 0})
        if (problem.empty()) problem = attention<Half>(gpu, false, 70, keys, 0x1p-10);
    return problem;
}
std::string attention_causal(Gpu& gpu) {
    return attention<BFloat>(gpu, true, 130, 130, 0x1p-7);
}

/// The same kernels for sm_90a: products of warpgroups.
std::string matmul_bf16_wgmma(Gpu& gpu) {
    std::string problem;
    for (int k : {64, 128, 208, 320})
        if (problem.empty()) problem = matmul_of<BFloat, float>(gpu, 64, 128, 73728, 80, 144, k, 1e-4, 1e-5);
    return problem;
}
std::string attention_wgmma(Gpu& gpu) {
    return attention<BFloat>(gpu, true, 130, 130, 0x1p-7, 40960);
}

/// A tensor map of rows of bf16 with a box of 64 x 64, and what Triton passes beside it.
std::vector<Argument> described(Gpu& gpu, uint64_t address, int rows, int columns) {
    const auto width = static_cast<uint64_t>(columns);
    const TensorMapBytes map = gpu.tensor_map({9, address, {width, static_cast<uint64_t>(rows)}, {width * 2}, {64, 64}, 3});
    return {map, rows, columns, int64_t{columns}, int64_t{1}};
}

std::vector<Argument> joined(std::initializer_list<std::vector<Argument>> parts) {
    std::vector<Argument> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

/// Through tensor maps, of the host or of the kernel.
std::string matmul_by_maps(Gpu& gpu, bool from_host, int k) {
    constexpr int kM = 80, kN = 136, kScratch = 384;
    Numbers numbers(6);
    auto a = numbers.uniforms<BFloat>(static_cast<size_t>(kM * k)), b = numbers.uniforms<BFloat>(static_cast<size_t>(k * kN));
    const uint64_t at_a = gpu.upload(a), at_b = gpu.upload(b), c = gpu.allocate(kM * kN * 2);
    const Dim grid{2, 3, 1};
    const std::vector<Argument> sizes{kM, kN, k};
    std::string error;
    if (from_host) {
        error = gpu.launch(
            "matmul_described", grid, kFourWarps, 49176,
            joined(
                {described(gpu, at_a, kM, k), described(gpu, at_b, k, kN), described(gpu, c, kM, kN), sizes, {uint64_t{0}, uint64_t{0}}}));
    } else {
        const uint64_t scratch = gpu.allocate(kScratch * grid[0] * grid[1]);
        error = gpu.launch("matmul_describing", grid, kFourWarps, 32784, joined({{at_a, at_b, c}, sizes, {scratch, uint64_t{0}}}));
    }
    if (!error.empty()) return error;
    return compare("c", gpu.download<BFloat>(c, kM * kN), product(a, b, kM, kN, k), 1e-3, 0x1p-8);
}
std::string matmul_described(Gpu& gpu) {
    std::string problem;
    for (int k : {64, 72, 200, 320})
        if (problem.empty()) problem = matmul_by_maps(gpu, true, k);
    return problem;
}
std::string matmul_describing(Gpu& gpu) {
    std::string problem;
    for (int k : {64, 200})
        if (problem.empty()) problem = matmul_by_maps(gpu, false, k);
    return problem;
}

/// A warp that brings tiles, and four that multiply.
std::string matmul_specialised(Gpu& gpu) {
    constexpr int kM = 72, kN = 120;
    Numbers numbers(8);
    for (const int k : {64, 200, 576}) {
        const auto a = numbers.uniforms<BFloat>(static_cast<size_t>(kM * k)), b = numbers.uniforms<BFloat>(static_cast<size_t>(k * kN));
        const uint64_t c = gpu.allocate(kM * kN * 2);
        const auto arguments = joined({described(gpu, gpu.upload(a), kM, k),
                                       described(gpu, gpu.upload(b), k, kN),
                                       described(gpu, c, kM, kN),
                                       {k, uint64_t{0}, uint64_t{0}}});
        if (auto error = gpu.launch("matmul_specialised", {2, 1, 1}, {256, 1, 1}, 90172, arguments); !error.empty()) return error;
        if (auto wrong = compare("c", gpu.download<BFloat>(c, kM * kN), product(a, b, kM, kN, k), 1e-3, 0x1p-8); !wrong.empty())
            return wrong;
    }
    return "";
}

std::string attention_described(Gpu& gpu) {
    constexpr int kQueries = 70, kKeys = 150, kDim = 64;
    Numbers numbers(7);
    auto q = numbers.uniforms<BFloat>(kQueries * kDim, -2, 2), k = numbers.uniforms<BFloat>(kKeys * kDim, -2, 2);
    auto v = numbers.uniforms<BFloat>(k.size());
    const uint64_t o = gpu.allocate(q.size() * 2);
    const std::vector<Argument> arguments = joined({described(gpu, gpu.upload(q), kQueries, kDim),
                                                    described(gpu, gpu.upload(k), kKeys, kDim),
                                                    described(gpu, gpu.upload(v), kKeys, kDim),
                                                    described(gpu, o, kQueries, kDim),
                                                    {0.125f, kKeys, uint64_t{0}, uint64_t{0}}});
    if (auto error = gpu.launch("attention_described", {2, 1, 1}, kFourWarps, 40992, arguments); !error.empty()) return error;
    std::vector<double> right;
    for (size_t i = 0; i < kQueries; ++i) {
        std::vector<double> weight(kKeys), row(kDim);
        double sum = 0;
        for (size_t j = 0; j < kKeys; ++j) {
            double score = 0;
            for (size_t d = 0; d < kDim; ++d) score += real(q[i * kDim + d]) * real(k[j * kDim + d]);
            sum += weight[j] = std::exp(score * 0.125);
        }
        for (size_t j = 0; j < kKeys; ++j)
            for (size_t d = 0; d < kDim; ++d) row[d] += weight[j] / sum * real(v[j * kDim + d]);
        right.insert(right.end(), row.begin(), row.end());
    }
    return compare("o", gpu.download<BFloat>(o, right.size()), right, 0x1p-7, 0x1p-7);
}

}  // namespace

std::vector<Case> triton_cases() {
    return {
        {"softmax", "triton_softmax", softmax, "softmax"},
        {"layer_norm", "triton_layer_norm", layer_norm, "layer_norm"},
        {"scan", "triton_scan", scan, "scan"},
        {"matmul_f16", "triton_matmul_f16", matmul_f16, "matmul"},
        {"matmul_bf16_sm90", "triton_matmul_bf16_sm90", matmul_bf16, "matmul"},
        {"matmul_tf32", "triton_matmul_tf32", matmul_tf32, "matmul"},
        {"attention_f16", "triton_attention_f16", attention_f16, "attention"},
        {"attention_bf16_causal", "triton_attention_bf16_causal", attention_causal, "attention"},
        {"matmul_bf16_wgmma", "triton_matmul_bf16_wgmma", matmul_bf16_wgmma, "matmul"},
        {"attention_bf16_wgmma", "triton_attention_bf16_wgmma", attention_wgmma, "attention"},
        {"matmul_bf16_described", "triton_matmul_bf16_described", matmul_described, "matmul_described"},
        {"matmul_bf16_describing", "triton_matmul_bf16_describing", matmul_describing, "matmul_describing"},
        {"attention_bf16_described", "triton_attention_bf16_described", attention_described, "attention_described"},
        {"matmul_specialised", "triton_matmul_specialised", matmul_specialised, "matmul_specialised"},
    };
}

}  // namespace emulator_test
