// CudaKernel::launch_backward and flex::Kernel::backward on a mock driver that notes what is asked of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <tuple>

#include "cuda_util.h"
#include "plain_kernel.h"
#include "runtime/stream.h"

using namespace flex;
using namespace flex::test;

namespace {

constexpr GpuShape kShape{.b = 2, .h = 4, .hkv = 2, .q = 100, .k = 300};

/// A kernel with images of both passes, deterministic and atomic. A context is current from the start.
struct Fixture {
    Mock& driver = mock();
    void* context = driver.create_context();
    flex_gpu_image image;
    flex_gpu_backward_image backward;
    const flex_gpu_image* images[1] = {&image};
    const flex_gpu_backward_image* backward_images[1] = {&backward};
    std::unique_ptr<CudaKernel> kernel;
    AttentionArrays arrays;
    GradientArrays gradients;
    std::vector<Argument> args;

    explicit Fixture(const BackwardImageOptions& options = {}, const GpuShape& shape = kShape)
        : image(image_of({})), backward(backward_image_of(options)), arrays(gpu_arrays(shape)), gradients(gpu_gradients(arrays)) {
        kernel = std::make_unique<CudaKernel>(graded_gpu_desc(), images, 1, backward_images, 1);
        args = graded_args(shape);
        gradients.d_params = graded_gradients(shape);
        driver.parameter_bytes = gpu_layout(kernel->desc(), options.summaries.size(), true).bytes;
    }
    ~Fixture() {
        kernel.reset();
        driver.destroy_context(context);
    }
    [[nodiscard]] CudaOptions with_workspace() {
        CudaOptions options;
        options.stream = this;
        const Status status = kernel->backward_workspace(arrays, gradients, args, options, &options.workspace_bytes);
        REQUIRE_MESSAGE(status.ok(), status.text());
        if (options.workspace_bytes > 0) options.workspace = reinterpret_cast<void*>(0x7000000);
        return options;
    }
    [[nodiscard]] std::vector<std::string> launched() const {
        std::vector<std::string> names;
        for (const MockLaunch& launch : driver.launches) names.push_back(launch.function);
        return names;
    }
};

}  // namespace

TEST_CASE("a backward pass fills, then launches its kernels in order, on the given stream") {
    Fixture f({.summaries = {FLEX_SUMMARY_OF_KEYS}});
    CudaBackwardPlan plan;
    REQUIRE(f.kernel->plan_backward(f.arrays, f.gradients, f.args, {}, &plan).ok());
    CHECK(plan.image == &f.backward);
    CHECK(plan.query_blocks == 2 * 4 * 2);
    CHECK(plan.key_blocks == 3 * 2 * 2);
    CHECK(f.driver.modules_loaded == 0);
    const CudaOptions options = f.with_workspace();
    CHECK(plan.workspace_bytes == options.workspace_bytes);
    const Status status = f.kernel->launch_backward(f.arrays, f.gradients, f.args, options);
    REQUIRE_MESSAGE(status.ok(), status.text());

    CHECK(f.launched() == std::vector<std::string>{"x_backward_summarise", "x_backward_rows", "x_backward_queries", "x_backward_keys",
                                                   "x_backward_scale", "x_backward_finish"});
    const auto& launches = f.driver.launches;
    CHECK(launches[1].grid[0] == 16);
    CHECK(launches[1].block == 128);
    CHECK(launches[2].grid[0] == 16);
    CHECK(launches[2].shared == 65536);
    CHECK(launches[3].grid[0] == 12);
    CHECK(launches[3].block == 256);
    CHECK(launches[3].shared == 98304);
    CHECK(launches[4].grid[0] == (2 * 4 * 100 + 95) / 96);
    CHECK(launches[5].grid[0] == (4 * 300 + 255) / 256);
    CHECK(launches[5].grid[1] == 3);
    for (const MockLaunch& launch : launches) {
        CHECK(launch.stream == &f);
        CHECK(launch.parameter == launches[0].parameter);
    }
    CHECK(f.driver.shared_attribute ==
          std::map<std::string, int>{{"x_backward_rows", 65536}, {"x_backward_queries", 65536}, {"x_backward_keys", 98304}});

    // Zeros of the workspace and of the captured tensors' gradients, and the summaries' pattern.
    REQUIRE(f.driver.fills.size() == 4);
    for (const MockFill& fill : f.driver.fills) CHECK(fill.stream == &f);
    CHECK(f.driver.fills[0].pattern == 0);
    CHECK(f.driver.fills[0].to > 0x7000000);
    CHECK((f.driver.fills[1].to == 13 << 20 && f.driver.fills[1].words == 4 * 300 && f.driver.fills[1].pattern == 0));
    CHECK((f.driver.fills[2].to == 14 << 20 && f.driver.fills[2].words == 10));
    CHECK((f.driver.fills[3].to == 0x7000000 && f.driver.fills[3].pattern == 0x7fffffff && f.driver.fills[3].words == 2 * (10 + 1)));

    // Later launches only enqueue: a capture would hold them. The forward pass has a module of its own.
    f.driver.log.clear();
    REQUIRE(f.kernel->launch_backward(f.arrays, f.gradients, f.args, options).ok());
    CHECK(f.driver.log == std::vector<std::string>{"cuMemsetD32Async", "cuMemsetD32Async", "cuMemsetD32Async", "cuMemsetD32Async",
                                                   "cuLaunchKernel", "cuLaunchKernel", "cuLaunchKernel", "cuLaunchKernel", "cuLaunchKernel",
                                                   "cuLaunchKernel"});
    CHECK(f.driver.modules_loaded == 1);
    CudaOptions unsplit = options;
    unsplit.splits = 1;
    const Status forward = f.kernel->launch(f.arrays, f.args, unsplit);
    REQUIRE_MESSAGE(forward.ok(), forward.text());
    CHECK(f.driver.modules_loaded == 2);
    f.kernel.reset();
    CHECK(f.driver.modules_unloaded == 2);
}

TEST_CASE("an atomic image has no kernel of queries; without captured gradients three kernels are all") {
    Fixture atomic({.atomic = true});
    REQUIRE(atomic.kernel->launch_backward(atomic.arrays, atomic.gradients, atomic.args, atomic.with_workspace()).ok());
    CHECK(atomic.launched() == std::vector<std::string>{"x_backward_rows", "x_backward_keys", "x_backward_scale", "x_backward_finish"});
    CHECK(atomic.driver.launches.back().grid[0] == 2 * 4 * 100 * 64 / 256);

    Fixture plain;
    plain.gradients.d_params.clear();
    REQUIRE(plain.kernel->launch_backward(plain.arrays, plain.gradients, plain.args, plain.with_workspace()).ok());
    CHECK(plain.launched() == std::vector<std::string>{"x_backward_rows", "x_backward_queries", "x_backward_keys"});
    CHECK(plain.driver.fills.size() == 1);  // the bounds: kernels find them for all parameters
}

TEST_CASE("where nothing attends because there is nothing, all gradients are filled with zeros") {
    const GpuShape no_keys{.b = 2, .h = 4, .hkv = 2, .q = 10, .k = 0}, no_queries{.b = 2, .h = 4, .hkv = 2, .q = 0, .k = 10};
    {
        Fixture f({}, no_keys);
        f.gradients.dq.stride = {4 * 10 * 80, 10 * 80, 80, 1};
        REQUIRE(f.kernel->launch_backward(f.arrays, f.gradients, f.args, f.with_workspace()).ok());
        CHECK(f.driver.launches.empty());
        CHECK(f.driver.modules_loaded == 0);
        REQUIRE(f.driver.fills.size() == 2);  // d_table and dq; bias has no element
        CHECK((f.driver.fills[0].to == 14 << 20 && f.driver.fills[0].words == 10));
        CHECK((f.driver.fills[1].to == 7 << 20 && f.driver.fills[1].pitch == 160));
        CHECK((f.driver.fills[1].width == 64 && f.driver.fills[1].height == 80));
    }
    Fixture f({}, no_queries);
    REQUIRE(f.kernel->launch_backward(f.arrays, f.gradients, f.args, f.with_workspace()).ok());
    CHECK(f.driver.launches.empty());
    REQUIRE(f.driver.fills.size() == 4);
    CHECK((f.driver.fills[2].to == 8 << 20 && f.driver.fills[2].width * f.driver.fills[2].height == 2 * 2 * 10 * 64));
    CHECK((f.driver.fills[3].to == 9 << 20 && f.driver.fills[3].width * f.driver.fills[3].height == 2 * 2 * 10 * 64));
}

TEST_CASE("what a backward pass refuses before it loads anything") {
    Fixture f;
    const auto text = [&](const CudaOptions& options = {}) {
        return f.kernel->launch_backward(f.arrays, f.gradients, f.args, options).text();
    };
    CHECK(text().find("flex::CudaKernel::backward_workspace tells the size") != std::string::npos);
    CudaOptions options = f.with_workspace();
    options.workspace = reinterpret_cast<void*>(0x7000008);
    CHECK(text(options) == "the workspace must begin at a multiple of 16 bytes");
    f.gradients.dv.data = reinterpret_cast<void*>(0x1001);
    CHECK(text() == "`dv` is f16 and must begin at a multiple of 2 bytes");
    f.gradients.dv.shape[2] = 7;
    CHECK(text().find("`dv` is f16[2, 2, 7, 64] and must have the shape of `v`") == 0);
    f.arrays.k.shape[2] = 7;
    CHECK(text().find("`v` is") == 0);
    CHECK(f.driver.log.empty());

    const CudaKernel forward_only(graded_gpu_desc(), f.images, 1);
    Fixture good;
    const Status none = forward_only.launch_backward(good.arrays, good.gradients, good.args);
    CHECK(none.code() == Code::Unsupported);
    CHECK(none.text().find("`x` was compiled without gradients for GPUs") == 0);
    good.driver.fail["cuLaunchKernel"] = 700;
    CHECK(good.kernel->launch_backward(good.arrays, good.gradients, good.args, good.with_workspace()).text() ==
          "cuLaunchKernel: an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS, 700) in `x_backward_rows`");
}

TEST_CASE("a stream's workspace serves forward and backward passes and is not allocated during a capture") {
    Fixture f;
    flex_linked code{FLEX_LINKED_VERSION, 1, 0, {}, f.images, f.backward_images, 1, 0};
    const Kernel kernel(graded_gpu_desc(), code);
    const auto count = [&](const char* call) { return std::count(f.driver.log.begin(), f.driver.log.end(), call); };
    {
        const Stream stream = Stream::cuda(&f);
        f.driver.capturing = true;
        const Status early = kernel.backward(stream, f.arrays, f.gradients, f.args);
        CHECK(early.code() == Code::OutOfMemory);
        CHECK(early.text().find("reserve()") != std::string::npos);
        CHECK(f.driver.launches.empty());

        f.driver.capturing = false;
        size_t bytes = 0;
        REQUIRE(kernel.backward_workspace(stream, f.arrays, f.gradients, f.args, &bytes).ok());
        CHECK(bytes > 2 * 4 * 100 * 5 * 4);
        size_t of_forward = 0;
        REQUIRE(kernel.workspace(stream, f.arrays, f.args, &of_forward).ok());
        REQUIRE(stream.reserve(std::max(bytes, of_forward)).ok());
        f.driver.capturing = true;
        f.driver.log.clear();
        REQUIRE(kernel.forward(stream, f.arrays, f.args).ok());
        REQUIRE(kernel.backward(stream, f.arrays, f.gradients, f.args).ok());
        CHECK(count("cuMemAlloc") + count("cuMemFree") + count("cuStreamSynchronize") == 0);
        CHECK(f.driver.launches.back().stream == &f);
        CHECK(f.driver.allocations == 1);
        f.driver.capturing = false;
    }
    CHECK(f.driver.allocations == 0);

    // The caller's memory, and values in the order of the parameters.
    f.driver.fills.clear();
    CudaOptions options = f.with_workspace();
    const Stream given = Stream::cuda(&f, options.workspace, options.workspace_bytes);
    std::vector<Tensor> values, d_values;
    for (const Argument& arg : f.args) values.push_back(arg.value);
    d_values = {f.gradients.d_params[0].value, Tensor{}, f.gradients.d_params[1].value};
    GradientArrays unnamed = f.gradients;
    unnamed.d_params.clear();
    size_t bytes = 0;
    REQUIRE(kernel.backward_workspace(given, f.arrays, unnamed, values.data(), d_values.data(), 3, &bytes).ok());
    CHECK(bytes == options.workspace_bytes);
    REQUIRE(kernel.backward(given, f.arrays, unnamed, values.data(), d_values.data(), 3).ok());
    CHECK(f.driver.fills.size() == 3);
    d_values[1] = d_values[0];  // doc has no gradient
    CHECK(kernel.backward(given, f.arrays, unnamed, values.data(), d_values.data(), 3).text() ==
          "there is no `d_doc`: `x` does not mark its parameter `doc` with `grad`; it gives `d_bias`, `d_table`");
    CHECK(kernel.backward(given, f.arrays, unnamed, values.data(), d_values.data(), 2).text() == "`x` has 3 parameters, got 2");
    CHECK(kernel.backward(Stream::cpu(), f.arrays, f.gradients, f.args).text() == "`x` was built without a target for the CPU");
    CHECK(Kernel().backward(given, f.arrays, f.gradients, f.args).text() == "the kernel is empty");

    // A kernel for the CPU without gradients says how to get them.
    flex_linked cpu{};
    cpu.version = FLEX_LINKED_VERSION;
    cpu.cpu[0] = &plain_kernel(4, true);
    Data data({.Q = 3, .K = 3});
    const Status without = Kernel(plain_desc(), cpu).backward(Stream::cpu(), data.arrays, {}, data.args());
    CHECK(without.code() == Code::Unsupported);
    CHECK(without.text().find("was compiled without gradients for the CPU (`flexc build --grad`") != std::string::npos);
    CHECK(
        Kernel(plain_desc(), cpu).backward(Stream::cuda(nullptr), data.arrays, {}, data.args()).text().find("without a target for GPUs") !=
        std::string::npos);
}
