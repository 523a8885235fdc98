// Builds the summaries that tile_state reads: one evaluation of each along its axis, then the minima and maxima of blocks and the tree
// above them. O(Q + K) for each (b, h) that a summary depends on.
#include <algorithm>
#include <memory>
#include <new>

#include "runtime/cpu/pool.h"
#include "runtime/launch.h"
#include "runtime/summary.h"

namespace flex {

namespace {

constexpr int32_t kChunk = 8192;  // positions of one piece of work, a multiple of the block

/// One record to fill.
struct Record {
    int32_t index, b, h, length, blocks;
    int32_t* data;
};

/// Values of positions [p, p + n) and the pairs of their blocks. p lies on a block.
void fill(const flex_cpu_kernel& kernel, const flex_args& args, const Record& record, int32_t p, int32_t n) {
    int32_t* values = record.data + p;
    kernel.summary_values(&args, record.index, record.b, record.h, p, n, values);
    const int32_t padded = (n + FLEX_SUMMARY_BLOCK - 1) / FLEX_SUMMARY_BLOCK * FLEX_SUMMARY_BLOCK;
    std::fill(values + n, values + padded, values[n - 1]);
    int32_t* pairs = record.data + static_cast<int64_t>(record.blocks) * FLEX_SUMMARY_BLOCK +
                     2 * (static_cast<int64_t>(record.blocks) + p / FLEX_SUMMARY_BLOCK);
    for (int32_t i = 0; i < padded; i += FLEX_SUMMARY_BLOCK, pairs += 2) {
        const auto [least, greatest] = std::minmax_element(values + i, values + i + FLEX_SUMMARY_BLOCK);
        pairs[0] = *least;
        pairs[1] = *greatest;
    }
}

void build_tree(const Record& record) {
    int32_t* pairs = record.data + static_cast<int64_t>(record.blocks) * FLEX_SUMMARY_BLOCK;
    for (int64_t i = record.blocks - 1; i > 0; --i) {
        pairs[2 * i] = std::min(pairs[4 * i], pairs[4 * i + 2]);
        pairs[2 * i + 1] = std::max(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
}

}  // namespace

Status prepare(const flex_cpu_kernel& kernel, int threads, PackedArgs* args) {
    const int32_t batch = args->c.extents[0], heads = args->c.extents[1], queries = args->c.extents[3], keys = args->c.extents[4];
    args->summaries.clear();
    args->summary_data.clear();
    args->c.summaries = nullptr;
    if (batch == 0 || heads == 0 || queries == 0 || keys == 0) return {};
    int64_t total = 0;
    std::vector<int64_t> at;
    for (int32_t i = 0;; ++i) {
        const int32_t flags = kernel.summary_flags(i);
        if (flags < 0) break;
        const int32_t blocks = ((flags & FLEX_SUMMARY_OF_KEYS ? keys : queries) - 1) / FLEX_SUMMARY_BLOCK + 1;
        flex_summary summary{};
        summary.blocks = blocks;
        summary.h_stride = flags & FLEX_SUMMARY_BY_H ? flex_summary_record(blocks) : 0;
        const int64_t of_batch = flex_summary_record(blocks) * (flags & FLEX_SUMMARY_BY_H ? heads : 1);
        summary.b_stride = flags & FLEX_SUMMARY_BY_B ? of_batch : 0;
        at.push_back(total);
        total += of_batch * (flags & FLEX_SUMMARY_BY_B ? batch : 1);
        args->summaries.push_back(summary);
    }
    if (args->summaries.empty()) return {};
    try {
        args->summary_data.resize(static_cast<size_t>(total));
        std::vector<Record> records;
        std::vector<std::pair<size_t, int32_t>> pieces;  // record, first position
        for (size_t i = 0; i < args->summaries.size(); ++i) {
            flex_summary& summary = args->summaries[i];
            summary.data = args->summary_data.data() + at[i];
            const bool of_keys = kernel.summary_flags(static_cast<int32_t>(i)) & FLEX_SUMMARY_OF_KEYS;
            for (int32_t b = 0; b < (summary.b_stride ? batch : 1); ++b) {
                for (int32_t h = 0; h < (summary.h_stride ? heads : 1); ++h) {
                    int32_t* data = args->summary_data.data() + at[i] + b * summary.b_stride + h * summary.h_stride;
                    records.push_back({static_cast<int32_t>(i), b, h, of_keys ? keys : queries, summary.blocks, data});
                    for (int64_t p = 0; p < records.back().length; p += kChunk)
                        pieces.emplace_back(records.size() - 1, static_cast<int32_t>(p));
                }
            }
        }
        if (threads <= 0) threads = cpu::available_threads();
        auto fill_piece = [&](int64_t index) {
            const auto& [record, p] = pieces[static_cast<size_t>(index)];
            fill(kernel, args->c, records[record], p, std::min(kChunk, records[record].length - p));
        };
        cpu::parallel_for(threads, static_cast<int64_t>(pieces.size()), fill_piece);
        auto build = [&](int64_t index) { build_tree(records[static_cast<size_t>(index)]); };
        cpu::parallel_for(threads, static_cast<int64_t>(records.size()), build);
    } catch (const std::bad_alloc&) {
        return Status(Code::OutOfMemory, "no memory for summaries of the mask: " + std::to_string(total * 4) + " bytes");
    }
    args->c.summaries = args->summaries.data();
    return {};
}

}  // namespace flex
