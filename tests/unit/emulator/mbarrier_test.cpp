// mbarrier: phases and counts, what they order, and every misuse.
#include <algorithm>

#include "emulator/machine/mbarrier.h"
#include "ptx_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

std::string verdict(const Run& run) {
    return run.error.empty() ? std::string(name(run.fault.kind)) + ": " + run.fault.text : "load: " + run.error;
}
void check_fault(const Run& run, Fault::Kind kind) {
    CHECK_MESSAGE((run.error.empty() && run.fault.kind == kind), verdict(run));
}

Shape shape(uint32_t threads = 32, uint64_t seed = 0) {
    return {.threads = threads, .seed = seed, .declarations = ".shared .align 1024 .b8 tile[4096]; .shared .align 8 .b64 bars[8];"};
}

/// %r20: the barriers, initialised by thread 0 with `counts`, and known to all.
std::string barriers(std::initializer_list<int> counts) {
    std::string body = "mov.u32 %r20, bars; setp.eq.u32 %p0, %t, 0;\n";
    int offset = 0;
    for (const int count : counts) {
        body += "@%p0 mbarrier.init.shared::cta.b64 [%r20 + " + std::to_string(offset) + "], " + std::to_string(count) + ";\n";
        offset += 8;
    }
    return body + "bar.sync 0;\n";
}
/// Waits until the phase of this parity is over.
std::string wait(const std::string& barrier, const std::string& parity, const std::string& order = "") {
    static int number = 0;
    const std::string label = "W" + std::to_string(++number);
    return label + ":\nmbarrier.try_wait.parity" + order + ".shared::cta.b64 %p15, [" + barrier + "], " + parity + ";\n@!%p15 bra " +
           label + ";\n";
}

TEST_CASE("an mbarrier counts arrivals, bytes and phases") {
    Mbarrier barrier;
    barrier.expected = barrier.pending = 3;
    CHECK(barrier.arrive(2).empty());
    const uint64_t state = barrier.state();
    CHECK(Mbarrier::pending_of(state) == 1);
    CHECK(!barrier.arrive(2).empty());  // one too many
    CHECK(!barrier.arrive(1, false).empty());
    CHECK(!barrier.arrive(0).empty());
    bool over = true;
    std::string error;
    CHECK(barrier.is_over(state, &over, &error));
    CHECK(!over);
    CHECK(barrier.is_over(true));
    CHECK(!barrier.is_over(false));
    CHECK(barrier.arrive(1).empty());
    CHECK(barrier.phase == 1);
    CHECK(barrier.pending == 3);
    CHECK(barrier.is_over(state, &over, &error));
    CHECK(over);
    CHECK(barrier.is_over(false));
    CHECK(!barrier.is_over(true));
    // Bytes may complete before they are announced; the phase waits for both.
    CHECK(barrier.complete_bytes(100).empty());
    CHECK(barrier.arrive(2).empty());
    CHECK(barrier.expect_bytes(160).empty());
    CHECK(barrier.arrive(1).empty());
    CHECK(barrier.phase == 1);
    CHECK(!barrier.arrive(1).empty());  // nobody is missing any more
    CHECK(barrier.complete_bytes(60).empty());
    CHECK(barrier.phase == 2);
    CHECK(!barrier.is_over(state, &over, &error));  // two phases ago
    CHECK(!barrier.expect_bytes(uint64_t{1} << 20).empty());
    CHECK(!barrier.complete_bytes(uint64_t{1} << 20).empty());
    // Dropped arrivals are missing from the next phase on.
    CHECK(barrier.arrive_and_drop(1).empty());
    CHECK(barrier.arrive(2).empty());
    CHECK(barrier.phase == 3);
    CHECK(barrier.pending == 2);
    CHECK(!barrier.arrive_and_drop(3).empty());
    CHECK(barrier.expect_arrivals(1).empty());
    CHECK(barrier.arrive(3).empty());
    CHECK(barrier.phase == 4);
    CHECK(barrier.pending == 2);
}

TEST_CASE("phases between warps, in both directions") {
    // Warp 0 fills, warp 1 reads, for 6 rounds through 2 stages: full barriers at 0 and 8, empty ones at 16 and 24.
    std::string body = barriers({32, 32, 32, 32}) + addresses("%lane") +
                       "mov.u32 %r21, tile; shl.b32 %r22, %lane, 2; add.u32 %r22, %r21, %r22; sub.u32 %r23, 31, %lane; shl.b32 %r23, %r23, "
                       "2; add.u32 %r23, %r21, %r23;\n";
    body += "setp.ge.u32 %p1, %t, 32;\n@%p1 bra CONSUME;\n";
    for (int round = 0; round < 6; ++round) {
        const std::string stage = std::to_string(round % 2 * 8), empty = "%r20 + " + std::to_string(16 + round % 2 * 8),
                          place = std::to_string(round % 2 * 256);
        body += wait(empty, std::to_string(round / 2 % 2 ^ 1));
        body += "mad.lo.u32 %r1, %lane, 100, " + std::to_string(round) + "; st.shared.u32 [%r22 + " + place +
                "], %r1;\nmbarrier.arrive.shared::cta.b64 _, [%r20 + " + stage + "];\n";
    }
    body += "bra DONE;\nCONSUME:\n";
    for (int round = 0; round < 6; ++round) {
        const std::string full = "%r20 + " + std::to_string(round % 2 * 8), place = std::to_string(round % 2 * 256);
        body += wait(full, std::to_string(round / 2 % 2)) + "ld.shared.u32 %r1, [%r23 + " + place + "]; st.global.u32 [%rd31 + " +
                std::to_string(round * 128) + "], %r1;\nmbarrier.arrive.shared::cta.b64 %rd1, [%r20 + " +
                std::to_string(16 + round % 2 * 8) + "];\n";
    }
    body += "DONE:";
    for (uint64_t seed = 0; seed < 10; ++seed) {
        const auto out = run_well(body, {}, 192, shape(64, seed));
        for (uint32_t round = 0; round < 6; ++round)
            for (uint32_t lane = 0; lane < 32; ++lane) REQUIRE(out[round * 32 + lane] == (31 - lane) * 100 + round);
    }
    // Without one of the waits, or with arrivals and waits that hand on nothing, it is a race.
    const auto broken = [&](const std::string& what, const std::string& instead, uint64_t seed) {
        std::string text = body;
        for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + instead.size()))
            text.replace(at, what.size(), instead);
        const Run run = run_ptx(text, {}, 192, shape(64, seed));
        const bool caught = run.fault.kind == Fault::Kind::Race || run.fault.kind == Fault::Kind::Uninitialised ||
                            run.fault.kind == Fault::Kind::BadBarrier;
        CHECK_MESSAGE((run.error.empty() && caught), verdict(run));
    };
    for (uint64_t seed = 0; seed < 6; ++seed) {
        broken("mbarrier.arrive.shared", "mbarrier.arrive.relaxed.cta.shared", seed);
        broken("try_wait.parity.shared", "try_wait.parity.relaxed.cta.shared", seed);
        const size_t first = body.find("CONSUME:\n") + 9, end = body.find("ld.shared", first);
        broken(body.substr(first, end - first), "", seed);
    }
}

TEST_CASE("states, test_wait, pending counts, drops") {
    // One warp: lanes arrive one after the other, states show how many were missing.
    const auto out =
        run_well(barriers({40}) + addresses("%lane") +
                     "mbarrier.arrive.shared.b64 %rd1, [%r20];\nmbarrier.pending_count.b64 %r1, %rd1; st.global.u32 [%rd31], %r1;\n"
                     "mbarrier.test_wait.shared.b64 %p1, [%r20], %rd1; selp.u32 %r2, 1, 0, %p1; st.global.u32 [%rd31 + 128], %r2;\n"
                     "@%p0 mbarrier.arrive.noComplete.shared.b64 %rd2, [%r20], 7;\n@%p0 mbarrier.arrive_drop.shared.b64 %rd2, [%r20];\n"
                     "mbarrier.test_wait.shared.b64 %p1, [%r20], %rd1; selp.u32 %r2, 1, 0, %p1; st.global.u32 [%rd31 + 256], %r2;\n"
                     "mbarrier.arrive.shared.b64 %rd1, [%r20]; mbarrier.pending_count.b64 %r1, %rd1; st.global.u32 [%rd31 + 384], %r1;",
                 {}, 128, shape());
    for (size_t lane = 0; lane < 32; ++lane) {
        REQUIRE(out[lane] == 40 - lane);
        REQUIRE(out[32 + lane] == 0);
        REQUIRE(out[64 + lane] == 1);
        REQUIRE(out[96 + lane] == 39 - lane);
    }
    // Generic addresses, a count in a register, several barriers by one instruction.
    run_well(barriers({8, 8, 8, 8}) +
                 "cvta.shared.u64 %rd1, tile; mov.u64 %rd1, bars; cvta.shared.u64 %rd1, %rd1; and.b32 %r1, %lane, 3; mul.wide.u32 %rd2, "
                 "%r1, 8; add.u64 %rd1, %rd1, %rd2;\n"
                 "mbarrier.arrive.b64 %rd3, [%rd1];\nmbarrier.test_wait.parity.b64 %p1, [%rd1], 0;\n@!%p1 trap;",
             {}, 1, shape());
}

TEST_CASE("transaction counts") {
    const auto out = run_well(
        barriers({1}) + addresses("%lane") +
            "@%p0 mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r20], 64;\n@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r20], "
            "96;\n"
            "mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r20], 0; selp.u32 %r1, 1, 0, %p1; st.global.u32 [%rd31], %r1;\n"
            "@%p0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r20], 32;\n@%p0 mbarrier.complete_tx.shared::cluster.b64 [%r20], 64;\n" +
            wait("%r20", "0") + "selp.u32 %r1, 1, 0, %p15; st.global.u32 [%rd31 + 128], %r1;",
        {}, 64, shape());
    for (size_t lane = 0; lane < 32; ++lane) {
        REQUIRE(out[lane] == 0);
        REQUIRE(out[32 + lane] == 1);
    }
}

TEST_CASE("copies that arrive at a barrier") {
    // Warp 0 copies, warp 1 reads; with and without .noinc, whose counts differ.
    std::vector<uint32_t> in(128);
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint32_t>(i * 77 + 5);
    const auto kernel = [](const std::string& form, int count, const std::string& more) {
        return barriers({count}) +
               "mul.wide.u32 %rd1, %lane, 16; add.u64 %rd2, %in, %rd1; add.u64 %rd3, %out, %rd1; mov.u32 %r21, tile; shl.b32 %r22, %lane, "
               "4; add.u32 %r23, %r21, %r22; xor.b32 %r24, %r23, 256;\n"
               "setp.ge.u32 %p1, %t, 32;\n@%p1 bra READ;\ncp.async.cg.shared.global [%r23], [%rd2], 16;\ncp.async.mbarrier.arrive" +
               form + ".shared::cta.b64 [%r20];\n" + more + "bra DONE;\nREAD:\n" + wait("%r20", "0") +
               "ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [%r24]; st.global.v4.u32 [%rd3], {%r0, %r1, %r2, %r3};\nDONE:";
    };
    for (uint64_t seed = 0; seed < 10; ++seed) {
        for (const auto& text : {kernel(".noinc", 32, ""), kernel("", 32, "mbarrier.arrive.shared.b64 _, [%r20];\n")}) {
            const auto out = run_well(text, in, 128, shape(64, seed));
            for (size_t i = 0; i < 128; ++i) REQUIRE(out[i] == in[i ^ 64]);
        }
        // An ordinary arrival says nothing of copies.
        const Run run = run_ptx(kernel(".noinc", 64, "mbarrier.arrive.shared.b64 _, [%r20];\n"), in, 128, shape(64, seed));
        CHECK_MESSAGE(run.fault.kind == Fault::Kind::None, verdict(run));
        std::string wrong = kernel(".noinc", 32, "");
        const std::string what = "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r20]";
        wrong.replace(wrong.find(what), what.size(), "mbarrier.arrive.shared::cta.b64 _, [%r20]");
        check_fault(run_ptx(wrong, in, 128, shape(64, seed)), Fault::Kind::UnfinishedCopy);
    }
    // Without .noinc the count goes up and down: the barrier never completes by that alone.
    const Run stuck = run_ptx(kernel("", 32, ""), in, 128, shape(64));
    CHECK_MESSAGE((stuck.fault.kind == Fault::Kind::Deadlock || stuck.fault.kind == Fault::Kind::Timeout), verdict(stuck));
    // Ordinary stores before the arrival of copies are not handed on by it.
    std::string store = kernel(".noinc", 32, "");
    store.replace(store.find("cp.async.mbarrier"), 0, "st.shared.u32 [%r23 + 1024], %t;\n");
    store.replace(store.find("ld.shared.v4"), 0, "ld.shared.u32 %r5, [%r24 + 1024];\n");
    const Run racing = run_ptx(store, in, 128, shape(64));
    CHECK_MESSAGE(racing.fault.kind == Fault::Kind::Race, verdict(racing));
}

TEST_CASE("barriers of other blocks of the cluster") {
    // Each block writes into the other one, arrives there, and waits at home.
    const std::string start =
        "mov.u32 %r20, bars; mov.u32 %r21, tile; mov.u32 %r1, %cluster_ctarank; xor.b32 %r2, %r1, 1; mapa.shared::cluster.u32 %r22, %r20, "
        "%r2; mapa.shared::cluster.u32 "
        "%r23, %r21, %r2;\nsetp.eq.u32 %p0, %t, 0; @%p0 mbarrier.init.shared::cta.b64 [%r20], 32;\n@%p0 "
        "fence.mbarrier_init.release.cluster;\n"
        "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
    const std::string body = start +
                             "shl.b32 %r24, %t, 2; add.u32 %r25, %r23, %r24; add.u32 %r26, %r21, 124; sub.u32 %r26, %r26, %r24; mad.lo.u32 "
                             "%r3, %r1, 1000, %t;\nst.shared::cluster.u32 [%r25], %r3;\n"
                             "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r22];\n" +
                             wait("%r20", "0", ".acquire.cluster") +
                             "ld.shared.u32 %r4, [%r26]; mov.u32 %r5, %ctaid.x; mad.lo.u32 %r5, %r5, 32, %t; mul.wide.u32 %rd1, %r5, 4; "
                             "add.u64 %rd1, %out, %rd1; st.global.u32 [%rd1], %r4;\n"
                             "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;";
    for (uint64_t seed = 0; seed < 8; ++seed) {
        Shape two = shape(32, seed);
        two.blocks = 4, two.cluster = 2;
        const auto out = run_well(body, {}, 128, two);
        for (uint32_t block = 0; block < 4; ++block)
            for (uint32_t t = 0; t < 32; ++t) REQUIRE(out[block * 32 + t] == (block % 2 ^ 1) * 1000 + 31 - t);
        std::string relaxed = body;
        relaxed.replace(relaxed.find("arrive.release.cluster.shared"), 29, "arrive.relaxed.cluster.shared");
        const Run run = run_ptx(relaxed, {}, 128, two);
        CHECK_MESSAGE((run.error.empty() && (run.fault.kind == Fault::Kind::Race || run.fault.kind == Fault::Kind::Uninitialised)),
                      verdict(run));
        // Waiting is for barriers of the own block.
        const Run remote = run_ptx(
            start +
                "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r22];\nmbarrier.test_wait.parity.shared::cta.b64 %p1, [%r22], 0;",
            {}, 128, two);
        check_fault(remote, Fault::Kind::BadBarrier);
    }
}

TEST_CASE("misuse") {
    const auto bad = [&](const std::string& body, Fault::Kind kind = Fault::Kind::BadBarrier, uint32_t threads = 32) {
        CAPTURE(body);
        check_fault(run_ptx(body, {}, 32, shape(threads)), kind);
    };
    const std::string arrive = "mbarrier.arrive.shared.b64 _, [%r20];\n";
    bad("mov.u32 %r20, bars; " + arrive);
    bad(barriers({32}) + "mbarrier.arrive.shared.b64 _, [%r20 + 8];");
    bad(barriers({31}) + arrive + "mbarrier.arrive.shared.b64 _, [%r20], 30;\n");  // 32 arrivals: one of the next phase, then 30, 30, ...
    bad(barriers({5}) + "mbarrier.arrive.shared.b64 _, [%r20], 6;");
    bad(barriers({32}) + "@%p0 mbarrier.arrive.noComplete.shared.b64 %rd0, [%r20], 32;");
    bad("mov.u32 %r20, bars; setp.eq.u32 %p0, %t, 0; @%p0 mbarrier.init.shared.b64 [%r20], 0;");
    bad("mov.u32 %r20, bars; setp.eq.u32 %p0, %t, 0; @%p0 mbarrier.init.shared.b64 [%r20], 1048576;");
    bad(barriers({32}) + "@%p0 mbarrier.init.shared.b64 [%r20], 32;");
    bad(barriers({32}) + "@%p0 mbarrier.inval.shared.b64 [%r20];\nbar.sync 0;\n" + arrive);
    bad(barriers({32}) + "mov.u64 %rd1, 0; @%p0 st.shared.u64 [%r20], %rd1;\nbar.sync 0;\n" + arrive);
    bad(barriers({32}) + "mbarrier.test_wait.parity.shared.b64 %p1, [%r20], 2;");
    bad(barriers({32}) + "mov.u64 %rd1, 0; mbarrier.pending_count.b64 %r1, %rd1;");
    bad(barriers({1}) +
        "@%p0 mbarrier.arrive.shared.b64 %rd1, [%r20];\n@%p0 mbarrier.arrive.shared.b64 %rd2, [%r20];\n@%p0 mbarrier.test_wait.shared.b64 "
        "%p1, [%r20], %rd1;");
    bad(barriers({2}) + "@%p0 mbarrier.arrive_drop.shared.b64 _, [%r20], 3;");
    bad(barriers({1}) + "@%p0 mbarrier.expect_tx.relaxed.cta.shared.b64 [%r20], 1048576;");
    bad(barriers({1}) + "mbarrier.arrive.shared.b64 _, [%r20 + 4];", Fault::Kind::Misaligned);
    bad(barriers({1}) + "add.u32 %r20, %r20, 65536; " + arrive, Fault::Kind::OutOfBounds);
    // Others must know that it was initialised, and that it has ended.
    std::string unordered = barriers({64});
    unordered.erase(unordered.find("bar.sync 0;"), 11);
    for (uint64_t seed = 0; seed < 6; ++seed) {
        const Run run = run_ptx(unordered + arrive, {}, 32, shape(64, seed));
        CHECK_MESSAGE((run.fault.kind == Fault::Kind::Race || run.fault.kind == Fault::Kind::BadBarrier), verdict(run));
    }
    int found = 0;
    for (uint64_t seed = 0; seed < 12; ++seed)
        found += run_ptx(barriers({64}) + arrive + "@%p0 mbarrier.inval.shared.b64 [%r20];", {}, 32, shape(64, seed)).fault.kind ==
                         Fault::Kind::BadBarrier
                     ? 1
                     : 0;
    CHECK(found > 0);  // where the other warp came later
    for (uint64_t seed = 0; seed < 6; ++seed)
        check_fault(run_ptx(barriers({32}) + "setp.lt.u32 %p1, %t, 32; @%p1 mbarrier.arrive.shared.b64 _, [%r20];\n@%p0 "
                                             "mbarrier.inval.shared.b64 [%r20];\nsetp.eq.u32 %p1, %t, 40;\n"
                                             "@%p1 st.shared.u64 [%r20], 5;",
                            {}, 32, shape(64, seed)),
                    Fault::Kind::Race);
    // Ended in order, the bytes are ordinary again, and a barrier may be made there anew.
    run_well(barriers({32}) + arrive +
                 "bar.sync 0;\n@%p0 mbarrier.inval.shared.b64 [%r20];\n@%p0 st.shared.u64 [%r20], 5;\n@%p0 mbarrier.init.shared.b64 "
                 "[%r20], 64;\nbar.sync 0;\n" +
                 arrive + arrive + wait("%r20", "0"),
             {}, 1, shape());
    // Nobody arrives.
    const Run stuck = run_ptx(barriers({33}) + arrive + wait("%r20", "0"), {}, 1, shape());
    CHECK_MESSAGE((stuck.fault.kind == Fault::Kind::Deadlock || stuck.fault.kind == Fault::Kind::Timeout), verdict(stuck));
    for (const char* wrong :
         {"mbarrier.arrive.shared::cluster.b64 %rd0, [%r20];", "mbarrier.test_wait.shared::cluster.b64 %p0, [%r20], %rd0;",
          "mbarrier.arrive.shared.b32 %r0, [%r20];", "mbarrier.arrive.noComplete.shared.b64 %rd0, [%r20];",
          "mbarrier.init.shared.b64 [%r20];", "mbarrier.arrive.acquire.cta.shared.b64 %rd0, [%r20];",
          "mbarrier.test_wait.shared.b64 %p0, [%r20], %rd0, %r1;", "mbarrier.wait.shared.b64 [%r20];"}) {
        CAPTURE(wrong);
        CHECK(!run_ptx(wrong, {}, 1).error.empty());
    }
}

}  // namespace
