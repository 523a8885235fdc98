// The backward pass. With S = scale Q K^T, P = exp(score(S) - lse), dP = dO V^T and delta = rowsum(dO * O) - dlse:
//
//     dX = (P * (dP - delta)) * score'(S);   dV = P^T dO;   dK = dX^T (scale Q);   dQ = scale dX K
//
// If the loss depends on max_score, dS = P * (dP - delta) has more where the score is the greatest of its row; a pass over the scores finds these.
//
// A *work item* is one KV head of one batch and a run of its keys, a *chunk*. One thread walks it:
//
//     for each KV tile of the chunk
//         pack K as panels for S and for dQ, V as panels for dP;  dK = dV = 0
//         for each query head of the group, for each block of kRows queries that may see the tile (the transposed range)
//             for each part of the block that the mask leaves
//                 S, dP;  (P, dX) = backward step;  dV += P^T dO;  dK += dX^T Q;  dQ += dX K
//         store dK, dV
//
// Five products of packed tiles, each with the forward's micro-kernels or their transposes: 10 D operations an element, which is nearly all of the time.
// So what they read lies ready: rows of Q (times the scale) and of dO are converted once, before, into f32 rows that every tile's visits read;
// the rows of the next block are fetched into the cache meanwhile. Of a block that the mask leaves in part, only strips of kStrip keys by kStep rows are
// computed that it leaves something of, put together where that is cheaper.
//
// Items are dealt out by falling cost, which the transposed ranges tell.
//
// Determinism. dQ of a row is summed over the tiles of a chunk in order, and over chunks in order; gradients of captured tensors are summed
// in *slots*: item i adds to slot i mod slots, items of one slot in order, and slots are summed in order. Chunks and slots follow from
// the shape alone. A tensor of which different items touch different elements needs one slot only, whatever its size.
//
// Exactness. Where lse is large, f32 holds ln(sum) badly; such rows (kLargeLse) have their maximum and sum computed again. Elements that do not attend are
// marked -0.0 by the step, and where K, Q or dO hold what is not finite, the products leave marked ones out. Sums below the smallest normal f32 become 0.
#include "runtime/cpu/backward.h"

#include <algorithm>
#include <new>
#include <numeric>

#include "runtime/cpu/backward_pass.h"
#include "runtime/cpu/flush_subnormals.h"
#include "runtime/cpu/launch_memory.h"
#include "runtime/cpu/pool.h"

namespace flex::cpu {

/// Whether items touch different elements of a parameter: decided from how the parameter may be indexed, which the compiler left in the description.
void Backward::choose_slots() {
    for (size_t i = 0; i < desc_.params.size(); ++i) {
        for (const Argument& each : gradients_.d_params) {
            if (each.name != desc_.params[i].name) continue;
            Captured c{i, static_cast<float*>(each.value.data), 1, kMostSlots, nullptr};
            for (int d = 0; d < each.value.rank; ++d) c.count *= each.value.shape[static_cast<size_t>(d)];
            const uint8_t apart = desc_.params[i].apart;
            const bool by_head = kv_heads_ == 1 || (apart & kApartByHead);
            const bool by_batch = batch_ == 1 || shared_ || (apart & kApartByBatch);
            const bool by_key = chunks_ == 1 || (apart & kApartByKey);
            if (by_head && by_batch && by_key) {
                c.slots = 0;
            } else {
                c.slots = static_cast<int>(std::clamp<int64_t>(1 + kSlotBytes / std::max<int64_t>(c.count * 4, 1), 1, kMostSlots));
                slots_ = std::min(slots_, c.slots);
            }
            captured_.push_back(std::move(c));
        }
    }
    slots_ = std::min(slots_, items_);
    bool any = false;
    for (Captured& c : captured_) {
        if (c.slots == 0) continue;
        any = true;
        c.slots = slots_;
    }
    if (!any) slots_ = items_;
}

void Backward::take_slots(int threads) {
    for (Captured& c : captured_) {
        clear(threads, c.out, c.count);
        if (c.slots == 0) continue;
        c.more = floats(c.count * (slots_ - 1));
        clear(threads, c.more.get(), c.count * (slots_ - 1));
    }
    destinations_.assign(static_cast<size_t>(slots_) * desc_.params.size(), nullptr);
    for (int slot = 0; slot < slots_; ++slot)
        for (const Captured& c : captured_)
            destinations_[static_cast<size_t>(slot) * desc_.params.size() + c.param] =
                slot == 0 || c.slots == 0 ? c.out : c.more.get() + (slot - 1) * c.count;
}

int64_t Backward::scratch_floats(float* base, Scratch* out) const {
    int64_t used = 0;
    const auto take = [&](int64_t count) {
        float* piece = base ? base + used : nullptr;
        used += (count + 15) / 16 * 16;
        return piece;
    };
    out->key_panels = take(int64_t{tile_} * depth_);
    out->key_rows = take(int64_t{tile_} * ldd_);
    out->value_panels = take(int64_t{tile_} * columns_);
    out->s = take(int64_t{kRows} * lds_);
    out->dp = take(int64_t{kRows} * lds_);
    out->dk = take(int64_t{tile_} * ldd_);
    out->dv = take(int64_t{tile_} * ldv_);
    return used;
}

std::array<Backward::Piece, 9> Backward::pieces() {
    const bool peaks = gradients_.d_max_score.data != nullptr, scales = !captured_.empty();
    return {{{&q_, rows() * ldd_},
             {&d_o_, rows() * ldv_},
             {&dq_, chunks_ * rows() * ldd_},
             {&m_, rows()},
             {&scale_l_, rows()},
             {&delta_, rows()},
             {&peak_, peaks * rows()},
             {&d_peak_, peaks * rows()},
             {&d_scale_, scales * rows()}}};
}

int64_t Backward::workspace_bytes(int threads) {
    Scratch none{};
    int64_t count = std::min<int64_t>(threads, slots_) * scratch_floats(nullptr, &none);
    for (const Piece& piece : pieces()) count += LaunchMemory::padded(piece.count);
    for (const Captured& c : captured_) count += c.count * std::max(c.slots - 1, 0);
    return count * 4;
}

CpuBackwardPlan Backward::plan(int threads) {
    choose_slots();
    CpuBackwardPlan out;
    out.workspace_bytes = workspace_bytes(threads);
    for (const Captured& c : captured_) out.sums.push_back(std::max(c.slots, 1));
    return out;
}

Status Backward::run(int threads, CpuProgress* progress, CpuStats* stats) {
    progress_ = progress;
    choose_slots();
    take_slots(threads);
    int64_t total = 0;
    for (const Piece& piece : pieces()) total += LaunchMemory::padded(piece.count);
    LaunchMemory memory(total);
    for (const auto& [array, count] : pieces()) *array = count > 0 ? memory.take(count) : nullptr;
    const int blocks = divide_up(queries_, kRows);
    const int64_t row_blocks = static_cast<int64_t>(batch_) * heads_ * blocks;
    auto facts = [&](int64_t index) {
        try {
            row_facts(index);
        } catch (const std::bad_alloc&) {
            no_memory_.store(true);
        }
    };
    finite_.assign(static_cast<size_t>(row_blocks), 0);
    parallel_for(threads, row_blocks, facts);
    if (!no_memory_.load()) order_slots(threads);
    auto slot = [&](int64_t index) { run_slot(order_[static_cast<size_t>(index)]); };
    if (!no_memory_.load()) parallel_for(threads, slots_, slot);
    if (no_memory_.load()) return Status(Code::OutOfMemory, "no memory for the blocks of the backward pass");
    auto finish = [&](int64_t index) { finish_queries(index); };
    parallel_for(threads, row_blocks, finish);
    for (const Captured& c : captured_)
        in_pieces(threads, c.slots > 1 ? c.count : 0, [&](int64_t first, int64_t n) {
            for (int s = 1; s < c.slots; ++s)
                for (int64_t i = first; i < first + n; ++i) c.out[i] += c.more[(s - 1) * c.count + i];
        });
    scatter_rows();
    if (stats) {
        stats->tiles_visited = visited_.load();
        stats->tiles_full = full_.load();
        stats->workspace_bytes = workspace_bytes(threads);
    }
    return {};
}

/// Which queries may see each tile, and by that the order of the slots.
void Backward::order_slots(int threads) {
    const int tiles = divide_up(std::max(keys_, 1), tile_);
    ranges_.assign(static_cast<size_t>(batch_) * static_cast<size_t>(heads_) * static_cast<size_t>(tiles) * 2, 0);
    auto ranges = [&](int64_t index) {
        for (int tile = 0; tile < tiles; ++tile)
            kernel_.q_range(&args_, static_cast<int>(index / heads_), static_cast<int>(index % heads_), tile * tile_,
                            std::min((tile + 1) * tile_, keys_), ranges_.data() + (index * tiles + tile) * 2);
    };
    parallel_for(threads, static_cast<int64_t>(batch_) * heads_, ranges);
    std::vector<int64_t> cost(static_cast<size_t>(slots_), 0);
    for (int item = 0; item < items_; ++item) {
        const int chunk = item % chunks_, hkv = item / chunks_ % kv_heads_, run = item / chunks_ / kv_heads_;
        for (int b = shared_ ? 0 : run; b < (shared_ ? batch_ : run + 1); ++b)
            for (int h = hkv * group_; h < (hkv + 1) * group_; ++h)
                for (int k0 = chunk * chunk_keys_; k0 < std::min((chunk + 1) * chunk_keys_, keys_); k0 += tile_) {
                    const int32_t* range = range_of(b, h, k0);
                    cost[static_cast<size_t>(item % slots_)] += range[1] - range[0];
                }
    }
    if (progress_) progress_->total.fetch_add(std::accumulate(cost.begin(), cost.end(), int64_t{0}), std::memory_order_relaxed);
    order_.resize(static_cast<size_t>(slots_));
    std::iota(order_.begin(), order_.end(), 0);
    std::sort(order_.begin(), order_.end(), [&](int x, int y) { return cost[static_cast<size_t>(x)] > cost[static_cast<size_t>(y)]; });
}

void Backward::run_slot(int64_t slot) {
    Scratch w{};
    const int64_t count = scratch_floats(nullptr, &w);
    auto* base = static_cast<float*>(thread_scratch(static_cast<size_t>(count) * sizeof(float)));
    if (!base) {
        no_memory_.store(true);
        return;
    }
    static_cast<void>(scratch_floats(base, &w));
    float* const* d_tensors = destinations_.data() + slot * static_cast<int64_t>(desc_.params.size());
    for (int64_t item = slot; item < items_; item += slots_) run_item(static_cast<int>(item), w, d_tensors);
}

void Backward::run_item(int item, const Scratch& w, float* const* d_tensors) {
    const int chunk = item % chunks_, hkv = item / chunks_ % kv_heads_, run = item / chunks_ / kv_heads_;
    const int b0 = shared_ ? 0 : run, b1 = shared_ ? batch_ : run + 1;
    for (int b = b0; b < b1; ++b)
        for (int h = hkv * group_; h < (hkv + 1) * group_; ++h)
            if (const auto [first, last] = chunk_range(b, h, chunk); first < last)
                std::fill_n(dq_ + (chunk * rows() + row_index(b, h, first)) * ldd_, static_cast<int64_t>(last - first) * ldd_, 0.0f);

    int64_t visited = 0, full = 0;
    const int end = std::min((chunk + 1) * chunk_keys_, keys_);
    const int width = micro_.lanes * micro_.vectors;
    for (int k0 = chunk * chunk_keys_; k0 < end; k0 += tile_) {
        const int k1 = std::min(k0 + tile_, end), count = k1 - k0;
        std::fill_n(w.dk, int64_t{tile_} * ldd_, 0.0f);
        std::fill_n(w.dv, int64_t{tile_} * ldv_, 0.0f);
        int packed_k = -1, packed_v = -1;
        bool finite_k = true;
        for (int b = b0; b < b1; ++b) {
            for (int h = hkv * group_; h < (hkv + 1) * group_; ++h) {
                const int32_t* range = range_of(b, h, k0);
                if (progress_) progress_->done.fetch_add(range[1] - range[0], std::memory_order_relaxed);
                for (int q0 = range[0] / kRows * kRows; q0 < range[1]; q0 += kRows) {
                    const int q1 = std::min(q0 + kRows, queries_);
                    const int state = kernel_.tile_state(&args_, b, h, q0, q1, k0, k1);
                    if (state == FLEX_TILE_SKIP) continue;
                    const int kb = kv_batch_ == 1 ? 0 : b, vb = v_batch_ == 1 ? 0 : b;
                    if (packed_k != kb) {
                        packed_k = kb;
                        micro_.pack_keys(rows_of(arrays_.k, kb, hkv, k0), count, depth_, w.key_panels);
                        finite_k =
                            !micro_.pack_values(rows_of(arrays_.k, kb, hkv, k0), count, depth_, w.key_rows, int64_t{tile_} * width, 0);
                    }
                    if (packed_v != vb) {
                        packed_v = vb;
                        micro_.pack_keys(rows_of(arrays_.v, vb, hkv, k0), count, columns_, w.value_panels);
                    }
                    const Visitor visitor{w, d_tensors, b, h, chunk, k0, finite_k};
                    if (state == FLEX_TILE_FULL) {
                        visit(visitor, {q0, q1, k0, k1}, true, q1 < range[1] ? q1 : q0);
                        ++visited;
                        ++full;
                        continue;
                    }
                    Part left[kMostTile / kStrip];
                    const int pieces = parts(b, h, q0, q1, k0, k1, left);
                    for (int i = 0; i < pieces; ++i) {
                        const Part& part = left[i];
                        const bool whole = kernel_.tile_state(&args_, b, h, part.q0, part.q1, part.k0, part.k1) == FLEX_TILE_FULL;
                        visit(visitor, part, whole, i + 1 < pieces || q1 >= range[1] ? q0 : q1);
                        ++visited;
                        full += whole;
                    }
                }
            }
            // Each batch has its own dK (dV), or this was the last that adds to the common one.
            const auto store = [&](const Tensor& t, float* rows, int ld, int n, int batches) {
                if (batches == 1 && b + 1 < b1) return;
                for (int k = k0; k < k1; ++k)
                    micro_.store_row(rows + static_cast<int64_t>(k - k0) * ld, n, 1.0f, t.dtype, const_cast<char*>(at(t, b, hkv, k)));
                std::fill_n(rows, int64_t{tile_} * ld, 0.0f);
            };
            store(gradients_.dk, w.dk, ldd_, depth_, kv_batch_);
            store(gradients_.dv, w.dv, ldv_, columns_, v_batch_);
        }
    }
    visited_.fetch_add(visited, std::memory_order_relaxed);
    full_.fetch_add(full, std::memory_order_relaxed);
}

/// What the mask leaves of a block, at most: strips of keys with the rows that may see them, neighbours as one where that costs less.
int Backward::parts(int b, int h, int q0, int q1, int k0, int k1, Part (&out)[kMostTile / kStrip]) const {
    int count = 0;
    for (int k = k0; k < k1; k += kStrip) {
        Part strip{q0, q1, k, std::min(k + kStrip, k1)};
        const auto empty = [&](int from, int to) {
            return kernel_.tile_state(&args_, b, h, from, to, strip.k0, strip.k1) == FLEX_TILE_SKIP;
        };
        while (strip.q0 < strip.q1 && empty(strip.q0, std::min(strip.q0 + kStep, strip.q1)))
            strip.q0 = std::min(strip.q0 + kStep, strip.q1);
        while (strip.q0 < strip.q1) {
            const int from = std::max((strip.q1 - 1) / kStep * kStep, strip.q0);
            if (!empty(from, strip.q1)) break;
            strip.q1 = from;
        }
        if (strip.q0 >= strip.q1) continue;
        if (count > 0) {
            Part& last = out[count - 1];
            const Part both{std::min(last.q0, strip.q0), std::max(last.q1, strip.q1), last.k0, strip.k1};
            if (both.cost() <= last.cost() + strip.cost()) {
                last = both;
                continue;
            }
        }
        out[count++] = strip;
    }
    return count;
}

/// `next_q`: the rows that are wanted next.
void Backward::visit(const Visitor& v, const Part& part, bool full, int next_q) {
    const Scratch& w = v.w;
    const int rows = part.q1 - part.q0, keys = part.k1 - part.k0, offset = part.k0 - v.tile;
    const int width = micro_.lanes * micro_.vectors;
    const int64_t row = row_index(v.b, v.h, part.q0), next_row = row_index(v.b, v.h, next_q);
    const float *q = q_ + row * ldd_, *d_o = d_o_ + row * ldv_;
    float* dq = dq_ + (v.chunk * this->rows() + row) * ldd_;
    const auto ahead = [&](const float* from, int ld, int columns) {
        Ahead all;
        if (next_q == part.q0) return all;
        all.row = reinterpret_cast<const char*>(from);
        all.row_bytes = all.stride_bytes = int64_t{ld} * 4;
        all.rows = std::min(kRows, queries_ - next_q);
        const int blocks = divide_up(rows, micro_.rows) * divide_up(columns, width);
        all.lines_a_block = static_cast<int>(all.rows * all.row_bytes / 64 / blocks) + 1;
        return all;
    };
    Ahead next_q_rows = ahead(q_ + next_row * ldd_, ldd_, keys), next_do = ahead(d_o_ + next_row * ldv_, ldv_, keys),
          next_dq = ahead(dq_ + (v.chunk * this->rows() + next_row) * ldd_, ldd_, depth_);
    micro_.scores(q, ldd_, rows, depth_, w.key_panels + int64_t{offset} * depth_, keys, w.s, lds_, next_q_rows);
    micro_.scores(d_o, ldv_, rows, columns_, w.value_panels + int64_t{offset} * columns_, keys, w.dp, lds_, next_do);

    flex_grad_block block{};
    block.args = &args_, block.b = v.b, block.h = v.h, block.q = part.q0, block.nq = rows, block.rows = rows;
    block.k = part.k0, block.cols = keys, block.full = full;
    block.s = w.s, block.dp = w.dp, block.ld = lds_;
    block.m = m_ + row, block.scale_l = scale_l_ + row, block.delta = delta_ + row;
    if (peak_) block.peak = peak_ + row, block.d_peak = d_peak_ + row;
    block.d_tensors = v.d_tensors;
    kernel_.backward(&block);

    [[maybe_unused]] const FlushSubnormals flush{};
    const Weights p{w.s, lds_}, dx{w.dp, lds_};
    const uint8_t finite =
        finite_[static_cast<size_t>((static_cast<int64_t>(v.b) * heads_ + v.h) * divide_up(queries_, kRows) + part.q0 / kRows)];
    float *dv = w.dv + int64_t{offset} * ldv_, *dk = w.dk + int64_t{offset} * ldd_;
    (finite & kFiniteDo ? micro_.accumulate_transposed : micro_.accumulate_transposed_exact)(p, rows, keys, d_o, ldv_, columns_, dv, ldv_);
    (finite & kFiniteQ ? micro_.accumulate_transposed : micro_.accumulate_transposed_exact)(dx, rows, keys, q, ldd_, depth_, dk, ldd_);
    const ValuePanels k{w.key_rows, int64_t{tile_} * width, offset};
    if (v.finite_k)
        micro_.accumulate(dx, rows, keys, k, depth_, dq, ldd_, next_dq);
    else
        micro_.accumulate_exact(dx, rows, keys, k, depth_, dq, ldd_);
}

Status run_backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays,
                    const GradientArrays& gradients, const CpuOptions& options, CpuStats* stats) {
    if (stats) *stats = {};
    const auto clear = [](const Tensor& t) {
        if (t.shape[0] == 0 || t.shape[1] == 0 || t.shape[2] == 0) return;
        for (int64_t b = 0; b < t.shape[0]; ++b)
            for (int64_t h = 0; h < t.shape[1]; ++h)
                for (int64_t r = 0; r < t.shape[2]; ++r) {
                    char* row = static_cast<char*>(t.data) +
                                (b * t.stride[0] + h * t.stride[1] + r * t.stride[2]) * static_cast<int64_t>(size_of(t.dtype));
                    std::fill_n(row, static_cast<size_t>(t.shape[3]) * size_of(t.dtype), 0);
                }
    };
    const int32_t* e = args.extents;
    if (e[0] == 0 || e[1] == 0 || e[3] == 0 || e[4] == 0) {
        clear(gradients.dq), clear(gradients.dk), clear(gradients.dv);
        for (const Argument& each : gradients.d_params) {
            int64_t count = 1;
            for (int d = 0; d < each.value.rank; ++d) count *= each.value.shape[static_cast<size_t>(d)];
            std::fill_n(static_cast<float*>(each.value.data), count, 0.0f);
        }
        return {};
    }
    Backward backward(desc, kernel, args, arrays, gradients);
    return backward.run(options.threads > 0 ? options.threads : available_threads(), options.progress, stats);
}

CpuBackwardPlan plan_backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays,
                              const GradientArrays& gradients, int threads) {
    Backward backward(desc, kernel, args, arrays, gradients);
    return backward.plan(threads > 0 ? threads : available_threads());
}

}  // namespace flex::cpu
