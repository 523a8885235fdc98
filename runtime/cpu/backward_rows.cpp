// What the backward pass does a row: before the walk over tiles, what weights are relative to; after it, dQ and the scale.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "runtime/cpu/backward_pass.h"
#include "runtime/cpu/sink.h"

namespace flex::cpu {

/// Q, dO and delta, and what weights are relative to, of one block of rows.
void Backward::row_facts(int64_t index) {
    const int blocks = divide_up(queries_, kRows);
    const int q0 = static_cast<int>(index % blocks) * kRows, q1 = std::min(q0 + kRows, queries_);
    const int h = static_cast<int>(index / blocks % heads_), b = static_cast<int>(index / blocks / heads_);
    const int64_t first = row_index(b, h, q0);
    load_block(arrays_.q, b, h, q0, q1, depth_, true, q_ + first * ldd_, ldd_);
    load_block(gradients_.d_o, b, h, q0, q1, columns_, false, d_o_ + first * ldv_, ldv_);
    const bool finite_q = micro_.all_finite(q_ + first * ldd_, ldd_, q1 - q0, depth_);
    const bool finite_do = micro_.all_finite(d_o_ + first * ldv_, ldv_, q1 - q0, columns_);
    finite_[static_cast<size_t>(index)] = static_cast<uint8_t>((finite_q ? kFiniteQ : 0) | (finite_do ? kFiniteDo : 0));
    std::vector<float> o(static_cast<size_t>(ldv_), 0.0f);
    bool large = false;
    for (int q = q0; q < q1; ++q) {
        const int64_t row = row_index(b, h, q);
        micro_.load_row(at(arrays_.o, b, h, q), arrays_.o.dtype, columns_, 1.0f, o.data());
        const float lse = *reinterpret_cast<const float*>(at(arrays_.lse, b, h, q));
        const float d_lse = gradients_.d_lse.data ? *reinterpret_cast<const float*>(at(gradients_.d_lse, b, h, q)) : 0.0f;
        delta_[row] = micro_.dot(o.data(), d_o_ + row * ldv_, round_up(columns_, micro_.lanes)) - d_lse;
        const bool none = lse == -std::numeric_limits<float>::infinity();
        m_[row] = none ? 0.0f : lse;
        scale_l_[row] = none ? 0.0f : 1.0f;
        large = large || (!none && std::fabs(lse) > kLargeLse);
    }
    if (large) again(index);
    if (peak_) find_peaks(index);
}

/// Maximum and sum of the rows of one block, by a forward pass without V.
void Backward::again(int64_t index) {
    const int blocks = divide_up(queries_, kRows);
    const int q0 = static_cast<int>(index % blocks) * kRows, q1 = std::min(q0 + kRows, queries_);
    const int h = static_cast<int>(index / blocks % heads_), b = static_cast<int>(index / blocks / heads_);
    const int count = q1 - q0;
    const Floats panels = floats(int64_t{tile_} * depth_), s = floats(int64_t{kRows} * lds_);
    const float* q = q_ + row_index(b, h, q0) * ldd_;
    const Floats m = floats(kRows), l = floats(kRows), alpha = floats(kRows);
    std::fill_n(m.get(), kRows, -std::numeric_limits<float>::infinity());
    std::fill_n(l.get(), kRows, 0.0f);
    int32_t range[2] = {0, 0};
    kernel_.kv_range(&args_, b, h, q0, q1, range);
    for (int k0 = range[0] / tile_ * tile_; k0 < range[1]; k0 += tile_) {
        const int k1 = std::min(k0 + tile_, keys_);
        const int state = kernel_.tile_state(&args_, b, h, q0, q1, k0, k1);
        if (state == FLEX_TILE_SKIP) continue;
        micro_.pack_keys(rows_of(arrays_.k, b, h / group_, k0), k1 - k0, depth_, panels.get());
        Ahead ahead;
        micro_.scores(q, ldd_, count, depth_, panels.get(), k1 - k0, s.get(), lds_, ahead);
        flex_block block{};
        block.args = &args_, block.b = b, block.h = h, block.q = q0, block.nq = count, block.rows = count;
        block.k = k0, block.cols = k1 - k0, block.full = state == FLEX_TILE_FULL;
        block.s = s.get(), block.ld = lds_, block.m = m.get(), block.l = l.get(), block.alpha = alpha.get();
        kernel_.softmax(&block);
    }
    for (int i = 0; i < count; ++i) {
        const int64_t row = row_index(b, h, q0 + i);
        WithSink all{m[i], l[i], 1.0f};
        if (kernel_.sink) all = with_sink(kernel_.sink(&args_, b, h, q0 + i), m[i], l[i]);
        m_[row] = all.l == 0.0f ? 0.0f : all.m;
        scale_l_[row] = all.l == 0.0f ? 0.0f : 1.0f / all.l;
    }
}

/// The greatest score of each row of one block, and the share of its derivative that each key has that attains it. The scores are those that the step
/// will see, to the last bit: products of the same tiles, and the same hooks.
void Backward::find_peaks(int64_t index) {
    const int blocks = divide_up(queries_, kRows);
    const int q0 = static_cast<int>(index % blocks) * kRows, q1 = std::min(q0 + kRows, queries_);
    const int h = static_cast<int>(index / blocks % heads_), b = static_cast<int>(index / blocks / heads_);
    const int64_t row = row_index(b, h, q0);
    std::fill_n(peak_ + row, q1 - q0, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(d_peak_ + row, q1 - q0, 0.0f);
    const auto d_max = [&](int q) { return *reinterpret_cast<const float*>(at(gradients_.d_max_score, b, h, q)); };
    bool wanted = false;
    for (int q = q0; q < q1; ++q) wanted = wanted || d_max(q) != 0.0f;
    if (!wanted) return;

    const Floats panels = floats(int64_t{tile_} * depth_), s = floats(int64_t{kRows} * lds_);
    std::vector<int64_t> count(static_cast<size_t>(q1 - q0), 0);
    std::array<uint8_t, kMostTile> keep{};
    int32_t range[2] = {0, 0};
    kernel_.kv_range(&args_, b, h, q0, q1, range);
    for (int k0 = range[0] / tile_ * tile_; k0 < range[1]; k0 += tile_) {
        const int k1 = std::min(k0 + tile_, keys_), keys = k1 - k0;
        const int state = kernel_.tile_state(&args_, b, h, q0, q1, k0, k1);
        if (state == FLEX_TILE_SKIP) continue;
        micro_.pack_keys(rows_of(arrays_.k, b, h / group_, k0), keys, depth_, panels.get());
        Ahead ahead;
        micro_.scores(q_ + row * ldd_, ldd_, q1 - q0, depth_, panels.get(), keys, s.get(), lds_, ahead);
        for (int q = q0; q < q1; ++q) {
            float* scores = s.get() + static_cast<int64_t>(q - q0) * lds_;
            float& peak = peak_[row + q - q0];
            int64_t& attaining = count[static_cast<size_t>(q - q0)];
            kernel_.score_row(&args_, b, h, q, k0, keys, scores);
            if (state != FLEX_TILE_FULL) kernel_.mask_row(&args_, b, h, q, k0, keys, keep.data());
            for (int i = 0; i < keys; ++i) {
                if (state != FLEX_TILE_FULL && !keep[static_cast<size_t>(i)]) continue;
                if (scores[i] == -std::numeric_limits<float>::infinity()) continue;
                if (attaining == 0 || scores[i] > peak) {
                    peak = scores[i];
                    attaining = 1;
                } else if (scores[i] == peak) {
                    ++attaining;
                }
            }
        }
    }
    for (int q = q0; q < q1; ++q)
        if (const int64_t attaining = count[static_cast<size_t>(q - q0)]) d_peak_[row + q - q0] = d_max(q) / static_cast<float>(attaining);
}

void Backward::load_block(const Tensor& t, int b, int h, int q0, int q1, int n, bool scaled, float* out, int ld) const {
    const int padded = round_up(n, micro_.lanes);
    for (int q = q0; q < q1; ++q, out += ld) {
        micro_.load_row(at(t, b, h, q), t.dtype, n, scaled ? kernel_.scale(&args_, b, h, q) : 1.0f, out);
        std::fill(out + n, out + padded, 0.0f);
    }
}

/// Sums the chunks of one block of rows, in order; what the scale needs of them; dq.
void Backward::finish_queries(int64_t index) {
    const int blocks = divide_up(queries_, kRows);
    const int q0 = static_cast<int>(index % blocks) * kRows, q1 = std::min(q0 + kRows, queries_);
    const int h = static_cast<int>(index / blocks % heads_), b = static_cast<int>(index / blocks / heads_);
    std::vector<float> query(static_cast<size_t>(ldd_), 0.0f);
    std::vector<std::pair<int, int>> ranges;
    for (int chunk = 0; chunk < chunks_; ++chunk) ranges.push_back(chunk_range(b, h, chunk));
    for (int q = q0; q < q1; ++q) {
        const int64_t row = row_index(b, h, q);
        float* total = dq_ + row * ldd_;
        if (q < ranges[0].first || q >= ranges[0].second) std::fill_n(total, ldd_, 0.0f);
        for (int chunk = 1; chunk < chunks_; ++chunk) {
            if (q < ranges[static_cast<size_t>(chunk)].first || q >= ranges[static_cast<size_t>(chunk)].second) continue;
            const float* part = dq_ + (chunk * rows() + row) * ldd_;
            for (int d = 0; d < ldd_ - micro_.lanes; ++d) total[d] += part[d];
        }
        if (d_scale_) {
            micro_.load_row(at(arrays_.q, b, h, q), arrays_.q.dtype, depth_, 1.0f, query.data());
            d_scale_[row] = micro_.dot(query.data(), total, round_up(depth_, micro_.lanes));
        }
        const Tensor& t = gradients_.dq;
        micro_.store_row(total, depth_, kernel_.scale(&args_, b, h, q), t.dtype, const_cast<char*>(at(t, b, h, q)));
    }
}

/// What clauses with one value a row hand to captured tensors. The derivative by the scale is sum over k of dX (q . k), which is q . (dX K); that by the sink, a
/// key without a value, is its weight times -delta.
void Backward::scatter_rows() {
    if (captured_.empty()) return;
    std::vector<float*> d_tensors(desc_.params.size(), nullptr);
    for (const Captured& c : captured_) d_tensors[c.param] = c.out;
    for (int b = 0; b < batch_; ++b)
        for (int h = 0; h < heads_; ++h)
            for (int q = 0; q < queries_; ++q) {
                const int64_t row = row_index(b, h, q);
                if (scale_l_[row] == 0.0f) continue;
                kernel_.scale_backward(&args_, b, h, q, d_scale_[row], d_tensors.data());
                if (!kernel_.sink) continue;
                const float weight = std::exp(kernel_.sink(&args_, b, h, q) - m_[row]) * scale_l_[row];
                kernel_.sink_backward(&args_, b, h, q, -weight * delta_[row], d_tensors.data());
            }
}

}  // namespace flex::cpu
