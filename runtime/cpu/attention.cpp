// The tiles of the CPU attention.
//
// Rows of queries that share a KV head (all query heads of a GQA group) are cut into *sub-tiles* of at most kSubRows rows:
// a run of queries of one head or, when there are few queries, all queries of several heads. A *work item* is a run of
// sub-tiles, for which one thread walks the KV sequence:
//
//     for each KV tile of kv_tile keys that any sub-tile needs
//         pack K as panels [D][width] and V as panels [key][width], in f32
//         for each sub-tile
//             columns := those of the tile that the mask leaves to it, whole panels
//             S = Q K^T;  (P, m, l, alpha) = softmax(S);  O = alpha O;  O = O + P V
//
// Budgets. The packed tile of K and V (kPackedBytes) stays in the second-level cache while every sub-tile of the item uses
// it. Within a product, one panel of K (D x width) or of V (kv_tile x width) stays in the first level while the rows pass by
// it; the scores of a sub-tile (kSubRows x kv_tile) are written, turned into weights, and read while still in the
// first or second level. Packing costs a pass over K and V per item, so items are tall (kItemRows) unless the threads
// would go idle; the rows of the next tile are fetched meanwhile. Every cost beside the products thus falls as 1 / kItemRows, 1 / kv_tile or 1 / D, except the softmax.
//
// Masks. kv_range trims the columns of a sub-tile; tile_state decides which are skipped and whether the mask need be
// evaluated at all. Where a tile is partial, chunks of kChunk columns are asked about, so that a hole in a tile is a hole.
//
// Determinism. Sub-tiles, KV tiles, chunks and splits depend on the shape alone, and a row's arithmetic on nothing outside its
// sub-tile; only how sub-tiles are dealt out depends on the threads.
//
// Isolation. The products have no row or column in common that is not in the arrays: rows are never padded, and padded columns
// of K are zeros whose weights are not used. A NaN in a row of Q or K stays in its row or column of S. With V it is
// different: 0 * inf would carry a value past the mask. So packing looks for values that are not finite, and a
// tile with any takes a product that leaves out the weights -0.0, which is how the softmax marks a pair that does not attend.
//
// Few rows (decode): with no reuse there is no point in packing; K and V are read once, where they lie. If there are too few
// sub-tiles to occupy a machine, the keys are split into runs whose partial results are combined in order.
#include "runtime/cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "runtime/cpu/flush_subnormals.h"
#include "runtime/cpu/microkernel_table.h"
#include "runtime/cpu/pool.h"
#include "runtime/cpu/sink.h"
#include "runtime/cpu/transformed_keys.h"

namespace flex::cpu {
namespace {

constexpr int kSubRows = 48;
constexpr int kItemRows = 1152;
constexpr int64_t kItemBytes = 1280 * 1024;  // of queries and outputs
constexpr int kChunk = 64;                   // a multiple of every panel width
constexpr int kMaxTile = 256;                // keys
constexpr int64_t kPackedBytes = 256 * 1024;
constexpr int kSplitKeys = 1024;         // at least, in one split
constexpr int32_t kMaxLength = 1 << 30;  // so that the end of a tile is an int32_t
constexpr int kSplitBelow = 64;          // sub-tiles
constexpr int kMostElements = 512;       // of a row: bind() lets no more pass

int round_up(int value, int unit) {
    return (value + unit - 1) / unit * unit;
}
int divide_up(int value, int unit) {
    return (value + unit - 1) / unit;
}

struct SubTile {
    int h, heads;  // query heads [h, h + heads)
    int q, nq;     // queries [q, q + nq) of each
    int lo, hi;    // keys that the mask may leave
    [[nodiscard]] int rows() const { return heads * nq; }
};

/// Keys [k0, k1) of one tile, for one sub-tile; k0 begins a panel. `full`: the mask need not be evaluated.
struct Run {
    int k0, k1;
    bool full;
};

struct Item {
    int32_t b, hkv;
    int32_t first, last;  // sub-tiles
    int32_t split;
    int64_t cost;
};

/// Where the rows of one work item live.
struct Workspace {
    float* k = nullptr;
    float* v = nullptr;
    float* s = nullptr;
    float* q = nullptr;
    float* o = nullptr;
    float* m = nullptr;
    float* l = nullptr;
    float* alpha = nullptr;
    SubTile* subs = nullptr;
};

/// What to fetch while a tile is worked on.
struct NextTile {
    Ahead k, v;
};

/// Hands out consecutive 64-byte aligned pieces; with a null base it only counts.
class Carver {
public:
    explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
    template <class T>
    T* take(int64_t count) {
        T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
        return piece;
    }
    [[nodiscard]] size_t used() const { return used_; }

private:
    char* base_;
    size_t used_ = 0;
};

class Attention {
public:
    Attention(const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays)
        : kernel_(kernel), args_(args), arrays_(arrays), micro_(micro_kernels(static_cast<int>(kernel.lanes))) {
        const int32_t* extents = args.extents;
        batch_ = extents[0];
        heads_ = extents[1];
        kv_heads_ = extents[2];
        queries_ = extents[3];
        keys_ = extents[4];
        depth_ = extents[5];
        columns_ = extents[6];
        group_ = heads_ / kv_heads_;
        ldo_ = round_up(columns_, micro_.lanes);
        each_ = kernel.normalize != FLEX_SOFTMAX;
        statistics_ = !each_ || arrays.lse.data || arrays.max_score.data;

        streams_ = streams(static_cast<int64_t>(group_) * queries_, keys_, depth_);
        sub_queries_ = std::min(queries_, kSubRows);
        sub_heads_ = sub_queries_ == queries_ ? std::clamp(kSubRows / queries_, 1, group_) : 1;
        head_blocks_ = divide_up(group_, sub_heads_);
        sub_count_ = divide_up(queries_, sub_queries_) * head_blocks_;

        const int64_t fits = kPackedBytes / (static_cast<int64_t>(depth_ + ldo_) * 4);
        tile_ = static_cast<int>(std::clamp<int64_t>(fits / kChunk * kChunk, kChunk, kMaxTile));
        tile_ = std::min(tile_, std::max(round_up(keys_, kChunk), kChunk));
        lds_ = tile_ + 16;  // not a power of two, so that rows do not compete for one cache set

        const int64_t all_subs = static_cast<int64_t>(batch_) * kv_heads_ * sub_count_;
        const int64_t splits = std::min<int64_t>(keys_ / kSplitKeys, (kSplitBelow + all_subs - 1) / all_subs);
        split_keys_ = round_up(splits > 1 ? divide_up(keys_, static_cast<int>(splits)) : std::max(keys_, 1), tile_);
        splits_ = std::max(divide_up(keys_, split_keys_), 1);
    }

    Status run(int threads, CpuProgress* progress, CpuStats* stats);

private:
    [[nodiscard]] SubTile sub_tile(int b, int hkv, int index) const;
    Workspace carve(void* base, size_t* bytes) const;
    [[nodiscard]] int useful_threads(int threads) const;
    [[nodiscard]] int item_height(int threads) const;
    [[nodiscard]] std::vector<Item> deal(int threads);
    void run_item(const Item& item);
    void load_queries(int b, const SubTile& sub, float* q) const;
    [[nodiscard]] int state(int b, const SubTile& sub, int k0, int k1) const;
    void visit(const Item& item, const SubTile& sub, const Workspace& w, int row, int t0, const Run& run, bool exact, NextTile& next) const;
    [[nodiscard]] Run next_run(int b, const SubTile& sub, int t0, int from, int k1) const;
    [[nodiscard]] NextTile next_tile(const Item& item, int visits, int from, int to) const;
    void finish_row(int b, int h, int q, const float* o, float m, float l) const;
    void combine(int64_t row) const;

    [[nodiscard]] int64_t row_index(int b, int h, int q) const { return (static_cast<int64_t>(b) * heads_ + h) * queries_ + q; }
    [[nodiscard]] int64_t row_count() const { return static_cast<int64_t>(batch_) * heads_ * queries_; }
    [[nodiscard]] float* partial(int split, int64_t row) const { return partials_.get() + (split * row_count() + row) * (ldo_ + 16); }
    [[nodiscard]] Rows rows_of(const Tensor& t, int b, int hkv, int key) const {
        const int64_t offset = (t.shape[0] == 1 ? 0 : b * t.stride[0]) + hkv * t.stride[1] + key * t.stride[2];
        return {static_cast<const char*>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype)), t.dtype, t.stride[2]};
    }

    const flex_cpu_kernel& kernel_;
    const flex_args& args_;
    const AttentionArrays& arrays_;
    const MicroKernels& micro_;
    int batch_, heads_, kv_heads_, group_, queries_, keys_, depth_, columns_;
    int ldo_, lds_;  // floats from one row of o and s to the next
    bool streams_;
    bool each_, statistics_;                                 // weights stand by themselves; m and l are wanted
    int sub_queries_, sub_heads_, head_blocks_, sub_count_;  // sub-tiles of one KV head
    int tile_, split_keys_, splits_;
    int item_subs_ = 1;  // sub-tiles of one work item, at most
    size_t scratch_bytes_ = 0;
    struct Free {
        void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<float[], Free> partials_;  // [split][row][o, then m, l]
    std::atomic<bool> no_memory_{false};
    std::atomic<int64_t> visited_{0}, full_{0};
};

SubTile Attention::sub_tile(int b, int hkv, int index) const {
    SubTile sub{};
    const int head = index % head_blocks_ * sub_heads_;
    sub.h = hkv * group_ + head;
    sub.heads = std::min(sub_heads_, group_ - head);
    sub.q = index / head_blocks_ * sub_queries_;
    sub.nq = std::min(sub_queries_, queries_ - sub.q);
    if (keys_ == 0) return sub;
    sub.lo = keys_;
    for (int h = sub.h; h < sub.h + sub.heads; ++h) {
        int32_t range[2] = {0, 0};
        kernel_.kv_range(&args_, b, h, sub.q, sub.q + sub.nq, range);
        if (range[0] >= range[1]) continue;
        sub.lo = std::min(sub.lo, std::max(range[0], 0));
        sub.hi = std::max(sub.hi, std::min(range[1], keys_));
    }
    return sub;
}

Workspace Attention::carve(void* base, size_t* bytes) const {
    const int64_t sub_rows = static_cast<int64_t>(sub_queries_) * sub_heads_;
    const int64_t rows = item_subs_ * sub_rows;
    Carver carver(base);
    Workspace w;
    if (!streams_) {
        w.k = carver.take<float>(static_cast<int64_t>(tile_) * depth_);
        w.v = carver.take<float>(static_cast<int64_t>(tile_) * ldo_);
    }
    w.s = carver.take<float>(sub_rows * lds_);
    w.q = carver.take<float>(rows * depth_);
    w.o = carver.take<float>(rows * ldo_);
    w.m = carver.take<float>(rows);
    w.l = carver.take<float>(rows);
    w.alpha = carver.take<float>(sub_rows);
    w.subs = carver.take<SubTile>(item_subs_);
    *bytes = carver.used();
    return w;
}

/// How many sub-tiles to give an item: the least time by a model in which packing costs a third of a sub-tile for each
/// item, threads take items in rounds, and on average a quarter of one is lost at the end.
int Attention::item_height(int threads) const {
    const int64_t rows = std::min<int64_t>(kItemRows, kItemBytes / (static_cast<int64_t>(depth_ + ldo_) * 4));
    const int tallest = std::min(std::max(static_cast<int>(rows) / (sub_queries_ * sub_heads_), 1), sub_count_);
    const int64_t runs = static_cast<int64_t>(batch_) * kv_heads_ * splits_;
    int best = 1;
    double least = std::numeric_limits<double>::infinity();
    for (int candidate = tallest; candidate >= 1; --candidate) {
        const int items = divide_up(sub_count_, candidate);
        const int height = divide_up(sub_count_, items);
        const double rounds = static_cast<double>((runs * items + threads - 1) / threads);
        const double time = rounds * (height + 0.33) + 0.25 * height;
        if (time >= least) continue;
        least = time;
        best = height;
    }
    return best;
}

/// Cuts the work into items, longest first.
std::vector<Item> Attention::deal(int threads) {
    item_subs_ = item_height(threads);
    const int per_head = divide_up(sub_count_, item_subs_);

    std::vector<Item> items;
    items.reserve(static_cast<size_t>(batch_) * static_cast<size_t>(kv_heads_) * static_cast<size_t>(per_head) *
                  static_cast<size_t>(splits_));
    for (int b = 0; b < batch_; ++b) {
        for (int hkv = 0; hkv < kv_heads_; ++hkv) {
            for (int first = 0; first < sub_count_; first += item_subs_) {
                const int last = std::min(first + item_subs_, sub_count_);
                const SubTile top = sub_tile(b, hkv, first);
                const SubTile bottom = sub_tile(b, hkv, last - 1);
                for (int split = 0; split < splits_; ++split) {
                    const auto width = [&](const SubTile& sub) {
                        return std::max(std::min(sub.hi, (split + 1) * split_keys_) - std::max(sub.lo, split * split_keys_), 0);
                    };
                    items.push_back({b, hkv, first, last, split, (static_cast<int64_t>(width(top)) + width(bottom)) * (last - first)});
                }
            }
        }
    }
    std::sort(items.begin(), items.end(), [](const Item& x, const Item& y) { return x.cost > y.cost; });
    return items;
}

/// Waking a thread takes some 10 microseconds, and as long to find it done: a launch that one thread finishes in a few times that is left to it.
int Attention::useful_threads(int threads) const {
    constexpr double kAlone = 60e-6, kMultiplyAdds = 10e9, kRows = 30e6;  // seconds; of one thread, a second, where work is short
    const double rows = static_cast<double>(row_count());
    const double seconds = rows * keys_ * (depth_ + columns_) / kMultiplyAdds + rows / kRows;
    return seconds < kAlone ? 1 : threads;
}

Status Attention::run(int threads, CpuProgress* progress, CpuStats* stats) {
    threads = useful_threads(threads);
    const std::vector<Item> items = deal(threads);
    carve(nullptr, &scratch_bytes_);
    size_t partial_bytes = 0;
    if (splits_ > 1) {
        partial_bytes = static_cast<size_t>(splits_ * row_count() * (ldo_ + 16)) * sizeof(float);
        partials_.reset(static_cast<float*>(::operator new[](partial_bytes, std::align_val_t{64}, std::nothrow)));
        if (!partials_) return Status(Code::OutOfMemory, "no memory for the partial results of " + std::to_string(splits_) + " splits");
    }
    if (progress) {
        int64_t cost = 0;
        for (const Item& each : items) cost += each.cost;
        progress->total.fetch_add(cost, std::memory_order_relaxed);
    }
    auto item = [&](int64_t index) {
        const Item& which = items[static_cast<size_t>(index)];
        run_item(which);
        if (progress) progress->done.fetch_add(which.cost, std::memory_order_relaxed);
    };
    parallel_for(threads, static_cast<int64_t>(items.size()), item);
    if (no_memory_.load()) return Status(Code::OutOfMemory, "no memory for a workspace of " + std::to_string(scratch_bytes_) + " bytes");
    if (splits_ > 1) {
        auto row = [&](int64_t index) { combine(index); };
        parallel_for(threads, row_count(), row);
    }
    if (stats) {
        stats->tiles_visited = visited_.load();
        stats->tiles_full = full_.load();
        const int64_t used = std::min<int64_t>(threads, static_cast<int64_t>(items.size()));
        stats->workspace_bytes = used * static_cast<int64_t>(scratch_bytes_) + static_cast<int64_t>(partial_bytes);
    }
    return {};
}

void Attention::load_queries(int b, const SubTile& sub, float* q) const {
    for (int h = sub.h; h < sub.h + sub.heads; ++h) {
        const Tensor& t = arrays_.q;
        for (int i = sub.q; i < sub.q + sub.nq; ++i) {
            const int64_t offset = b * t.stride[0] + h * t.stride[1] + i * t.stride[2];
            const void* row = static_cast<const char*>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
            const float scale = kernel_.scale(&args_, b, h, i);
            if (kernel_.query) {
                float raw[kMostElements];
                micro_.load_row(row, t.dtype, depth_, 1.0f, raw);
                kernel_.query(&args_, b, h, i, raw, q);
                for (int d = 0; d < depth_; ++d) q[d] *= scale;
            } else {
                micro_.load_row(row, t.dtype, depth_, scale, q);
            }
            q += depth_;
        }
    }
}

/// Of a tile for all heads of the sub-tile together.
int Attention::state(int b, const SubTile& sub, int k0, int k1) const {
    int common = -1;
    for (int h = sub.h; h < sub.h + sub.heads; ++h) {
        const int one = kernel_.tile_state(&args_, b, h, sub.q, sub.q + sub.nq, k0, k1);
        if (common >= 0 && one != common) return FLEX_TILE_PARTIAL;
        common = one;
    }
    return common;
}

/// The first chunks from `from` on that are not skipped and adjoin, up to k1; empty if there are none.
Run Attention::next_run(int b, const SubTile& sub, int t0, int from, int k1) const {
    Run run{k1, k1, true};
    for (int k = from; k < k1;) {
        const int end = std::min(t0 + (k - t0) / kChunk * kChunk + kChunk, k1);
        const int chunk = state(b, sub, k, end);
        if (chunk != FLEX_TILE_SKIP) {
            run.k0 = std::min(run.k0, k);
            run.full = run.full && chunk == FLEX_TILE_FULL;
        } else if (run.k0 < k1) {
            run.k1 = k;
            break;
        }
        k = end;
    }
    return run;
}

void Attention::run_item(const Item& item) {
    void* scratch = thread_scratch(scratch_bytes_);
    if (!scratch) {
        no_memory_.store(true);
        return;
    }
    size_t bytes = 0;
    const Workspace w = carve(scratch, &bytes);
    const int sub_rows = sub_queries_ * sub_heads_;
    const int count = item.last - item.first;
    int lo = keys_, hi = 0;
    for (int i = 0; i < count; ++i) {
        SubTile& sub = w.subs[i];
        sub = sub_tile(item.b, item.hkv, item.first + i);
        sub.lo = std::max(sub.lo, item.split * split_keys_);
        sub.hi = std::min(sub.hi, (item.split + 1) * split_keys_);
        if (sub.lo < sub.hi) {
            lo = std::min(lo, sub.lo);
            hi = std::max(hi, sub.hi);
        }
        load_queries(item.b, sub, w.q + static_cast<int64_t>(i) * sub_rows * depth_);
    }
    const int64_t rows = static_cast<int64_t>(count) * sub_rows;
    std::fill_n(w.m, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(w.l, rows, 0.0f);
    std::fill_n(w.o, rows * ldo_, 0.0f);

    const int width = micro_.lanes * micro_.vectors;
    int64_t visited = 0, full = 0;
    for (int t0 = lo / tile_ * tile_; t0 < hi; t0 += tile_) {
        const int t1 = std::min(t0 + tile_, keys_);
        bool packed = false, exact = false;
        NextTile next = next_tile(item, count, t1, std::min(t1 + tile_, hi));
        for (int i = 0; i < count; ++i) {
            const SubTile& sub = w.subs[i];
            const int k1 = std::min(sub.hi, t1);
            int k0 = std::max(sub.lo, t0);
            if (k0 >= k1) continue;
            k0 = t0 + (k0 - t0) / width * width;
            const int whole = state(item.b, sub, k0, k1);
            if (whole == FLEX_TILE_SKIP) continue;
            for (int from = k0; from < k1;) {
                const bool undivided = whole == FLEX_TILE_FULL || k1 - k0 <= kChunk;
                const Run run = undivided ? Run{k0, k1, whole == FLEX_TILE_FULL} : next_run(item.b, sub, t0, from, k1);
                if (run.k0 >= run.k1) break;
                if (!packed && !streams_) {
                    packed = true;
                    const int skipped = std::max(lo - t0, 0) / width * width;
                    const int keys = std::min(hi, t1) - t0 - skipped;
                    micro_.pack_keys(rows_of(arrays_.k, item.b, item.hkv, t0 + skipped), keys, depth_,
                                     w.k + static_cast<int64_t>(skipped) * depth_);
                    exact = micro_.pack_values(rows_of(arrays_.v, item.b, item.hkv, t0 + skipped), keys, columns_, w.v,
                                               static_cast<int64_t>(tile_) * width, skipped);
                }
                visit(item, sub, w, i * sub_rows, t0, run, exact, next);
                ++visited;
                full += run.full;
                from = run.k1;
            }
        }
    }
    visited_.fetch_add(visited, std::memory_order_relaxed);
    full_.fetch_add(full, std::memory_order_relaxed);

    for (int i = 0; i < count; ++i) {
        const SubTile& sub = w.subs[i];
        const int row = i * sub_rows;
        for (int r = 0; r < sub.rows(); ++r) {
            const int h = sub.h + r / sub.nq, q = sub.q + r % sub.nq;
            const float* o = w.o + static_cast<int64_t>(row + r) * ldo_;
            if (splits_ == 1) {
                finish_row(item.b, h, q, o, w.m[row + r], w.l[row + r]);
            } else {
                float* part = partial(item.split, row_index(item.b, h, q));
                std::copy_n(o, ldo_, part);
                part[ldo_] = w.m[row + r];
                part[ldo_ + 1] = w.l[row + r];
            }
        }
    }
}

/// What to fetch of keys [from, to) while `visits` sub-tiles are worked on.
NextTile Attention::next_tile(const Item& item, int visits, int from, int to) const {
    NextTile next;
    if (from >= to || streams_) return next;
    const auto plan = [&](const Tensor& t, int blocks) {
        const Rows rows = rows_of(t, item.b, item.hkv, from);
        const auto bytes = static_cast<int64_t>(size_of(t.dtype));
        Ahead ahead;
        ahead.row = static_cast<const char*>(rows.data);
        ahead.row_bytes = t.shape[3] * bytes;
        ahead.stride_bytes = rows.stride * bytes;
        ahead.rows = to - from;
        ahead.lines_a_block = static_cast<int>((to - from) * ((ahead.row_bytes + 63) / 64) / (static_cast<int64_t>(visits) * blocks)) + 1;
        return ahead;
    };
    const int heights = divide_up(sub_queries_ * sub_heads_, micro_.rows);
    const int width = micro_.lanes * micro_.vectors;
    next.k = plan(arrays_.k, heights * divide_up(tile_, width));
    next.v = plan(arrays_.v, heights * divide_up(columns_, width));
    return next;
}

/// One run of keys of the tile that starts at t0, for one sub-tile whose first row of the item is `row`.
void Attention::visit(const Item& item, const SubTile& sub, const Workspace& w, int row, int t0, const Run& run, bool exact,
                      NextTile& next) const {
    const int rows = sub.rows();
    const int k0 = run.k0, keys = run.k1 - run.k0;
    const int width = micro_.lanes * micro_.vectors;
    const float* q = w.q + static_cast<int64_t>(row) * depth_;
    float* o = w.o + static_cast<int64_t>(row) * ldo_;
    if (streams_) {
        micro_.stream_scores(q, depth_, rows, rows_of(arrays_.k, item.b, item.hkv, k0), keys, depth_, w.s, lds_);
    } else {
        micro_.scores(q, depth_, rows, depth_, w.k + static_cast<int64_t>(k0 - t0) * depth_, keys, w.s, lds_, next.k);
    }

    flex_block block{};
    block.args = &args_;
    block.b = item.b;
    block.h = sub.h;
    block.q = sub.q;
    block.nq = sub.nq;
    block.rows = rows;
    block.k = k0;
    block.cols = keys;
    block.full = run.full;
    block.mark = exact || streams_;
    block.s = w.s;
    block.ld = lds_;
    block.m = statistics_ ? w.m + row : nullptr;
    block.l = statistics_ ? w.l + row : nullptr;
    block.alpha = w.alpha;
    kernel_.softmax(&block);

    [[maybe_unused]] const FlushSubnormals flush{};
    for (int r = 0; r < rows; ++r)
        if (w.alpha[r] != 1.0f) micro_.scale_row(o + static_cast<int64_t>(r) * ldo_, ldo_, w.alpha[r]);

    const Weights p{w.s, lds_};
    if (streams_) {
        micro_.stream_accumulate(p, rows, rows_of(arrays_.v, item.b, item.hkv, k0), keys, columns_, o, ldo_);
    } else {
        const ValuePanels v{w.v, static_cast<int64_t>(tile_) * width, k0 - t0};
        if (exact)
            micro_.accumulate_exact(p, rows, keys, v, columns_, o, ldo_);
        else
            micro_.accumulate(p, rows, keys, v, columns_, o, ldo_, next.v);
    }
}

void Attention::finish_row(int b, int h, int q, const float* o, float m, float l) const {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto at = [&](const Tensor& t) {
        const int64_t offset = b * t.stride[0] + h * t.stride[1] + q * t.stride[2];
        return static_cast<char*>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
    };
    // l is 0, or at least about 1: the greatest weight is 1.
    WithSink all{m, l, 1.0f};
    if (kernel_.sink && !each_) all = with_sink(kernel_.sink(&args_, b, h, q), m, l);
    const float factor = l == 0.0f || each_ ? 1.0f : all.share / all.l;
    const float lse = all.l == 0.0f ? -std::numeric_limits<float>::infinity() : all.m + std::log(all.l);
    if (kernel_.output) {
        float plain[kMostElements], gated[kMostElements];
        for (int d = 0; d < columns_; ++d) plain[d] = o[d] * factor;
        kernel_.output(&args_, b, h, q, plain, gated);
        micro_.store_row(gated, columns_, 1.0f, arrays_.o.dtype, at(arrays_.o));
    } else {
        micro_.store_row(o, columns_, factor, arrays_.o.dtype, at(arrays_.o));
    }
    if (arrays_.lse.data) *reinterpret_cast<float*>(at(arrays_.lse)) = lse;
    if (arrays_.max_score.data) *reinterpret_cast<float*>(at(arrays_.max_score)) = std::isnan(l) && !each_ ? nan : m;
}

/// The splits of one row, in order.
void Attention::combine(int64_t row) const {
    float m = -std::numeric_limits<float>::infinity();
    for (int split = 0; split < splits_; ++split) {
        const float part = partial(split, row)[ldo_];
        if (!(part <= m)) m = part;
        if (std::isnan(m)) break;
    }
    float* total = partial(0, row);
    float l = 0.0f;
    for (int split = 0; split < splits_; ++split) {
        float* part = partial(split, row);
        const float l_part = part[ldo_ + 1];
        if (l_part == 0.0f && !each_) {
            if (split == 0) std::fill_n(total, ldo_, 0.0f);
            continue;
        }
        const float share = l_part == 0.0f ? 0.0f : std::exp(part[ldo_] - m), factor = each_ ? 1.0f : share;
        l += share * l_part;
        for (int c = 0; c < columns_; ++c) total[c] = (split == 0 ? 0.0f : total[c]) + factor * part[c];
    }
    const int q = static_cast<int>(row % queries_);
    const int64_t head = row / queries_;
    finish_row(static_cast<int>(head / heads_), static_cast<int>(head % heads_), q, total, m, l);
}

}  // namespace

Status run_attention(const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays, const CpuOptions& options,
                     CpuStats* stats) {
    if (stats) *stats = {};
    if (args.extents[0] == 0 || args.extents[1] == 0 || args.extents[3] == 0) return {};
    if (std::max(args.extents[3], args.extents[4]) > kMaxLength)
        return Status(Code::Unsupported, "Q = " + std::to_string(args.extents[3]) + " and K = " + std::to_string(args.extents[4]) +
                                             ": at most 2^30 is supported");
    const int threads = options.threads > 0 ? options.threads : available_threads();
    if (!kernel.key) return Attention(kernel, args, arrays).run(threads, options.progress, stats);
    TransformedKeys keys(kernel, args, arrays.k, threads);
    AttentionArrays with = arrays;
    with.k = keys.rows();
    const Status status = Attention(kernel, args, with).run(threads, options.progress, stats);
    if (stats) stats->workspace_bytes += keys.bytes();
    return status;
}

}  // namespace flex::cpu
