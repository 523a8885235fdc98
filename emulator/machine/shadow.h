// Who touched which bytes last: the memory of the race detector, one per allocation and one per block's shared memory.
//
// A cell stands for 4 bytes and remembers accesses as records: lanes of one warp, at one time of that warp, by one instruction, on some of the bytes.
// A record is dropped when a later access is known to come after it, so nearly all cells hold one write and one read; the rest is chained in a pool.
// Pages of cells are made when touched and forgotten, cheaply, by changing the generation (a new launch, a new block).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "emulator/machine/op.h"

namespace flexemu {

struct Record {
    uint32_t warp = 0;   // serial in the grid
    uint32_t time = 0;   // of the warp; of an asynchronous access: number of the operation
    LaneMask lanes = 0;  // 0: no record
    uint32_t what = 0;   // instruction << 10 | flags | bytes

    static constexpr uint32_t kBytes = 0xF, kWrite = 0x10, kAtomic = 0x20, kScope = 0xC0, kAsync = 0x100, kProxy = 0x200, kFlags = 0x3FF;
    static constexpr int kScopeShift = 6, kOpShift = 10;
    [[nodiscard]] bool is(uint32_t flag) const { return (what & flag) != 0; }
    [[nodiscard]] uint32_t bytes() const { return what & kBytes; }
    [[nodiscard]] uint32_t op() const { return what >> kOpShift; }
};

struct Cell {
    Record write, read;
    uint32_t more = 0;  // chain in the pool; 0: none
};
static_assert(sizeof(Cell) == 36);  // no padding: cells are compared as bytes

class Shadow {
public:
    static constexpr size_t kPageCells = 1024;
    struct Link {
        Record record;
        uint32_t next = 0;
    };

    /// Forgets everything.
    void reset(size_t bytes, uint64_t generation);
    [[nodiscard]] uint64_t generation() const { return generation_; }
    Cell& cell(size_t word) {
        Page*& page = pages_[word / kPageCells];
        if (page == nullptr || page->generation != generation_) refresh(word / kPageCells);
        return page->cells[word % kPageCells];
    }
    /// As cell, and how many cells follow it in memory.
    Cell* cells(size_t word, size_t* count) {
        *count = kPageCells - word % kPageCells;
        return &cell(word);
    }
    Link& link(uint32_t index) { return pool_[index]; }
    void push(Cell& cell, const Record& record);
    /// Removes what `drop` says from the chain, reusing the links.
    template <typename Drop>
    void prune(Cell& cell, Drop drop) {
        uint32_t* at = &cell.more;
        while (*at != 0) {
            const uint32_t index = *at;
            if (drop(pool_[index].record)) {
                *at = pool_[index].next;
                pool_[index].next = free_;
                free_ = index;
            } else {
                at = &pool_[index].next;
            }
        }
    }
    Shadow() = default;
    ~Shadow();
    Shadow(const Shadow&) = delete;
    Shadow& operator=(const Shadow&) = delete;

private:
    struct Page {
        uint64_t generation = 0;
        std::array<Cell, kPageCells> cells;
    };
    void refresh(size_t page);

    std::vector<Page*> pages_;
    std::vector<Link> pool_;
    uint32_t free_ = 0;
    uint64_t generation_ = 0;
};

}  // namespace flexemu
