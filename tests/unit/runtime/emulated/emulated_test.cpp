// CudaKernel on the emulated driver: graphs, streams, threads, contexts that come and go, faults. The kernels are a few lines of PTX that follow
// runtime/gpu_abi.h: NAME_summarise leaves 7 + (what the fill left, + 1 as a 32-bit number, which is -2^31: 0 in 16 bits) in the workspace, and
// NAME_forward adds it to each 16-bit element of q.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/gpu_layout.h"

using namespace flex;

namespace {

using Handle = void*;

/// An entry point of the driver, beside those that the runtime calls.
template <class... Parameters>
int call(const char* name, Parameters... parameters) {
    static void* library = dlopen(FLEX_EMULATED_CUDA, RTLD_NOW | RTLD_LOCAL);
    auto* function = reinterpret_cast<int (*)(Parameters...)>(dlsym(library, name));
    REQUIRE_MESSAGE(static_cast<bool>(function), name);
    return function(parameters...);
}

void open_driver() {
    static const Status status = use_cuda_driver(FLEX_EMULATED_CUDA);
    REQUIRE(status.ok());
}

KernelDesc desc() {
    KernelDesc made;
    made.name = "x";
    return made;
}

const std::string& ptx() {
    static const std::string text = [] {
        const GpuLayout at = gpu_layout(desc(), 1);
        const std::string parameter = ".param .align 8 .b8 p[" + std::to_string(at.bytes) + "]";
        const std::string summary = std::to_string(at.summaries), o = std::to_string(offsetof(flex_gpu_launch, o));
        return ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry x_summarise(" + parameter + ")\n{\n" +
               "  .reg .b64 %a; .reg .b32 %r<3>; .reg .pred %z;\n"
               "  mov.u32 %r0, %tid.x;\n  mov.u32 %r1, %ctaid.x;\n  add.u32 %r0, %r0, %r1;\n  setp.ne.u32 %z, %r0, 0;\n  @%z ret;\n"
               "  ld.param.u64 %a, [p+" +
               summary +
               "];\n  ld.global.u32 %r2, [%a];\n  add.u32 %r2, %r2, 8;\n  st.global.u32 [%a], %r2;\n  ret;\n}\n"
               ".visible .entry x_forward(" +
               parameter +
               ")\n{\n"
               "  .reg .b64 %a<4>; .reg .b32 %r<4>; .reg .b16 %h<3>; .reg .pred %z;\n"
               "  mov.u32 %r0, %tid.x;\n  setp.ne.u32 %z, %r0, 0;\n  @%z ret;\n"
               "  mov.u32 %r1, %ctaid.x;\n  ld.param.u64 %a0, [p];\n  ld.param.u64 %a1, [p+" +
               o + "];\n  ld.param.u64 %a2, [p+" + summary +
               "];\n  ld.global.u32 %r2, [%a2];\n  cvt.u16.u32 %h0, %r2;\n"
               "  mul.wide.u32 %a3, %r1, 2;\n  add.u64 %a0, %a0, %a3;\n  add.u64 %a1, %a1, %a3;\n"
               "  ld.global.u16 %h1, [%a0];\n  add.u16 %h2, %h1, %h0;\n  st.global.u16 [%a1], %h2;\n  ret;\n}\n";
    }();
    return text;
}
constexpr uint16_t kAdded = 7;  // 0x7fffffff + 8

flex_gpu_image image_of(const std::string& text) {
    static const int32_t flags[] = {FLEX_SUMMARY_OF_KEYS};
    flex_gpu_image image{};
    image.abi_version = FLEX_GPU_ABI_VERSION;
    image.target = "sm_80";
    image.dtype = FLEX_GPU_F16;
    image.head_dim = image.v_head_dim = 8;
    image.tile_q = image.max_pack = 1;
    image.tile_k = 64;
    image.summary_count = 1;
    image.summary_flags = flags;
    image.forward = {"x_forward", 32, 0};
    image.summarise = {"x_summarise", 32, 0};
    image.code = text.c_str();
    image.code_bytes = text.size();
    return image;
}

/// Rows of one element each, and a workspace, in the memory of the current context.
struct Problem {
    static constexpr int64_t kRows = 33;
    std::vector<uint16_t> q, o;
    uint64_t q_at = 0, o_at = 0, workspace_at = 0;
    AttentionArrays arrays;
    CudaOptions options;

    explicit Problem(uint16_t first) : q(kRows), o(kRows) {
        for (uint64_t* each : {&q_at, &o_at, &workspace_at}) REQUIRE(call("cuMemAlloc_v2", each, size_t{256}) == 0);
        fill(first);
        const auto view = [](uint64_t at, int64_t rows) {
            return Tensor::contiguous(reinterpret_cast<void*>(at), DType::F16, {1, 1, rows, 1});
        };
        arrays.q = view(q_at, kRows);
        arrays.k = view(q_at, kRows);
        arrays.v = view(q_at, kRows);
        arrays.o = view(o_at, kRows);
        options.workspace = reinterpret_cast<void*>(workspace_at);
        options.workspace_bytes = 256;
    }
    ~Problem() {
        for (const uint64_t each : {q_at, o_at, workspace_at}) call("cuMemFree_v2", each);
    }
    Problem(const Problem&) = delete;
    Problem& operator=(const Problem&) = delete;

    void fill(uint16_t first) {
        std::iota(q.begin(), q.end(), first);
        REQUIRE(call("cuMemcpyHtoD_v2", q_at, static_cast<const void*>(q.data()), q.size() * 2) == 0);
        REQUIRE(call("cuMemsetD8_v2", o_at, static_cast<unsigned char>(0), size_t{256}) == 0);
    }
    bool right() {
        if (call("cuMemcpyDtoH_v2", static_cast<void*>(o.data()), o_at, o.size() * 2) != 0) return false;
        for (size_t i = 0; i < q.size(); ++i)
            if (o[i] != static_cast<uint16_t>(q[i] + kAdded)) return false;
        return true;
    }
};

size_t free_memory() {
    size_t free = 0, total = 0;
    REQUIRE(call("cuMemGetInfo_v2", &free, &total) == 0);
    return free;
}

struct OneKernel {
    flex_gpu_image image = image_of(ptx());
    const flex_gpu_image* list[1] = {&image};
    CudaKernel kernel{desc(), list, 1};
};

}  // namespace

TEST_CASE("a launch in the primary context, which allocates nothing") {
    open_driver();
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    CHECK(device->is_emulated());
    OneKernel one;
    Problem problem(100);
    size_t bytes = 0;
    REQUIRE(one.kernel.workspace(problem.arrays, {}, problem.options, &bytes).ok());
    CHECK(bytes == 2 * (2 + 1) * 4);
    Status status = one.kernel.launch(problem.arrays, {}, problem.options);
    REQUIRE_MESSAGE(status.ok(), status.text());
    CHECK(problem.right());
    CHECK(device->emulated_instructions() > 0);
    const size_t before = free_memory();
    problem.fill(5);
    for (int i = 0; i < 10; ++i) REQUIRE(one.kernel.launch(problem.arrays, {}, problem.options).ok());
    CHECK(problem.right());
    CHECK(free_memory() == before);
}

TEST_CASE("a launch is captured in a graph, its module loaded on the way, and replayed") {
    open_driver();
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    OneKernel one;
    Problem problem(1);
    Handle stream = nullptr, graph = nullptr, exec = nullptr;
    REQUIRE(call("cuStreamCreate", &stream, 1U) == 0);
    for (const int mode : {0, 1, 2}) {  // global, of the thread, relaxed
        CAPTURE(mode);
        OneKernel fresh;
        const CudaKernel& kernel = mode == 0 ? one.kernel : fresh.kernel;
        REQUIRE(call("cuStreamBeginCapture_v2", stream, mode) == 0);
        problem.options.stream = stream;
        const Status status = kernel.launch(problem.arrays, {}, problem.options);
        REQUIRE_MESSAGE(status.ok(), status.text());
        REQUIRE(call("cuStreamEndCapture", stream, &graph) == 0);
        REQUIRE(call("cuGraphInstantiateWithFlags", &exec, graph, 0ULL) == 0);
        size_t nodes = 0;
        REQUIRE(call("cuGraphGetNodes", graph, static_cast<Handle*>(nullptr), &nodes) == 0);
        CHECK(nodes == 3);
        CHECK_FALSE(problem.right());  // nothing ran yet
        for (const uint16_t first : {uint16_t{40}, uint16_t{9000}}) {
            problem.fill(first);
            REQUIRE(call("cuGraphLaunch", exec, stream) == 0);
            REQUIRE(call("cuStreamSynchronize", stream) == 0);
            CHECK(problem.right());
        }
        problem.fill(3);
        REQUIRE(call("cuGraphExecDestroy", exec) == 0);
        REQUIRE(call("cuGraphDestroy", graph) == 0);
    }
    CHECK(call("cuStreamDestroy_v2", stream) == 0);
}

TEST_CASE("threads launch on streams of their own") {
    open_driver();
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    Handle context = nullptr;
    REQUIRE(call("cuCtxGetCurrent", &context) == 0);
    OneKernel one;
    constexpr size_t kThreads = 4;
    std::vector<std::unique_ptr<Problem>> problems;
    std::vector<Status> results(kThreads);
    std::vector<std::thread> threads;
    std::vector<Handle> streams(kThreads);
    for (size_t i = 0; i < kThreads; ++i) {
        problems.push_back(std::make_unique<Problem>(static_cast<uint16_t>(1000 * i)));
        REQUIRE(call("cuStreamCreate", &streams[i], 1U) == 0);
        problems[i]->options.stream = streams[i];
    }
    for (size_t i = 0; i < kThreads; ++i)
        threads.emplace_back([&, i] {
            std::unique_ptr<CudaDevice> mine;  // makes the context current here
            results[i] = CudaDevice::open(0, &mine);
            for (int n = 0; n < 20 && results[i].ok(); ++n) results[i] = one.kernel.launch(problems[i]->arrays, {}, problems[i]->options);
        });
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < kThreads; ++i) {
        CHECK_MESSAGE(results[i].ok(), results[i].text());
        CHECK(problems[i]->right());
        CHECK(call("cuStreamDestroy_v2", streams[i]) == 0);
    }
}

TEST_CASE("contexts of the caller, one after the other and beside the primary one") {
    open_driver();
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    OneKernel one;
    for (int i = 0; i < 5; ++i) {
        CAPTURE(i);
        Handle context = nullptr;
        REQUIRE(call("cuCtxCreate_v2", &context, 0U, 0) == 0);
        {
            Problem problem(static_cast<uint16_t>(10 * i));
            const Status status = one.kernel.launch(problem.arrays, {}, problem.options);
            REQUIRE_MESSAGE(status.ok(), status.text());
            CHECK(problem.right());
        }
        REQUIRE(call("cuCtxDestroy_v2", context) == 0);
        Problem problem(static_cast<uint16_t>(10 * i + 5));  // in the primary context again
        REQUIRE(one.kernel.launch(problem.arrays, {}, problem.options).ok());
        CHECK(problem.right());
    }
}

TEST_CASE("a primary context that was reset or released gets the module anew") {
    open_driver();
    OneKernel one;
    for (int i = 0; i < 4; ++i) {
        CAPTURE(i);
        std::unique_ptr<CudaDevice> device;
        REQUIRE(CudaDevice::open(0, &device).ok());
        {
            Problem problem(static_cast<uint16_t>(i));
            const Status status = one.kernel.launch(problem.arrays, {}, problem.options);
            REQUIRE_MESSAGE(status.ok(), status.text());
            CHECK(problem.right());
        }
        if (i % 2 == 0) REQUIRE(call("cuDevicePrimaryCtxReset_v2", 0) == 0);
    }
}

TEST_CASE("without a current context, and with one whose device is gone") {
    open_driver();
    OneKernel one;
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    Problem problem(1);
    Handle popped = nullptr;
    REQUIRE(call("cuCtxPopCurrent_v2", &popped) == 0);
    CHECK(one.kernel.launch(problem.arrays, {}, problem.options).text().find("no CUDA context is current") == 0);
    REQUIRE(call("cuCtxPushCurrent_v2", popped) == 0);
    CHECK(one.kernel.launch(problem.arrays, {}, problem.options).ok());
}

TEST_CASE("PTX that does not assemble is told with its line") {
    open_driver();
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    std::string broken = ptx();
    broken.replace(broken.find("add.u16"), 7, "addd.u16");
    const flex_gpu_image image = image_of(broken);
    const flex_gpu_image* list[] = {&image};
    const CudaKernel kernel(desc(), list, 1);
    Problem problem(1);
    const Status status = kernel.launch(problem.arrays, {}, problem.options);
    CHECK(status.code() == Code::DeviceError);
    CHECK_MESSAGE(status.text().find("CUDA_ERROR_INVALID_PTX") != std::string::npos, status.text());
    CHECK_MESSAGE(status.text().find("addd") != std::string::npos, status.text());
}

TEST_CASE("what a kernel does wrong reaches the status, and a new context works again") {
    open_driver();
    OneKernel one;
    {
        std::unique_ptr<CudaDevice> device;
        REQUIRE(CudaDevice::open(0, &device).ok());
        Problem problem(1);
        AttentionArrays arrays = problem.arrays;
        arrays.o.data = reinterpret_cast<void*>(problem.o_at + 224);  // its last rows lie outside the allocation
        Status status = one.kernel.launch(arrays, {}, problem.options);
        if (status.ok()) status = device->synchronise();
        CHECK(status.code() == Code::DeviceError);
        CHECK_MESSAGE(status.text().find("CUDA_ERROR_ILLEGAL_ADDRESS") != std::string::npos, status.text());
        CHECK_MESSAGE(status.text().find("st.global.u16") != std::string::npos, status.text());
    }
    std::unique_ptr<CudaDevice> device;
    REQUIRE(CudaDevice::open(0, &device).ok());
    Problem problem(1);
    REQUIRE(one.kernel.launch(problem.arrays, {}, problem.options).ok());
    CHECK(problem.right());
}
