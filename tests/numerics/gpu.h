// A GPU as an engine under test: an NVIDIA device, or the emulated one, which finds what hardware would let pass.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/nvptx/compile.h"
#include "runtime/cuda.h"
#include "tests/numerics/buffers.h"
#include "tests/numerics/engines.h"

namespace numerics {

inline constexpr int kLargestPack = -1;

/// How a launch is divided; each must give the same attention.
struct GpuSettings {
    const char* name = "";
    int splits = 0;  // 0: chosen
    int pack = 0;    // 0: chosen; kLargestPack: as many heads as the group and the kernel allow
    bool short_queries = false;
    bool allow_tf32 = false;
    flexc::nvptx::Arch arch = flexc::nvptx::Arch::Sm80;
};

class Gpu {
public:
    /// `driver` empty: the machine's own. Null with the reason.
    static std::unique_ptr<Gpu> open(const std::string& driver, std::string* error);

    [[nodiscard]] flex::CudaDevice& device() { return *device_; }
    [[nodiscard]] std::string description() const;
    /// A fault ends a context: this begins another.
    bool restart(std::string* error);

private:
    std::unique_ptr<flex::CudaDevice> device_;
};

/// Device memory of one run, freed with it.
class DeviceMemory {
public:
    explicit DeviceMemory(flex::CudaDevice& device) : device_(device) {}
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    flex::Status room(size_t bytes, void** out);
    flex::Status copy(const std::vector<std::byte>& bytes, void** out);

private:
    flex::CudaDevice& device_;
    std::vector<void*> all_;
};

/// A buffer's bytes on the device, and its view there.
struct Placed {
    Buffer& host;
    void* base = nullptr;
    flex::Tensor view;

    explicit Placed(Buffer& buffer) : host(buffer), view(buffer.view) {}
    flex::Status upload(DeviceMemory& memory);
    flex::Status download(flex::CudaDevice& device) { return device.to_host(host.bytes.data(), base, host.bytes.size()); }
};

/// The code of one program for GPUs, compiled when first wanted.
class GpuProgram {
public:
    GpuProgram(const flexc::ir::Attention& attention, const flex::KernelDesc& desc);
    ~GpuProgram();
    GpuProgram(const GpuProgram&) = delete;
    GpuProgram& operator=(const GpuProgram&) = delete;

    [[nodiscard]] Result run(Gpu& gpu, const GpuSettings& settings, flex::DType type, const Inputs& in,
                             const std::vector<Captured>& captured, Layout layout);

private:
    struct Compiled;
    Compiled* compiled(const GpuSettings& settings, flex::DType type, const Shape& shape, std::string* error);

    const flexc::ir::Attention& attention_;
    const flex::KernelDesc& desc_;
    std::vector<std::unique_ptr<Compiled>> compiled_;
};

}  // namespace numerics
