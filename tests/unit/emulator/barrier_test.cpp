// Barriers of blocks, clusters and warps: results, and what is wrong about them.
#include "ptx_run.h"

using namespace flexemu;
using namespace flexemu::test;

namespace {

const std::string kOut = "mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %out, %rd1;\n";

void expect(const std::string& body, Fault::Kind kind, std::string_view words, const Shape& shape) {
    CAPTURE(body);
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Shape seeded = shape;
        seeded.seed = seed;
        const Run run = run_ptx(body, {}, 256, seeded);
        CHECK_MESSAGE(run.error.empty(), run.error);
        CHECK_MESSAGE(run.fault.kind == kind, "seed ", seed, ": ", name(run.fault.kind), " ", run.fault.text);
        CHECK_MESSAGE(run.fault.text.find(words) != std::string::npos, run.fault.text);
    }
}

void is_fine(const std::string& body, const Shape& shape) {
    expect(body, Fault::Kind::None, "", shape);
}

}  // namespace

TEST_CASE("reductions of barriers") {
    const std::string body = kOut + R"(
        and.b32 %r1, %t, 3; setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p2, %t, 1000; setp.eq.u32 %p3, %t, 77;
        bar.red.popc.u32 %r2, 0, %p1;
        bar.red.and.pred %p4, 1, %p2; bar.red.or.pred %p5, 2, 96, %p3; barrier.red.or.pred %p6, 3, !%p2;
        selp.u32 %r3, 1, 0, %p4; selp.u32 %r4, 2, 0, %p5; selp.u32 %r5, 4, 0, %p6;
        shl.b32 %r2, %r2, 8; add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4; add.u32 %r2, %r2, %r5;
        st.global.u32 [%rd1], %r2;)";
    for (uint64_t seed = 0; seed < 6; ++seed) {
        const auto out = run_well(body, {}, 96, {.threads = 96, .seed = seed});
        for (uint32_t i = 0; i < 96; ++i) CHECK(out[i] == (24U << 8 | 3));
    }
}

TEST_CASE("producers arrive, consumers wait") {
    const std::string body = R"(
        .shared .align 4 .u32 s[32];
        setp.ge.u32 %p1, %t, 32; @%p1 bra CONSUME;
        shl.b32 %r1, %t, 2; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; st.shared.u32 [%r2], %t;
        bar.arrive 5, 64;
        ret;
        CONSUME: bar.sync 5, 64;
        sub.u32 %r3, 63, %t; shl.b32 %r3, %r3, 2; mov.u32 %r2, s; add.u32 %r2, %r2, %r3; ld.shared.u32 %r4, [%r2];)";
    is_fine(body, {.threads = 64});
}

TEST_CASE("a barrier without a count does not wait for threads that have exited") {
    is_fine("setp.lt.u32 %p1, %t, 32; @%p1 exit; bar.sync 0; bar.sync 1;", {.threads = 96});
    is_fine("bar.sync 0;", {.threads = 40});
    is_fine("bar.sync 0, 64;", {.threads = 40});
}

TEST_CASE("counts that do not fit") {
    expect("bar.sync 0, 48;", Fault::Kind::BadBarrier, "no multiple of 32", {.threads = 64});
    expect("bar.sync 16;", Fault::Kind::BadBarrier, "there is no barrier 16", {.threads = 64});
    expect("bar.sync %lane;", Fault::Kind::BadBarrier, "different barriers", {.threads = 64});
    expect("bar.sync 0, 96;", Fault::Kind::BarrierMismatch, "the block has 64", {.threads = 64});
    expect("setp.lt.u32 %p1, %t, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 1, 96;", Fault::Kind::BarrierMismatch, "threads where",
           {.threads = 96});
    expect("setp.lt.u32 %p1, %t, 32; @%p1 bar.sync 1; setp.eq.u32 %p2, %t, 32; @!%p1 bar.red.popc.u32 %r1, 1, %p2;",
           Fault::Kind::BarrierMismatch, "reductions and plain barriers", {.threads = 64});
    // One warp too few for the count, the others gone or waiting elsewhere.
    expect("setp.lt.u32 %p1, %t, 32; @%p1 exit; bar.sync 1, 96;", Fault::Kind::BarrierMismatch, "cannot be reached", {.threads = 96});
    expect("setp.lt.u32 %p1, %t, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 2, 64;", Fault::Kind::BarrierMismatch,
           "barrier 1 of block (0,0,0) has 32 of 64", {.threads = 64});
    // Arriving twice would count for somebody else.
    expect("setp.lt.u32 %p1, %t, 32; setp.ge.u32 %p2, %t, 64; @%p2 exit; @%p1 bar.arrive 1, 96; @%p1 bar.arrive 1, 96; @!%p1 bar.sync 1, 96;",
           Fault::Kind::BarrierMismatch, "twice", {.threads = 96});
}

TEST_CASE("aligned barriers are for whole warps, others are not") {
    const auto body = [](const std::string& barrier) {
        return "setp.lt.u32 %p1, %lane, 16; @%p1 bra A; add.u32 %r1, %t, 1; " + barrier + " bra END; A: add.u32 %r1, %t, 2; " + barrier +
               " END: bar.warp.sync 0xffffffff;";
    };
    expect(body("bar.sync 0;"), Fault::Kind::Divergence, "all threads of the warp must execute it together", {.threads = 64});
    expect(body("barrier.sync.aligned 0;"), Fault::Kind::Divergence, "must execute it together", {.threads = 64});
    is_fine(body("barrier.sync 0;"), {.threads = 64});
    is_fine(body("barrier.sync 0, 64;"), {.threads = 64});
    expect("setp.lt.u32 %p1, %lane, 31; @%p1 bar.sync 0;", Fault::Kind::Divergence, "where its guard is false", {.threads = 32});
    is_fine("setp.lt.u32 %p1, %t, 1000; @%p1 bar.sync 0; @!%p1 bar.sync 0;", {.threads = 32});
}

TEST_CASE("membermasks whose lanes never come") {
    expect("setp.lt.u32 %p1, %lane, 16; @%p1 bar.warp.sync 0xffffffff;", Fault::Kind::Divergence, "never come", {.threads = 32});
    is_fine("setp.lt.u32 %p1, %lane, 16; @%p1 bar.warp.sync 0xffff;", {.threads = 32});
    expect("bar.warp.sync 0x1;", Fault::Kind::Divergence, "does not name the thread itself", {.threads = 32});
    expect("setp.lt.u32 %p1, %lane, 16; @%p1 shfl.sync.idx.b32 %r1, %t, 0, 31, 0xffffffff;", Fault::Kind::Divergence, "never come",
           {.threads = 32});
    // Lanes that have exited are not waited for; those that come later are.
    is_fine("setp.lt.u32 %p1, %lane, 16; @%p1 exit; bar.warp.sync 0xffffffff;", {.threads = 32});
    is_fine("setp.lt.u32 %p1, %lane, 16; @%p1 bra A; bar.warp.sync 0xffffffff; bra END; A: bar.warp.sync 0xffffffff; END:",
            {.threads = 32});
}

TEST_CASE("clusters wait for each other") {
    Device device;
    std::string error;
    const std::string body = R"(
        .shared .align 4 .u32 s[32];
        shl.b32 %r1, %t, 2; mov.u32 %r2, s; add.u32 %r3, %r2, %r1;
        mov.u32 %r4, %cluster_ctarank; mad.lo.u32 %r5, %r4, 100, %t; st.shared.u32 [%r3], %r5;
        BARRIER
        xor.b32 %r6, %r4, 1; mapa.shared::cluster.u32 %r7, %r3, %r6; ld.shared::cluster.u32 %r8, [%r7];
        mov.u32 %r9, %ctaid.x; shl.b32 %r9, %r9, 5; add.u32 %r9, %r9, %t; mul.wide.u32 %rd1, %r9, 4; add.u64 %rd1, %out, %rd1; st.global.u32 [%rd1], %r8;
        barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;)";
    const auto run = [&](const std::string& barrier, uint64_t seed, std::vector<uint32_t>* result) {
        std::string text = body;
        text.replace(text.find("BARRIER"), 7, barrier);
        const auto module = device.load(module_of(text), &error);
        REQUIRE_MESSAGE(module, error);
        const uint64_t out = device.allocate(size_t{4} * 32 * 4);
        std::vector<uint8_t> parameters(16);
        std::memcpy(parameters.data() + 8, &out, 8);
        LaunchOptions options;
        options.seed = seed;
        Fault fault = device.launch_clusters(*module, 0, {4, 1, 1}, {32, 1, 1}, {2, 1, 1}, 0, parameters, options);
        result->resize(128);
        device.read(result->data(), out, 512);
        return fault;
    };
    std::vector<uint32_t> out;
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Fault fault = run("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;", seed, &out);
        CHECK_MESSAGE(!fault, fault.text);
        for (uint32_t i = 0; i < 128; ++i) CHECK(out[i] == (i / 32 % 2 == 0 ? 100 : 0) + i % 32);
        fault = run("", seed, &out);
        CHECK_MESSAGE((fault.kind == Fault::Kind::Race || fault.kind == Fault::Kind::Uninitialised), fault.text);
        fault = run("barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;", seed, &out);
        CHECK_MESSAGE(fault.kind == Fault::Kind::Race, fault.text);
        fault = run("barrier.cluster.wait.aligned;", seed, &out);
        CHECK_MESSAGE(fault.kind == Fault::Kind::BarrierMismatch, fault.text);
    }
}
