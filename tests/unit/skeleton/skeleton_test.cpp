#include <doctest/doctest.h>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

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

TEST_CASE("each instance: causal over several tiles") {
    for (const Instance& instance : instances()) {
        Case c = sized(instance, instance.tile_q + 3, 2 * instance.tile_k + 5);
        c.mask = kMaskCausal;
        expect(instance, c);
    }
}

TEST_CASE("each instance: several batches and heads, smaller dimensions than the class") {
    for (const Instance& instance : instances()) {
        Case c = sized(instance, 21, instance.tile_k + 9);
        c.b = 2;
        c.h = 4;
        c.hkv = 2;
        c.d = instance.d - 8;
        c.dv = instance.dv - 24;
        c.mask = kMaskWindow;
        c.amount = 13;
        c.score = kScoreAlibi;
        c.factor = 0.03f;
        expect(instance, c);
    }
}

TEST_CASE("each instance: rows that are not aligned") {
    for (const Instance& instance : instances()) {
        Case c = sized(instance, 19, instance.tile_k + 3);
        c.d = instance.d / 2 + 1;
        c.dv = instance.dv - 3;
        c.h = 2;
        c.row_padding = 3;
        c.mask = kMaskScattered;
        expect(instance, c);
    }
}

TEST_CASE("each instance: splits and packs") {
    for (const Instance& instance : instances()) {
        Case c = sized(instance, 3, 5 * instance.tile_k - 7);
        c.b = 2;
        c.h = 8;
        c.hkv = 2;
        c.pack = 4;
        c.mask = kMaskHeads;
        c.amount = instance.tile_k / 2 + 3;
        expect(instance, c);
        c.splits = 3;
        expect(instance, c);
        c.splits = 5;
        c.pack = 2;
        c.mask = kMaskNothing;
        expect(instance, c);
    }
}

TEST_CASE("each instance: V that is not finite") {
    for (const Instance& instance : instances()) {
        for (float bad : {kInf, -kInf, std::nanf("")}) {
            Case c = sized(instance, 20, 2 * instance.tile_k);
            c.mask = kMaskCausal;
            c.v_bad = bad;
            expect(instance, c);
            c.score = kScoreHide;
            c.splits = 2;
            expect(instance, c);
        }
    }
}

TEST_CASE("each instance: masked keys of a cache that nobody has written") {
    for (const Instance& instance : instances()) {
        Case c = sized(instance, 6, 3 * instance.tile_k);
        c.h = 2;
        c.hkv = 2;
        c.mask = kMaskHeads;  // k < 17 in the first head, k < 34 in the second
        c.amount = 17;
        c.padding = true;
        c.bad_from = 34;
        expect(instance, c);
        c.score = kScoreAlibi;
        c.splits = 2;
        expect(instance, c);
    }
}

TEST_CASE("lengths from nothing on") {
    for (const Instance& instance : instances()) {
        if (instance.d != 128) continue;
        for (int k : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129}) {
            for (int properties : {24, 3, 7}) {
                Case c = sized(instance, 5, k);
                c.properties = properties;
                if (!(properties & 4)) c.mask = k % 2 ? kMaskCausal : kMaskAll;
                expect(instance, c);
            }
        }
    }
}

TEST_CASE("scores that are huge, constant, growing, or no number") {
    for (const Instance& instance : instances()) {
        if (instance.d != 128) continue;
        Case c = sized(instance, 18, 3 * instance.tile_k - 5);
        for (float factor : {-1e30f, 1e30f, 3.4e38f, -3.4e38f, 0.0f, 1e6f}) {
            c.score = kScoreConstant;
            c.factor = factor;
            expect(instance, c);
            c.mask = kMaskScattered;
            expect(instance, c);
            c.mask = kMaskAll;
        }
        for (float factor : {1.0f, 100.0f, 3e5f, 1e7f, 1e30f, -1.0f, -100.0f, -3e5f, -1e30f}) {
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

TEST_CASE("splits and packs without a mask or with the scale folded in") {
    for (const Instance& instance : instances()) {
        if (instance.d != 128) continue;
        for (int properties : {3, 7}) {
            Case c = sized(instance, 7, 4 * instance.tile_k + 11);
            c.properties = properties;
            c.h = 6;
            c.hkv = 2;
            c.pack = 3;
            c.splits = 4;
            if (properties == 3) c.mask = kMaskScattered;
            expect(instance, c);
            c.v_bad = kInf;
            c.bad_from = instance.tile_k;
            expect(instance, c);
        }
    }
}

TEST_CASE("documents, by summaries") {
    for (const Instance& instance : instances()) {
        if (instance.d != 128) continue;
        Case c = sized(instance, 200, 200);
        c.mask = kMaskDocument;
        expect(instance, c);
    }
}

TEST_CASE("long empty stretches are skipped") {
    for (const Instance& instance : instances()) {
        if (instance.d != 128 || instance.element != "BF16") continue;
        Case c = sized(instance, 2, 40 * 32 * instance.tile_k + 17);
        c.d = c.dv = 16;
        c.mask = kMaskFrom;
        c.amount = c.k - 30;
        const Inputs inputs = make_inputs(instance, c);
        const Outcome outcome = run(instance, c, inputs);
        CHECK_EQ(compare(instance, c, outcome, reference(c, inputs)), "");
        CHECK_LT(outcome.warp_instructions, 100000);
    }
}

TEST_CASE("no more products than a tile needs, and nothing in local memory") {
    for (const Instance& instance : instances()) {
        CAPTURE(instance.name);
        std::ifstream file(std::string(FLEX_TEST_PTX_DIR "/") + instance.name + "_24.ptx");
        std::stringstream text;
        text << file.rdbuf();
        const std::string ptx = text.str();
        const auto count = [&](const char* what) {
            int n = 0;
            for (size_t at = 0; (at = ptx.find(what, at)) != std::string::npos; at += std::strlen(what)) n++;
            return n;
        };
        const bool half = instance.element == "F16" || instance.element == "BF16";
        const int products = instance.element == "F32" ? 3 : 1, step = half ? 16 : 8;
        const int rows = instance.is_short() ? 16 : instance.tile_q / instance.warps,
                  keys = instance.is_short() ? instance.tile_k / instance.warps : instance.tile_k;
        // Steps along D are written down four at a time, if that divides them.
        const int steps = instance.d / step, written = steps > 4 && steps % 4 == 0 ? 4 : steps;
        CHECK_EQ(count("mma.sync"), rows / 16 * products * (keys / 8 * written + instance.dv / 8 * (keys / step)));
        CHECK_EQ(count("ld.local"), 0);
        CHECK_EQ(count("st.local"), 0);
    }
}
