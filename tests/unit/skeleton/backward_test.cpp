#include <doctest/doctest.h>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/unit/skeleton/backward.h"

using namespace skeleton_test;

namespace {

void expect(const BackwardInstance& instance, const BackwardCase& c) {
    CAPTURE(instance.name);
    CAPTURE(c.q);
    CAPTURE(c.k);
    CAPTURE(c.mask);
    CAPTURE(c.score);
    CAPTURE(c.properties);
    CHECK_EQ(check(instance, c), "");
}

BackwardCase sized(const BackwardInstance& instance, int q, int k) {
    BackwardCase c;
    c.q = q;
    c.k = k;
    c.d = instance.d;
    c.dv = instance.dv;
    c.scale = 1 / std::sqrt(float(c.d));
    return c;
}

}  // namespace

TEST_CASE("backward, each instance: causal over several tiles") {
    for (const BackwardInstance& instance : backward_instances()) {
        BackwardCase c = sized(instance, instance.tile_q + 3, instance.tile_k + 37);
        c.mask = kMaskCausal;
        expect(instance, c);
    }
}

TEST_CASE("backward, each instance: captured tensors of each kind, heads that share keys, smaller dimensions than the class") {
    for (const BackwardInstance& instance : backward_instances()) {
        BackwardCase c = sized(instance, 21, instance.tile_k + 9);
        c.b = 2;
        c.h = 4;
        c.hkv = 2;
        c.d = instance.d - 8;
        c.dv = instance.dv - 24;
        c.mask = kMaskWindow;
        c.amount = 13;
        c.score = kScoreLearned;
        expect(instance, c);
    }
}
