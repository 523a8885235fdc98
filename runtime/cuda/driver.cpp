#include "runtime/cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#include "runtime/cuda.h"

namespace flex {
namespace cuda {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";

/// The process's choice of a library, and what came of it.
struct Choice {
    std::mutex mutex;
    std::string path;  // from use_cuda_driver
    bool loaded = false;
    Driver driver;
    Status status;
};

/// Never destroyed: kernels in static storage may ask for the driver while the process ends.
Choice& choice() {
    static Choice* the = new Choice;
    return *the;
}

std::string dl_reason() {
    const char* text = dlerror();
    return text ? text : "no reason given";
}

}  // namespace

Status Driver::check(int result, const char* call) const {
    if (result == kSuccess) return {};
    const char *text = nullptr, *name = nullptr;
    if (error_text(result, &text) != kSuccess || !text) text = "unknown error";
    if (error_name(result, &name) != kSuccess || !name) name = "no name";
    std::string whole = std::string(call) + ": " + text + " (" + name + ", " + std::to_string(result) + ")";
    // The emulated device knows what a real one keeps to itself: the line of the PTX and the threads.
    const char* fault = emulator_last_fault && result >= kFirstExecutionError ? emulator_last_fault() : "";
    if (*fault) whole += std::string("\n") + fault;
    return Status(result == kOutOfMemory ? Code::OutOfMemory : Code::DeviceError, std::move(whole));
}

Status load_driver(const std::string& path, Driver* out) {
    const std::string name = path.empty() ? kLibrary : path;
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const std::string reason = dl_reason();
        if (path.empty() && reason.find("No such file") != std::string::npos)
            return Status(Code::DeviceError, std::string("no CUDA driver: ") + kLibrary +
                                                 " was not found; install NVIDIA's driver, or set FLEX_CUDA_DRIVER, e.g. to "
                                                 "libflexemu_cuda.so for the emulated device");
        return Status(Code::DeviceError, "no CUDA driver: `" + name + "` cannot be loaded: " + reason);
    }
    Driver loaded;
    std::string missing;
    const auto find = [&](const char* symbol, bool required) {
        void* address = dlsym(library, symbol);
        if (!address && required) missing += (missing.empty() ? "`" : ", `") + std::string(symbol) + "`";
        return address;
    };
#define FLEX_CUDA_ENTRY(member, symbol, parameters) loaded.member = reinterpret_cast<int(*) parameters>(find(#symbol, true));
#define FLEX_CUDA_OPTIONAL_ENTRY(member, symbol, parameters) loaded.member = reinterpret_cast<int(*) parameters>(find(#symbol, false));
#include "runtime/cuda/driver_api.def"
#undef FLEX_CUDA_ENTRY
#undef FLEX_CUDA_OPTIONAL_ENTRY
    loaded.emulator_last_fault = reinterpret_cast<const char* (*)()>(dlsym(library, "flexemu_last_fault"));
    loaded.emulator_instructions = reinterpret_cast<unsigned long long (*)()>(dlsym(library, "flexemu_warp_instructions"));
    loaded.emulator_blocks = reinterpret_cast<unsigned long long (*)()>(dlsym(library, "flexemu_blocks_done"));
    if (!missing.empty()) {
        dlclose(library);
        return Status(Code::DeviceError,
                      "`" + name + "` is no CUDA driver that serves: it lacks " + missing + "; CUDA 11.0 or later is needed");
    }
    const int result = loaded.init(0);
    if (result == kNoDevice) return Status(Code::DeviceError, "the CUDA driver `" + name + "` finds no device");
    if (Status status = loaded.check(result, "cuInit"); !status.ok())
        return Status(Code::DeviceError, "the CUDA driver `" + name + "` does not start: " + status.text());
    *out = loaded;
    return {};
}

const Driver* driver(Status* status) {
    Choice& the = choice();
    const std::lock_guard<std::mutex> lock(the.mutex);
    if (!the.loaded) {
        const char* from_environment = std::getenv("FLEX_CUDA_DRIVER");
        the.status = load_driver(the.path.empty() && from_environment ? from_environment : the.path, &the.driver);
        the.loaded = true;
    }
    if (the.status.ok()) return &the.driver;
    *status = the.status;
    return nullptr;
}

}  // namespace cuda

Status use_cuda_driver(const std::string& path) {
    try {
        cuda::Choice& the = cuda::choice();
        const std::lock_guard<std::mutex> lock(the.mutex);
        if (the.loaded && the.path != path) return Status(Code::InvalidArgument, "the CUDA driver has been opened already");
        the.path = path;
        return {};
    } catch (const std::bad_alloc&) {
        return Status(Code::OutOfMemory, "no memory");
    }
}

}  // namespace flex
