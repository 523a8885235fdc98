// Shuffles, votes, matches and reductions against plain loops over lanes, and the rules of membermasks.
#include <bit>

#include "ptx_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

std::vector<uint32_t> random_words(uint64_t seed, size_t count, uint32_t mask = ~uint32_t{0}) {
    Random random{seed};
    std::vector<uint32_t> words(count);
    for (auto& word : words) word = static_cast<uint32_t>(random.next() >> 16) & mask;
    return words;
}

std::string verdict(const Run& run) {
    return run.error.empty() ? std::string(name(run.fault.kind)) + ": " + run.fault.text : "load: " + run.error;
}

TEST_CASE("shfl.sync in all modes, widths and distances") {
    // c = clamp | segment mask << 8, as compilers make it for a width.
    const auto values = random_words(1, 32);
    for (const std::string mode : {"up", "down", "bfly", "idx"})
        for (const uint32_t width : {32U, 16U, 8U, 4U, 2U, 1U})
            for (uint32_t by = 0; by < 32; by += by < 4 ? 1 : 5) {
                const uint32_t segment = 32 - width, c = segment << 8 | (mode == "up" ? 0 : 31);
                CAPTURE(mode);
                CAPTURE(width);
                CAPTURE(by);
                const auto out =
                    run_well(addresses("%lane") + "ld.global.u32 %r0, [%rd30];\nshfl.sync." + mode + ".b32 %r1|%p0, %r0, " +
                                 std::to_string(by) + ", " + std::to_string(c) +
                                 ", 0xffffffff;\nselp.u32 %r2, 1, 0, %p0; st.global.u32 [%rd31], %r1; st.global.u32 [%rd31 + 128], %r2;",
                             values, 64);
                for (int lane = 0; lane < 32; ++lane) {
                    const int start = lane / static_cast<int>(width) * static_cast<int>(width), end = start + static_cast<int>(width),
                              distance = static_cast<int>(by);
                    int from = lane;
                    if (mode == "up") from = lane - distance;
                    if (mode == "down") from = lane + distance;
                    if (mode == "bfly") from = lane ^ distance;
                    if (mode == "idx") from = start + distance % static_cast<int>(width);
                    // A butterfly may reach lower segments, but not higher ones.
                    const bool inside = mode == "bfly" ? from < end : mode == "up" ? from >= start : from < end;
                    if (!inside) from = lane;
                    REQUIRE(out[static_cast<size_t>(lane)] == values[static_cast<size_t>(from)]);
                    REQUIRE(out[static_cast<size_t>(lane) + 32] == (inside ? 1 : 0));
                }
            }
}

TEST_CASE("shfl.sync by lane, in halves of the warp, and from lanes outside of the mask") {
    const auto values = random_words(2, 64);
    const auto out = run_well(addresses("%lane") +
                                  "ld.global.u32 %r0, [%rd30]; ld.global.u32 %r1, [%rd30 + 128];\nshfl.sync.idx.b32 %r2, %r0, %r1, 31, "
                                  "-1;\nst.global.u32 [%rd31], %r2;\n"
                                  "setp.lt.u32 %p0, %lane, 16; selp.b32 %r3, 0x0000ffff, 0xffff0000, %p0;\n"
                                  "shfl.sync.down.b32 %r4, %r0, 8, 31, %r3;\nst.global.u32 [%rd31 + 128], %r4;",
                              values, 64);
    for (size_t lane = 0; lane < 32; ++lane) {
        REQUIRE(out[lane] == values[values[32 + lane] & 31]);
        const size_t from = lane + 8;
        if (from > 31)
            REQUIRE(out[32 + lane] == values[lane]);
        else if (from / 16 == lane / 16)
            REQUIRE(out[32 + lane] == values[from]);
        else
            REQUIRE(out[32 + lane] == 0x7fedfeed);  // nothing to rely on
    }
}

TEST_CASE("lanes that diverged meet at a .sync instruction that names them") {
    // Each half takes its own way to the same shuffle in a function body, and the mask says that both must be there.
    const auto values = random_words(3, 32);
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(addresses("%lane") +
                                      "ld.global.u32 %r0, [%rd30]; setp.lt.u32 %p0, %lane, 16;\n@%p0 bra LOW;\nadd.u32 %r0, %r0, 1; "
                                      "bra.uni MEET;\nLOW: add.u32 %r0, %r0, 2;\nMEET:\n"
                                      "shfl.sync.bfly.b32 %r1, %r0, 16, 31, 0xffffffff;\nst.global.u32 [%rd31], %r1;",
                                  values, 32, {.seed = seed});
        for (size_t lane = 0; lane < 32; ++lane) REQUIRE(out[lane] == values[lane ^ 16] + (lane < 16 ? 1 : 2));
    }
}

TEST_CASE("vote.sync") {
    for (uint64_t seed = 0; seed < 6; ++seed) {
        auto values = random_words(10 + seed, 32, 1);
        if (seed == 0) std::fill(values.begin(), values.end(), 1);
        if (seed == 1) std::fill(values.begin(), values.end(), 0);
        if (seed == 2) std::fill(values.begin(), values.begin() + 16, 1);
        // Two groups: the halves of the warp.
        const auto out = run_well(
            addresses("%lane") +
                "ld.global.u32 %r0, [%rd30]; setp.ne.u32 %p0, %r0, 0; setp.lt.u32 %p1, %lane, 16; selp.b32 %r1, 0xffff, 0xffff0000, %p1;\n"
                "vote.sync.all.pred %p2, %p0, %r1; vote.sync.any.pred %p3, %p0, %r1; vote.sync.uni.pred %p4, %p0, %r1; vote.sync.all.pred "
                "%p5, !%p0, %r1;\n"
                "vote.sync.ballot.b32 %r2, %p0, %r1; vote.sync.ballot.b32 %r3, !%p0, -1;\n"
                "selp.u32 %r4, 1, 0, %p2; @%p3 or.b32 %r4, %r4, 2; @%p4 or.b32 %r4, %r4, 4; @%p5 or.b32 %r4, %r4, 8;\n"
                "st.global.u32 [%rd31], %r4; st.global.u32 [%rd31 + 128], %r2; st.global.u32 [%rd31 + 256], %r3;",
            values, 96);
        uint32_t ballot = 0;
        for (size_t lane = 0; lane < 32; ++lane) ballot |= values[lane] << lane;
        for (size_t lane = 0; lane < 32; ++lane) {
            const uint32_t group = lane < 16 ? 0xffff : 0xffff0000, mine = ballot & group;
            uint32_t want = mine == group ? 1 : 0;
            if (mine != 0) want |= 2;
            if (mine == 0 || mine == group) want |= 4;
            if (mine == 0) want |= 8;
            REQUIRE(out[lane] == want);
            REQUIRE(out[32 + lane] == mine);
            REQUIRE(out[64 + lane] == ~ballot);
        }
    }
}

TEST_CASE("match.sync") {
    for (const uint32_t mask : {0U, 1U, 3U, ~0U}) {
        const auto values = random_words(20, 64, mask);
        const auto out = run_well(
            addresses("%lane") +
                "ld.global.u32 %r0, [%rd30]; ld.global.u32 %r1, [%rd30 + 128]; mov.b64 %rd0, {%r0, %r1};\n"
                "match.any.sync.b32 %r2, %r0, -1; match.any.sync.b64 %r3, %rd0, -1; match.all.sync.b32 %r4|%p0, %r0, -1; "
                "match.all.sync.b64 %r5, %rd0, -1;\n"
                "selp.u32 %r6, 1, 0, %p0; st.global.u32 [%rd31], %r2; st.global.u32 [%rd31 + 128], %r3; st.global.u32 [%rd31 + 256], %r4;\n"
                "st.global.u32 [%rd31 + 384], %r5; st.global.u32 [%rd31 + 512], %r6;",
            values, 160);
        for (size_t lane = 0; lane < 32; ++lane) {
            uint32_t narrow = 0, wide = 0;
            for (size_t other = 0; other < 32; ++other) {
                if (values[other] == values[lane]) narrow |= 1U << other;
                if (values[other] == values[lane] && values[32 + other] == values[32 + lane]) wide |= 1U << other;
            }
            REQUIRE(out[lane] == narrow);
            REQUIRE(out[32 + lane] == wide);
            REQUIRE(out[64 + lane] == (narrow == ~0U ? ~0U : 0));
            REQUIRE(out[96 + lane] == (wide == ~0U ? ~0U : 0));
            REQUIRE(out[128 + lane] == (narrow == ~0U ? 1 : 0));
        }
    }
}

TEST_CASE("redux.sync") {
    const auto values = random_words(30, 32);
    const std::string names[] = {"add.u32", "min.u32", "max.u32", "add.s32", "min.s32", "max.s32", "and.b32", "or.b32", "xor.b32"};
    std::string body = addresses("%lane") + "ld.global.u32 %r0, [%rd30]; setp.lt.u32 %p0, %lane, 7; selp.b32 %r1, 0x7f, 0xffffff80, %p0;\n";
    for (size_t i = 0; i < std::size(names); ++i) {
        std::string reg = "%r" + std::to_string(2 + i);
        body +=
            "redux.sync." + names[i] + " " + reg + ", %r0, %r1; st.global.u32 [%rd31 + " + std::to_string(i * 128) + "], " + reg + ";\n";
    }
    const auto out = run_well(body, values, 32 * std::size(names));
    for (size_t lane = 0; lane < 32; ++lane) {
        const size_t first = lane < 7 ? 0 : 7, last = lane < 7 ? 7 : 32;
        uint32_t want[9] = {0, ~0U, 0, 0, INT32_MAX, 0x80000000, ~0U, 0, 0};
        for (size_t i = first; i < last; ++i) {
            const uint32_t v = values[i];
            const auto s = static_cast<int32_t>(v);
            want[0] += v, want[3] += v, want[6] &= v, want[7] |= v, want[8] ^= v;
            want[1] = std::min(want[1], v), want[2] = std::max(want[2], v);
            want[4] = static_cast<uint32_t>(std::min(static_cast<int32_t>(want[4]), s));
            want[5] = static_cast<uint32_t>(std::max(static_cast<int32_t>(want[5]), s));
        }
        for (size_t i = 0; i < 9; ++i) REQUIRE_MESSAGE(out[i * 32 + lane] == want[i], names[i]);
    }
}

TEST_CASE("activemask and elect.sync") {
    const auto out = run_well(
        addresses("%lane") +
            "mov.u32 %r0, 0; setp.ge.u32 %p0, %lane, 5;\n@%p0 activemask.b32 %r0;\nst.global.u32 [%rd31], %r0;\n"
            "elect.sync %r1|%p1, 0xffffffff; selp.u32 %r2, 1, 0, %p1; st.global.u32 [%rd31 + 128], %r2; st.global.u32 [%rd31 + 256], %r1;\n"
            "mov.u32 %r3, 99; mov.u32 %r2, 9; @!%p0 bra DONE;\nelect.sync _|%p2, 0xffffffe0; selp.u32 %r2, 1, 0, %p2;\nDONE: st.global.u32 "
            "[%rd31 + 384], %r2;",
        {}, 128);
    int leaders = 0, upper_leaders = 0;
    for (size_t lane = 0; lane < 32; ++lane) {
        REQUIRE(out[lane] == (lane < 5 ? 0 : 0xffffffe0));
        leaders += static_cast<int>(out[32 + lane]);
        if (out[32 + lane] == 1) REQUIRE(out[64 + lane] == lane);
        REQUIRE(out[64 + lane] == out[64]);
        if (lane >= 5) upper_leaders += static_cast<int>(out[96 + lane]);
    }
    CHECK(leaders == 1);
    CHECK(upper_leaders == 1);
}

TEST_CASE("membermasks are checked") {
    // A lane that is not in its own mask.
    Run run = run_ptx("shfl.sync.idx.b32 %r0, %lane, 0, 31, 0x7fffffff;", {}, 1);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Divergence, verdict(run));
    // Lanes that are named but never come: the guard is off, or they took another way for good.
    run = run_ptx("setp.lt.u32 %p0, %lane, 16;\n@%p0 shfl.sync.idx.b32 %r0, %lane, 0, 31, 0xffffffff;", {}, 1);
    CHECK_MESSAGE((run.fault.kind == Fault::Kind::Divergence || run.fault.kind == Fault::Kind::Deadlock), verdict(run));
    run = run_ptx(
        "setp.lt.u32 %p0, %lane, 16;\n@%p0 bra LOW;\nvote.sync.any.pred %p1, %p0, 0xffffffff;\nbra DONE;\nLOW: vote.sync.all.pred %p1, "
        "%p0, 0xffffffff;\nDONE:",
        {}, 1);
    CHECK_MESSAGE((run.fault.kind == Fault::Kind::Divergence || run.fault.kind == Fault::Kind::Deadlock), verdict(run));
    // Different masks in one group.
    run = run_ptx("mov.u32 %r1, -1; setp.eq.u32 %p0, %lane, 3; @%p0 mov.u32 %r1, 0xff; shfl.sync.idx.b32 %r0, %lane, 0, 31, %r1;", {}, 1);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Divergence, verdict(run));
    // Those that have exited need not come; a value from them is nothing to rely on.
    const auto out = run_well(
        addresses("%lane") +
            "setp.lt.u32 %p0, %lane, 16;\n@%p0 exit;\nshfl.sync.bfly.b32 %r0, %lane, 16, 31, 0xffffffff;\nst.global.u32 [%rd31], %r0;",
        {}, 32);
    for (size_t lane = 16; lane < 32; ++lane) CHECK(out[lane] == 0x7fedfeed);
    // Forms that sm_70 and later do not have, and those of later targets.
    for (const char* wrong : {"shfl.idx.b32 %r0, %r1, 0, 31;", "vote.all.pred %p0, %p1;", "redux.sync.add.b32 %r0, %r1, -1;",
                              "redux.sync.min.f32 %f0, %f1, -1;", "match.any.sync.b32 %r0|%p0, %r1, -1;",
                              "shfl.sync.left.b32 %r0, %r1, 0, 31, -1;", "elect.sync %r0, -1;"}) {
        CAPTURE(wrong);
        CHECK(!run_ptx(wrong, {}, 1).error.empty());
    }
}

}  // namespace
