#include "emulator/machine/shadow.h"

namespace flexemu {

Shadow::~Shadow() {
    for (Page* page : pages_) delete page;
}

void Shadow::reset(size_t bytes, uint64_t generation) {
    const size_t pages = (bytes + 4 * kPageCells - 1) / (4 * kPageCells);
    if (pages > pages_.size()) pages_.resize(pages, nullptr);
    pool_.resize(1);
    free_ = 0;
    generation_ = generation;
}

void Shadow::refresh(size_t page) {
    if (pages_[page] == nullptr) pages_[page] = new Page;
    pages_[page]->cells.fill({});
    pages_[page]->generation = generation_;
}

void Shadow::push(Cell& cell, const Record& record) {
    uint32_t index = free_;
    if (index != 0) {
        free_ = pool_[index].next;
    } else {
        index = static_cast<uint32_t>(pool_.size());
        pool_.emplace_back();
    }
    pool_[index] = {record, cell.more};
    cell.more = index;
}

}  // namespace flexemu
