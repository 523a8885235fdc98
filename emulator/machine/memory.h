// The memory of a device: allocations with unmapped space between them, and where in the 64-bit generic address space everything else lies.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "emulator/device.h"
#include "emulator/machine/clock.h"
#include "emulator/machine/shadow.h"

namespace flexemu {

// Generic addresses. Global memory is where the map of allocations says; const variables are allocations too.
inline constexpr uint64_t kFirstAllocation = 0x0000'7000'0000'0000;
inline constexpr uint64_t kSharedWindow =
    0x0100'0000'0000'0000;  // + kBlockStride * (rank in the cluster + 1) + offset; below kBlockStride: the own block
inline constexpr uint64_t kBlockStride = uint64_t{1} << 24;         // the same in 32-bit addresses of shared::cluster
inline constexpr uint64_t kLocalWindow = 0x0200'0000'0000'0000;     // + offset in the thread's frames
inline constexpr uint64_t kParamWindow = 0x0300'0000'0000'0000;     // + offset in the kernel's parameters
inline constexpr uint64_t kFunctionWindow = 0x0400'0000'0000'0000;  // + 16 * function; nothing can be read there
inline constexpr uint64_t kWindowBytes = uint64_t{1} << 32;
/// In the .param space itself: the kernel's parameters lie from 0, those of functions from here, in the thread's frames.
inline constexpr uint64_t kParamFrame = uint64_t{1} << 31;

/// One bit a byte: has it ever been written?
class ByteMask {
public:
    explicit ByteMask(size_t bytes);
    ~ByteMask();
    ByteMask(const ByteMask&) = delete;
    ByteMask& operator=(const ByteMask&) = delete;
    void set(size_t from, size_t bytes, bool value = true);
    /// Of an aligned range of a power of two of bytes, at most 64.
    [[nodiscard]] bool all_set(size_t from, unsigned bytes) const {
        const uint64_t mask = bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1;
        return (bits_[from / 64] >> from % 64 & mask) == mask;
    }
    /// The first byte of the range that is not set, or -1.
    [[nodiscard]] int64_t first_unset(size_t from, size_t bytes) const;

private:
    size_t words_;
    uint64_t* bits_;
};

/// What writers of an atomic location with .release (or a fence before) have handed over, to readers in their block and to all.
struct LocationClock {
    Clock cta, gpu;
    uint32_t block = UINT32_MAX;  // of `cta`
};

/// An allocation, or the shared memory of a block.
struct Segment {
    Segment(uint64_t base, size_t bytes, uint8_t* host = nullptr);
    ~Segment();
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    uint64_t base;
    size_t bytes;
    uint8_t* data;
    bool is_host;
    bool is_read_only = false;  // to kernels
    ByteMask initialised;
    Shadow shadow;
    std::unordered_map<uint64_t, LocationClock> locations;  // by offset
};

class DeviceMemory {
public:
    explicit DeviceMemory(size_t limit) : limit_(limit) {}
    Segment* allocate(size_t bytes, size_t align);
    bool free(uint64_t address);
    bool map_host(void* memory, size_t bytes);
    bool unmap_host(void* memory);
    /// The segment that holds an address; null if none.
    [[nodiscard]] Segment* find(uint64_t address) {
        if (last_ != nullptr && address - last_->base < last_->bytes) return last_;
        return find_slowly(address);
    }
    /// "16 bytes after the 4096 bytes at 0x700000000200"
    [[nodiscard]] std::string nearest(uint64_t address) const;
    [[nodiscard]] size_t used() const { return used_; }

private:
    Segment* find_slowly(uint64_t address);
    void remove(std::map<uint64_t, std::unique_ptr<Segment>>::iterator at);

    size_t limit_, used_ = 0;
    uint64_t next_ = kFirstAllocation;
    std::map<uint64_t, std::unique_ptr<Segment>> segments_;
    Segment* last_ = nullptr;
};

}  // namespace flexemu
