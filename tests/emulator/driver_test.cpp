// The driver API, call by call: what works, and what must be refused and how.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "emulator/tensor_map.h"
#include "tests/emulator/driver_api.h"

using namespace emulator_test;

namespace {

/// Runs in a process of its own, whose driver nobody has initialised; the number of failed checks.
template <typename F>
int in_fresh_process(F body) {
    pid_t child = fork();
    if (child == 0) _exit(body());
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

std::string error_log(const char* image, CUresult* result) {
    std::array<char, 512> log{};
    CUmodule module = nullptr;
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_ERROR_LOG_BUFFER};
    void* values[] = {reinterpret_cast<void*>(log.size()), log.data()};
    *result = CU(cuModuleLoadDataEx)(&module, image, 2, options, values);
    CHECK(reinterpret_cast<size_t>(values[0]) == std::strlen(log.data()) + 1);
    return log.data();
}

}  // namespace

TEST_CASE("nothing works before cuInit and without a context") {
    CHECK(in_fresh_process([] {
              int count = 0, failed = 0;
              CUdeviceptr address = 0;
              failed += CU(cuDeviceGetCount)(&count) != CUDA_ERROR_NOT_INITIALIZED;
              failed += CU(cuMemAlloc_v2)(&address, 4) != CUDA_ERROR_NOT_INITIALIZED;
              failed += CU(cuInit)(1) != CUDA_ERROR_INVALID_VALUE;
              failed += CU(cuInit)(0) != CUDA_SUCCESS;
              failed += CU(cuMemAlloc_v2)(&address, 4) != CUDA_ERROR_INVALID_CONTEXT;
              failed += CU(cuDeviceGetCount)(&count) != CUDA_SUCCESS || count != 1;
              return failed;
          }) == 0);
}

TEST_CASE("what the environment says of checks and seeds is understood or refused") {
    const auto init = [](const char* name, const char* value) {
        return in_fresh_process([&] {
            setenv(name, value, 1);
            return CU(cuInit)(0) == CUDA_SUCCESS ? 0 : 1;
        });
    };
    for (const char* right : {"", "races", "uninitialised", "races,uninitialised", "uninitialised,races", "none"})
        CHECK(init("FLEXEMU_CHECKS", right) == 0);
    for (const char* wrong : {"race", "none,races", "races,", "0"}) CHECK(init("FLEXEMU_CHECKS", wrong) == 1);
    CHECK(init("FLEXEMU_SEED", "") == 0);
    CHECK(init("FLEXEMU_SEED", "0x1f") == 0);
    CHECK(init("FLEXEMU_SEED", "seven") == 1);
}

TEST_CASE("the environment chooses the device") {
    auto capability = [](const char* name, int right) {
        return in_fresh_process([&] {
            setenv("FLEXEMU_DEVICE", name, 1);
            int major = 0, minor = 0;
            CUresult result = CU(cuInit)(0);
            if (right == 0) return result == CUDA_ERROR_NO_DEVICE ? 0 : 1;
            CU(cuDeviceGetAttribute)(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0);
            CU(cuDeviceGetAttribute)(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0);
            return major * 10 + minor == right ? 0 : 1;
        });
    };
    CHECK(capability("sm_80", 80) == 0);
    CHECK(capability("sm_120", 120) == 0);
    CHECK(capability("voodoo", 0) == 0);
}

TEST_CASE("a device takes PTX for itself and for earlier ones; sm_90a is for sm_90 alone") {
    auto takes = [](const char* device, const char* target) {
        return in_fresh_process([&] {
            setenv("FLEXEMU_DEVICE", device, 1);
            CUcontext context = nullptr;
            CUmodule module = nullptr;
            const std::string text =
                std::string(".version 8.0\n.target ") + target + "\n.address_size 64\n.visible .entry f()\n{\n    ret;\n}\n";
            if (CU(cuInit)(0) != CUDA_SUCCESS || CU(cuCtxCreate_v2)(&context, 0, 0) != CUDA_SUCCESS) return 2;
            return CU(cuModuleLoadData)(&module, text.c_str()) == CUDA_SUCCESS ? 1 : 0;
        });
    };
    CHECK(takes("sm_80", "sm_80") == 1);
    CHECK(takes("sm_90", "sm_80") == 1);
    CHECK(takes("sm_80", "sm_90") == 0);
    CHECK(takes("sm_90", "sm_90a") == 1);
    CHECK(takes("sm_80", "sm_90a") == 0);
    CHECK(takes("sm_100", "sm_90a") == 0);
    CHECK(takes("sm_100", "sm_90") == 1);
}

TEST_CASE("functions are found by name and version") {
    // Loaded, the library is libcuda.so.1 for who asks next.
    static_cast<void>(api());
    void* again = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(again != nullptr);
    CHECK(dlsym(again, "cuInit") == reinterpret_cast<void*>(CU(cuInit)));
    void* function = nullptr;
    CUdriverProcAddressQueryResult status;
    CHECK(CU(cuGetProcAddress_v2)("cuMemAlloc", &function, 12000, 0, &status) == CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(CU(cuMemAlloc_v2)));
    CHECK(CU(cuGetProcAddress_v2)("cuLaunchKernel", &function, 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &status) ==
          CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(CU(cuLaunchKernel_ptsz)));
    CHECK(CU(cuGetProcAddress_v2)("cuCtxSynchronize", &function, 12080, 0, &status) == CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(CU(cuCtxSynchronize)));
    CHECK(CU(cuGetProcAddress_v2)("cuCtxSynchronize", &function, 13000, 0, &status) == CUDA_SUCCESS);
    CHECK(function == reinterpret_cast<void*>(CU(cuCtxSynchronize_v2)));
    CHECK(CU(cuGetProcAddress_v2)("cuLibraryLoadData", &function, 11000, 0, &status) == CUDA_ERROR_NOT_FOUND);
    CHECK(status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    CHECK(CU(cuGetProcAddress_v2)("cuMakeCoffee", &function, 13000, 0, &status) == CUDA_ERROR_NOT_FOUND);
    CHECK(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    CHECK(function == nullptr);
    CHECK(CU(cuGetProcAddress_v2)("cuInit", &function, 13000, 3, &status) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("contexts stack by thread") {
    Session session;
    CUcontext current = nullptr, other = nullptr, popped = nullptr;
    REQUIRE_CU(CU(cuCtxGetCurrent)(&current));
    CHECK(current == session.context);
    REQUIRE_CU(CU(cuDevicePrimaryCtxRetain)(&other, 0));
    REQUIRE_CU(CU(cuCtxPushCurrent_v2)(other));
    std::thread([&] {
        CUcontext elsewhere = session.context;
        CHECK(CU(cuCtxGetCurrent)(&elsewhere) == CUDA_SUCCESS);
        CHECK(elsewhere == nullptr);
    }).join();
    REQUIRE_CU(CU(cuCtxPopCurrent_v2)(&popped));
    CHECK(popped == other);
    CHECK(CU(cuCtxDestroy_v2)(other) == CUDA_ERROR_INVALID_CONTEXT);  // the primary one is released, not destroyed
    unsigned flags = 9;
    int active = 0;
    REQUIRE_CU(CU(cuDevicePrimaryCtxGetState)(0, &flags, &active));
    CHECK(active == 1);
    REQUIRE_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
    CHECK(CU(cuDevicePrimaryCtxRelease_v2)(0) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(CU(cuCtxSetCurrent)(other) == CUDA_ERROR_INVALID_CONTEXT);
    CUfunction stale = session.function("affine");
    CUcontext second = nullptr;
    REQUIRE_CU(CU(cuCtxCreate_v2)(&second, 0, 0));
    void* parameters[4] = {};
    CHECK(CU(cuLaunchKernel)(stale, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_ERROR_INVALID_CONTEXT);
    REQUIRE_CU(CU(cuCtxDestroy_v2)(second));
}

TEST_CASE("memory: allocations, copies, fills, and what pointers are") {
    Session session;
    CUdeviceptr memory = session.allocate(4096), base = 0;
    size_t bytes = 0;
    REQUIRE_CU(CU(cuMemGetAddressRange_v2)(&base, &bytes, memory + 100));
    CHECK(base == memory);
    CHECK(bytes == 4096);
    REQUIRE_CU(CU(cuMemsetD32_v2)(memory, 5, 1024));
    REQUIRE_CU(CU(cuMemsetD2D16_v2)(memory, 64, 0xABCD, 3, 4));
    auto values = session.read(memory, 1024);
    CHECK(values[0] == 0xABCDABCD);
    CHECK(values[1] == 0x0000ABCD);
    CHECK(values[2] == 5);
    CHECK(values[16] == 0xABCDABCD);
    CHECK(values[1023] == 5);

    CHECK(CU(cuMemAlloc_v2)(&base, 0) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuMemAlloc_v2)(&base, size_t{1} << 50) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(CU(cuMemFree_v2)(memory + 8) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuMemcpyHtoD_v2)(memory + 4000, values.data(), 97) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuMemsetD32_v2)(memory + 2, 0, 1) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuMemcpyDtoH_v2)(values.data(), 64, 4) == CUDA_ERROR_INVALID_VALUE);

    // Two rows of 8 bytes out of a host array of rows of 12.
    std::array<unsigned char, 36> host{};
    for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<unsigned char>(i);
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST, copy.srcHost = host.data(), copy.srcPitch = 12, copy.srcXInBytes = 2, copy.srcY = 1;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE, copy.dstDevice = memory, copy.dstPitch = 16;
    copy.WidthInBytes = 8, copy.Height = 2;
    REQUIRE_CU(CU(cuMemcpy2D_v2)(&copy));
    CHECK(session.read(memory, 1)[0] == 0x11100F0E);
    CHECK(session.read(memory + 16, 1)[0] == 0x1D1C1B1A);
    copy.dstPitch = 4;
    CHECK(CU(cuMemcpy2D_v2)(&copy) == CUDA_ERROR_INVALID_VALUE);

    unsigned type = 0;
    REQUIRE_CU(CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory + 4));
    CHECK(type == CU_MEMORYTYPE_DEVICE);
    CHECK(CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(host.data())) ==
          CUDA_ERROR_INVALID_VALUE);
    REQUIRE_CU(CU(cuMemFree_v2)(memory));
    CHECK(CU(cuMemFree_v2)(memory) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuMemFree_v2)(0) == CUDA_SUCCESS);
}

TEST_CASE("page-locked, registered and managed memory is the device's too") {
    Session session;
    void* locked = nullptr;
    CUdeviceptr address = 0, managed = 0;
    REQUIRE_CU(CU(cuMemHostAlloc)(&locked, 256, 2));
    REQUIRE_CU(CU(cuMemHostGetDevicePointer_v2)(&address, locked, 0));
    REQUIRE_CU(CU(cuMemAllocManaged)(&managed, 256, CU_MEM_ATTACH_GLOBAL));
    std::vector<unsigned> own(64, 3);
    REQUIRE_CU(CU(cuMemHostRegister_v2)(own.data(), 256, 0));
    CHECK(CU(cuMemHostRegister_v2)(own.data() + 1, 8, 0) == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    for (CUdeviceptr each : {address, managed, reinterpret_cast<CUdeviceptr>(own.data())}) {
        auto* words = reinterpret_cast<unsigned*>(each);
        words[63] = 3;
        words[0] = 10;
        REQUIRE_CU(session.affine(each, 2, 1, 64));
        REQUIRE_CU(CU(cuCtxSynchronize)());
        CHECK(words[0] == 21);
        CHECK(words[63] == 7);
    }
    REQUIRE_CU(CU(cuMemHostUnregister)(own.data()));
    CHECK(CU(cuMemHostUnregister)(own.data()) == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    CHECK(CU(cuMemFreeHost)(own.data()) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE_CU(CU(cuMemFreeHost)(locked));
    REQUIRE_CU(CU(cuMemFree_v2)(managed));
}

TEST_CASE("modules: functions, variables, logs") {
    Session session;
    CUdeviceptr variable = 0, out = session.allocate(4);
    size_t bytes = 0;
    unsigned value = 77;
    REQUIRE_CU(CU(cuModuleGetGlobal_v2)(&variable, &bytes, session.module, "setting"));
    CHECK(bytes == 4);
    CHECK(session.read(variable, 1)[0] == 42);
    REQUIRE_CU(CU(cuMemcpyHtoD_v2)(variable, &value, 4));
    void* parameters[] = {&out};
    REQUIRE_CU(CU(cuLaunchKernel)(session.function("get_setting"), 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK(session.read(out, 1)[0] == 77);
    CUfunction function = nullptr;
    CHECK(CU(cuModuleGetFunction)(&function, session.module, "absent") == CUDA_ERROR_NOT_FOUND);
    CHECK(CU(cuModuleGetFunction)(&function, reinterpret_cast<CUmodule>(&value), "affine") == CUDA_ERROR_INVALID_HANDLE);

    CUresult result = CUDA_SUCCESS;
    std::string log = error_log(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry f()\n{\n    .reg .b32 %r;\n    frobnicate.u32 %r;\n}\n", &result);
    CHECK(result == CUDA_ERROR_INVALID_PTX);
    CHECK(log.find("line 7") != std::string::npos);
    CHECK(log.find("frobnicate") != std::string::npos);
    log = error_log(
        "\x7F"
        "ELF and more",
        &result);
    CHECK(result == CUDA_ERROR_NO_BINARY_FOR_GPU);
    CHECK(log.find("only PTX") != std::string::npos);
    error_log("what is this", &result);
    CHECK(result == CUDA_ERROR_INVALID_IMAGE);
    error_log("", &result);
    CHECK(result == CUDA_ERROR_INVALID_IMAGE);
    CUmodule module = nullptr;
    CHECK(CU(cuModuleLoad)(&module, "/nonexistent/file.ptx") == CUDA_ERROR_FILE_NOT_FOUND);
    CHECK(CU(cuModuleLoadData)(&module, nullptr) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("libraries: kernels without a context, launched in one") {
    Session session;
    CUlibrary library = nullptr;
    CUkernel kernel = nullptr;
    CUfunction function = nullptr;
    unsigned count = 0;
    size_t offset = 0, bytes = 0;
    REQUIRE_CU(CU(cuLibraryLoadData)(&library, kKernels, nullptr, nullptr, 0, nullptr, nullptr, 0));
    REQUIRE_CU(CU(cuLibraryGetKernelCount)(&count, library));
    CHECK(count == 5);
    REQUIRE_CU(CU(cuLibraryGetKernel)(&kernel, library, "affine"));
    REQUIRE_CU(CU(cuKernelGetParamInfo)(kernel, 2, &offset, &bytes));
    CHECK(offset == 12);
    CHECK(bytes == 4);
    CHECK(CU(cuKernelGetParamInfo)(kernel, 4, &offset, &bytes) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE_CU(CU(cuKernelGetFunction)(&function, kernel));
    CUdeviceptr values = session.allocate(4);
    REQUIRE_CU(CU(cuMemsetD32_v2)(values, 4, 1));
    unsigned factor = 3, amount = 1, n = 1;
    void* parameters[] = {&values, &factor, &amount, &n};
    REQUIRE_CU(CU(cuLaunchKernel)(function, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
    REQUIRE_CU(CU(cuLaunchKernel)(reinterpret_cast<CUfunction>(kernel), 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK(session.read(values, 1)[0] == 40);
    REQUIRE_CU(CU(cuLibraryUnload)(library));
    CHECK(CU(cuLaunchKernel)(function, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE("launches: shapes, shared memory, packed parameters") {
    Session session;
    CUdeviceptr out = session.allocate(4);
    CUfunction limited = session.function("limited"), shared = session.function("shared_bytes");
    auto launch = [&](CUfunction function, unsigned grid, unsigned block, unsigned bytes) {
        void* parameters[] = {&out};
        return CU(cuLaunchKernel)(function, grid, 1, 1, block, 1, 1, bytes, nullptr, parameters, nullptr);
    };
    CHECK(launch(shared, 0, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    CHECK(launch(shared, 1, 0, 0) == CUDA_ERROR_INVALID_VALUE);
    CHECK(launch(shared, 1, 1025, 0) == CUDA_ERROR_INVALID_VALUE);
    CHECK(launch(limited, 1, 64, 0) == CUDA_SUCCESS);
    CHECK(launch(limited, 1, 65, 0) == CUDA_ERROR_INVALID_VALUE);
    CHECK(launch(shared, 1, 1, 49152) == CUDA_SUCCESS);
    CHECK(launch(shared, 1, 1, 49153) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuFuncSetAttribute)(shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 20) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE_CU(CU(cuFuncSetAttribute)(shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000));
    CHECK(launch(shared, 1, 1, 100000) == CUDA_SUCCESS);
    CHECK(session.read(out, 1)[0] == 100000);
    CHECK(launch(shared, 1, 1, 100001) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuLaunchKernel)(shared, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr) == CUDA_ERROR_INVALID_VALUE);
    CHECK(CU(cuLaunchKernel)(shared, 1, 1, 1, 1, 1, 1, 0, reinterpret_cast<CUstream>(&out), nullptr, nullptr) == CUDA_ERROR_INVALID_HANDLE);

    int value = 0;
    REQUIRE_CU(CU(cuFuncGetAttribute)(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, limited));
    CHECK(value == 1024);
    REQUIRE_CU(CU(cuFuncGetAttribute)(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, limited));
    CHECK(value == 64);

    size_t bytes = 8;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &out, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    CHECK(CU(cuLaunchKernel)(shared, 1, 1, 1, 1, 1, 1, 16, nullptr, nullptr, extra) == CUDA_SUCCESS);
    CHECK(session.read(out, 1)[0] == 16);
    bytes = 4;
    CHECK(CU(cuLaunchKernel)(shared, 1, 1, 1, 1, 1, 1, 16, nullptr, nullptr, extra) == CUDA_ERROR_INVALID_VALUE);

    CUlaunchAttribute attributes[2] = {};
    attributes[0].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[0].value.words[0] = 1;
    attributes[1].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[1].value.clusterDim = {2, 1, 1};
    void* parameters[] = {&out};
    CUlaunchConfig config{3, 1, 1, 32, 1, 1, 8, nullptr, attributes, 2};
    CHECK(CU(cuLaunchKernelEx)(&config, shared, parameters, nullptr) == CUDA_ERROR_INVALID_VALUE);  // 3 blocks in clusters of 2
    config.numAttrs = 1;
    config.gridDimX = 1;
    CHECK(CU(cuLaunchKernelEx)(&config, shared, parameters, nullptr) == CUDA_SUCCESS);
    CHECK(CU(cuLaunchCooperativeKernel)(shared, 100000, 1, 1, 1024, 1, 1, 0, nullptr, parameters) ==
          CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);

    int blocks = 0;
    REQUIRE_CU(CU(cuOccupancyMaxActiveBlocksPerMultiprocessor)(&blocks, shared, 256, 100000));
    CHECK(blocks == 2);
}

TEST_CASE("blocks of a cooperative launch have memory for their barriers, as cooperative groups expect it") {
    const std::string text = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry meet(.param .u64 to) {
    .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .pred %p;
    ld.param.u64 %rd1, [to];
    mov.u32 %r1, %envreg2;
    mov.u32 %r2, %envreg1;
    mov.b64 %rd2, {%r1, %r2};
    setp.eq.u64 %p, %rd2, 0;
    @%p trap;
    atom.add.acq_rel.gpu.u32 %r3, [%rd2 + 4], 1;
WAIT:
    ld.acquire.gpu.u32 %r3, [%rd2 + 4];
    setp.ne.u32 %p, %r3, 3;
    @%p bra WAIT;
    mov.u32 %r1, %ctaid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd1, %rd1, %rd3;
    st.global.u32 [%rd1], %r3;
    ret;
}
)";
    Session session;
    CUmodule module = nullptr;
    CUfunction meet = nullptr;
    REQUIRE_CU(CU(cuModuleLoadData)(&module, text.c_str()));
    REQUIRE_CU(CU(cuModuleGetFunction)(&meet, module, "meet"));
    CUdeviceptr out = session.allocate(12);
    void* parameters[] = {&out};
    for (int i = 0; i < 2; ++i) {  // the count starts anew
        REQUIRE_CU(CU(cuLaunchCooperativeKernel)(meet, 3, 1, 1, 1, 1, 1, 0, nullptr, parameters));
        REQUIRE_CU(CU(cuCtxSynchronize)());
        for (size_t block = 0; block < 3; ++block) CHECK(session.read(out, 3)[block] == 3);
    }
    CHECK(CU(cuLaunchKernel)(meet, 3, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_SUCCESS);
    CHECK(CU(cuCtxSynchronize)() == CUDA_ERROR_LAUNCH_FAILED);
}

TEST_CASE("a fault is told once, sticks to the context, and to no other") {
    Session healthy;
    CUdeviceptr kept = healthy.allocate(4);
    {
        Session session;
        CUdeviceptr memory = session.allocate(16), beyond = memory + 16;
        void* parameters[] = {&beyond};
        CHECK(CU(cuLaunchKernel)(session.function("store"), 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr) == CUDA_SUCCESS);
        CHECK(CU(cuCtxSynchronize)() == CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK(CU(cuMemFree_v2)(memory) == CUDA_ERROR_ILLEGAL_ADDRESS);
        CHECK(CU(cuStreamSynchronize)(nullptr) == CUDA_ERROR_ILLEGAL_ADDRESS);
        std::string text = api().find<const char*()>("flexemu_last_fault")();
        CHECK(text.find("store") != std::string::npos);
        CHECK(text.find("line ") != std::string::npos);
    }
    REQUIRE_CU(CU(cuMemsetD32_v2)(kept, 1, 1));
    CHECK(healthy.read(kept, 1)[0] == 1);
    {
        Session session;
        CUdeviceptr odd = session.allocate(16) + 2;
        void* parameters[] = {&odd};
        CU(cuLaunchKernel)(session.function("store"), 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr);
        CHECK(CU(cuCtxSynchronize)() == CUDA_ERROR_MISALIGNED_ADDRESS);
    }
    // The primary context recovers by a reset.
    CUcontext primary = nullptr;
    REQUIRE_CU(CU(cuDevicePrimaryCtxRetain)(&primary, 0));
    REQUIRE_CU(CU(cuCtxPushCurrent_v2)(primary));
    CUmodule module = nullptr;
    CUfunction store = nullptr;
    CUdeviceptr nowhere = 8;
    void* parameters[] = {&nowhere};
    REQUIRE_CU(CU(cuModuleLoadData)(&module, kKernels));
    REQUIRE_CU(CU(cuModuleGetFunction)(&store, module, "store"));
    CU(cuLaunchKernel)(store, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr);
    CHECK(CU(cuCtxSynchronize)() == CUDA_ERROR_ILLEGAL_ADDRESS);
    REQUIRE_CU(CU(cuDevicePrimaryCtxReset_v2)(0));
    CHECK(CU(cuCtxSynchronize)() == CUDA_SUCCESS);
    CHECK(CU(cuModuleGetFunction)(&store, module, "store") == CUDA_ERROR_INVALID_HANDLE);
    CU(cuCtxPopCurrent_v2)(nullptr);
    REQUIRE_CU(CU(cuDevicePrimaryCtxRelease_v2)(0));
}

TEST_CASE("tensor maps: the rules of the encoding, and what is encoded") {
    Session session;
    CUdeviceptr memory = session.allocate(1 << 20);
    CUtensorMap map;
    uint64_t dims[] = {128, 300}, strides[] = {256};
    uint32_t box[] = {64, 32}, steps[] = {1, 1};
    auto encode = [&](CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
        return CU(cuTensorMapEncodeTiled)(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, reinterpret_cast<void*>(memory), dims, strides, box,
                                          steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                          CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    };
    REQUIRE_CU(encode());
    flexemu::TensorMap decoded;
    REQUIRE(flexemu::decode(&map, &decoded));
    CHECK(decoded.address == memory);
    CHECK(decoded.extent(1) == 300);
    CHECK(decoded.strides[0] == 256);
    CHECK(decoded.box[0] == 64);
    CHECK(flexemu::tensor_map_element_bytes(decoded.type) == 2);
    REQUIRE_CU(CU(cuTensorMapReplaceAddress)(&map, reinterpret_cast<void*>(memory + 16)));
    box[0] = 128;  // 256 bytes are more than the swizzle spans
    CHECK(encode() == CUDA_ERROR_INVALID_VALUE);
    CHECK(encode(CU_TENSOR_MAP_SWIZZLE_NONE) == CUDA_SUCCESS);
    box[0] = 257;
    CHECK(encode(CU_TENSOR_MAP_SWIZZLE_NONE) == CUDA_ERROR_INVALID_VALUE);
    box[0] = 4;  // 8 bytes: not a multiple of 16
    CHECK(encode() == CUDA_ERROR_INVALID_VALUE);
    box[0] = 64;
    strides[0] = 260;
    CHECK(encode() == CUDA_ERROR_INVALID_VALUE);
    strides[0] = 256;
    memory += 8;
    CHECK(encode() == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("tensor maps: each condition of the driver, just kept and just broken") {
    Session session;
    struct Request {
        CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
        uint32_t rank = 3;
        uint64_t offset = 0, dims[5] = {64, 8, 8, 2, 2}, strides[4] = {128, 1024, 8192, 16384};
        uint32_t box[5] = {32, 4, 2, 1, 1}, steps[5] = {1, 1, 1, 1, 1};
        CUtensorMapInterleave interleave = CU_TENSOR_MAP_INTERLEAVE_NONE;
        CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_64B;
        CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
        CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
    };
    const CUdeviceptr memory = session.allocate(1 << 16);
    const auto encode = [&](auto change, size_t at = 0) {
        alignas(64) uint8_t room[192] = {};
        Request r;
        change(r);
        return CU(cuTensorMapEncodeTiled)(reinterpret_cast<CUtensorMap*>(room + at), r.type, r.rank,
                                          reinterpret_cast<void*>(memory + r.offset), r.dims, r.strides, r.box, r.steps, r.interleave,
                                          r.swizzle, r.promotion, r.fill);
    };
    const auto good = [&](auto change) { return encode(change) == CUDA_SUCCESS; };
    const auto bad = [&](auto change) { return encode(change) == CUDA_ERROR_INVALID_VALUE; };
    using R = Request;
    CHECK(good([](R&) {}));
    CHECK(encode([](R&) {}, 32) == CUDA_ERROR_INVALID_VALUE);
    for (uint32_t rank = 1; rank <= 5; ++rank) CHECK(good([&](R& r) { r.rank = rank; }));
    CHECK(bad([](R& r) { r.rank = 0; }));
    CHECK(bad([](R& r) { r.rank = 6; }));
    CHECK(good([](R& r) { r.offset = 16; }));
    CHECK(bad([](R& r) { r.offset = 8; }));
    CHECK(bad([](R& r) { r.dims[1] = 0; }));
    CHECK(good([](R& r) { r.dims[2] = uint64_t{1} << 32; }));
    CHECK(bad([](R& r) { r.dims[2] = (uint64_t{1} << 32) + 1; }));
    CHECK(good([](R& r) { r.strides[0] = 144; }));
    CHECK(bad([](R& r) { r.strides[0] = 136; }));
    CHECK(bad([](R& r) { r.strides[1] = uint64_t{1} << 40; }));
    CHECK(good([](R& r) { r.strides[1] = (uint64_t{1} << 40) - 16; }));
    // A dimension of extent 1 may have stride 0.
    CHECK(good([](R& r) { r.dims[2] = 1, r.strides[1] = 0; }));
    CHECK(bad([](R& r) { r.box[1] = 0; }));
    CHECK(good([](R& r) { r.box[1] = 256; }));
    CHECK(bad([](R& r) { r.box[1] = 257; }));
    CHECK(bad([](R& r) { r.box[0] = 33; }));
    CHECK(bad([](R& r) { r.box[0] = 40; }));
    CHECK(good([](R& r) { r.box[0] = 40, r.swizzle = CU_TENSOR_MAP_SWIZZLE_128B; }));
    CHECK(good([](R& r) { r.box[0] = 16, r.swizzle = CU_TENSOR_MAP_SWIZZLE_32B; }));
    CHECK(bad([](R& r) { r.box[0] = 24, r.swizzle = CU_TENSOR_MAP_SWIZZLE_32B; }));
    CHECK(good([](R& r) { r.steps[1] = 8; }));
    CHECK(bad([](R& r) { r.steps[1] = 9; }));
    CHECK(bad([](R& r) { r.steps[1] = 0; }));
    CHECK(good([](R& r) { r.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA; }));
    CHECK(bad([](R& r) { r.type = CU_TENSOR_MAP_DATA_TYPE_UINT16, r.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA; }));
    const auto interleaved = [](R& r, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle) {
        r.interleave = interleave;
        r.swizzle = swizzle;
    };
    CHECK(good([&](R& r) { interleaved(r, CU_TENSOR_MAP_INTERLEAVE_16B, CU_TENSOR_MAP_SWIZZLE_NONE); }));
    CHECK(good([&](R& r) { interleaved(r, CU_TENSOR_MAP_INTERLEAVE_32B, CU_TENSOR_MAP_SWIZZLE_32B); }));
    CHECK(bad([&](R& r) { interleaved(r, CU_TENSOR_MAP_INTERLEAVE_32B, CU_TENSOR_MAP_SWIZZLE_64B); }));
    CHECK(bad([&](R& r) { interleaved(r, CU_TENSOR_MAP_INTERLEAVE_32B, CU_TENSOR_MAP_SWIZZLE_32B), r.offset = 16; }));
    CHECK(bad([&](R& r) { interleaved(r, CU_TENSOR_MAP_INTERLEAVE_32B, CU_TENSOR_MAP_SWIZZLE_32B), r.strides[0] = 144; }));
    CHECK(bad([&](R& r) { interleaved(r, CU_TENSOR_MAP_INTERLEAVE_16B, CU_TENSOR_MAP_SWIZZLE_NONE), r.rank = 2; }));
}

TEST_CASE("threads share the device") {
    Session session;
    CUdeviceptr counts = session.allocate(64 * 4);
    REQUIRE_CU(CU(cuMemsetD32_v2)(counts, 0, 64));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            CU(cuCtxSetCurrent)(session.context);
            CUstream stream = nullptr;
            CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING);
            for (int i = 0; i < 10; ++i) session.add(counts, 1, 64, stream);
            CU(cuStreamSynchronize)(stream);
            CU(cuStreamDestroy_v2)(stream);
        });
    for (auto& thread : threads) thread.join();
    CHECK(session.read(counts, 64) == std::vector<unsigned>(64, 40));
}
