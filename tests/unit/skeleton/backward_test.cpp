#include <doctest/doctest.h>
#include <cmath>
#include <cstring>
#include <initializer_list>
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

bool is_one_of(const BackwardInstance& instance, std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (instance.name == std::string("sm80_") + name + "_backward") return true;
    return false;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
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
        c.atomic = true;
        expect(instance, c);
    }
}

TEST_CASE("backward, each instance: rows that are not aligned, rows without keys, gradients of lse and max_score") {
    for (const BackwardInstance& instance : backward_instances()) {
        BackwardCase c = sized(instance, 39, instance.tile_k + 3);
        c.d = instance.d / 2 + 1;
        c.dv = instance.dv - 3;
        c.h = 2;
        c.row_padding = 3;
        c.mask = kMaskScattered;
        c.score = kScoreLearned;
        c.d_lse = true;
        expect(instance, c);
        c.d_max_score = true;
        expect(instance, c);
        c.mask = kMaskNothing;
        expect(instance, c);
    }
}

TEST_CASE("backward, each instance: scores for which lse is too coarse") {
    for (const BackwardInstance& instance : backward_instances()) {
        BackwardCase c = sized(instance, 33, 70);
        c.mask = kMaskCausal;
        c.score = kScoreLearned;
        for (float offset : {-300.0f, 65.0f, 3000.0f}) {
            c.offset = offset;
            if (instance.element == "BF16" || offset > 0) expect(instance, c);
        }
    }
}

TEST_CASE("backward: what is not finite and not attended to does not matter") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_64", "f16_128", "f16_256", "f32_128", "tf32_64"})) continue;
        for (const char* where : {"k", "v", "q", "do"}) {
            BackwardCase c = sized(instance, 37, 40);
            c.h = 2;
            c.hkv = std::string(where) == "k" ? 1 : 2;
            c.bad = where[0] == 'v' ? std::numeric_limits<float>::infinity() : std::nanf("");
            c.bad_in = where;
            c.bad_from = 34;
            c.mask = kMaskCausal;  // keys from 37 on have no query, queries from 34 on have keys
            expect(instance, c);
            c.score = kScoreLearned;
            c.mask = kMaskWindow;
            c.amount = 5;
            expect(instance, c);
            c.mask = kMaskHeads;  // keys from 34 on have no query
            c.amount = 17;
            expect(instance, c);
            c.atomic = true;
            expect(instance, c);
        }
    }
}

TEST_CASE("backward: folded scores, with and without a mask, of every length") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_128", "f32_64"})) continue;
        for (int properties : {3, 7})
            for (int q : {1, 2, 65})
                for (int k : {1, 7, 8, 17, 64, 65, 129}) {
                    BackwardCase c = sized(instance, q, k);
                    c.properties = properties;
                    if (properties == 3) c.mask = k % 2 ? kMaskCausal : kMaskScattered;
                    c.d_lse = q % 2 != 0;
                    c.d_max_score = k % 3 == 0;
                    expect(instance, c);
                }
        for (const char* where : {"k", "v", "q", "do"}) {
            BackwardCase c = sized(instance, 70, 75);
            c.properties = 3;
            c.mask = kMaskCausal;
            c.bad = std::nanf("");
            c.bad_in = where;
            c.bad_from = 60;
            expect(instance, c);
        }
    }
}

TEST_CASE("backward: batches that share K, V, or both") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_128", "f16_256", "f32_64"})) continue;
        for (int shared = 1; shared < 4; shared++) {
            BackwardCase c = sized(instance, 40, instance.tile_k + 20);
            c.b = 3;
            c.h = 4;
            c.hkv = 2;
            c.k_shared = shared & 1;
            c.v_shared = shared & 2;
            c.mask = kMaskWindow;
            c.amount = 9;
            c.score = kScoreLearned;
            expect(instance, c);
            c.atomic = true;
            expect(instance, c);
        }
    }
}

TEST_CASE("backward: long clauses") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_128", "f32_64"})) continue;
        BackwardCase c = sized(instance, 50, instance.tile_k + 20);
        c.properties = 120;
        c.h = 2;
        c.mask = kMaskScattered;
        c.score = kScoreLearned;
        c.d_max_score = true;
        expect(instance, c);
        c.atomic = true;
        expect(instance, c);
    }
}

TEST_CASE("backward: score clauses with other slopes, and scores that hide") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_64", "f16_96", "f32_128"})) continue;
        for (int score : {kScoreAlibi, kScoreTimes, kScoreConstant, kScoreHide, kScoreSteps}) {
            BackwardCase c = sized(instance, 30, 110);
            c.score = score;
            c.factor = 0.3f;
            c.mask = kMaskFrom;
            c.amount = 20;
            expect(instance, c);
        }
    }
}

TEST_CASE("backward: documents, by summaries") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_64", "f32_256"})) continue;
        BackwardCase c = sized(instance, 200, 200);
        c.mask = kMaskDocument;
        c.score = kScoreLearned;
        expect(instance, c);
    }
}

TEST_CASE("backward: the same bits whatever the order of warps and blocks") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_64", "f16_256", "f32_128"})) continue;
        BackwardCase c = sized(instance, 90, 100);
        c.b = 2;
        c.h = 4;
        c.hkv = 2;
        c.score = kScoreLearned;
        c.mask = kMaskCausal;
        c.d_max_score = true;
        ExpectedGradients expected;
        const BackwardInputs inputs = make_backward_inputs(instance, c, &expected);
        const Gradients first = run(instance, c, inputs);
        CHECK_EQ(compare(instance, c, first, expected), "");
        for (uint64_t schedule : {7, 8}) {
            c.schedule = schedule;
            const Gradients again = run(instance, c, inputs);
            CHECK(same_bits(first.dq, again.dq));
            CHECK(same_bits(first.dk, again.dk));
            CHECK(same_bits(first.dv, again.dv));
            for (int i = 0; i < kTestGradients; i++) CHECK(same_bits(first.d_value[i], again.d_value[i]));
        }
    }
}

TEST_CASE("backward: no more products than a tile needs, and nothing in local memory") {
    // The tiles that an instance walks in: keys of a tile in _queries and of its pieces, queries of a tile in _keys and of its pieces, warps that share a stripe.
    const struct {
        const char* name;
        int walk_k, piece_k, piece_q, across_q, split;
    } shapes[] = {
        {"bf16_64", 32, 16, 16, 16, 1}, {"bf16_128", 32, 32, 32, 32, 1}, {"f16_256", 16, 16, 16, 32, 2}, {"f32_64", 32, 32, 16, 16, 1}};
    for (const auto& shape : shapes) {
        for (const BackwardInstance& instance : backward_instances()) {
            if (!is_one_of(instance, {shape.name})) continue;
            CAPTURE(instance.name);
            const std::string ptx = ptx_of(instance, BackwardCase{});
            const auto count = [&](const std::string& kernel, const std::string& what) {
                const size_t begin = ptx.find("flex_gpu_backward_" + kernel + "("), end = ptx.find("\n}\n", begin);
                int n = 0;
                for (size_t at = begin; (at = ptx.find(what, at)) < end; at += what.size()) n++;
                return n;
            };
            const bool half = instance.element == "F16" || instance.element == "BF16";
            const int products = instance.element == "F32" ? 3 : 1, step = half ? 16 : 8;
            // Steps along D are written down four at a time, if that divides them.
            const auto along = [&](int d) { return d / step > 4 && d / step % 4 == 0 ? 4 : d / step; };
            const int m_q = instance.tile_q / instance.query_warps / 16, m_k = instance.tile_k / (instance.key_warps / shape.split) / 16;
            CHECK_EQ(
                count("queries", "mma.sync"),
                products * m_q * (shape.piece_k / 8 * (along(instance.d) + along(instance.dv)) + shape.piece_k / step * instance.d / 8));
            CHECK_EQ(count("keys", "mma.sync"), products * m_k *
                                                    (shape.piece_q / 8 * (along(instance.d) + along(instance.dv)) +
                                                     shape.across_q / step * (instance.d + instance.dv) / shape.split / 8));
            for (const char* kernel : {"queries", "keys"}) {
                CHECK_EQ(count(kernel, "ld.local"), 0);
                CHECK_EQ(count(kernel, "st.local"), 0);
            }
        }
    }
}

TEST_CASE("backward: each barrier is needed, and so is the wait of each walk") {
    for (const BackwardInstance& instance : backward_instances()) {
        if (!is_one_of(instance, {"bf16_128"})) continue;
        BackwardCase several = sized(instance, 2 * instance.tile_q + 5, 2 * instance.tile_k + 5), none = sized(instance, 20, 20);
        several.b = 2;
        several.k_shared = true;
        several.d_max_score = true;
        several.score = none.score = kScoreLearned;
        none.mask = kMaskNothing;
        const std::string ptx = ptx_of(instance, several);
        for (const char* kernel : {"rows", "queries", "keys"}) {
            const size_t begin = ptx.find("flex_gpu_backward_" + std::string(kernel) + "("), end = ptx.find("\n}\n", begin);
            for (const char* what : {"bar.sync", "cp.async.wait_group"}) {
                int number = 0;
                for (size_t at = begin; (at = ptx.find(what, at)) < end; at++, number++) {
                    if (number > 0 && std::string(what) == "cp.async.wait_group") break;  // those after a walk are for walks without a tile
                    std::string without = ptx;
                    without.replace(at, ptx.find(';', at) - at, "");
                    bool seen = false;
                    for (const BackwardCase& c : {several, none}) {
                        ExpectedGradients expected;
                        const BackwardInputs inputs = make_backward_inputs(instance, c, &expected);
                        seen = seen || !compare(instance, c, run(instance, c, inputs, &without), expected).empty();
                    }
                    CAPTURE(std::string(kernel));
                    CAPTURE(std::string(what));
                    CAPTURE(number);
                    CHECK(seen);
                }
            }
        }
    }
}
