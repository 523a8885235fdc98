// Backward passes that flex_add_attention has linked into this program, at every level, against the formula in float64.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "document.h"
#include "test_learned.h"

namespace {

constexpr int64_t kHeads = 2, kLength = 90, kDim = 16;
constexpr size_t kElements = kHeads * kLength * kDim;
constexpr int32_t kReach = 20;

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

uint16_t to_bf16(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
}

flex::Tensor heads(Floats& x) {
    return flex::Tensor::contiguous(x.data(), flex::DType::F32, {1, kHeads, kLength, kDim});
}

flex::Tensor rows(Floats& x) {
    return flex::Tensor::contiguous(x.data(), flex::DType::F32, {1, kHeads, kLength});
}

struct Case {
    Floats q, k, v, o, lse, d_o, d_lse, by_head, by_key;
    uint16_t factor[2] = {to_bf16(3.0f), to_bf16(0.25f)};  // of the score: 1 + factor[1]
    flex::AttentionArrays arrays;
    test::learned::Args args;

    Case()
        : q(kElements),
          k(q),
          v(q),
          o(q),
          lse(size_t{kHeads * kLength}),
          d_o(q),
          d_lse(lse),
          by_head(size_t{kHeads}),
          by_key(size_t{kLength}) {
        std::mt19937 engine(5);
        std::normal_distribution<float> normal;
        for (Floats* each : {&q, &k, &v, &d_o, &d_lse, &by_head, &by_key})
            for (float& x : *each) x = normal(engine);
        arrays = {heads(q), heads(k), heads(v), heads(o), rows(lse)};
        args.o = flex::Tensor::contiguous(by_head.data(), flex::DType::F32, {kHeads});
        args.int_ = flex::Tensor::contiguous(by_key.data(), flex::DType::F32, {kLength});
        args.lse = flex::Tensor::contiguous(factor, flex::DType::BF16, {2});
        args.reach = kReach;
    }
};

struct Results {
    Floats dq = Floats(kElements, NAN), dk = dq, dv = dq, d_head = Floats(kHeads, NAN), d_key = Floats(kLength, NAN),
           d_factor = Floats(2, NAN);

    test::learned::Gradients views(Case& c) {
        test::learned::Gradients made = {heads(c.d_o), heads(dq), heads(dk), heads(dv)};
        made.d_o_ = flex::Tensor::contiguous(d_head.data(), flex::DType::F32, {kHeads});
        made.d_int = flex::Tensor::contiguous(d_key.data(), flex::DType::F32, {kLength});
        made.d_lse_ = flex::Tensor::contiguous(d_factor.data(), flex::DType::F32, {2});
        made.d_lse = rows(c.d_lse);
        return made;
    }
    [[nodiscard]] std::vector<const Floats*> all() const { return {&dq, &dk, &dv, &d_head, &d_key, &d_factor}; }
};

/// What the members of Results must be.
std::vector<Doubles> expected(const Case& c) {
    Doubles dq(kElements), dk(kElements), dv(kElements), d_head(kHeads), d_key(kLength), d_factor(2);
    const double scale = 1 / std::sqrt(double{kDim});
    for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t i = 0; i < kLength; ++i) {
            const int64_t row = (h * kLength + i) * kDim;
            const auto column = [&](int64_t j, int64_t d) { return size_t((h * kLength + j) * kDim + d); };
            const int64_t first = std::max<int64_t>(i - kReach, 0), last = std::min<int64_t>(i + kReach, kLength - 1);
            Doubles raw(kLength), weight(kLength), d_weight(kLength);
            double total = 0, mean = 0;
            for (int64_t j = first; j <= last; ++j) {
                for (int64_t d = 0; d < kDim; ++d) raw[size_t(j)] += scale * c.q[size_t(row + d)] * c.k[column(j, d)];
                const double score = raw[size_t(j)] * 1.25 + 0.01 * c.by_head[size_t(h)] * double(j - i) + c.by_key[size_t(j)];
                total += weight[size_t(j)] = std::exp(score);
            }
            for (int64_t j = first; j <= last; ++j) {
                weight[size_t(j)] /= total;
                for (int64_t d = 0; d < kDim; ++d) {
                    d_weight[size_t(j)] += double{c.d_o[size_t(row + d)]} * c.v[column(j, d)];
                    dv[column(j, d)] += weight[size_t(j)] * c.d_o[size_t(row + d)];
                }
                mean += weight[size_t(j)] * d_weight[size_t(j)];
            }
            for (int64_t j = first; j <= last; ++j) {
                const double d_score = weight[size_t(j)] * (d_weight[size_t(j)] - mean + c.d_lse[size_t(h * kLength + i)]);
                d_head[size_t(h)] += d_score * 0.01 * double(j - i);
                d_key[size_t(j)] += d_score;
                d_factor[1] += d_score * raw[size_t(j)];
                for (int64_t d = 0; d < kDim; ++d) {
                    dq[size_t(row + d)] += d_score * 1.25 * scale * c.k[column(j, d)];
                    dk[column(j, d)] += d_score * 1.25 * scale * c.q[size_t(row + d)];
                }
            }
        }
    }
    return {dq, dk, dv, d_head, d_key, d_factor};
}

/// The largest difference of a result from its true value.
double error(const std::vector<const Floats*>& got, const std::vector<Doubles>& wanted) {
    double worst = 0;
    for (size_t i = 0; i < wanted.size(); ++i)
        for (size_t j = 0; j < wanted[i].size(); ++j) {
            const double difference = std::abs((*got[i])[j] - wanted[i][j]);
            worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
        }
    return worst;
}

}  // namespace

TEST_CASE("linked backward passes are right at every vector level, with any number of threads") {
    Case c;
    const auto wanted = expected(c);
    for (const flex::CpuLevel level : {flex::CpuLevel::Generic, flex::CpuLevel::Avx2, flex::CpuLevel::Avx512}) {
        Results first;
        for (const int threads : {1, 2, 3}) {
            const flex::Stream stream = flex::Stream::cpu(threads, level);
            Results results;
            REQUIRE(test::learned::forward(stream, c.arrays, c.args).ok());
            const flex::Status status = test::learned::backward(stream, c.arrays, results.views(c), c.args);
            REQUIRE_MESSAGE(status.ok(), status.text());
            CHECK(error(results.all(), wanted) < 1e-4);
            CHECK(results.d_factor[0] == 0.0f);  // never read
            if (threads == 1) first = results;
            for (size_t i = 0; i < first.all().size(); ++i) CHECK(*results.all()[i] == *first.all()[i]);
        }
    }
}

TEST_CASE("gradients that are not set are not wanted") {
    Case c;
    const flex::Stream stream = flex::Stream::cpu();
    REQUIRE(test::learned::forward(stream, c.arrays, c.args).ok());
    Results all, some;
    REQUIRE(test::learned::backward(stream, c.arrays, all.views(c), c.args).ok());
    test::learned::Gradients wanted = some.views(c);
    wanted.d_o_ = wanted.d_lse_ = {};
    REQUIRE(test::learned::backward(stream, c.arrays, wanted, c.args).ok());
    CHECK(some.dq == all.dq);
    CHECK(some.d_key == all.d_key);
    CHECK(std::isnan(some.d_head[0]));
    CHECK(std::isnan(some.d_factor[1]));
    size_t bytes = 1;
    CHECK(test::learned::backward_workspace(stream, c.arrays, wanted, c.args, &bytes).ok());
    CHECK(bytes == 0);
}

TEST_CASE("the same calls serve the emulated device") {
    REQUIRE(flex::use_cuda_driver(FLEXC_EMULATED_DRIVER).ok());
    std::unique_ptr<flex::CudaDevice> device;
    const flex::Status opened = flex::CudaDevice::open(0, &device);
    REQUIRE_MESSAGE(opened.ok(), opened.text());
    Case c;
    Results results;
    test::learned::Gradients gradients = results.views(c);
    struct Copy {
        flex::Tensor* view;
        void* host;
        size_t bytes;
    };
    std::vector<Copy> copies;
    for (flex::Tensor* view :
         {&c.arrays.q, &c.arrays.k, &c.arrays.v, &c.arrays.o, &c.arrays.lse, &c.args.o, &c.args.int_, &c.args.lse, &gradients.d_o,
          &gradients.d_lse, &gradients.dq, &gradients.dk, &gradients.dv, &gradients.d_o_, &gradients.d_int, &gradients.d_lse_}) {
        size_t bytes = flex::size_of(view->dtype);
        for (int i = 0; i < view->rank; ++i) bytes *= size_t(view->shape[size_t(i)]);
        copies.push_back({view, view->data, bytes});
        REQUIRE(device->allocate(bytes, &view->data).ok());
        REQUIRE(device->to_device(view->data, copies.back().host, bytes).ok());
    }
    const flex::Stream stream = flex::Stream::cuda(nullptr);
    flex::Status status = test::learned::forward(stream, c.arrays, c.args);
    REQUIRE_MESSAGE(status.ok(), status.text());
    status = test::learned::backward(stream, c.arrays, gradients, c.args);
    REQUIRE_MESSAGE(status.ok(), status.text());
    // A workspace of the caller's: what it must hold, and that less is refused.
    size_t bytes = 0;
    REQUIRE(test::learned::backward_workspace(stream, c.arrays, gradients, c.args, &bytes).ok());
    REQUIRE(bytes > 0);
    void* workspace = nullptr;
    REQUIRE(device->allocate(bytes, &workspace).ok());
    CHECK(test::learned::backward(flex::Stream::cuda(nullptr, workspace, bytes - 1), c.arrays, gradients, c.args).code() ==
          flex::Code::OutOfMemory);
    CHECK(test::learned::backward(flex::Stream::cuda(nullptr, workspace, bytes), c.arrays, gradients, c.args).ok());
    REQUIRE(device->synchronise().ok());
    for (const Copy& copy : copies) REQUIRE(device->to_host(copy.host, copy.view->data, copy.bytes).ok());
    CHECK(error(results.all(), expected(c)) < 1e-4);
    for (const Copy& copy : copies) CHECK(device->free(copy.view->data).ok());
    CHECK(device->free(workspace).ok());
}

TEST_CASE("what does not fit a backward pass is a message") {
    Case c;
    Results results;
    const flex::Stream stream = flex::Stream::cpu();
    REQUIRE(test::learned::forward(stream, c.arrays, c.args).ok());
    const auto text = [&](const std::function<void(flex::AttentionArrays&, test::learned::Gradients&)>& change) {
        flex::AttentionArrays arrays = c.arrays;
        test::learned::Gradients gradients = results.views(c);
        change(arrays, gradients);
        const flex::Status status = test::learned::backward(stream, arrays, gradients, c.args);
        CHECK(status.code() == flex::Code::InvalidArgument);
        return status.text();
    };
    CHECK(text([](auto& arrays, auto&) { arrays.lse = {}; }) == "the backward pass needs `lse`, as the forward pass gave it");
    CHECK(text([](auto&, auto& gradients) { gradients.d_int.shape[0] = 7; }) == "`d_int` must be dense f32[K] like `int`, got f32[7]");
    CHECK(text([](auto&, auto& gradients) { gradients.dk.dtype = flex::DType::F16; }) ==
          "`dk` must be f32[B, HKV, K, D], got f16[1, 2, 90, 16]");
    CHECK(text([](auto&, auto& gradients) { gradients.d_o = {}; }) == "the backward pass needs `do`, f32[B, H, Q, DV]");
    // Linked without GRAD: its header has no function for it, and what the runtime is asked directly it refuses.
    std::vector<int32_t> doc(kLength), first = {0};
    const flex::Tensor values[] = {flex::Tensor::contiguous(doc.data(), flex::DType::I32, {kLength}),
                                   flex::Tensor::contiguous(first.data(), flex::DType::I32, {1})};
    flex::GradientArrays gradients;
    gradients.d_o = heads(c.d_o);
    gradients.dq = heads(results.dq);
    gradients.dk = heads(results.dk);
    gradients.dv = heads(results.dv);
    const flex::Tensor none[2];
    const flex::Status status = document::detail::kernel().backward(stream, c.arrays, gradients, values, none, 2);
    CHECK(status.code() == flex::Code::Unsupported);
    CHECK(status.text().find("`document` was compiled without gradients for the CPU (`flexc build --grad`") == 0);
}
