// Attentions that flex_add_attention has linked into this program: what their headers say, and that they compute the right thing at every level.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "document.h"
#include "flexc/flexc.h"
#include "natten_2d.h"
#include "test_kinds.h"

namespace {

bool same(const flex::DimDesc& a, const flex::DimDesc& b) {
    return a.multiplier == b.multiplier && a.extent == b.extent && a.offset == b.offset;
}

/// Compares a header's description with the one that the compiler gives for the same text.
void compare(const flex::KernelDesc& header, const std::string& path) {
    std::ifstream file(path);
    flexc::CompileOptions options;
    options.use_cache = false;
    const auto kernel = flexc::compile(std::string(std::istreambuf_iterator<char>(file), {}), options);
    REQUIRE(kernel);
    const flex::KernelDesc& desc = kernel->desc();
    CHECK(header.name == desc.name);
    CHECK(header.extents == desc.extents);
    REQUIRE(header.params.size() == desc.params.size());
    for (size_t i = 0; i < desc.params.size(); ++i) {
        const flex::ParamDesc &a = header.params[i], &b = desc.params[i];
        CAPTURE(b.name);
        CHECK(a.name == b.name);
        CHECK(a.is_tensor == b.is_tensor);
        CHECK(a.dtype == b.dtype);
        CHECK(a.grad == b.grad);
        CHECK(a.has_default == b.has_default);
        CHECK(a.default_bits == b.default_bits);
        CHECK(a.apart == b.apart);
        REQUIRE(a.dims.size() == b.dims.size());
        for (size_t d = 0; d < a.dims.size(); ++d) CHECK(same(a.dims[d], b.dims[d]));
    }
    REQUIRE(header.rules.size() == desc.rules.size());
    for (size_t i = 0; i < desc.rules.size(); ++i) {
        CHECK(same(header.rules[i].left, desc.rules[i].left));
        CHECK(same(header.rules[i].right, desc.rules[i].right));
        CHECK(header.rules[i].reason == desc.rules[i].reason);
    }
}

constexpr int64_t kLength = 100, kDim = 16;

struct Arrays {
    std::vector<float> q, k, v, o;
    flex::AttentionArrays views;
    Arrays() : q(size_t{kLength * kDim}), k(q), v(q), o(q) {
        std::mt19937 engine(1);
        std::normal_distribution<float> normal;
        for (auto* each : {&q, &k, &v})
            for (float& x : *each) x = normal(engine);
        const auto view = [](std::vector<float>& x) { return flex::Tensor::contiguous(x.data(), flex::DType::F32, {1, 1, kLength, kDim}); };
        views = {view(q), view(k), view(v), view(o)};
    }
    /// Largest error of o where `keep` says who sees whom.
    template <class Keep>
    double error(Keep keep) const {
        double worst = 0;
        for (int64_t i = 0; i < kLength; ++i) {
            std::vector<double> sum(kDim);
            double total = 0;
            for (int64_t j = 0; j < kLength; ++j) {
                if (!keep(i, j)) continue;
                double dot = 0;
                for (int64_t d = 0; d < kDim; ++d) dot += double{q[size_t(i * kDim + d)]} * k[size_t(j * kDim + d)];
                const double weight = std::exp(dot / std::sqrt(double{kDim}));
                total += weight;
                for (int64_t d = 0; d < kDim; ++d) sum[size_t(d)] += weight * v[size_t(j * kDim + d)];
            }
            for (int64_t d = 0; d < kDim; ++d) worst = std::max(worst, std::abs(sum[size_t(d)] / total - o[size_t(i * kDim + d)]));
        }
        return worst;
    }
};

constexpr flex::CpuLevel kLevels[] = {flex::CpuLevel::Generic, flex::CpuLevel::Avx2, flex::CpuLevel::Avx512};

}  // namespace

TEST_CASE("a header describes what the compiler describes") {
    compare(document::desc(), FLEXC_GALLERY "/document.flex");
    compare(natten_2d::desc(), FLEXC_GALLERY "/natten_2d.flex");
    compare(test::kinds::desc(), FLEXC_ALL_KINDS);
}

TEST_CASE("arguments have the types and defaults of the parameters") {
    const test::kinds::Args args{};
    static_assert(std::is_same_v<decltype(args.t0), flex::Tensor> && std::is_same_v<decltype(args.x), float>);
    static_assert(std::is_same_v<decltype(args.z), std::int32_t> && std::is_same_v<decltype(args.w), bool>);
    CHECK(args.y == -1.5f);
    CHECK(args.z == -7);
    CHECK(args.w);
    static_assert(noexcept(document::forward(flex::Stream::cpu(), {}, {})));
    // A parameter that is not given is a message with its name and type.
    Arrays arrays;
    CHECK(test::kinds::forward(flex::Stream::cpu(), arrays.views, args).text() == "`t0` is f32 without data");
    flex::Tensor wrong = flex::Tensor::contiguous(arrays.q.data(), flex::DType::F32, {2});
    CHECK(test::kinds::forward(flex::Stream::cpu(), arrays.views, {wrong, {}, {}, {}, {}, {}, {}, {}, {}, 1.0f, 0, 0, true, true}).text() ==
          "`t0` must be f32[H], got f32[2]: dimension 0 must be H = 1");
}

TEST_CASE("linked code is right at every vector level, from many threads at once") {
    std::vector<int32_t> doc(kLength), off = {0, 1, 40, 64};
    for (size_t i = 0; i < doc.size(); ++i) doc[i] = i < 1 ? 0 : i < 40 ? 1 : i < 64 ? 2 : 3;
    const document::Args args = {flex::Tensor::contiguous(doc.data(), flex::DType::I32, {kLength}),
                                 flex::Tensor::contiguous(off.data(), flex::DType::I32, {4})};
    std::vector<std::thread> threads;
    std::vector<double> errors(6, 1e9);
    for (size_t t = 0; t < errors.size(); ++t) {
        threads.emplace_back([&, t] {
            Arrays arrays;
            const flex::Stream stream = flex::Stream::cpu(1 + static_cast<int>(t % 2), kLevels[t / 2]);
            double worst = 0;
            if (!document::forward(stream, arrays.views, args).ok()) return;
            worst = arrays.error([&](int64_t i, int64_t j) { return j <= i && doc[size_t(i)] == doc[size_t(j)]; });
            // A canvas of 10 x 10, windows of 3 x 3; the defaults are for another one.
            if (!natten_2d::forward(stream, arrays.views, {10, 10, 3, 3}).ok()) return;
            const auto near = [](int64_t a, int64_t b) { return std::abs(std::clamp<int64_t>(a, 1, 8) - b) <= 1; };
            worst = std::max(worst, arrays.error([&](int64_t i, int64_t j) { return near(i % 10, j % 10) && near(i / 10, j / 10); }));
            errors[t] = worst;
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const double error : errors) CHECK(error < 1e-5);
}
