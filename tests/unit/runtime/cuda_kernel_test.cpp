// CudaKernel, CudaDevice and the search for a driver, on a mock driver that notes what is asked of it.
#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <thread>

#include "cuda_util.h"
#include "runtime/cuda/driver.h"

using namespace flex;
using namespace flex::test;

namespace {

/// A kernel of one image. A context is current from the start.
struct Fixture {
    Mock& driver = mock();
    void* context = driver.create_context();
    flex_gpu_image image;
    std::unique_ptr<CudaKernel> kernel;

    explicit Fixture(const ImageOptions& options = {}) : image(image_of(options)) {
        const flex_gpu_image* list[] = {&image};
        kernel = std::make_unique<CudaKernel>(plain_gpu_desc(), list, 1);
    }
    ~Fixture() {
        kernel.reset();
        driver.destroy_context(context);
    }
};

}  // namespace

TEST_CASE("a launch fills, summarises, computes and combines, on the given stream") {
    Fixture f({.tile_q = 16, .tile_k = 64, .summaries = {FLEX_SUMMARY_OF_KEYS, FLEX_SUMMARY_BY_H}});
    const AttentionArrays arrays = gpu_arrays({.b = 2, .h = 4, .hkv = 2, .q = 3, .k = 10000});
    f.driver.parameter_bytes = gpu_layout(f.kernel->desc(), 2).bytes;
    CudaOptions options;
    options.stream = &f;
    options.splits = 5;
    size_t bytes = 0;
    REQUIRE(f.kernel->workspace(arrays, {}, options, &bytes).ok());
    CHECK(bytes > 5 * 2 * 4 * 3 * 66 * 4);
    CHECK(f.driver.modules_loaded == 0);
    options.workspace = reinterpret_cast<void*>(0x700010);
    options.workspace_bytes = bytes;
    const Status status = f.kernel->launch(arrays, {}, options);
    REQUIRE_MESSAGE(status.ok(), status.text());

    REQUIRE(f.driver.launches.size() == 3);
    REQUIRE(f.driver.fills.size() == 1);
    CHECK(f.driver.fills[0].to == 0x700010);
    CHECK(f.driver.fills[0].pattern == 0x7fffffff);
    CHECK(f.driver.fills[0].words == 2 * ((313 + 10) + 4 * (1 + 1)));
    CHECK(f.driver.fills[0].stream == &f);
    const auto& [summarise, forward, combine] = std::tie(f.driver.launches[0], f.driver.launches[1], f.driver.launches[2]);
    CHECK(summarise.function == "x_summarise");
    CHECK(summarise.grid[0] == (313 + 3) / 4);
    CHECK(summarise.grid[1] == 4);
    CHECK(summarise.grid[2] == 4);
    CHECK(summarise.block == 128);
    CHECK(forward.function == "x_forward");
    CHECK(forward.grid[0] == 2 * 2);  // two heads share a tile
    CHECK(forward.grid[1] == 5);
    CHECK(forward.shared == 81920);
    CHECK(combine.function == "x_combine");
    CHECK(combine.grid[0] == 3);
    CHECK(combine.block == 256);
    for (const MockLaunch& launch : f.driver.launches) {
        CHECK(launch.stream == &f);
        CHECK(launch.parameter == forward.parameter);
    }
    CHECK(f.driver.shared_attribute == std::map<std::string, int>{{"x_forward", 81920}});

    // Later launches only enqueue: a capture would hold them.
    f.driver.log.clear();
    REQUIRE(f.kernel->launch(arrays, {}, options).ok());
    CHECK(f.driver.log == std::vector<std::string>{"cuMemsetD32Async", "cuLaunchKernel", "cuLaunchKernel", "cuLaunchKernel"});
}

TEST_CASE("a plan without summaries and splits is one kernel and no workspace") {
    Fixture f;
    const AttentionArrays arrays = gpu_arrays({.b = 8, .h = 16, .hkv = 16, .q = 1000, .k = 1000});
    CudaPlan plan;
    REQUIRE(f.kernel->plan(arrays, {}, {}, &plan).ok());
    CHECK(plan.image == &f.image);
    CHECK(plan.splits == 1);
    CHECK(plan.blocks == 8 * 8 * 16);
    CHECK(plan.workspace_bytes == 0);
    REQUIRE(f.kernel->launch(arrays, {}).ok());
    CHECK(f.driver.launches.size() == 1);
    CHECK(f.driver.fills.empty());
}

TEST_CASE("empty problems are checked and launch nothing; without keys the kernel writes zeros") {
    Fixture f;
    for (const GpuShape& shape : {GpuShape{.b = 0, .q = 5, .k = 5}, GpuShape{.h = 0, .hkv = 0, .q = 5, .k = 5}, GpuShape{.q = 0, .k = 5}}) {
        CHECK(f.kernel->launch(gpu_arrays(shape), {}).ok());
        AttentionArrays wrong = gpu_arrays(shape);
        wrong.v.shape[2] += 1;
        CHECK(f.kernel->launch(wrong, {}).code() == Code::InvalidArgument);
    }
    CHECK(f.driver.log.empty());
    CHECK(f.kernel->launch(gpu_arrays({.q = 5, .k = 0}), {}).ok());
    CHECK(f.driver.launches.size() == 1);
}

TEST_CASE("what a launch refuses before it loads anything") {
    Fixture f;
    const AttentionArrays good = gpu_arrays({.b = 2, .h = 2, .hkv = 2, .q = 5, .k = 5000});
    AttentionArrays arrays = good;
    arrays.q.data = reinterpret_cast<void*>(0x100001);
    CHECK(f.kernel->launch(arrays, {}).text() == "`q` is f16 and must begin at a multiple of 2 bytes");
    arrays = good;
    arrays.o.stride[3] = 2;
    CHECK(f.kernel->launch(arrays, {}).code() == Code::InvalidArgument);
    CHECK(f.kernel->launch(good, {{"nobody", {}}}).code() == Code::InvalidArgument);
    CHECK(f.kernel->launch(gpu_arrays({.q = 5, .k = 5, .d = 200}), {}).text() ==
          "`x` was compiled for head dimensions up to 128 with f16, and `q` has D = 200");
    CHECK(f.kernel->launch(gpu_arrays({.q = 5, .k = 5, .dtype = DType::F32}), {}).code() == Code::Unsupported);
    CudaOptions options;
    options.splits = 3;
    size_t bytes = 0;
    REQUIRE(f.kernel->workspace(good, {}, options, &bytes).ok());
    const Status none = f.kernel->launch(good, {}, options);
    CHECK(none.code() == Code::OutOfMemory);
    CHECK(none.text().find("needs a workspace of " + std::to_string(bytes) + " bytes, got 0") != std::string::npos);
    options.workspace = reinterpret_cast<void*>(0x700000);
    options.workspace_bytes = bytes - 1;
    CHECK(f.kernel->launch(good, {}, options).code() == Code::OutOfMemory);
    options.workspace = reinterpret_cast<void*>(0x700008);
    options.workspace_bytes = bytes;
    CHECK(f.kernel->launch(good, {}, options).code() == Code::InvalidArgument);
    CHECK(f.driver.log.empty());

    f.driver.set_current(nullptr);
    const Status lost = f.kernel->launch(good, {});
    CHECK(lost.code() == Code::DeviceError);
    CHECK(lost.text().find("no CUDA context is current in this thread") == 0);
    f.driver.set_current(f.context);
}

TEST_CASE("what the driver says reaches the status, and a failed load is tried again") {
    Fixture f;
    const AttentionArrays arrays = gpu_arrays({.h = 2, .hkv = 2, .q = 500, .k = 200});
    f.driver.jit_log = "ptxas: line 7: unknown instruction";
    Status status = f.kernel->launch(arrays, {});
    CHECK(status.code() == Code::DeviceError);
    CHECK(status.text() ==
          "cuModuleLoadDataEx: a PTX JIT compilation failed (CUDA_ERROR_INVALID_PTX, 218)\nptxas: line 7: unknown instruction");
    f.driver.jit_log.clear();
    f.driver.missing_function = "x_forward";
    status = f.kernel->launch(arrays, {});
    CHECK(status.text() == "cuModuleGetFunction: unknown error (no name, 500): `x_forward`");
    CHECK(f.driver.modules_unloaded == 1);
    f.driver.missing_function.clear();
    f.driver.fail["cuLaunchKernel"] = 700;
    status = f.kernel->launch(arrays, {});
    CHECK(status.text() == "cuLaunchKernel: an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS, 700) in `x_forward`");
    f.driver.fail.clear();
    CHECK(f.kernel->launch(arrays, {}).ok());
    CHECK(f.driver.modules_loaded == 2);
    CHECK(f.driver.launches.size() == 1);
}

TEST_CASE("many threads load one module; each context its own") {
    Fixture f;
    f.driver.load_milliseconds = 20;
    const AttentionArrays arrays = gpu_arrays({.h = 2, .hkv = 2, .q = 500, .k = 200});
    void* other = f.driver.create_context();
    std::vector<std::thread> threads;
    std::vector<Status> results(16);
    for (size_t i = 0; i < results.size(); ++i)
        threads.emplace_back([&, i] {
            f.driver.set_current(i % 2 ? other : f.context);
            for (int n = 0; n < 20 && results[i].ok(); ++n) results[i] = f.kernel->launch(arrays, {});
        });
    for (std::thread& thread : threads) thread.join();
    for (const Status& status : results) CHECK(status.ok());
    CHECK(f.driver.modules_loaded == 2);
    CHECK(f.driver.launches.size() == 16 * 20);
    f.kernel.reset();
    CHECK(f.driver.modules_unloaded == 2);
    f.driver.destroy_context(other);
}

TEST_CASE("a context reborn at the same address gets a module of its own, and one that died is left alone") {
    Fixture f;
    const AttentionArrays arrays = gpu_arrays({.h = 2, .hkv = 2, .q = 500, .k = 200});
    REQUIRE(f.kernel->launch(arrays, {}).ok());
    f.driver.destroy_context(f.context);
    void* reborn = f.driver.create_context();
    REQUIRE(reborn == f.context);
    REQUIRE(f.kernel->launch(arrays, {}).ok());
    REQUIRE(f.kernel->launch(arrays, {}).ok());
    CHECK(f.driver.modules_loaded == 2);
    f.driver.destroy_context(reborn);
    f.kernel.reset();
    CHECK(f.driver.modules_unloaded == 0);
}

TEST_CASE("modules are loaded while streams are captured without disturbing the capture") {
    Fixture f;
    REQUIRE(f.kernel->launch(gpu_arrays({.h = 2, .hkv = 2, .q = 500, .k = 200}), {}).ok());
    CHECK(f.driver.capture_mode_while_loading == 2);
    CHECK(f.driver.capture_mode() == 0);
}

TEST_CASE("a device keeps its primary context current while it lives") {
    Mock& driver = mock();
    void* mine = driver.create_context();
    {
        std::unique_ptr<CudaDevice> device;
        REQUIRE(CudaDevice::open(1, &device).ok());
        CHECK(device->name() == "mock 1");
        CHECK(device->compute_capability() == 80);
        CHECK(device->multiprocessors() == 108);
        CHECK(driver.primary_references == 1);

        void *a = nullptr, *none = nullptr;
        REQUIRE(device->allocate(1000, &a).ok());
        REQUIRE(device->allocate(0, &none).ok());
        CHECK((a && none));
        int from = 42, to = 0;
        CHECK(device->to_device(a, &from, sizeof from).ok());
        CHECK(device->to_host(&to, a, sizeof to).ok());
        CHECK(to == 42);
        CHECK(device->to_device(none, nullptr, 0).ok());
        CHECK(device->free(a).ok());
        CHECK(device->free(none).ok());
        CHECK(device->free(nullptr).ok());
        CHECK(driver.allocations == 0);
        driver.fail["cuMemAlloc"] = 2;
        CHECK(device->allocate(1000, &a).code() == Code::OutOfMemory);
    }
    CHECK(driver.primary_references == 0);
    driver.log.clear();
    // The context from before is current again.
    const flex_gpu_image image = image_of({});
    const flex_gpu_image* list[] = {&image};
    const CudaKernel kernel(plain_gpu_desc(), list, 1);
    CHECK(kernel.launch(gpu_arrays({.q = 500, .k = 200}), {}).ok());
    driver.destroy_context(mine);

    std::unique_ptr<CudaDevice> device;
    CHECK(CudaDevice::open(2, &device).text() == "there is no CUDA device 2: this machine has 2, numbered from 0");
    CHECK(CudaDevice::open(-1, &device).code() == Code::DeviceError);
    driver.fail["cuDevicePrimaryCtxRetain"] = 700;
    CHECK(CudaDevice::open(0, &device).code() == Code::DeviceError);
    CHECK(device == nullptr);
    CHECK(driver.primary_references == 0);
}

TEST_CASE("a driver that is not there, is none, lacks an entry, or has no device") {
    cuda::Driver driver;
    CHECK(cuda::load_driver("/nowhere/libcuda.so", &driver).text().find("no CUDA driver: `/nowhere/libcuda.so` cannot be loaded: ") == 0);
    const Status lacking = cuda::load_driver(FLEX_MOCK_CUDA_WITHOUT_LAUNCH, &driver);
    CHECK(lacking.text().find("it lacks `cuLaunchKernel`;") != std::string::npos);
    CHECK_FALSE(static_cast<bool>(driver.init));

    setenv("MOCK_CUDA_INIT", "100", 1);
    CHECK(cuda::load_driver(FLEX_MOCK_CUDA, &driver).text().find("finds no device") != std::string::npos);
    setenv("MOCK_CUDA_INIT", "700", 1);
    CHECK(cuda::load_driver(FLEX_MOCK_CUDA, &driver).text().find("does not start: cuInit: an illegal memory access") != std::string::npos);
    unsetenv("MOCK_CUDA_INIT");
    CHECK(cuda::load_driver(FLEX_MOCK_CUDA, &driver).ok());
    CHECK(static_cast<bool>(driver.init));

    // Where no driver is installed the sentence says how to go on; where one is, it opens or says why not.
    const Status standard = cuda::load_driver("", &driver);
    if (!standard.ok()) CHECK(standard.text().find("CUDA driver") != std::string::npos);

    mock();
    std::unique_ptr<CudaDevice> device;
    CHECK(CudaDevice::open(0, &device).ok());
    CHECK(use_cuda_driver(FLEX_MOCK_CUDA).ok());
    CHECK(use_cuda_driver("another.so").code() == Code::InvalidArgument);
}
