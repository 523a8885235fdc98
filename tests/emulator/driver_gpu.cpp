#include "tests/emulator/driver_library.h"
#include "tests/emulator/gpu.h"

namespace emulator_test {

namespace {

class DriverGpu : public Gpu {
public:
    explicit DriverGpu(std::unique_ptr<DriverLibrary> library) : library_(std::move(library)) {}
    ~DriverGpu() override {
        if (context_) FLEXEMU_API(*library_, cuCtxDestroy_v2)(context_);
    }

    bool open(uint64_t seed, std::string* error) {
        CUdevice device = 0;
        *error = check(FLEXEMU_API(*library_, cuInit)(0), "cuInit");
        if (error->empty()) *error = check(FLEXEMU_API(*library_, cuDeviceGet)(&device, 0), "cuDeviceGet");
        if (error->empty()) *error = check(FLEXEMU_API(*library_, cuCtxCreate_v2)(&context_, 0, device), "cuCtxCreate");
        if (auto* set_seed = library_->find<void(unsigned long long)>("flexemu_set_seed")) set_seed(seed);
        return error->empty();
    }

    bool load(const std::string& ptx, std::string* error) override {
        std::vector<char> log(4096);
        CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
        void* values[] = {log.data(), reinterpret_cast<void*>(log.size())};
        *error = check(FLEXEMU_API(*library_, cuModuleLoadDataEx)(&module_, ptx.c_str(), 2, options, values), "cuModuleLoadDataEx");
        if (!error->empty()) *error += std::string(": ") + log.data();
        return error->empty();
    }
    uint64_t allocate(size_t bytes) override {
        CUdeviceptr address = 0;
        FLEXEMU_API(*library_, cuMemAlloc_v2)(&address, bytes);
        return address;
    }
    bool write(uint64_t to, const void* from, size_t bytes) override {
        return FLEXEMU_API(*library_, cuMemcpyHtoD_v2)(to, from, bytes) == CUDA_SUCCESS;
    }
    bool read(void* to, uint64_t from, size_t bytes) override {
        return FLEXEMU_API(*library_, cuMemcpyDtoH_v2)(to, from, bytes) == CUDA_SUCCESS;
    }
    uint64_t variable(const std::string& name) override {
        CUdeviceptr address = 0;
        size_t bytes = 0;
        FLEXEMU_API(*library_, cuModuleGetGlobal_v2)(&address, &bytes, module_, name.c_str());
        return address;
    }
    TensorMapBytes tensor_map(const TensorView& view) override {
        TensorMapBytes result;
        const std::vector<uint32_t> ones(view.dims.size(), 1);
        FLEXEMU_API(*library_, cuTensorMapEncodeTiled)
        (reinterpret_cast<CUtensorMap*>(&result), static_cast<CUtensorMapDataType>(view.type), static_cast<uint32_t>(view.dims.size()),
         reinterpret_cast<void*>(view.address), view.dims.data(), view.strides.data(), view.box.data(), ones.data(),
         CU_TENSOR_MAP_INTERLEAVE_NONE, static_cast<CUtensorMapSwizzle>(view.swizzle), CU_TENSOR_MAP_L2_PROMOTION_NONE,
         CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
        return result;
    }
    std::string launch(const std::string& kernel, Dim grid, Dim block, uint32_t shared_bytes,
                       const std::vector<Argument>& arguments) override {
        CUfunction function = nullptr;
        std::string error = check(FLEXEMU_API(*library_, cuModuleGetFunction)(&function, module_, kernel.c_str()), "cuModuleGetFunction");
        if (error.empty() && shared_bytes > 48 * 1024)
            error = check(FLEXEMU_API(*library_, cuFuncSetAttribute)(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                                     static_cast<int>(shared_bytes)),
                          "cuFuncSetAttribute");
        if (!error.empty()) return error;
        std::vector<void*> parameters;
        for (const Argument& argument : arguments) parameters.push_back(const_cast<uint8_t*>(argument.bytes.data()));
        error = check(FLEXEMU_API(*library_, cuLaunchKernel)(function, grid[0], grid[1], grid[2], block[0], block[1], block[2],
                                                             shared_bytes, nullptr, parameters.data(), nullptr),
                      "cuLaunchKernel");
        if (error.empty()) error = check(FLEXEMU_API(*library_, cuCtxSynchronize)(), "cuCtxSynchronize");
        auto* last_fault = library_->find<const char*()>("flexemu_last_fault");
        return error.empty() || !last_fault ? error : error + ": " + last_fault();
    }

private:
    std::string check(CUresult result, const char* what) {
        const char* text = "";
        if (result == CUDA_SUCCESS) return "";
        FLEXEMU_API(*library_, cuGetErrorString)(result, &text);
        return std::string(what) + ": " + text;
    }

    std::unique_ptr<DriverLibrary> library_;
    CUcontext context_ = nullptr;
    CUmodule module_ = nullptr;
};

}  // namespace

std::unique_ptr<Gpu> make_driver_gpu(const std::string& path, uint64_t seed, std::string* error) {
    std::unique_ptr<DriverLibrary> library = DriverLibrary::open(path, error);
    if (!library) return nullptr;
    auto gpu = std::make_unique<DriverGpu>(std::move(library));
    if (!gpu->open(seed, error)) return nullptr;
    return gpu;
}

}  // namespace emulator_test
