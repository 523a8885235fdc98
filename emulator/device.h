// The emulated GPU as a library: memory, modules and launches. emulator/driver/ puts the CUDA Driver API on top of it; tests use it directly.
//
// It executes PTX text warp by warp and is stricter than hardware: whatever the PTX ISA leaves undefined (a race, a read of what an unfinished copy
// will write, an uninitialised byte, a divergent .aligned instruction, ...) ends the launch with a Fault that names the PTX line, the thread and both
// parties. One launch at a time; launches end before the call returns.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/ptx/module.h"

namespace flexemu {

/// What went wrong in a launch; `kind` is stable, for tests.
struct Fault {
    enum class Kind : uint8_t {
        None,
        Race,
        Uninitialised,
        OutOfBounds,
        Misaligned,
        UnfinishedCopy,
        MissingProxyFence,
        UnfinishedProduct,
        MissingProductFence,
        BarrierMismatch,
        Divergence,
        Deadlock,
        BadBarrier,
        BadInstruction,
        Trap,
        Resources,
        Timeout,
    };
    Kind kind = Kind::None;
    std::string
        text;  // "line 214: st.shared.b32 by thread (3,0,0) of block (0,0,0) races with ld.shared.b32 at line 190 by thread (40,0,0): no barrier between"
    [[nodiscard]] explicit operator bool() const { return kind != Kind::None; }
};
[[nodiscard]] const char* name(Fault::Kind kind);

struct DeviceProperties {
    int compute_capability = 90;  // what the driver reports, and the highest target that loads
    int multiprocessors = 4;
    int max_shared_per_block = 232448 - 1024;  // opt-in limit: 227 KiB on 9.0, 163 KiB on 8.0
    int max_threads_per_block = 1024;
    int warp_size = 32;
    size_t memory_bytes = size_t{8} << 30;
    std::string name = "flexc emulated GPU";
};

struct LaunchOptions {
    uint64_t seed = 0;        // order in which warps run and asynchronous work lands
    bool check_races = true;  // happens-before on shared and global memory, by byte
    bool check_uninitialised = true;
    uint64_t max_instructions = uint64_t{1} << 40;  // of all warps; beyond: Timeout
    std::atomic<uint64_t>* blocks_done = nullptr;   // counts up as blocks end, for another thread to read
    uint64_t grid_workspace = 0;  // %envreg1 (high half) and %envreg2: zeroed memory for barriers of the grid, in cooperative launches
};

struct LaunchStats {
    uint64_t warp_instructions = 0;
    uint64_t blocks = 0;
    double seconds = 0;
};

class LoadedModule;

class Device {
public:
    explicit Device(const DeviceProperties& properties = {});
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    [[nodiscard]] const DeviceProperties& properties() const;

    /// 0 if there is no memory. Addresses are at least 512-byte aligned with unmapped space between allocations.
    uint64_t allocate(size_t bytes);
    bool free(uint64_t address);
    /// False if the range is not inside one allocation. Copies to the device make bytes initialised; copies from it do not ask.
    bool write(uint64_t to, const void* from, size_t bytes);
    bool read(void* to, uint64_t from, size_t bytes);
    bool fill(uint64_t to, uint32_t pattern, size_t pattern_bytes, size_t count);  // pattern of 1, 2 or 4 bytes
    bool copy(uint64_t to, uint64_t from, size_t bytes);
    /// The allocation that holds an address; size 0 if none.
    struct Range {
        uint64_t base = 0;
        size_t bytes = 0;
    };
    [[nodiscard]] Range range_of(uint64_t address) const;
    /// Host memory as an allocation at its own address (page-locked and managed memory): kernels read and write it in place, all bytes initialised. The caller
    /// keeps it alive until it is unmapped. False if the range overlaps another allocation, or none begins there.
    bool map_host(void* memory, size_t bytes);
    bool unmap_host(void* memory);
    [[nodiscard]] size_t used_bytes() const;

    /// Parses, decodes and links: an unknown instruction is an error here, by name and line. Null with a message.
    std::unique_ptr<LoadedModule> load(std::string_view ptx, std::string* error);

    /// `parameters`: the kernel's parameter block, laid out as the function says. Returns the first fault; memory then holds what was written until it.
    Fault launch(LoadedModule& module, int32_t function, std::array<uint32_t, 3> grid, std::array<uint32_t, 3> block,
                 uint32_t dynamic_shared_bytes, const std::vector<uint8_t>& parameters, const LaunchOptions& options,
                 LaunchStats* stats = nullptr);
    /// The same with clusters of blocks.
    Fault launch_clusters(LoadedModule& module, int32_t function, std::array<uint32_t, 3> grid, std::array<uint32_t, 3> block,
                          std::array<uint32_t, 3> cluster, uint32_t dynamic_shared_bytes, const std::vector<uint8_t>& parameters,
                          const LaunchOptions& options, LaunchStats* stats = nullptr);

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// A module in the memory of a device.
class LoadedModule {
public:
    ~LoadedModule();
    [[nodiscard]] const ptx::Module& ptx() const;
    /// Device address of a .global or .const variable; 0 if there is none.
    [[nodiscard]] uint64_t address_of(std::string_view variable, size_t* bytes) const;
    [[nodiscard]] int32_t static_shared_bytes(int32_t function) const;

private:
    friend class Device;
    LoadedModule();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace flexemu
