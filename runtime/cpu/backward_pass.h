// The state of one backward pass, between its two halves: the walk over tiles (backward.cpp, whose head has the whole story) and what is of
// a row (backward_rows.cpp).
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/cpu/attention.h"
#include "runtime/cpu/backward.h"
#include "runtime/cpu/backward_memory.h"
#include "runtime/cpu/microkernel_table.h"

namespace flex::cpu {

constexpr int kRows = 64;
constexpr int kMostTile = 256;              // keys
constexpr int64_t kTileBytes = 840 * 1024;  // of what a visit touches, to stay in the second-level cache
constexpr int kStrip = 32;                  // keys; a multiple of every panel width
constexpr int kStep = 16;                   // rows
constexpr int kWorkItems = 16;              // at least, if the keys allow
constexpr int kChunkKeys = 1024;            // at least, in one chunk
constexpr int kMostSlots = 16;
constexpr int64_t kSlotBytes = 64 << 20;  // of all slots of one tensor beyond the first
constexpr float kLargeLse = 64.0f;
constexpr uint8_t kFiniteQ = 1, kFiniteDo = 2;

struct Scratch {
    float *key_panels, *key_rows, *value_panels;  // K for S, K for dQ, V for dP
    float *s, *dp;
    float *dk, *dv;
};

/// Rows [q0, q1) and keys [k0, k1) of one block, k0 at the start of a panel of its tile.
struct Part {
    int q0, q1, k0, k1;
    /// In multiply-adds of one column of D; the rest is what a product costs that is small.
    [[nodiscard]] int64_t cost() const { return int64_t{q1 - q0 + 8} * (k1 - k0 + 16); }
};

/// What a work item goes through beside the arrays.
struct Visitor {
    Scratch w;
    float* const* d_tensors;
    int b, h, chunk;
    int tile;  // first key
    bool finite_k;
};

/// A gradient of a captured tensor.
struct Captured {
    size_t param;
    float* out;
    int64_t count;
    int slots;
    Floats more;  // slots beyond the first
};

class Backward {
public:
    Backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays,
             const GradientArrays& gradients)
        : desc_(desc),
          kernel_(kernel),
          args_(args),
          arrays_(arrays),
          gradients_(gradients),
          micro_(micro_kernels(static_cast<int>(kernel.lanes))) {
        const int32_t* extents = args.extents;
        batch_ = extents[0], heads_ = extents[1], kv_heads_ = extents[2], queries_ = extents[3], keys_ = extents[4], depth_ = extents[5],
        columns_ = extents[6];
        group_ = heads_ / std::max(kv_heads_, 1);
        kv_batch_ = static_cast<int>(arrays.k.shape[0]);
        v_batch_ = static_cast<int>(arrays.v.shape[0]);
        // One set of items serves both: if either has one batch for all, an item walks all batches.
        shared_ = batch_ > 1 && (kv_batch_ == 1 || v_batch_ == 1);
        ldd_ = round_up(depth_, micro_.lanes) + micro_.lanes;  // not a power of two
        ldv_ = round_up(columns_, micro_.lanes) + micro_.lanes;
        const int64_t key_bytes = 4 * (2 * int64_t{depth_} + columns_ + ldd_ + ldv_ + 2 * kRows);  // panels, dK and dV, S and dP
        tile_ = static_cast<int>(std::clamp<int64_t>(kTileBytes / key_bytes / kStrip * kStrip, 2 * kStrip, kMostTile));
        tile_ = std::min(tile_, std::max(round_up(keys_, kStrip), kStrip));
        lds_ = tile_ + 16;
        const int runs = (shared_ ? 1 : batch_) * kv_heads_;
        const int wanted = divide_up(kWorkItems, std::max(runs, 1));
        const int chunks = std::clamp(keys_ / kChunkKeys, 1, std::max(wanted, 1));
        chunk_keys_ = round_up(divide_up(std::max(keys_, 1), chunks), tile_);
        chunks_ = std::max(divide_up(keys_, chunk_keys_), 1);
        items_ = runs * chunks_;
    }

    Status run(int threads, CpuProgress* progress, CpuStats* stats);
    [[nodiscard]] CpuBackwardPlan plan(int threads);

private:
    [[nodiscard]] int64_t rows() const { return static_cast<int64_t>(batch_) * heads_ * queries_; }
    [[nodiscard]] int64_t row_index(int b, int h, int q) const { return (static_cast<int64_t>(b) * heads_ + h) * queries_ + q; }
    [[nodiscard]] static const char* at(const Tensor& t, int b, int h, int row) {
        const int64_t offset = (t.shape[0] == 1 ? 0 : b * t.stride[0]) + h * t.stride[1] + (t.rank > 2 ? row * t.stride[2] : 0);
        return static_cast<const char*>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
    }
    [[nodiscard]] static Rows rows_of(const Tensor& t, int b, int h, int row) { return {at(t, b, h, row), t.dtype, t.stride[2]}; }

    void choose_slots();
    void take_slots(int threads);
    /// What is taken for all rows, and its floats.
    struct Piece {
        float** array;
        int64_t count;
    };
    [[nodiscard]] std::array<Piece, 9> pieces();
    [[nodiscard]] int64_t workspace_bytes(int threads);
    [[nodiscard]] int64_t scratch_floats(float* base, Scratch* out) const;
    void row_facts(int64_t index);
    void again(int64_t index);
    void find_peaks(int64_t index);
    void run_slot(int64_t slot);
    void run_item(int item, const Scratch& w, float* const* d_tensors);
    void order_slots(int threads);
    [[nodiscard]] const int32_t* range_of(int b, int h, int k0) const {
        const int64_t tiles = divide_up(std::max(keys_, 1), tile_);
        return ranges_.data() + ((static_cast<int64_t>(b) * heads_ + h) * tiles + k0 / tile_) * 2;
    }
    /// Queries that may see a key of the chunk, whole blocks.
    [[nodiscard]] std::pair<int, int> chunk_range(int b, int h, int chunk) const {
        int first = queries_, last = 0;
        for (int k0 = chunk * chunk_keys_; k0 < std::min((chunk + 1) * chunk_keys_, keys_); k0 += tile_) {
            const int32_t* range = range_of(b, h, k0);
            if (range[0] >= range[1]) continue;
            first = std::min(first, range[0] / kRows * kRows);
            last = std::max(last, std::min(round_up(range[1], kRows), queries_));
        }
        return {first, last};
    }
    [[nodiscard]] int parts(int b, int h, int q0, int q1, int k0, int k1, Part (&out)[kMostTile / kStrip]) const;
    void visit(const Visitor& v, const Part& part, bool full, int next_q);
    void load_block(const Tensor& t, int b, int h, int q0, int q1, int n, bool scaled, float* out, int ld) const;
    void finish_queries(int64_t index);
    void scatter_rows();

    const KernelDesc& desc_;
    const flex_cpu_kernel& kernel_;
    const flex_args& args_;
    const AttentionArrays& arrays_;
    const GradientArrays& gradients_;
    const MicroKernels& micro_;
    int batch_, heads_, kv_heads_, group_, queries_, keys_, depth_, columns_, kv_batch_, v_batch_;
    bool shared_;
    int ldd_, ldv_, lds_;
    int tile_;  // keys, a multiple of kStrip
    int chunk_keys_, chunks_, items_, slots_ = kMostSlots;
    float *q_ = nullptr, *d_o_ = nullptr;                         // [row][ldd], [row][ldv]: f32, padded with zeros; q times its scale
    float* dq_ = nullptr;                                         // [chunk][row][ldd], of rows that the chunk's keys are seen by
    float *m_ = nullptr, *scale_l_ = nullptr, *delta_ = nullptr;  // by row, and so the next
    float *peak_ = nullptr, *d_peak_ = nullptr;                   // if the loss depends on max_score
    float* d_scale_ = nullptr;     // q . (dX K), the derivative by the scale; if captured tensors have gradients
    std::vector<uint8_t> finite_;  // a block of rows: kFiniteQ, kFiniteDo
    std::vector<Captured> captured_;
    std::vector<float*> destinations_;  // [slot][parameter]
    std::vector<int32_t> ranges_;       // [b][h][tile][2]: queries that may see a tile
    std::vector<int> order_;            // of slots, costly ones first
    CpuProgress* progress_ = nullptr;
    std::atomic<bool> no_memory_{false};
    std::atomic<int64_t> visited_{0}, full_{0};
};

}  // namespace flex::cpu
