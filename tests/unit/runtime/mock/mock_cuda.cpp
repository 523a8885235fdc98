#include "tests/unit/runtime/mock/mock_cuda.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

namespace {

struct MockContext {
    unsigned long long id = 0;
    bool alive = false;
};
struct MockModule {
    MockContext* context;
};
struct MockFunction {
    std::string name;
};

thread_local std::vector<MockContext*> stack;
thread_local int thread_capture_mode = 0;

class Books final : public Mock {
public:
    void reset() override {
        Mock& all = *this;
        all.fail.clear();
        all.jit_log.clear();
        all.missing_function.clear();
        all.log.clear();
        all.launches.clear();
        all.fills.clear();
        all.maps.clear();
        all.shared_attribute.clear();
        all.modules_loaded = all.modules_unloaded = all.primary_references = all.allocations = all.load_milliseconds = 0;
        all.parameter_bytes = all.second_bytes = 0;
        all.capturing = false;
        all.capture_mode_while_loading = -1;
        all.capability_major = 8;
        all.capability_minor = 0;
        all.multiprocessors = 108;
        all.shared_optin = 166912;
        all.shared_multiprocessor = 167936;
        stack.clear();
    }
    void* create_context() override {
        const std::lock_guard lock(mutex);
        auto free = std::find_if(contexts.begin(), contexts.end(), [](const auto& each) { return !each->alive; });
        if (free == contexts.end()) free = contexts.insert(contexts.end(), std::make_unique<MockContext>());
        **free = {++ids, true};
        stack.push_back(free->get());
        return free->get();
    }
    void destroy_context(void* context) override {
        const std::lock_guard lock(mutex);
        static_cast<MockContext*>(context)->alive = false;
        stack.erase(std::remove(stack.begin(), stack.end(), context), stack.end());
    }
    void set_current(void* context) override {
        stack.clear();
        if (context) stack.push_back(static_cast<MockContext*>(context));
    }
    int capture_mode() override { return thread_capture_mode; }

    /// Notes a call; the result that a test asked for, else 0.
    int note(const char* name) {
        const std::lock_guard lock(mutex);
        log.emplace_back(name);
        return asked(name);
    }
    int quiet(const char* name) {
        const std::lock_guard lock(mutex);
        return asked(name);
    }

    std::mutex mutex;
    MockContext primary{1000000, true};
    std::vector<std::unique_ptr<MockModule>> modules;  // all there ever were

private:
    int asked(const char* name) {
        const auto found = fail.find(name);
        return found == fail.end() ? 0 : found->second;
    }
    std::vector<std::unique_ptr<MockContext>> contexts;
    unsigned long long ids = 0;
};

Books& books() {
    static Books the;
    return the;
}

}  // namespace

extern "C" {

Mock* mock_driver() {
    return &books();
}

int cuInit(unsigned) {
    const char* result = std::getenv("MOCK_CUDA_INIT");
    return result ? std::atoi(result) : 0;
}
int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return 0;
}
int cuDeviceGetCount(int* count) {
    *count = 2;
    return books().quiet("cuDeviceGetCount");
}
int cuDeviceGetName(char* name, int bytes, int device) {
    std::strncpy(name, device == 0 ? "mock 0" : "mock 1", static_cast<size_t>(bytes));
    return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
    Mock& mock = books();
    *value = attribute == 16   ? mock.multiprocessors
             : attribute == 75 ? mock.capability_major
             : attribute == 76 ? mock.capability_minor
             : attribute == 81 ? mock.shared_multiprocessor
             : attribute == 97 ? mock.shared_optin
                               : -1;
    return *value < 0 ? 1 : books().quiet("cuDeviceGetAttribute");
}
int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &books().primary;
    if (const int failed = books().note("cuDevicePrimaryCtxRetain")) return failed;
    ++books().primary_references;
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    --books().primary_references;
    return books().note("cuDevicePrimaryCtxRelease");
}
int cuCtxPushCurrent_v2(void* context) {
    stack.push_back(static_cast<MockContext*>(context));
    return 0;
}
int cuCtxPopCurrent_v2(void** context) {
    if (stack.empty()) return 201;
    *context = stack.back();
    stack.pop_back();
    return 0;
}
int cuCtxGetCurrent(void** context) {
    *context = stack.empty() ? nullptr : stack.back();
    return books().quiet("cuCtxGetCurrent");
}
int cuCtxGetDevice(int* device) {
    *device = 0;
    return 0;
}
int cuCtxSynchronize() {
    return books().note("cuCtxSynchronize");
}
int cuCtxGetId(void* context, unsigned long long* id) {
    const auto* known = static_cast<MockContext*>(context);
    *id = known->id;
    return known->alive ? 0 : 709;
}
int cuModuleLoadDataEx(void** module, const void*, unsigned count, int* options, void** values) {
    Books& mock = books();
    if (mock.load_milliseconds > 0) std::this_thread::sleep_for(std::chrono::milliseconds(mock.load_milliseconds));
    mock.capture_mode_while_loading = thread_capture_mode;
    const int failed = mock.note("cuModuleLoadDataEx");
    if (!mock.jit_log.empty()) {
        char* log = nullptr;
        size_t size = 0;
        for (unsigned i = 0; i < count; ++i) {
            if (options[i] == 5) log = static_cast<char*>(values[i]);
            if (options[i] == 6) size = reinterpret_cast<size_t>(values[i]);
        }
        if (log && size > 0) std::strncpy(log, mock.jit_log.c_str(), size);
        return 218;
    }
    if (failed) return failed;
    ++mock.modules_loaded;
    const std::lock_guard lock(mock.mutex);
    mock.modules.push_back(std::make_unique<MockModule>(MockModule{stack.back()}));
    *module = mock.modules.back().get();
    return 0;
}
int cuModuleUnload(void* module) {
    auto* known = static_cast<MockModule*>(module);
    if (stack.empty() || stack.back() != known->context) return 1;
    ++books().modules_unloaded;
    return books().note("cuModuleUnload");
}
int cuModuleGetFunction(void** function, void*, const char* name) {
    if (books().missing_function == name) return 500;
    // A function lives as long as the process: a test may hold it after its module has gone.
    static std::mutex mutex;
    static std::vector<std::unique_ptr<MockFunction>> all;
    const std::lock_guard lock(mutex);
    all.push_back(std::make_unique<MockFunction>(MockFunction{name}));
    *function = all.back().get();
    return 0;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    if (attribute == 8) books().shared_attribute[static_cast<MockFunction*>(function)->name] = value;
    return books().note("cuFuncSetAttribute");
}
int cuThreadExchangeStreamCaptureMode(int* mode) {
    std::swap(*mode, thread_capture_mode);
    return 0;
}
#ifndef MOCK_CUDA_WITHOUT_LAUNCH
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block, unsigned, unsigned, unsigned shared, void* stream,
                   void** parameters, void**) {
    Books& mock = books();
    if (const int failed = mock.note("cuLaunchKernel")) return failed;
    const std::lock_guard lock(mock.mutex);
    const auto* bytes = static_cast<unsigned char*>(parameters[0]);
    mock.launches.push_back({static_cast<MockFunction*>(function)->name,
                             {x, y, z},
                             block,
                             shared,
                             stream,
                             std::vector<unsigned char>(bytes, bytes + mock.parameter_bytes),
                             {}});
    MockLaunch& launch = mock.launches.back();
    const std::string suffix = "_forward";
    if (launch.function.size() > suffix.size() && launch.function.substr(launch.function.size() - suffix.size()) == suffix &&
        mock.second_bytes) {
        const auto* second = static_cast<unsigned char*>(parameters[1]);
        launch.second.assign(second, second + mock.second_bytes);
    }
    return 0;
}
#endif
int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, const uint64_t* extents, const uint64_t* strides,
                           const uint32_t* box, const uint32_t* element_strides, int interleave, int swizzle, int promotion, int fill) {
    Books& mock = books();
    if (const int failed = mock.quiet("cuTensorMapEncodeTiled")) return failed;
    if (reinterpret_cast<uint64_t>(map) % 64 != 0) return 1;
    const uint64_t mark = 1000 + mock.maps.size();
    std::memcpy(map, &mark, sizeof mark);
    mock.maps.push_back({type,
                         reinterpret_cast<uint64_t>(address),
                         {extents, extents + rank},
                         {strides, strides + rank - 1},
                         {box, box + rank},
                         {element_strides, element_strides + rank},
                         interleave,
                         swizzle,
                         promotion,
                         fill});
    return 0;
}
int cuStreamSynchronize(void*) {
    return books().note("cuStreamSynchronize");
}
int cuStreamIsCapturing(void*, int* state) {
    *state = books().capturing;
    return 0;
}
int cuMemsetD32Async(uint64_t to, unsigned pattern, size_t words, void* stream) {
    books().fills.push_back({to, pattern, words, stream});
    return books().note("cuMemsetD32Async");
}
int cuMemsetD2D16Async(uint64_t to, size_t pitch, unsigned short pattern, size_t width, size_t height, void* stream) {
    books().fills.push_back({to, pattern, 0, stream, pitch, width, height});
    return books().note("cuMemsetD2D16Async");
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    if (const int failed = books().note("cuMemAlloc")) return failed;
    if (bytes == 0) return 1;
    *address = reinterpret_cast<uint64_t>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
    ++books().allocations;
    return 0;
}
int cuMemFree_v2(uint64_t address) {
    std::free(reinterpret_cast<void*>(address));
    --books().allocations;
    return books().note("cuMemFree");
}
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return books().note("cuMemcpyHtoD");
}
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
    std::memcpy(to, reinterpret_cast<void*>(from), bytes);
    return books().note("cuMemcpyDtoH");
}
int cuGetErrorName(int error, const char** text) {
    *text = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == 218 ? "CUDA_ERROR_INVALID_PTX" : nullptr;
    return *text ? 0 : 1;
}
int cuGetErrorString(int error, const char** text) {
    *text = error == 700 ? "an illegal memory access was encountered" : error == 218 ? "a PTX JIT compilation failed" : nullptr;
    return *text ? 0 : 1;
}
}
