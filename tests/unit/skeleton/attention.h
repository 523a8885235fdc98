// One launch of an instance on the emulated device, and the same attention in float64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/unit/skeleton/arguments.h"

namespace skeleton_test {

struct Instance {
    std::string name, element;
    int d, dv, tile_q, tile_k, warps, slots, shared_bytes;
    int map_columns = 0;  // of an instance for sm_90a, whose warps are those of all roles
    [[nodiscard]] bool is_short() const { return tile_q == 16; }
};
const std::vector<Instance>& instances();
const std::vector<Instance>& sm90a_instances();

struct Case {
    int b = 1, h = 1, hkv = 1, q = 1, k = 1, d = 64, dv = 64;
    int mask = kMaskAll, score = kScorePlain, amount = 0;
    float factor = 1, scale = 0.125f;
    int pack = 1, splits = 1;
    int row_padding = 0;  // elements between rows of q, k, v and o
    bool may_align = true;
    float v_bad = 0;  // not finite: every 7th key from bad_from on has it in some columns of V
    int bad_from = 0;
    bool padding = false;  // K and V are NaN from bad_from on
    int properties = 24;
    // Of sm_90a: maps where they can be, blocks, and whether these take their pieces from a counter.
    bool may_map = true, counter = true;
    int blocks = 2;
    uint64_t seed = 1;
};

struct Outcome {
    std::string fault;  // empty: it ran
    std::vector<float> o, lse, max_score;
    uint64_t warp_instructions = 0;
};
struct Expected {
    std::vector<double> o, lse, max_score;
};

/// The elements of q, k and v: the same for both, exactly representable.
struct Inputs {
    std::vector<float> q, k, v;  // [B, H, Q, D] and so on, dense
    std::vector<int32_t> doc;
};
Inputs make_inputs(const Instance& instance, const Case& c);
Outcome run(const Instance& instance, const Case& c, const Inputs& inputs);
Expected reference(const Case& c, const Inputs& inputs);

/// Worst differences; rows whose expectation is NaN or infinite must be that in the outcome. Empty, or what differs.
std::string compare(const Instance& instance, const Case& c, const Outcome& outcome, const Expected& expected);
std::string check(const Instance& instance, const Case& c);

}  // namespace skeleton_test
