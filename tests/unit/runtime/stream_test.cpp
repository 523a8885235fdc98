// flex::Stream and flex::Kernel: which code serves a stream, errors as values, and device memory that only grows, on the mock driver.
#include "runtime/stream.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "cuda_util.h"
#include "plain_kernel.h"

using namespace flex;
using namespace flex::test;

namespace {

flex_linked cpu_code() {
    flex_linked code{};
    code.version = FLEX_LINKED_VERSION;
    code.fingerprint = 7;
    code.cpu[0] = &plain_kernel(4, true);
    code.cpu[1] = &plain_kernel(8, true);
    code.cpu[2] = &plain_kernel(16, true);
    return code;
}

const KernelDesc& described() {
    static const KernelDesc desc = plain_desc();
    return desc;
}

/// A kernel for GPUs whose launches need workspace in proportion to K: a summary of the keys.
struct Gpu {
    Mock& driver = mock();
    void* context = driver.create_context();
    flex_gpu_image image = image_of({.tile_q = 16, .tile_k = 64, .summaries = {FLEX_SUMMARY_OF_KEYS}});
    const flex_gpu_image* list[1] = {&image};
    flex_linked code{FLEX_LINKED_VERSION, 1, 0, {}, list, nullptr, 0, 0};
    Kernel kernel{plain_gpu_desc(), code};

    ~Gpu() {
        kernel = Kernel();
        driver.destroy_context(context);
    }
    Status forward(const Stream& stream, int64_t keys) { return kernel.forward(stream, gpu_arrays({.q = 200, .k = keys}), nullptr, 0); }
    [[nodiscard]] long count(const char* call) const { return std::count(driver.log.begin(), driver.log.end(), call); }
};

}  // namespace

TEST_CASE("a CPU stream runs the highest level that it may, and every level gives the result") {
    const flex_linked code = cpu_code();
    const Kernel kernel(plain_desc(), code);
    REQUIRE(kernel.desc());
    CHECK(kernel.desc()->name == plain_desc().name);
    for (const CpuLevel level : {CpuLevel::Generic, CpuLevel::Avx2, CpuLevel::Avx512, CpuLevel::Avx512Bf16}) {
        Data data({.B = 2, .H = 4, .HKV = 2, .Q = 37, .K = 41, .D = 8, .DV = 12, .mode = kAlibiCausal});
        const Expected want = naive(data);
        const Status status = kernel.forward(Stream::cpu(2, level), data.arrays, data.args());
        REQUIRE_MESSAGE(status.ok(), status.text());
        CHECK(error(data, want) < 1e-5);
    }
    size_t bytes = 1;
    Data data({.Q = 3, .K = 3});
    CHECK(kernel.workspace(Stream::cpu(), data.arrays, data.args(), &bytes).ok());
    CHECK(bytes == 0);

    // Values in the order of the parameters do as well as names.
    std::vector<Tensor> values;
    for (const ParamDesc& param : plain_desc().params)
        for (const Argument& arg : data.args())
            if (arg.name == param.name) values.push_back(arg.value);
    if (values.size() == plain_desc().params.size()) CHECK(kernel.forward(Stream::cpu(), data.arrays, values.data(), values.size()).ok());
    const Status few = kernel.forward(Stream::cpu(), data.arrays, values.data(), 0);
    CHECK(few.code() == Code::InvalidArgument);
    CHECK(few.text().find("parameters, got 0") != std::string::npos);
}

TEST_CASE("what a kernel lacks is said") {
    Data data({.Q = 3, .K = 3});
    const auto code_of = [&](const flex_linked& code, const Stream& stream) {
        return Kernel(plain_desc(), code).forward(stream, data.arrays, data.args());
    };
    flex_linked code = cpu_code();
    Status status = code_of(code, Stream::cuda(nullptr));
    CHECK(status.code() == Code::Unsupported);
    CHECK(status.text().find("built without a target for GPUs") != std::string::npos);
    size_t bytes = 0;
    CHECK(Kernel(plain_desc(), code).workspace(Stream::cuda(nullptr), data.arrays, data.args(), &bytes).code() == Code::Unsupported);

    code.cpu[0] = code.cpu[1] = nullptr;
    status = code_of(code, Stream::cpu(0, CpuLevel::Avx2));
    CHECK(status.code() == Code::Unsupported);
    CHECK(status.text().find("higher vector level") != std::string::npos);
    code.cpu[2] = nullptr;
    CHECK(code_of(code, Stream::cpu()).text().find("built without a target for the CPU") != std::string::npos);

    CHECK(Kernel().forward(Stream::cpu(), data.arrays, data.args()).text() == "the kernel is empty");
    CHECK(Kernel().desc() == nullptr);
    code = cpu_code();
    code.version = FLEX_LINKED_VERSION + 1;
    CHECK(code_of(code, Stream::cpu()).text().find("not made together") != std::string::npos);
    // These live as long as the process, as do the ones of headers.
    static const flex_linked kept = cpu_code();
    static const Kernel *const right = Kernel::linked(&described, kept, 7), *const other = Kernel::linked(&described, kept, 8);
    CHECK(right->forward(Stream::cpu(), data.arrays, data.args()).ok());
    CHECK(other->forward(Stream::cpu(), data.arrays, data.args()).code() == Code::Unsupported);
    CHECK(Stream::cpu().reserve(16).code() == Code::InvalidArgument);
}

TEST_CASE("a stream's own workspace grows when it must and is freed with the last handle") {
    Gpu gpu;
    {
        const Stream stream = Stream::cuda(&gpu);
        CHECK(stream.on_gpu());
        REQUIRE(gpu.forward(stream, 1000).ok());
        CHECK(gpu.driver.allocations == 1);
        REQUIRE(gpu.forward(stream, 900).ok());
        CHECK(gpu.count("cuMemAlloc") == 1);
        const Stream copy = stream;
        REQUIRE(gpu.forward(copy, 20000000).ok());
        CHECK(gpu.count("cuMemAlloc") == 2);
        CHECK(gpu.driver.allocations == 1);            // the smaller one was freed,
        CHECK(gpu.count("cuStreamSynchronize") == 1);  // after launches that use it
        REQUIRE(gpu.forward(stream, 1000).ok());
        CHECK(gpu.count("cuMemAlloc") == 2);
        CHECK(gpu.driver.launches.back().stream == &gpu);
        CHECK(gpu.driver.fills.front().to != gpu.driver.fills.back().to);

        gpu.driver.fail["cuMemAlloc"] = 2;
        CHECK(gpu.forward(stream, 90000000).code() == Code::OutOfMemory);
        CHECK(gpu.forward(stream, 1000).ok());
        gpu.driver.fail.clear();
    }
    CHECK(gpu.driver.allocations == 0);
}

TEST_CASE("nothing is allocated during a capture, and what a capture has seen outlives later growth") {
    Gpu gpu;
    {
        const Stream stream = Stream::cuda(&gpu);
        gpu.driver.capturing = true;
        Status status = gpu.forward(stream, 1000);
        CHECK(status.code() == Code::OutOfMemory);
        CHECK(status.text().find("reserve()") != std::string::npos);
        CHECK(gpu.driver.launches.empty());
        CHECK(gpu.count("cuMemAlloc") == 0);

        gpu.driver.capturing = false;
        size_t bytes = 0;
        REQUIRE(gpu.kernel.workspace(stream, gpu_arrays({.q = 200, .k = 1000}), nullptr, 0, &bytes).ok());
        REQUIRE(bytes > 0);
        REQUIRE(stream.reserve(bytes).ok());
        gpu.driver.capturing = true;
        gpu.driver.log.clear();
        REQUIRE(gpu.forward(stream, 1000).ok());
        CHECK(gpu.count("cuMemAlloc") + gpu.count("cuMemFree") + gpu.count("cuStreamSynchronize") == 0);

        gpu.driver.capturing = false;
        REQUIRE(gpu.forward(stream, 20000000).ok());
        CHECK(gpu.driver.allocations == 2);  // the graph's, and the larger one
        REQUIRE(gpu.forward(stream, 90000000).ok());
        CHECK(gpu.driver.allocations == 2);
    }
    CHECK(gpu.driver.allocations == 0);
}

TEST_CASE("the caller's workspace is used, and nothing is allocated") {
    Gpu gpu;
    size_t bytes = 0;
    REQUIRE(gpu.kernel.workspace(Stream::cuda(&gpu), gpu_arrays({.q = 200, .k = 1000}), nullptr, 0, &bytes).ok());
    const Stream stream = Stream::cuda(&gpu, reinterpret_cast<void*>(0x700000), bytes);
    REQUIRE(gpu.forward(stream, 1000).ok());
    CHECK(gpu.driver.fills.back().to == 0x700000);
    CHECK(gpu.forward(stream, 20000000).code() == Code::OutOfMemory);
    CHECK(stream.reserve(1).code() == Code::InvalidArgument);
    CHECK(gpu.count("cuMemAlloc") == 0);
}

TEST_CASE("threads share a stream") {
    Gpu gpu;
    {
        const Stream stream = Stream::cuda(&gpu);
        std::vector<std::thread> threads;
        std::vector<Status> results(8);
        for (size_t i = 0; i < results.size(); ++i)
            threads.emplace_back([&, i] {
                gpu.driver.set_current(gpu.context);
                for (int64_t keys = 64; keys < 5000 && results[i].ok(); keys *= 2)
                    results[i] = gpu.forward(stream, keys + static_cast<int64_t>(i));
            });
        for (std::thread& thread : threads) thread.join();
        for (const Status& status : results) CHECK_MESSAGE(status.ok(), status.text());
        CHECK(gpu.driver.allocations == 1);
    }
    CHECK(gpu.driver.allocations == 0);
}

TEST_CASE("the last handle may go where no context is current, or after its context") {
    Gpu gpu;
    auto stream = std::make_unique<Stream>(Stream::cuda(&gpu));
    REQUIRE(gpu.forward(*stream, 1000).ok());
    std::thread([&] { stream.reset(); }).join();
    CHECK(gpu.driver.allocations == 0);
    const Stream unused = Stream::cuda(nullptr);
    CHECK(unused.on_gpu());
}
