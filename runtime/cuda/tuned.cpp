#include "runtime/cuda/tuned.h"

#include <iterator>
#include <limits>

#include "runtime/cuda/plan_parts.h"

namespace flex::cuda {
namespace {

#define FLEX_TUNED(name, value) constexpr int64_t name = value;
#include "runtime/cuda/tuned.def"
#undef FLEX_TUNED

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

/// One line: images whose target is exact ("sm_90a") or runs on later devices too, with tiles of at most `most_tile_q` rows, for launches of at most
/// `most_rows` rows a KV head (queries times the heads that can share a tile).
struct Preference {
    enum Target { Exact, Portable } target;
    int64_t most_tile_q, most_rows;
    bool with_maps;  // of images that take tensor maps, only where they can be made
};

constexpr Preference kPreferences[] = {
    // All rows in one stripe, or few more: such a launch waits for memory, not for products. The warps of a stripe divide the keys, and several blocks fit a
    // multiprocessor; a product of 64 rows by wgmma would have 48 or more rows of nothing.
    {Preference::Portable, 16, kMostRowsOfStripes, false},
    // The device's own products and copies, which are what code for it alone is made of.
    {Preference::Exact, kAny, kAny, true},
    // Without tensor maps (rows that are not multiples of 16 bytes, overlapping arrays) a kernel of the kind above copies by the few threads that
    // would otherwise only ask for copies; here all threads copy.
    {Preference::Portable, kAny, kAny, false},
    {Preference::Exact, kAny, kAny, false},
};

bool holds(const Preference& line, const flex_gpu_image& image, const Target& target, int64_t rows, bool mappable) {
    return target.exact == (line.target == Preference::Exact) && image.tile_q <= line.most_tile_q && rows <= line.most_rows &&
           (!line.with_maps || image.map_columns == 0 || mappable);
}

}  // namespace

int largest_pack(const flex_gpu_image& image, int64_t group) {
    int best = 1;
    for (int pack = 1; pack <= image.max_pack && pack <= group; ++pack)
        if (group % pack == 0) best = pack;
    return best;
}

Rank rank_of(const flex_gpu_image& image, const LaunchFacts& launch) {
    Target target;
    parse_target(image.target, &target);
    const int64_t rows = launch.queries * largest_pack(image, launch.group);
    int64_t line = 0;
    while (line < int64_t(std::size(kPreferences)) && !holds(kPreferences[line], image, target, rows, launch.mappable)) ++line;
    // The accurate f32 unless tf32 is asked for; the table; the newest target; the smallest head dimensions; the smallest tile that holds all rows of a
    // KV head, else the largest.
    const bool holds_all = image.tile_q >= rows;
    return {(image.tf32 != 0) != launch.allow_tf32, line * 1000 - target.capability, image.head_dim + image.v_head_dim, !holds_all,
            holds_all ? image.tile_q : -image.tile_q};
}

}  // namespace flex::cuda
