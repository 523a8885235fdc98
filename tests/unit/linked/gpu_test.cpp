// Linked attentions on the emulated device, from a header's function: alone, and captured in a graph that runs after its inputs have changed.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "document.h"
#include "flexc/flexc.h"
#include "natten_2d.h"

namespace {

constexpr int64_t kLength = 100, kDim = 16, kElements = kLength * kDim;

/// Entry points of the driver that the runtime does not need and this test does.
struct Driver {
    void* library = dlopen(FLEXC_EMULATED_DRIVER, RTLD_NOW | RTLD_LOCAL);
    template <class... Args>
    int call(const char* name, Args... args) const {
        auto* function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
        const bool exists = function != nullptr;
        REQUIRE_MESSAGE(exists, name);
        return function(args...);
    }
};

/// q, k, v and o of one head, in f32, on the device and here.
struct Arrays {
    explicit Arrays(flex::CudaDevice& on) : device(on) {
        for (void*& each : memory) REQUIRE(device.allocate(kElements * sizeof(float), &each).ok());
        fill(1);
    }
    ~Arrays() {
        for (void* each : memory) CHECK(device.free(each).ok());
    }
    void fill(unsigned seed) {
        std::mt19937 engine(seed);
        std::normal_distribution<float> normal;
        for (auto& array : host)
            for (float& x : array) x = normal(engine);
        for (size_t i = 0; i < 4; ++i) REQUIRE(device.to_device(memory[i], host[i].data(), kElements * sizeof(float)).ok());
    }
    [[nodiscard]] flex::AttentionArrays views(bool on_device) {
        const auto view = [&](size_t i) {
            return flex::Tensor::contiguous(on_device ? memory[i] : host[i].data(), flex::DType::F32, {1, 1, kLength, kDim});
        };
        return {view(0), view(1), view(2), view(3)};
    }
    /// The largest difference between what lies in o on the device and what the same function gives on the CPU.
    template <class Forward>
    float error(Forward forward) {
        std::vector<float> got(kElements);
        REQUIRE(device.to_host(got.data(), memory[3], kElements * sizeof(float)).ok());
        const flex::Status status = forward(flex::Stream::cpu(1), views(false));
        REQUIRE_MESSAGE(status.ok(), status.text());
        float worst = 0;
        for (size_t i = 0; i < got.size(); ++i) worst = std::isnan(got[i]) ? INFINITY : std::max(worst, std::abs(got[i] - host[3][i]));
        return worst;
    }

    flex::CudaDevice& device;
    void* memory[4] = {};
    std::vector<float> host[4] = {std::vector<float>(kElements), std::vector<float>(kElements), std::vector<float>(kElements),
                                  std::vector<float>(kElements)};
};

std::unique_ptr<flex::CudaDevice> emulated() {
    REQUIRE(flex::use_cuda_driver(FLEXC_EMULATED_DRIVER).ok());
    std::unique_ptr<flex::CudaDevice> device;
    const flex::Status status = flex::CudaDevice::open(0, &device);
    REQUIRE_MESSAGE(status.ok(), status.text());
    return device;
}

// A canvas of 10 x 10 with windows of 3 x 3.
flex::Status natten(const flex::Stream& stream, const flex::AttentionArrays& arrays) {
    return natten_2d::forward(stream, arrays, {10, 10, 3, 3});
}

}  // namespace

TEST_CASE("one call serves the CPU and the emulated device") {
    const auto device = emulated();
    Arrays arrays(*device);
    const flex::Stream stream = flex::Stream::cuda(nullptr);
    const flex::Status status = natten(stream, arrays.views(true));
    REQUIRE_MESSAGE(status.ok(), status.text());
    CHECK(arrays.error(natten) < 1e-5f);
    CHECK(device->emulated_instructions() > 0);

    // bf16 and f32 were asked for.
    flex::AttentionArrays half = arrays.views(true);
    for (flex::Tensor* each : {&half.q, &half.k, &half.v, &half.o}) each->dtype = flex::DType::F16;
    CHECK(natten(stream, half).code() == flex::Code::Unsupported);
}

TEST_CASE("a launch can be captured in a graph") {
    const auto device = emulated();
    const Driver driver;
    Arrays arrays(*device);
    void* documents = nullptr;  // document of each token, then first tokens
    std::vector<int32_t> table(kLength + 4);
    const auto set_documents = [&](std::vector<int32_t> first) {
        for (size_t i = 0; i < kLength; ++i)
            table[i] = static_cast<int32_t>(std::upper_bound(first.begin(), first.end(), i) - first.begin()) - 1;
        std::copy(first.begin(), first.end(), table.begin() + kLength);
        REQUIRE(device->to_device(documents, table.data(), table.size() * sizeof(int32_t)).ok());
    };
    REQUIRE(device->allocate(table.size() * sizeof(int32_t), &documents).ok());
    set_documents({0, 30, 31, 70});
    const auto run = [&](const flex::Stream& on, const flex::AttentionArrays& views) {
        auto* base = on.on_gpu() ? static_cast<int32_t*>(documents) : table.data();
        return document::forward(
            on, views,
            {flex::Tensor::contiguous(base, flex::DType::I32, {kLength}), flex::Tensor::contiguous(base + kLength, flex::DType::I32, {4})});
    };

    void *queue = nullptr, *graph = nullptr, *executable = nullptr;
    REQUIRE(driver.call("cuStreamCreate", &queue, 1u) == 0);
    {
        const flex::Stream stream = flex::Stream::cuda(queue);
        flex::AttentionArrays views = arrays.views(true);
        size_t bytes = 0;
        REQUIRE(document::workspace(stream, views,
                                    {flex::Tensor::contiguous(documents, flex::DType::I32, {kLength}),
                                     flex::Tensor::contiguous(documents, flex::DType::I32, {4})},
                                    &bytes)
                    .ok());
        REQUIRE(bytes > 0);  // summaries of doc
        REQUIRE(driver.call("cuStreamBeginCapture_v2", queue, 0) == 0);
        CHECK(run(stream, views).code() == flex::Code::OutOfMemory);
        REQUIRE(driver.call("cuStreamEndCapture", queue, &graph) == 0);
        REQUIRE(driver.call("cuGraphDestroy", graph) == 0);

        REQUIRE(stream.reserve(bytes).ok());
        REQUIRE(driver.call("cuStreamBeginCapture_v2", queue, 0) == 0);
        const flex::Status status = run(stream, views);
        REQUIRE_MESSAGE(status.ok(), status.text());
        REQUIRE(driver.call("cuStreamEndCapture", queue, &graph) == 0);
        REQUIRE(driver.call("cuGraphInstantiateWithFlags", &executable, graph, 0ull) == 0);
        // Inputs change, the graph does not. A launch that grows the workspace in between must not take the graph's memory away.
        for (unsigned seed = 2; seed < 4; ++seed) {
            arrays.fill(seed);
            set_documents({0, static_cast<int32_t>(10 * seed), 50, 51});
            REQUIRE(driver.call("cuGraphLaunch", executable, queue) == 0);
            REQUIRE(driver.call("cuStreamSynchronize", queue) == 0);
            CHECK(arrays.error(run) < 1e-5f);
            REQUIRE(stream.reserve(bytes * 64 * seed).ok());
        }
        REQUIRE(driver.call("cuGraphExecDestroy", executable) == 0);
        REQUIRE(driver.call("cuGraphDestroy", graph) == 0);
    }
    REQUIRE(driver.call("cuStreamDestroy_v2", queue) == 0);
    CHECK(device->free(documents).ok());
}

TEST_CASE("a compiled kernel runs on the device too, from several threads") {
    const auto device = emulated();
    flexc::CompileOptions options;
    options.targets = {"cpu", "sm_80"};
    options.head_dim = kDim;
    options.dtypes = {flex::DType::F32};
    options.use_cache = false;
    const auto kernel =
        flexc::compile("attention near(reach: i32) { score = score - 0.25 * f32(abs(q - k)); mask = abs(q - k) <= reach; }", options);
    REQUIRE(kernel);
    std::vector<std::unique_ptr<Arrays>> arrays;
    std::vector<flex::Status> results(3);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < results.size(); ++i) arrays.push_back(std::make_unique<Arrays>(*device));
    const auto forward = [&](int32_t reach) {
        return [&kernel, reach](const flex::Stream& stream, const flex::AttentionArrays& views) {
            return kernel->forward(stream, views, {{"reach", flex::scalar(reach)}});
        };
    };
    for (size_t i = 0; i < results.size(); ++i) {
        threads.emplace_back([&, i] {
            std::unique_ptr<flex::CudaDevice> mine;  // makes the context current in this thread
            results[i] = flex::CudaDevice::open(0, &mine);
            if (results[i].ok()) results[i] = forward(static_cast<int32_t>(5 * i))(flex::Stream::cuda(nullptr), arrays[i]->views(true));
            if (results[i].ok()) results[i] = mine->synchronise();
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < results.size(); ++i) {
        REQUIRE_MESSAGE(results[i].ok(), results[i].text());
        CHECK(arrays[i]->error(forward(static_cast<int32_t>(5 * i))) < 1e-5f);
    }
}
