#include "emulator/machine/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>

namespace flexemu {
namespace {

constexpr uint64_t kFar = uint64_t{1} << 36;

/// Zero pages that cost nothing until they are touched.
void* map_pages(size_t bytes) {
    void* at = mmap(nullptr, std::max<size_t>(bytes, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

}  // namespace

ByteMask::ByteMask(size_t bytes) : words_(bytes / 64 + 2), bits_(static_cast<uint64_t*>(map_pages(words_ * 8))) {}

ByteMask::~ByteMask() {
    if (bits_ != nullptr) munmap(bits_, words_ * 8);
}

void ByteMask::set(size_t from, size_t bytes, bool value) {
    while (bytes > 0) {
        const size_t bit = from % 64, count = std::min<size_t>(bytes, 64 - bit);
        const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << bit;
        uint64_t& word = bits_[from / 64];
        word = value ? word | mask : word & ~mask;
        from += count;
        bytes -= count;
    }
}

int64_t ByteMask::first_unset(size_t from, size_t bytes) const {
    while (bytes > 0) {
        const size_t bit = from % 64, count = std::min<size_t>(bytes, 64 - bit);
        const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << bit;
        const uint64_t missing = ~bits_[from / 64] & mask;
        if (missing != 0) return static_cast<int64_t>(from - bit + static_cast<size_t>(std::countr_zero(missing)));
        from += count;
        bytes -= count;
    }
    return -1;
}

Segment::Segment(uint64_t base, size_t bytes, uint8_t* host)
    : base(base),
      bytes(bytes),
      data(host != nullptr ? host : static_cast<uint8_t*>(map_pages(bytes + 16))),
      is_host(host != nullptr),
      initialised(bytes) {
    if (is_host) initialised.set(0, bytes);
}

Segment::~Segment() {
    if (!is_host && data != nullptr) munmap(data, std::max<size_t>(bytes + 16, 1));
}

Segment* DeviceMemory::allocate(size_t bytes, size_t align) {
    if (bytes == 0 || bytes > limit_ - used_) return nullptr;
    align = std::max<size_t>(align, 512);
    const uint64_t base = (next_ + align - 1) / align * align;
    auto segment = std::make_unique<Segment>(base, bytes);
    if (segment->data == nullptr) return nullptr;
    Segment* result = segment.get();
    // The gap grows with the allocation, so that an index that is a little off never lands in a neighbour.
    next_ = base + bytes + std::max<uint64_t>(4096, bytes / 8);
    segments_.emplace(base, std::move(segment));
    used_ += bytes;
    return result;
}

void DeviceMemory::remove(std::map<uint64_t, std::unique_ptr<Segment>>::iterator at) {
    if (last_ == at->second.get()) last_ = nullptr;
    segments_.erase(at);
}

bool DeviceMemory::free(uint64_t address) {
    const auto at = segments_.find(address);
    if (at == segments_.end() || at->second->is_host) return false;
    used_ -= at->second->bytes;
    remove(at);
    return true;
}

bool DeviceMemory::map_host(void* memory, size_t bytes) {
    const uint64_t base = reinterpret_cast<uint64_t>(memory);
    if (bytes == 0 || memory == nullptr) return false;
    const auto after = segments_.upper_bound(base + bytes - 1);
    if (after != segments_.begin()) {
        const Segment& before = *std::prev(after)->second;
        if (before.base + before.bytes > base) return false;
    }
    segments_.emplace(base, std::make_unique<Segment>(base, bytes, static_cast<uint8_t*>(memory)));
    return true;
}

bool DeviceMemory::unmap_host(void* memory) {
    const auto at = segments_.find(reinterpret_cast<uint64_t>(memory));
    if (at == segments_.end() || !at->second->is_host) return false;
    remove(at);
    return true;
}

Segment* DeviceMemory::find_slowly(uint64_t address) {
    auto at = segments_.upper_bound(address);
    if (at == segments_.begin()) return nullptr;
    Segment* segment = std::prev(at)->second.get();
    if (address - segment->base >= segment->bytes) return nullptr;
    return last_ = segment;
}

std::string DeviceMemory::nearest(uint64_t address) const {
    const Segment* best = nullptr;
    uint64_t least = UINT64_MAX;
    const auto after = segments_.upper_bound(address);
    if (after != segments_.begin()) {
        best = std::prev(after)->second.get();
        least = address - (best->base + best->bytes);
        if (address - best->base < best->bytes) return fmt::format("in the {} bytes at {:#x}", best->bytes, best->base);
    }
    const uint64_t to_next = after != segments_.end() ? after->second->base - address : UINT64_MAX;
    if (std::min(least, to_next) > kFar) return "in no allocation, nor near one";
    if (to_next < least) {
        return fmt::format("{} bytes before the {} bytes at {:#x}", to_next, after->second->bytes, after->second->base);
    }
    return fmt::format("{} bytes after the {} bytes at {:#x}", least, best->bytes, best->base);
}

}  // namespace flexemu
