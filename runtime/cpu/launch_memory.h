// The memory that one launch takes as a whole and cuts into arrays.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace flex::cpu {

/// Memory of one launch. The last block that was given back waits for the next launch, unless it is large: fresh pages cost a short launch
/// a tenth of its time.
class LaunchMemory {
public:
    explicit LaunchMemory(int64_t floats) {
        const size_t wanted = static_cast<size_t>(std::max<int64_t>(floats, 1)) * sizeof(float);
        block_ = kept_.exchange(nullptr);
        if (block_ && block_->bytes >= wanted) return;
        release(block_);
        const size_t bytes = (wanted + kPage - 1) / kPage * kPage;
        block_ = new Block{static_cast<float*>(::operator new[](bytes, std::align_val_t{kPage})), bytes};
#if defined(__linux__)
        madvise(block_->data, bytes, MADV_HUGEPAGE);  // advice: nothing depends on it
#endif
    }
    ~LaunchMemory() { release(block_ && block_->bytes <= kKeptBytes ? kept_.exchange(block_) : block_); }
    LaunchMemory(const LaunchMemory&) = delete;
    LaunchMemory& operator=(const LaunchMemory&) = delete;

    float* take(int64_t count) {
        float* piece = block_->data + used_;
        used_ += padded(count);
        return piece;
    }
    static int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

private:
    struct Block {
        float* data;
        size_t bytes;
    };
    static void release(Block* block) {
        if (!block) return;
        ::operator delete[](block->data, std::align_val_t{kPage});
        delete block;
    }
    static constexpr size_t kPage = 2 << 20, kKeptBytes = 128 << 20;
    static inline std::atomic<Block*> kept_{nullptr};

    Block* block_;
    int64_t used_ = 0;
};

}  // namespace flex::cpu
