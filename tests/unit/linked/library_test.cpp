// libflexc: errors as values, kernels that are right, and threads.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "flexc/flexc.h"

namespace {

/// A cache of its own, removed afterwards.
struct Cache {
    std::filesystem::path path;
    Cache() {
        std::string name = (std::filesystem::temp_directory_path() / "flexc_library_XXXXXX").string();
        path = mkdtemp(name.data());
    }
    ~Cache() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

/// Scores are 0 and v[k] = k, so a row of o is the mean of the keys it sees. That of the last of `length` queries.
float mean_key(const flexc::Kernel& kernel, const std::vector<flex::Argument>& args = {}, int64_t length = 40) {
    std::vector<float> q(static_cast<size_t>(length * 4)), v(q), o(q);
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 4);
    const auto view = [&](std::vector<float>& x) { return flex::Tensor::contiguous(x.data(), flex::DType::F32, {1, 1, length, 4}); };
    const flex::Status status = kernel.forward(flex::Stream::cpu(1), {view(q), view(q), view(v), view(o)}, args);
    CHECK_MESSAGE(status.ok(), status.text());
    return o.back();
}

std::string steps(int stride) {
    return "attention steps(reach: i32 = 39) { mask = 0 <= q - k <= reach and (q - k) % " + std::to_string(stride) + " == 0; }";
}

float expected_mean(int stride, int reach = 39) {
    return 39.0f - static_cast<float>(reach / stride * stride) / 2;
}

}  // namespace

TEST_CASE("errors are values, with place, help and text") {
    flexc::CompileOptions options;
    options.use_cache = false;
    options.file_name = "query.flex";
    const auto bad = flexc::compile(
        "import std;\nattention a(s: f32[H]) {\n    score = score + slope[h];\n    mask = causal() and 1 / 2;\n}\n", options);
    REQUIRE_FALSE(bad);
    REQUIRE(bad.error().diagnostics.size() >= 2);
    const flexc::Diagnostic& first = bad.error().diagnostics.front();
    CHECK(first.is_error);
    CHECK(first.code == "E2001");
    CHECK(first.name == "unknown-name");
    CHECK(first.file == "query.flex");
    CHECK(first.line == 3);
    CHECK(first.column == 21);
    CHECK(first.end_column == 26);
    CHECK(first.text == "unknown name `slope`");
    CHECK(bad.error().text.find("query.flex:3:21: error[E2001]: unknown name `slope`\n  3 |     score = score + slope[h];\n") !=
          std::string::npos);

    const auto code = [&](std::string_view text) {
        const auto result = flexc::compile(text, options);
        REQUIRE_FALSE(result);
        return result.error().diagnostics.front().code;
    };
    CHECK(code("") == "E0004");
    CHECK(code("attention a() {} attention b() {}") == "E0006");
    CHECK(code("attention a() { emit far = mean(f32(q - k)); }") == "E4001");
    CHECK(code("attention a(const n: i32) { mask = q > n; }") == "E3001");
    CHECK(code(std::string("attention a\xff", 12)) == "E1002");
    options.targets = {"cpu", "sm_12"};
    CHECK(code("attention a() {}") == "E4022");
    options.targets = {"sm_80"};
    options.head_dim = 1000;
    CHECK(code("attention a() {}") == "E4025");
    options.targets = {"cpu"};
    options.attention = "c";
    const auto missing = flexc::compile("attention aa() {} attention cc() {}", options);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().diagnostics.front().code == "E0005");
    CHECK_FALSE(missing.error().diagnostics.front().help.empty());
}

TEST_CASE("a kernel knows its name, its warnings, and answers") {
    Cache cache;
    flexc::CompileOptions options;
    options.cache_dir = cache.path;
    const std::string text = "## What it is.\nattention odd(unused: i32 = 1, const n: i32 = 2) { mask = k % n == 1; }";
    auto kernel = flexc::compile(text, options);
    REQUIRE(kernel);
    CHECK(kernel->name() == "odd");
    CHECK(kernel->doc() == "What it is.");
    REQUIRE(kernel->warnings().size() == 1);
    CHECK(kernel->warnings()[0].code == "W2101");
    CHECK_FALSE(kernel->warnings()[0].is_error);
    CHECK(kernel->desc().params.size() == 1);
    CHECK_FALSE(kernel->from_cache());
    CHECK(mean_key(*kernel) == doctest::Approx(20));
    options.consts = {{"n", "4"}};
    CHECK(mean_key(flexc::compile("attention odd(const n: i32 = 2) { mask = k % n == 1; }", options).value()) == doctest::Approx(19));

    const flexc::Kernel copy = *kernel;
    kernel = flexc::compile(steps(1), options);
    options.consts.clear();
    CHECK(mean_key(copy) == doctest::Approx(20));  // lives on after the result that it came from
    CHECK(flexc::compile(text, options)->from_cache());
    CHECK(copy.forward(flex::Stream::cpu(), {}, {}).code() == flex::Code::InvalidArgument);
    CHECK(copy.forward(flex::Stream::cuda(nullptr), {}, {}).text() == "`odd` was built without a target for GPUs");
}

TEST_CASE("a kernel compiled with gradients has a backward pass, and one without says so") {
    Cache cache;
    flexc::CompileOptions options;
    options.cache_dir = cache.path;
    // Scores are the bias of the key, whatever q and k are, and one of two keys is seen: weights are (1 - w, w), o = w for v = (0, 1).
    const std::string text = "attention two(bias: grad f32[K]) { score = bias[k] + 0.0 * score; }";
    float q = 1, o = 0, lse = 0, d_o = 3, dq = 7, bias[2] = {0, 0.5f}, k[2] = {1, 2}, v[2] = {0, 1}, dk[2], dv[2], d_bias[2];
    const auto row = [](float* x, int64_t n) { return flex::Tensor::contiguous(x, flex::DType::F32, {1, 1, n, 1}); };
    const auto one = [](float* x, int64_t n) { return flex::Tensor::contiguous(x, flex::DType::F32, {n}); };
    const flex::AttentionArrays arrays = {row(&q, 1), row(k, 2), row(v, 2), row(&o, 1),
                                          flex::Tensor::contiguous(&lse, flex::DType::F32, {1, 1, 1})};
    flex::GradientArrays gradients;
    gradients.d_o = row(&d_o, 1), gradients.dq = row(&dq, 1), gradients.dk = row(dk, 2), gradients.dv = row(dv, 2);
    gradients.d_params = {{"bias", one(d_bias, 2)}};
    const std::vector<flex::Argument> args = {{"bias", one(bias, 2)}};
    const flex::Stream stream = flex::Stream::cpu();

    const auto without = flexc::compile(text, options);
    REQUIRE(without);
    REQUIRE(without->forward(stream, arrays, args).ok());
    CHECK(without->backward(stream, arrays, gradients, args).text().find("`two` was compiled without gradients for the CPU") == 0);
    options.gradients = true;
    const auto first = flexc::compile(text, options), kernel = flexc::compile(text, options);
    REQUIRE(kernel);
    CHECK_FALSE(first->from_cache());
    CHECK(kernel->from_cache());
    size_t bytes = 1;
    REQUIRE(kernel->backward_workspace(stream, arrays, gradients, args, &bytes).ok());
    CHECK(bytes == 0);
    REQUIRE(kernel->forward(stream, arrays, args).ok());
    const flex::Status status = kernel->backward(stream, arrays, gradients, args);
    REQUIRE_MESSAGE(status.ok(), status.text());
    const float w = 1 / (1 + std::exp(-0.5f));
    CHECK(o == doctest::Approx(w));
    CHECK(d_bias[1] == doctest::Approx(3 * w * (1 - w)));
    CHECK(d_bias[0] == doctest::Approx(-3 * w * (1 - w)));
    CHECK(dv[1] == doctest::Approx(3 * w));
    CHECK(dv[0] == doctest::Approx(3 * (1 - w)));
    CHECK(std::abs(dq) < 1e-6f);

    const auto gate = flexc::compile("attention a(s: grad f32[H]) { output = o * s[h]; }", options);
    REQUIRE_FALSE(gate);
    CHECK(gate.error().diagnostics.front().code == "E4021");
}

TEST_CASE("GPU code comes from the cache, too") {
    Cache cache;
    flexc::CompileOptions options;
    options.cache_dir = cache.path;
    options.targets = {"cpu", "sm_80"};
    options.head_dim = 64;
    options.dtypes = {flex::DType::F16, flex::DType::F32};
    options.gradients = true;
    const auto first = flexc::compile(steps(3), options), second = flexc::compile(steps(3), options);
    REQUIRE(first);
    REQUIRE(second);
    CHECK_FALSE(first->from_cache());
    CHECK(second->from_cache());
    CHECK(mean_key(*second) == doctest::Approx(expected_mean(3)));
    // What a damaged entry says is not believed.
    for (const auto& entry : std::filesystem::directory_iterator(cache.path)) std::filesystem::resize_file(entry.path(), 40);
    const auto third = flexc::compile(steps(3), options);
    REQUIRE(third);
    CHECK_FALSE(third->from_cache());
    options.atomic = true;  // another backward image
    CHECK_FALSE(flexc::compile(steps(3), options)->from_cache());
    options.allow_tf32 = true;
    CHECK_FALSE(flexc::compile(steps(3), options)->from_cache());
}

TEST_CASE("threads compile different variants and the same") {
    Cache cache;
    std::atomic<int> right{0}, made{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            for (int round = 0; round < 6; ++round) {
                const int stride = 1 + (round % 2 ? t : round) % 5;  // in even rounds all threads want the same
                flexc::CompileOptions options;
                options.cache_dir = cache.path;
                options.use_cache = round % 3 != 2;
                if (round == 3) options.targets = {"cpu", "sm_80"};
                const bool broken = (t + round) % 7 == 6;
                const auto kernel = flexc::compile(broken ? "attention a() { mask = nothing; }" : steps(stride), options);
                if (broken) {
                    right += !kernel && kernel.error().diagnostics.front().code == "E2001";
                } else if (kernel) {
                    const int32_t reach = 20 + t;
                    right += std::abs(mean_key(*kernel, {{"reach", flex::scalar(reach)}}) - expected_mean(stride, reach)) < 1e-4f;
                }
                ++made;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(right == made);
}
