// The mask and the score of an attention, row by row, by its own compiled code: for pictures and for counting.
// Only scale, score and mask are compiled, so every attention has them on this machine, whatever its other clauses.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "driver/compiler.h"
#include "tools/inputs.h"

namespace flexc::tools {

/// The attention with its scale, score and mask alone.
[[nodiscard]] ir::Attention mask_and_score(const ir::Attention& attention);

/// Bound and compiled. Methods are thread-safe.
class MaskRows {
public:
    /// Null after a report. `launch`, and the kernel of the second form, must outlive it.
    static std::unique_ptr<MaskRows> make(Session& session, const ir::Attention& attention, const Launch& launch,
                                          const KernelOptions& options);
    static std::unique_ptr<MaskRows> make(Session& session, const ir::Attention& attention, const Launch& launch, const CpuKernel& kernel);

    /// out[i] = mask(b, h, q, k + i), 0 or 1.
    void mask(int64_t b, int64_t h, int64_t q, int64_t k, int64_t n, uint8_t* out) const;
    /// In place: the score clause of scores.
    void score(int64_t b, int64_t h, int64_t q, int64_t k, int64_t n, float* values) const;

    /// The factor of dot(q, k) in this row.
    [[nodiscard]] float scale(int64_t b, int64_t h, int64_t q) const;

    /// Makes what the next two look up, as a launch does. False after a report.
    bool prepare_tiles(Session& session, int threads);
    /// What the analysis says of a tile: a flex_tile_state_value.
    [[nodiscard]] int32_t tile_state(int64_t b, int64_t h, int64_t q0, int64_t q1, int64_t k0, int64_t k1) const;
    /// The keys [first, second) that rows [q0, q1) may attend to, by the analysis.
    [[nodiscard]] std::pair<int64_t, int64_t> kv_range(int64_t b, int64_t h, int64_t q0, int64_t q1) const;
    /// Bytes of the summaries, after prepare_tiles.
    [[nodiscard]] int64_t mask_bytes() const { return static_cast<int64_t>(packed_.summary_data.size() * sizeof(int32_t)); }

    /// Whether the mask differs from b to b, or h to h.
    [[nodiscard]] bool varies_b() const { return varies_b_; }
    [[nodiscard]] bool varies_h() const { return varies_h_; }

private:
    std::unique_ptr<CpuKernel> owned_;
    const CpuKernel* kernel_ = nullptr;
    flex::PackedArgs packed_;
    bool varies_b_ = true, varies_h_ = true;
};

struct TileCounts {
    int64_t full = 0, partial = 0, skip = 0;
};
enum class CountBy : uint8_t {
    Analysis,  // what a launch decides from the mask's tile state: never full or skip wrongly; needs prepare_tiles
    Both,      // the truth: elements are looked at only where the analysis has not decided; needs prepare_tiles
    Elements,  // the truth, from the mask of every element
};
/// Every tile of every (b, h), clipped to the problem; equal heads and batches are evaluated once.
[[nodiscard]] TileCounts count_tiles(const MaskRows& rows, const Launch& launch, int64_t tile_q, int64_t tile_k, CountBy by, int threads);
/// Elements (b, h, q, k) that are kept; needs prepare_tiles.
[[nodiscard]] int64_t count_kept(const MaskRows& rows, const Launch& launch, int threads);
/// Elements that count_kept has to evaluate at most.
[[nodiscard]] double mask_work(const MaskRows& rows, const Launch& launch);

/// fn(i) for i in [0, n), on several threads; 0: all of the machine.
void parallel_for(int64_t n, int threads, const std::function<void(int64_t)>& fn);
[[nodiscard]] int thread_count(int asked);

}  // namespace flexc::tools
