// Races: each wrong program is found under every seed, with both parties named, and its correct sibling runs.
#include "ptx_run.h"

using namespace flexemu;
using namespace flexemu::test;

namespace {

const std::string kShared =
    ".shared .align 16 .b8 s[4096]; .shared .align 16 .b8 s2[4096];\n mul.lo.u32 %r60, %t, 4; mov.u32 %r61, s; add.u32 %r61, %r61, %r60;\n";
const std::string kOut = "mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %out, %rd1;\n";

void races(const std::string& body, std::string_view words, const Shape& shape, Fault::Kind kind = Fault::Kind::Race) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Shape seeded = shape;
        seeded.seed = seed;
        const Run run = run_ptx(body, {1, 2, 3, 4}, 1024, seeded);
        CHECK_MESSAGE(run.error.empty(), run.error);
        CHECK_MESSAGE(run.fault.kind == kind, "seed ", seed, ": ", name(run.fault.kind), " ", run.fault.text);
        CHECK_MESSAGE(run.fault.text.find(words) != std::string::npos, run.fault.text);
    }
}

void is_fine(const std::string& body, const Shape& shape) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Shape seeded = shape;
        seeded.seed = seed;
        const Run run = run_ptx(body, {1, 2, 3, 4}, 1024, seeded);
        CHECK_MESSAGE(run.error.empty(), run.error);
        CHECK_MESSAGE(!run.fault, "seed ", seed, ": ", run.fault.text);
    }
}

/// Each thread writes its word and reads that of the thread `distance` further, with something between.
std::string exchange(const std::string& between, int distance, int threads) {
    return kShared + "st.shared.u32 [%r61], 0; bar.sync 0; st.shared.u32 [%r61], %t;\n" + between + "\nadd.u32 %r1, %t, " +
           std::to_string(distance) + "; rem.u32 %r1, %r1, " + std::to_string(threads) +
           "; shl.b32 %r1, %r1, 2; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; ld.shared.u32 %r3, [%r2];\n";
}

}  // namespace

TEST_CASE("warps exchange data in shared memory") {
    races(exchange("", 32, 128), "races with", {.threads = 128});
    is_fine(exchange("bar.sync 0;", 32, 128), {.threads = 128});
    is_fine(exchange("barrier.sync 3;", 32, 128), {.threads = 128});
    // Half of the block at a barrier of its own is not enough for all.
    races(exchange("setp.lt.u32 %p1, %t, 64; @%p1 bar.sync 1, 64; @!%p1 bar.sync 2, 64;", 32, 128), "no barrier between", {.threads = 128});
    is_fine(exchange("bar.warp.sync 0xffffffff;", 0, 128), {.threads = 128});
}

TEST_CASE("lanes of a warp are ordered by bar.warp.sync only") {
    races(exchange("", 1, 32), "lanes of a warp are not ordered without bar.warp.sync", {.threads = 32});
    is_fine(exchange("bar.warp.sync 0xffffffff;", 1, 32), {.threads = 32});
    is_fine(exchange("", 0, 32), {.threads = 32});
    // A group of lanes orders itself and nobody else.
    const std::string group = "setp.lt.u32 %p1, %t, 16; selp.b32 %r9, 0xffff, 0xffff0000, %p1; bar.warp.sync %r9;";
    races(exchange(group, 16, 32), "races with", {.threads = 32});
    const std::string within = kShared + "st.shared.u32 [%r61], %t;\n" + group +
                               "xor.b32 %r1, %r60, 4; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; ld.shared.u32 %r3, [%r2];";
    is_fine(within, {.threads = 32});
}

TEST_CASE("a write after reads needs a barrier, too") {
    const auto body = [](const std::string& between) {
        return kShared + "mov.u32 %r1, s; setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [%r1], %t; bar.sync 0;\nld.shared.u32 %r2, [%r1];\n" +
               between + "\nsetp.eq.u32 %p2, %t, 70; mov.u32 %r3, 5;\n@%p2 st.shared.u32 [%r1], %r3;";
    };
    races(body(""), "races with", {.threads = 128});
    is_fine(body("bar.sync 0;"), {.threads = 128});
}

TEST_CASE("the text of a race names both parties") {
    const Run run =
        run_ptx(kShared + "setp.eq.u32 %p1, %t, 3; setp.eq.u32 %p2, %t, 40;\n@%p1 st.shared.u32 [s+8], %t;\n@%p2 st.shared.u32 [s+8], %t;",
                {}, 4, {.threads = 64});
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Race, run.fault.text);
    CHECK_MESSAGE(
        run.fault.text.find(
            "line 13: st.shared.u32 by thread (40,0,0) of block (0,0,0): races with st.shared.u32 at line 12 by thread (3,0,0)") == 0,
        run.fault.text);
    CHECK_MESSAGE(run.fault.text.find("shared byte 0x8") != std::string::npos, run.fault.text);
}

TEST_CASE("two lanes of one instruction") {
    races(kShared + "shr.u32 %r1, %t, 1; shl.b32 %r1, %r1, 2; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; st.shared.u32 [%r2], %t;",
          "races with", {.threads = 32});
    // The same value is no conflict, and neighbouring bytes are not the same bytes.
    is_fine(kShared + "mov.u32 %r1, 5; st.shared.u32 [s], %r1;", {.threads = 128});
    is_fine(kShared + "mov.u32 %r2, s; add.u32 %r2, %r2, %t; cvt.u16.u32 %h1, %t; st.shared.u8 [%r2], %h1; ld.shared.u8 %h2, [%r2];",
            {.threads = 128});
    races(kShared +
              "mov.u32 %r2, s; add.u32 %r2, %r2, %t; cvt.u16.u32 %h1, %t; st.shared.u8 [%r2], %h1; xor.b32 %r3, %t, 1; mov.u32 %r2, s; "
              "add.u32 %r2, %r2, %r3; ld.shared.u8 %h2, [%r2];",
          "races with", {.threads = 32});
}

TEST_CASE("atomics do not race with each other, but with plain accesses") {
    const std::string zero = kShared + "setp.eq.u32 %p1, %t, 0; mov.u32 %r1, 0; @%p1 st.shared.u32 [s], %r1; bar.sync 0;\n";
    is_fine(zero + "atom.shared.add.u32 %r2, [s], 1;", {.threads = 128});
    races(zero + "atom.shared.add.u32 %r2, [s], 1; setp.eq.u32 %p2, %t, 100; @%p2 ld.shared.u32 %r3, [s];", "races with", {.threads = 128});
    is_fine(zero + "atom.shared.add.u32 %r2, [s], 1; bar.sync 0; ld.shared.u32 %r3, [s];", {.threads = 128});
}

TEST_CASE("the read that a compare-and-swap corrects") {
    // As the CUDA guide's atomicAdd for double, and as nvcc writes atomicAdd of bf16x2.
    const std::string loop =
        "L: add.u32 %r2, %r1, 1; atom.global.cas.b32 %r3, [%out], %r1, %r2; setp.ne.u32 %p1, %r3, %r1; mov.u32 %r1, %r3; @%p1 bra L;";
    is_fine("ld.global.u32 %r1, [%out];\n" + loop, {.threads = 64});
    // An element of an array: its address is made in the loop.
    const auto element = [](int added) {
        return "L: add.s64 %rd1, %out, " + std::to_string(added) +
               "; add.u32 %r2, %r1, 1; atom.global.cas.b32 %r3, [%rd1], %r1, %r2; setp.ne.u32 %p1, %r3, %r1; mov.u32 %r1, %r3; @%p1 bra L;";
    };
    is_fine("ld.global.u32 %r1, [%out + 8];\n" + element(8), {.threads = 64});
    races("mov.u32 %r1, 0;\n" + element(8) + "ld.global.u32 %r4, [%out + 8];", "races with", {.threads = 64});
    races("ld.global.u32 %r1, [%out + 4]; mov.u32 %r1, 0;\n" + loop + "ld.global.u32 %r4, [%out]; st.global.u32 [%out + 4], %r4;",
          "races with", {.threads = 64});
}

TEST_CASE("blocks and global memory") {
    const std::string own = kOut +
                            "mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd2, %r1, 256; add.u64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], %t; "
                            "ld.global.u32 %r2, [%rd1];";
    is_fine(own, {.threads = 64, .blocks = 4});
    races(kOut + "mov.u32 %r1, %ctaid.x; st.global.u32 [%rd1], %r1;", "nothing orders the two blocks", {.threads = 64, .blocks = 2});
    races(kOut + "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0; @%p1 st.global.u32 [%out], %r1; @!%p1 ld.global.u32 %r2, [%out];",
          "races with", {.threads = 1, .blocks = 2});
    is_fine("red.global.add.u32 [%in], 1;", {.threads = 64, .blocks = 3});
    // A scope that does not reach the other block does not help.
    races("red.cta.global.add.u32 [%in], 1;", "races with", {.threads = 32, .blocks = 3});
    is_fine("red.cta.global.add.u32 [%in], 1;", {.threads = 64});
}

TEST_CASE("message passing: release and acquire, fences, and what is too weak") {
    const std::string declarations = ".global .align 4 .u32 flag; .global .align 4 .u32 data;";
    const auto body = [](const std::string& send, const std::string& poll, const std::string& after) {
        return "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0; @!%p1 bra READ;\nmov.u32 %r2, 42; st.global.u32 [data], %r2;\n" + send +
               "\nret;\nREAD:\n" + poll + "\nsetp.eq.u32 %p2, %r3, 0; @%p2 bra READ;\n" + after +
               "\nld.global.u32 %r4, [data]; st.global.u32 [%out], %r4;";
    };
    const Shape two = {.threads = 1, .blocks = 2, .declarations = declarations};
    is_fine(body("st.release.gpu.global.u32 [flag], 1;", "ld.acquire.gpu.global.u32 %r3, [flag];", ""), two);
    is_fine(body("fence.acq_rel.gpu; st.relaxed.gpu.global.u32 [flag], 1;", "ld.relaxed.gpu.global.u32 %r3, [flag];", "fence.acq_rel.gpu;"),
            two);
    is_fine(body("membar.gl; st.volatile.global.u32 [flag], 1;", "ld.volatile.global.u32 %r3, [flag];", "membar.gl;"), two);
    is_fine(body("membar.gl; atom.global.exch.b32 %r5, [flag], 1;", "atom.global.or.b32 %r3, [flag], 0;", "fence.sc.gpu;"), two);
    is_fine(body("atom.release.gpu.global.exch.b32 %r5, [flag], 1;", "atom.acquire.gpu.global.or.b32 %r3, [flag], 0;", ""), two);
    races(body("st.relaxed.gpu.global.u32 [flag], 1;", "ld.relaxed.gpu.global.u32 %r3, [flag];", "fence.acq_rel.gpu;"), "races with", two);
    races(body("st.release.gpu.global.u32 [flag], 1;", "ld.relaxed.gpu.global.u32 %r3, [flag];", ""), "races with", two);
    races(body("fence.acq_rel.gpu; st.relaxed.gpu.global.u32 [flag], 1;", "ld.relaxed.gpu.global.u32 %r3, [flag];", ""), "races with", two);
    races(body("fence.acq_rel.cta; st.relaxed.gpu.global.u32 [flag], 1;", "ld.acquire.gpu.global.u32 %r3, [flag];", ""), "races with", two);
    races(body("st.global.u32 [flag], 1;", "ld.acquire.gpu.global.u32 %r3, [flag];", ""), "races with", two);
}

TEST_CASE("the last block gathers what all have written behind their fences") {
    const std::string declarations = ".global .align 4 .u32 count; .global .align 4 .u32 parts[512]; .shared .align 4 .u32 last;";
    const auto body = [](const std::string& fence, const std::string& after) {
        return "mov.u32 %r1, %ctaid.x; shl.b32 %r2, %r1, 6; add.u32 %r2, %r2, %t; mul.wide.u32 %rd1, %r2, 4; mov.u64 %rd2, parts; add.u64 "
               "%rd1, %rd2, %rd1;\n"
               "st.global.u32 [%rd1], %t;\n" +
               fence +
               "\nbar.sync 0;\nsetp.eq.u32 %p1, %t, 0; @!%p1 bra WAIT;\natom.global.add.u32 %r3, [count], 1; st.shared.u32 [last], "
               "%r3;\nWAIT: bar.sync 0;\n"
               "ld.shared.u32 %r4, [last]; setp.ne.u32 %p2, %r4, 3; @%p2 exit;\n" +
               after +
               "\nadd.u32 %r5, %t, 64; mul.wide.u32 %rd3, %r5, 4; add.u64 %rd3, %rd2, %rd3; ld.global.u32 %r6, [%rd3]; mul.wide.u32 %rd4, "
               "%t, 4; add.u64 %rd4, %out, %rd4; "
               "st.global.u32 [%rd4], %r6;";
    };
    const Shape four = {.threads = 64, .blocks = 4, .declarations = declarations};
    is_fine(body("membar.gl;", "membar.gl;"), four);
    is_fine(body("fence.acq_rel.gpu;", "fence.acq_rel.gpu;"), four);
    races(body("", "membar.gl;"), "races with", four);
    races(body("membar.gl;", ""), "races with", four);
}

TEST_CASE("copies under way") {
    const std::string copy =
        kShared + "shl.b32 %r1, %t, 4; mov.u32 %r2, s; add.u32 %r2, %r2, %r1;\ncp.async.cg.shared.global [%r2], [%in], 16;\n";
    const std::string wait = "cp.async.commit_group; cp.async.wait_group 0;\n";
    const std::string mine = "ld.shared.u32 %r3, [%r2];\n";
    const std::string others = "xor.b32 %r4, %r2, 1024; ld.shared.u32 %r3, [%r4];\n";
    is_fine(copy + wait + mine, {.threads = 128});
    is_fine(copy + "cp.async.wait_all;" + mine, {.threads = 128});
    is_fine(copy + wait + "bar.sync 0;\n" + others, {.threads = 128});
    // What a lane has waited for is its own to read; the others of its warp meet at bar.warp.sync, whether all waited at once or one after another.
    const std::string neighbour = "xor.b32 %r4, %r2, 16; ld.shared.u32 %r3, [%r4];\n";
    const std::string apart =
        "cp.async.commit_group; setp.lt.u32 %p1, %t, 5; @%p1 bra low; cp.async.wait_group 0; bra met;\n"
        "low: cp.async.wait_group 0;\nmet:\n";
    for (const std::string& waiting : {wait, apart}) {
        races(copy + waiting + neighbour, "lanes of a warp are not ordered without bar.warp.sync", {.threads = 32});
        is_fine(copy + waiting + "bar.warp.sync 0xffffffff;\n" + neighbour, {.threads = 32});
        is_fine(copy + waiting + "bar.sync 0;\n" + neighbour, {.threads = 32});
    }
    is_fine(copy + apart + "bar.sync 0;\n" + others, {.threads = 128});
    races(copy + mine, "is still writing: nobody has waited for it", {.threads = 128}, Fault::Kind::UnfinishedCopy);
    races(copy + "cp.async.commit_group; cp.async.wait_group 1;\n" + mine, "still writing", {.threads = 128}, Fault::Kind::UnfinishedCopy);
    races(copy + "cp.async.wait_group 0;\n" + mine, "still writing", {.threads = 128}, Fault::Kind::UnfinishedCopy);
    races(copy + "st.shared.u32 [%r2+4], %t;", "writes shared byte", {.threads = 128}, Fault::Kind::UnfinishedCopy);
    // Waiting behind the barrier is too late: the others may see it unfinished, or finished without knowing.
    for (uint64_t seed = 0; seed < 6; ++seed) {
        const Run run = run_ptx(copy + "bar.sync 0;\n" + wait + others, {1, 2, 3, 4}, 4, {.threads = 128, .seed = seed});
        CHECK_MESSAGE((run.fault.kind == Fault::Kind::UnfinishedCopy || run.fault.kind == Fault::Kind::Race), run.fault.text);
    }
    // The source must not change before the copy has been waited for.
    const std::string source =
        kShared +
        "mul.wide.u32 %rd1, %t, 16; add.u64 %rd1, %out, %rd1; shl.b32 %r1, %t, 4; mov.u32 %r2, s; add.u32 %r2, %r2, %r1;\n"
        "cp.async.cg.shared.global [%r2], [%rd1], 16;\n";
    races(source + "st.global.u32 [%rd1], %t;", "is still reading", {.threads = 128});
    is_fine(source + wait + "st.global.u32 [%rd1], %t;", {.threads = 128});
    // Two stages: the older group may be read, the younger not.
    const std::string two =
        copy + "cp.async.commit_group; cp.async.cg.shared.global [%r2+2048], [%in], 16; cp.async.commit_group; cp.async.wait_group 1;\n";
    is_fine(two + mine, {.threads = 128});
    races(two + "ld.shared.u32 %r3, [%r2+2048];", "still writing", {.threads = 128}, Fault::Kind::UnfinishedCopy);
}

TEST_CASE("checks can be switched off") {
    Device device;
    std::string error;
    const auto module = device.load(module_of(exchange("", 32, 128)), &error);
    REQUIRE_MESSAGE(module, error);
    const uint64_t buffer = device.allocate(64);
    std::vector<uint8_t> parameters(16);
    std::memcpy(parameters.data(), &buffer, 8);
    std::memcpy(parameters.data() + 8, &buffer, 8);
    LaunchOptions options;
    options.check_races = options.check_uninitialised = false;
    CHECK(!device.launch(*module, 0, {1, 1, 1}, {128, 1, 1}, 0, parameters, options));
}
