#include "emulator/device.h"
#include "emulator/tensor_map.h"
#include "tests/emulator/gpu.h"

namespace emulator_test {

namespace {

class DeviceGpu : public Gpu {
public:
    DeviceGpu(int compute_capability, uint64_t seed) : device_(properties(compute_capability)), seed_(seed) {}

    bool load(const std::string& ptx, std::string* error) override {
        module_ = device_.load(ptx, error);
        return module_ != nullptr;
    }
    uint64_t allocate(size_t bytes) override { return device_.allocate(bytes); }
    bool write(uint64_t to, const void* from, size_t bytes) override { return device_.write(to, from, bytes); }
    bool read(void* to, uint64_t from, size_t bytes) override { return device_.read(to, from, bytes); }
    uint64_t variable(const std::string& name) override {
        size_t bytes = 0;
        return module_->address_of(name, &bytes);
    }
    TensorMapBytes tensor_map(const TensorView& view) override {
        flexemu::TensorMap map;
        map.type = static_cast<uint8_t>(view.type);
        map.rank = static_cast<uint8_t>(view.dims.size());
        map.swizzle = static_cast<uint8_t>(view.swizzle);
        map.address = view.address;
        for (size_t i = 0; i < view.dims.size(); ++i) {
            map.dims[i] = static_cast<uint32_t>(view.dims[i] - 1);
            map.box[i] = static_cast<uint16_t>(view.box[i]);
            map.element_strides[i] = 1;
            if (i > 0) map.strides[i - 1] = view.strides[i - 1];
        }
        TensorMapBytes result;
        std::memcpy(result.bytes.data(), &map, sizeof map);
        return result;
    }
    std::string launch(const std::string& kernel, Dim grid, Dim block, uint32_t shared_bytes,
                       const std::vector<Argument>& arguments) override {
        int32_t index = module_->ptx().find_function(kernel);
        if (index < 0) return "no kernel " + kernel;
        const flexemu::ptx::Function& function = module_->ptx().functions[static_cast<size_t>(index)];
        if (function.parameters.size() != arguments.size())
            return kernel + " takes " + std::to_string(function.parameters.size()) + " arguments";
        std::vector<uint8_t> parameters(static_cast<size_t>(function.parameter_bytes));
        for (size_t i = 0; i < arguments.size(); ++i)
            std::memcpy(parameters.data() + function.parameters[i].offset, arguments[i].bytes.data(),
                        static_cast<size_t>(function.parameters[i].bytes));
        flexemu::LaunchOptions options;
        options.seed = seed_++;
        options.max_instructions = 1'000'000;
        Dim cluster{1, 1, 1};
        for (size_t i = 0; i < 3; ++i) cluster[i] = static_cast<uint32_t>(std::max(function.cluster[i], 1));
        flexemu::Fault fault = device_.launch_clusters(*module_, index, grid, block, cluster, shared_bytes, parameters, options);
        return fault ? std::string(flexemu::name(fault.kind)) + ": " + fault.text : "";
    }

private:
    static flexemu::DeviceProperties properties(int compute_capability) {
        flexemu::DeviceProperties made;
        made.compute_capability = compute_capability;
        return made;
    }

    flexemu::Device device_;
    std::unique_ptr<flexemu::LoadedModule> module_;
    uint64_t seed_;
};

}  // namespace

std::unique_ptr<Gpu> make_device_gpu(int compute_capability, uint64_t seed) {
    return std::make_unique<DeviceGpu>(compute_capability, seed);
}

}  // namespace emulator_test
