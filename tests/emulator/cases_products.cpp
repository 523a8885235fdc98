#include "tests/emulator/cases.h"

namespace emulator_test {

namespace {

double real(BFloat x) {
    return static_cast<double>(x);
}

/// sum over l of a(i, l) b(l, j)
template <typename A, typename B>
std::vector<double> product(int m, int n, int k, A a, B b) {
    std::vector<double> result;
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            double sum = 0;
            for (int l = 0; l < k; ++l) sum += a(i, l) * b(l, j);
            result.push_back(sum);
        }
    return result;
}

std::string pipeline(Gpu& gpu) {
    constexpr int kM = 128, kN = 64;
    Numbers numbers(41);
    for (const int k : {64, 128, 192, 448}) {
        const auto a = numbers.uniforms<BFloat>(static_cast<size_t>(kM * k)), b = numbers.uniforms<BFloat>(static_cast<size_t>(kN * k));
        const uint64_t c = gpu.allocate(kM * kN * 4);
        if (auto error =
                gpu.launch("products_pipeline", {kN / 64, kM / 64, 1}, {128, 1, 1}, 65536, {gpu.upload(a), gpu.upload(b), c, kN, k});
            !error.empty())
            return error;
        const auto right = product(
            kM, kN, k, [&](int i, int l) { return real(a[static_cast<size_t>(i * k + l)]); },
            [&](int l, int j) { return real(b[static_cast<size_t>(j * k + l)]); });
        if (auto wrong = compare("c", gpu.download<float>(c, right.size()), right, 1e-4, 1e-5); !wrong.empty()) return wrong;
    }
    return "";
}

std::string attention(Gpu& gpu) {
    constexpr int kDim = 64, kQueries = 64;
    Numbers numbers(42);
    for (const int keys : {64, 128, 320}) {
        const auto q = numbers.uniforms<BFloat>(2 * kQueries * kDim, -0.5, 0.5),
                   k = numbers.uniforms<BFloat>(static_cast<size_t>(2 * keys * kDim)),
                   v = numbers.uniforms<BFloat>(static_cast<size_t>(2 * keys * kDim));
        const uint64_t o = gpu.allocate(q.size() * 4);
        if (auto error =
                gpu.launch("products_attention", {2, 1, 1}, {128, 1, 1}, 5 * 8192, {gpu.upload(q), gpu.upload(k), gpu.upload(v), o, keys});
            !error.empty())
            return error;
        std::vector<double> right;
        for (int block = 0; block < 2; ++block) {
            const BFloat *qs = &q[static_cast<size_t>(block * kQueries * kDim)], *ks = &k[static_cast<size_t>(block * keys * kDim)],
                         *vs = &v[static_cast<size_t>(block * keys * kDim)];
            auto weights = product(
                kQueries, keys, kDim, [&](int i, int d) { return real(qs[i * kDim + d]); },
                [&](int d, int j) { return real(ks[j * kDim + d]); });
            for (double& each : weights) each = std::exp(each);
            const auto sums = product(
                kQueries, 1, keys, [&](int i, int j) { return weights[static_cast<size_t>(i * keys + j)]; }, [](int, int) { return 1.0; });
            for (const double each : product(
                     kQueries, kDim, keys,
                     [&](int i, int j) { return weights[static_cast<size_t>(i * keys + j)] / sums[static_cast<size_t>(i)]; },
                     [&](int j, int d) { return real(vs[j * kDim + d]); }))
                right.push_back(each);
        }
        if (auto wrong = compare("o", gpu.download<float>(o, right.size()), right, 0x1p-8, 0x1p-7); !wrong.empty()) return wrong;
    }
    return "";
}

std::string specialised(Gpu& gpu) {
    constexpr int kM = 128, kN = 128, kBFloat16 = 9, kSwizzle128 = 3;
    Numbers numbers(43);
    for (const int k : {64, 128, 704}) {
        const auto a = numbers.uniforms<BFloat>(static_cast<size_t>(kM * k)), b = numbers.uniforms<BFloat>(static_cast<size_t>(kN * k));
        const uint64_t c = gpu.allocate(kM * kN * 4), at_a = gpu.upload(a), at_b = gpu.upload(b);
        const auto wide = static_cast<uint64_t>(k);
        const auto map_a = gpu.tensor_map({kBFloat16, at_a, {wide, kM}, {wide * 2}, {64, 128}, kSwizzle128});
        const auto map_b = gpu.tensor_map({kBFloat16, at_b, {kN, wide}, {kN * 2}, {64, 64}, kSwizzle128});
        if (auto error = gpu.launch("products_specialised", {kN / 128, kM / 128, 1}, {384, 1, 1}, 3 * 32768, {map_a, map_b, c, kN, k});
            !error.empty())
            return error;
        const auto right = product(
            kM, kN, k, [&](int i, int l) { return real(a[static_cast<size_t>(i * k + l)]); },
            [&](int l, int j) { return real(b[static_cast<size_t>(l * kN + j)]); });
        if (auto wrong = compare("c", gpu.download<float>(c, right.size()), right, 1e-4, 1e-5); !wrong.empty()) return wrong;
    }
    return "";
}

}  // namespace

std::vector<Case> product_cases() {
    return {
        {"products_pipeline", "hopper_products", pipeline, "products_pipeline"},
        {"products_attention", "hopper_products", attention, "products_attention"},
        {"products_specialised", "hopper_products", specialised, "products_specialised"},
    };
}

}  // namespace emulator_test
