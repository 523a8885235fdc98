// The forward skeleton for sm_90a: what can go wrong there beside what skeleton_test.cpp asks of all.
#include <doctest/doctest.h>
#include <cmath>
#include <limits>

#include "tests/unit/skeleton/attention.h"

using namespace skeleton_test;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

void expect(const Instance& instance, const Case& c) {
    CAPTURE(instance.name);
    CAPTURE(c.q);
    CAPTURE(c.k);
    CAPTURE(c.mask);
    CAPTURE(c.score);
    CAPTURE(c.pack);
    CAPTURE(c.splits);
    CAPTURE(c.properties);
    CAPTURE(c.may_map);
    CAPTURE(c.counter);
    CHECK_EQ(check(instance, c), "");
}

Case sized(const Instance& instance, int q, int k) {
    Case c;
    c.q = q;
    c.k = k;
    c.d = instance.d;
    c.dv = instance.dv;
    c.scale = 1 / std::sqrt(float(c.d));
    return c;
}

}  // namespace

TEST_CASE("sm_90a, each instance: causal over several tiles and pieces") {
    for (const Instance& instance : sm90a_instances()) {
        Case c = sized(instance, instance.tile_q + 3, 2 * instance.tile_k + 5);
        c.mask = kMaskCausal;
        c.h = 2;
        expect(instance, c);
    }
}

TEST_CASE("sm_90a, each instance: smaller dimensions than the class, batches, heads that share K and V, packed") {
    for (const Instance& instance : sm90a_instances()) {
        Case c = sized(instance, 21, instance.tile_k + 9);
        c.b = 2;
        c.h = 4;
        c.hkv = 2;
        c.pack = 2;
        c.d = instance.d - 8;
        c.dv = instance.dv - 24;
        c.mask = kMaskWindow;
        c.amount = 13;
        c.score = kScoreAlibi;
        c.factor = 0.03f;
        expect(instance, c);
    }
}

TEST_CASE("sm_90a, each instance: no maps") {
    for (const Instance& instance : sm90a_instances()) {
        Case c = sized(instance, 19, instance.tile_k + 3);
        c.h = 2;
        c.mask = kMaskScattered;
        c.may_map = false;
        c.counter = false;
        expect(instance, c);
        c.d = instance.d / 2 + 1;
        c.dv = instance.dv - 3;
        c.row_padding = 3;
        expect(instance, c);
    }
}

TEST_CASE("sm_90a, each instance: splits") {
    for (const Instance& instance : sm90a_instances()) {
        Case c = sized(instance, 3, 3 * instance.tile_k - 7);
        c.b = 2;
        c.h = 8;
        c.hkv = 2;
        c.pack = 4;
        c.mask = kMaskHeads;
        c.amount = instance.tile_k / 2 + 3;
        c.splits = 3;
        expect(instance, c);
    }
}

TEST_CASE("sm_90a, each instance: V that is not finite") {
    for (const Instance& instance : sm90a_instances()) {
        // The kernel asks the same of all elements and classes, and this is slow here.
        for (float bad : {kInf, std::nanf("")}) {
            if (instance.d != 128 && (bad == kInf) == (instance.element == "F16")) continue;
            Case c = sized(instance, 20, instance.tile_k + 4);
            c.mask = kMaskCausal;
            c.v_bad = bad;
            c.h = 2;
            c.hkv = 2;
            c.blocks = 1;
            expect(instance, c);
            if (instance.d != 128) continue;
            c.score = kScoreHide;
            c.splits = 2;
            c.may_map = bad == kInf;
            expect(instance, c);
        }
    }
}

TEST_CASE("sm_90a: a pack that a box cannot hold, more blocks than pieces, pieces in turn") {
    for (const Instance& instance : sm90a_instances()) {
        if (instance.d != 128) continue;
        Case c = sized(instance, 70, instance.tile_k + 1);
        c.h = 6;
        c.hkv = 2;
        c.pack = 3;
        c.blocks = 100;
        expect(instance, c);
        c.splits = 2;
        c.blocks = 3;
        c.counter = false;
        c.mask = kMaskCausal;
        expect(instance, c);
    }
}

TEST_CASE("sm_90a: lengths from nothing on") {
    for (const Instance& instance : sm90a_instances()) {
        if (instance.d != 128 || instance.element != "BF16") continue;
        for (int k : {0, 1, 7, 8, 17, 63, 64, 65, 127, 128, 129, 257}) {
            for (int properties : {24, 3, 7, 120}) {
                Case c = sized(instance, 5, k);
                c.properties = properties;
                if (!(properties & 4)) c.mask = k % 2 ? kMaskCausal : kMaskAll;
                expect(instance, c);
            }
        }
    }
}

TEST_CASE("sm_90a: scores that are huge, constant, growing, or no number") {
    for (const Instance& instance : sm90a_instances()) {
        if (instance.d != 128 || instance.element != "BF16") continue;
        Case c = sized(instance, 18, 3 * instance.tile_k - 5);
        for (float factor : {-1e30f, 1e30f, 3.4e38f, 0.0f, 1e6f}) {
            c.score = kScoreConstant;
            c.factor = factor;
            expect(instance, c);
            c.mask = kMaskScattered;
            expect(instance, c);
            c.mask = kMaskAll;
        }
        for (float factor : {1.0f, 100.0f, 3e5f, 1e30f, -1.0f, -100.0f, -3e5f}) {
            c.score = kScoreSteps;
            c.factor = factor;
            expect(instance, c);
        }
        for (float factor : {kInf, -kInf, std::nanf("")}) {
            c.score = kScoreOne;
            c.factor = factor;
            for (int k : {0, instance.tile_k, c.k - 1}) {
                c.amount = k;
                expect(instance, c);
            }
        }
        c.score = kScoreTimes;
        for (float factor : {1e3f, 1e6f, -1e4f, 1e-6f}) {
            c.factor = factor;
            expect(instance, c);
        }
    }
}

TEST_CASE("sm_90a: documents, by summaries; rows and whole pieces without keys") {
    for (const Instance& instance : sm90a_instances()) {
        if (instance.d != 128) continue;
        Case c = sized(instance, 200, 200);
        c.mask = kMaskDocument;
        expect(instance, c);
        c.mask = kMaskNothing;
        expect(instance, c);
    }
}
