// A mask or a score on its way to a picture: opened, bound, compiled, and drawn cell by cell. What `show` and the session share.
#pragma once

#include <memory>
#include <string>

#include "tools/mask_rows.h"
#include "tools/picture/picture.h"
#include "tools/report.h"

namespace flexc::tools {

inline constexpr int kMaxCells = 512;  // a side of a picture

struct Drawing {
    Session session;
    frontend::ConstValues consts;
    std::optional<ir::Attention> whole;  // lowered, as it was written
    ir::Attention attention;             // scale, score and mask alone
    Launch launch;
    std::unique_ptr<MaskRows> rows;
    bool is_score = false;
    bool is_weights = false;  // then is_score too: what is drawn is the softmax of the scores over the keys kept
};

/// Whether the mask keeps everything; whether the score clause is the score itself.
[[nodiscard]] bool keeps_all(const ir::Attention& attention);
[[nodiscard]] bool is_plain_score(const ir::Attention& attention);

/// `what`: mask, score, weights, or empty: the mask, unless it keeps everything and the score says more; both: as empty, with values for either.
/// False after a report.
bool prepare_drawing(const InputOptions& input, const std::string& what, Drawing* out);
/// The second half of it, for an attention that is lowered into `out->whole` by `out->session`. `inputs` is loaded.
bool bind_drawing(Inputs& inputs, const std::string& what, Drawing* out);

/// Scores of row q over keys [k_begin, k_begin + n): of q and k where they are given, else of a dot product of 0.
class ScoreRows {
public:
    ScoreRows(const Drawing& drawing, int64_t b, int64_t h);
    void row(int64_t q, int64_t k_begin, int64_t n, float* out) const;

private:
    const Drawing& drawing_;
    int64_t b_, h_, d_ = 0;
    std::vector<float> queries_, keys_;
};

/// Fills the cells of `p`. Of each `stride` queries one is looked at: 1 is exact.
[[nodiscard]] picture::Picture draw(const Drawing& drawing, int64_t b, int64_t h, picture::Picture p, int64_t stride = 1);

}  // namespace flexc::tools
