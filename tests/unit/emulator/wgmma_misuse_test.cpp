// Every way of not waiting for a product, of not ordering what it touches, and of executing it by part of a warpgroup; each beside a program that does it right.
#include <algorithm>

#include "wgmma_kernel.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

// A kernel of 128 threads (or more) in statements. A: 64 x 16 f16 at 0, K-major, 128 B; B: 16 x 16 at 8192, the same. %rd10, %rd11: their descriptors.
const std::string kDescriptors = "mov.b64 %rd10, 0x4000004000010000; mov.b64 %rd11, 0x4000004000010200; setp.eq.u32 %p1, 0, 0;\n";
const std::string kClear = [] {
    std::string text;
    for (int i = 0; i < 32; ++i) text += "mov.b32 %acc" + std::to_string(i) + ", 0; ";
    for (int i = 0; i < 8; ++i) text += "mov.b32 %frag" + std::to_string(i) + ", 0; ";
    return text + "\n";
}();
const std::string kFence = "wgmma.fence.sync.aligned;\n", kCommit = "wgmma.commit_group.sync.aligned;\n";
const std::string kWait = "wgmma.wait_group.sync.aligned 0;\n", kWaitOne = "wgmma.wait_group.sync.aligned 1;\n";
const std::string kBarrier = "bar.sync 0;\n", kProxy = "fence.proxy.async.shared::cta;\n";
const std::string kBegin = kDescriptors + kClear + kReady;

/// m64n16k16 f32 into acc[first] to acc[first + 7], A from shared memory or from frag[a] on.
std::string product(size_t first = 0, int a = -1) {
    return "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 " + registers("acc", first, 8) + ", " +
           (a < 0 ? "%rd10, %rd11, %p1, 1, 1, 0, 0;\n" : registers("frag", static_cast<size_t>(a), 4) + ", %rd11, %p1, 1, 1, 0;\n");
}
const std::string kStore = "mul.wide.u32 %rd20, %t, 4; add.u64 %rd20, %out, %rd20; st.global.u32 [%rd20], %acc0;\n";

Wgmma kernel_of(const std::string& body, uint32_t threads = 128) {
    Wgmma kernel;
    kernel.body = body;
    kernel.threads = threads;
    kernel.shared_words = 4096;
    kernel.out_words = 1024;
    for (size_t i = 0; i < kernel.shared_words; ++i) kernel.in.push_back(0x3c003c00);  // 1, 1
    return kernel;
}

std::string verdict(const Run& run) {
    return run.error.empty() ? std::string(name(run.fault.kind)) + ": " + run.fault.text : "load: " + run.error;
}

constexpr uint64_t kSeeds = 8;

void right(const Wgmma& given) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        Wgmma kernel = given;
        kernel.seed = seed;
        const Run run = run_wgmma(kernel);
        CHECK_MESSAGE((run.error.empty() && !run.fault), given.body << verdict(run));
    }
}
void right(const std::string& body, uint32_t threads = 128) {
    right(kernel_of(body, threads));
}
void wrong(const Wgmma& given, std::initializer_list<Fault::Kind> kinds, const std::string& says = "") {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        Wgmma kernel = given;
        kernel.seed = seed;
        const Run run = run_wgmma(kernel);
        const bool found = run.error.empty() && std::find(kinds.begin(), kinds.end(), run.fault.kind) != kinds.end();
        CHECK_MESSAGE(found, given.body << verdict(run));
        if (found) CHECK_MESSAGE(run.fault.text.find(says) != std::string::npos, verdict(run));
    }
}
void wrong(const std::string& body, Fault::Kind kind, const std::string& says = "", uint32_t threads = 128) {
    wrong(kernel_of(body, threads), {kind}, says);
}

TEST_CASE("the least that is right") {
    right(kBegin + kFence + product() + kCommit + kWait + kStore);
    right(kBegin + kFence + product(0, 0) + kCommit + kWait + kStore);
    right(kBegin + kFence + product() + product() + product() + kCommit + kWait + kStore);
    // Two accumulators, of which one is still under way; the registers of A used twice.
    right(kBegin + kFence + product(0, 0) + kCommit + product(8, 0) + kCommit + kWaitOne + kStore + kWait + "mov.b32 %acc0, %acc8;\n" +
          kStore);
    // An accumulator under way over a loop.
    right(kBegin + "mov.u32 %r10, 0;\n" + kFence + "NEXT:\n" + product() + kCommit + kWaitOne +
          "add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 5; @%p2 bra NEXT;\n" + kWait + kStore);
    // Waiting when there is nothing, and for groups without products.
    right(kBegin + kWait + kCommit + kCommit + kWait + kFence + product() + kCommit + kCommit + kWaitOne + kStore + kWait);
}

TEST_CASE("registers without a wgmma.fence") {
    const auto kind = Fault::Kind::MissingProductFence;
    wrong(kBegin + product() + kCommit + kWait + kStore, kind, "no wgmma.fence before the first product");
    // Written, or only read, after the fence; also behind a branch, in part of the threads.
    wrong(kBegin + kFence + "mov.b32 %acc3, 0;\n" + product() + kCommit + kWait + kStore, kind, "`%acc3`");
    right(kBegin + kFence + "mov.b32 %acc3, 0;\n" + kFence + product() + kCommit + kWait + kStore);
    wrong(kBegin + kFence + "setp.eq.u32 %p2, %t, 77; @%p2 mov.b32 %acc3, 0;\nbar.sync 0;\n" + product() + kCommit + kWait + kStore, kind,
          "`%acc3`");
    right(kBegin + kFence + "setp.eq.u32 %p2, %t, 777; @%p2 mov.b32 %acc3, 0;\n" + product() + kCommit + kWait + kStore);
    wrong(kBegin + kFence + "mov.b32 %r20, %acc7;\n" + product() + kCommit + kWait + kStore, kind, "`%acc7`");
    wrong(kBegin + kFence + product() + kCommit + kWait + kStore + product() + kCommit + kWait + kStore, kind, "`%acc0`");
    right(kBegin + kFence + product() + kCommit + kWait + kStore + kFence + product() + kCommit + kWait + kStore);
    // Other accumulators need none.
    right(kBegin + kFence + product() + kCommit + kWait + kStore + product(8) + kCommit + kWait + kStore);
    // A in registers.
    wrong(kBegin + kFence + "mov.b32 %frag1, 0;\n" + product(0, 0) + kCommit + kWait + kStore, kind, "`%frag1`");
    right(kBegin + kFence + "mov.b32 %frag5, 0;\n" + product(0, 0) + kCommit + kWait + kStore);
    right(kBegin + "mov.b32 %frag1, 0;\n" + kFence + product(0, 0) + kCommit + kWait + kStore);
    // Vectors, loads and calls touch registers too.
    wrong(kBegin + kFence + "ld.global.v2.u32 {%acc4, %acc5}, [%in];\n" + product() + kCommit + kWait + kStore, kind, "`%acc4`");
    wrong(kBegin + kFence + "st.global.v2.u32 [%out], {%r20, %acc5};\n" + product() + kCommit + kWait + kStore, kind, "`%acc5`");
}

TEST_CASE("registers of a product under way") {
    const auto kind = Fault::Kind::UnfinishedProduct;
    wrong(kBegin + kFence + product() + kCommit + kStore + kWait, kind, "reads `%acc0`");
    wrong(kBegin + kFence + product() + kCommit + "mov.b32 %acc2, 0;\n" + kWait + kStore, kind, "writes `%acc2`");
    wrong(kBegin + kFence + product() + kCommit + "setp.eq.u32 %p2, %t, 77; @%p2 mov.b32 %r20, %acc2;\n" + kWait + kStore, kind,
          "reads `%acc2`");
    right(kBegin + kFence + product() + kCommit + "setp.eq.u32 %p2, %t, 777; @%p2 mov.b32 %r20, %acc2;\n" + kWait + kStore);
    wrong(kBegin + kFence + product(0, 0) + kCommit + "mov.b32 %frag2, 0;\n" + kWait + kStore, kind, "writes `%frag2`");
    wrong(kBegin + kFence + product(0, 0) + kCommit + "mov.b32 %r20, %frag2;\n" + kWait + kStore, kind, "reads `%frag2`");
    right(kBegin + kFence + product(0, 0) + kCommit + "mov.b32 %frag5, 0;\n" + kWait + kStore);
    // No commit: no wait covers it. One group more than was waited for.
    wrong(kBegin + kFence + product() + kWait + kStore, kind);
    wrong(kBegin + kFence + product() + kCommit + kWaitOne + kStore, kind);
    wrong(kBegin + kFence + product() + kCommit + product(8) + kCommit + kWaitOne + kStore + "mov.b32 %acc0, %acc8;\n" + kWait, kind,
          "`%acc8`");
    // A second product under way keeps the accumulator.
    wrong(kBegin + kFence + product() + kCommit + product() + kCommit + kWaitOne + kStore + kWait, kind);
    // Another shape, other registers in another order, sums as A.
    const std::string other =
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 " + registers("acc", 0, 4) + ", %rd10, %rd11, %p1, 1, 1, 0, 0;\n";
    wrong(kBegin + kFence + product() + other + kCommit + kWait + kStore, kind, "accumulates in `%acc0`");
    wrong(kBegin + kFence + product() + kFence + other + kCommit + kWait + kStore, kind, "accumulates in `%acc0`");
    right(kBegin + kFence + product() + kCommit + kWait + kFence + other + kCommit + kWait + kStore);
    wrong(kBegin + kFence + product() + product(4) + kCommit + kWait + kStore, kind, "accumulates in");
    wrong(kBegin + kFence + product() +
              "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%acc0, %acc2, %acc1, %acc3, %acc4, %acc5, %acc6, %acc7}, %rd10, %rd11, "
              "%p1, 1, 1, 0, 0;\n" +
              kCommit + kWait + kStore,
          kind, "accumulates in");
    wrong(kBegin + kFence + product() + "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 " + registers("acc", 8, 8) +
              ", {%acc0, %acc1, %acc2, %acc3}, %rd11, %p1, 1, 1, 0;\n" + kCommit + kWait + kStore,
          kind, "takes A from `%acc0`");
    wrong(kBegin + kFence + product(0, 0) +
              "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%frag0, %frag1, %frag2, %frag3}, %rd10, %rd11, %p1, 1, 1, 0, 0;\n" +
              kCommit + kWait + kStore,
          kind, "accumulates in `%frag0`");
    // The end of the kernel.
    wrong(kBegin + kFence + product() + kCommit, kind, "ends while");
}

TEST_CASE("shared memory: fences, barriers, and whoever writes too early") {
    const std::string rest = kFence + product() + kCommit + kWait + kStore;
    wrong(kDescriptors + kClear + kBarrier + rest, Fault::Kind::MissingProxyFence, "no fence.proxy.async");
    right(kDescriptors + kClear + kProxy + kBarrier + rest);
    right(kDescriptors + kClear + kBarrier + kProxy + rest);
    wrong(kernel_of(kDescriptors + kClear + kProxy + rest), {Fault::Kind::Race, Fault::Kind::Uninitialised});
    // One warp fences for itself alone.
    wrong(kDescriptors + kClear + kBarrier + "setp.lt.u32 %p2, %t, 32; @!%p2 bra PAST;\n" + kProxy + "PAST:\n" + rest,
          Fault::Kind::MissingProxyFence);
    const std::string write = "setp.eq.u32 %p3, %t, 5; mov.u32 %r20, tile; mov.u32 %r21, 0; @%p3 st.shared.u32 [%r20+8200], %r21;\n";
    wrong(kBegin + write + rest, Fault::Kind::Race);
    wrong(kBegin + write + kBarrier + rest, Fault::Kind::MissingProxyFence);
    right(kBegin + write + kBarrier + kProxy + rest);
    // What the product reads is written before it is over.
    const std::string begun = kBegin + kFence + product() + kCommit;
    wrong(begun + write + kWait + kStore, Fault::Kind::Race, "st.shared");
    right(begun + kWait + write + kStore);
    // Another warpgroup must hear of the wait.
    const std::string late = "setp.eq.u32 %p3, %t, 133; mov.u32 %r20, tile; mov.u32 %r21, 0; @%p3 st.shared.u32 [%r20+8200], %r21;\n";
    const std::string both = kBegin + "setp.ge.u32 %p4, %t, 128; @%p4 bra OTHER;\n" + kFence + product() + kCommit + kWait;
    right(both + kBarrier + kStore + "bra PAST;\nOTHER:\n" + kBarrier + late + "PAST:\n", 256);
    wrong(kernel_of(both + kStore + "bra PAST;\nOTHER:\n" + late + "PAST:\n", 256), {Fault::Kind::Race, Fault::Kind::MissingProxyFence});
    const std::string copy = "setp.eq.u32 %p3, %t, 5; mov.u32 %r20, tile; @%p3 cp.async.ca.shared.global [%r20+8192], [%in], 16;\n";
    wrong(begun + copy + kWait + "cp.async.wait_all;\n" + kStore, Fault::Kind::Race);
    right(begun + kWait + copy + "cp.async.wait_all;\n" + kStore);
    // Data of cp.async: the fence may stand before or behind the barrier, but behind the wait.
    const std::string landed = kBegin + copy + "cp.async.commit_group;\n";
    right(landed + "cp.async.wait_group 0;\n" + kBarrier + kProxy + rest);
    right(landed + "cp.async.wait_group 0;\n" + kProxy + kBarrier + rest);
    wrong(landed + "cp.async.wait_group 0;\n" + kBarrier + rest, Fault::Kind::MissingProxyFence);
    wrong(landed + kProxy + "cp.async.wait_group 0;\n" + kBarrier + rest, Fault::Kind::MissingProxyFence);
    wrong(kernel_of(landed + kBarrier + kProxy + rest), {Fault::Kind::UnfinishedCopy});
    // A of each warp is its own: order within the warp is enough.
    const std::string own =
        "mul.lo.u32 %r20, %t, 64; shr.u32 %r20, %r20, 11; shl.b32 %r20, %r20, 11; add.u32 %r20, %r20, tile; shl.b32 %r21, %lane, 2; "
        "add.u32 %r20, %r20, %r21; "
        "mov.u32 %r21, 0; st.shared.u32 [%r20], %r21;\n";
    right(kBegin + own + kProxy + "bar.warp.sync 0xffffffff;\n" + rest);
    wrong(kBegin + own + kProxy + rest, Fault::Kind::Race);
    wrong(kBegin + own + "bar.warp.sync 0xffffffff;\n" + rest, Fault::Kind::MissingProxyFence);
    // Never written, or not there at all.
    Wgmma hole = kernel_of(kBegin + rest);
    hole.shared_words = 8192 / 4 + 8 * 32;  // half of B
    wrong(hole, {Fault::Kind::OutOfBounds});
    hole.room_words = 4096;
    wrong(hole, {Fault::Kind::Uninitialised});
    Wgmma bare = kernel_of("mov.b64 %rd10, 0x4000004000010000; mov.b64 %rd11, 0x4000004000010300; setp.eq.u32 %p1, 0, 0;\n" + kClear +
                           kReady + rest);
    bare.shared_words = 0;
    wrong(bare, {Fault::Kind::OutOfBounds});
}

TEST_CASE("descriptors") {
    const auto with = [](const std::string& a, const std::string& b) {
        return kBegin + "mov.b64 %rd10, " + a + "; mov.b64 %rd11, " + b + ";\n" + kFence + product() + kCommit + kWait + kStore;
    };
    const std::string a = "0x4000004000010000", b = "0x4000004000010200";
    right(with(a, b));
    right(with("0x4000004000010000", "0x4000004000010206"));                   // the last 32 bytes of each row
    wrong(with(a, "0x4000004000010208"), Fault::Kind::BadInstruction, "B: ");  // row 1 of a pattern, with no base offset
    wrong(with(a, "0x4000004000014200"), Fault::Kind::BadInstruction, "bits that must be zero");
    wrong(with(a, "0x4010004000010200"), Fault::Kind::BadInstruction, "bits that must be zero");
    wrong(with(a, "0x0002004000010200"), Fault::Kind::BadInstruction, "base offset but no swizzle");
    wrong(with(a, "0x4000004000010207"), Fault::Kind::BadInstruction, "inside one swizzle");  // 32 bytes from byte 112 of a row
    wrong(with(a, "0x4000004000013f00"), Fault::Kind::OutOfBounds, "outside of the block's");
    wrong(with(a, "0x4000200000010200"), Fault::Kind::OutOfBounds, "outside of the block's");  // a stride of 128 KiB
    // The same in all threads, and in all warps.
    const std::string lanes = "setp.eq.u32 %p2, %lane, 3; @%p2 add.u64 %rd11, %rd11, 64;\n",
                      warps = "setp.ge.u32 %p2, %t, 96; @%p2 add.u64 %rd11, %rd11, 64;\n";
    wrong(kBegin + lanes + kFence + product() + kCommit + kWait, Fault::Kind::BadInstruction, "the same in all threads");
    wrong(kBegin + warps + kFence + product() + kCommit + kWait, Fault::Kind::BadInstruction, "differ from those of another warp");
    wrong(kBegin + "setp.eq.u32 %p1, %lane, 3;\n" + kFence + product() + kCommit + kWait, Fault::Kind::BadInstruction,
          "scale-d must be the same");
}

TEST_CASE("part of a warpgroup") {
    const auto kind = Fault::Kind::Divergence;
    const std::string rest = kFence + product() + kCommit + kWait + kStore;
    const auto only = [&](const std::string& condition, const std::string& what) {
        return kBegin + "setp." + condition + "; @!%p2 bra PAST;\n" + what + "PAST:\nbar.sync 0;\n";
    };
    wrong(only("lt.u32 %p2, %t, 96", rest), kind, "warp 3");
    wrong(only("lt.u32 %p2, %t, 80", rest), kind);
    wrong(only("ne.u32 %p2, %t, 17", rest), kind);
    right(only("lt.u32 %p2, %t, 128", rest), 256);
    right(only("ge.u32 %p2, %t, 128", rest), 256);
    wrong(only("ge.u32 %p2, %t, 64", rest), kind, "", 256);
    // Warps that have exited, before or after.
    wrong(kBegin + "setp.ge.u32 %p2, %t, 96; @%p2 ret;\n" + rest, kind);
    wrong(kBegin + "setp.ge.u32 %p2, %t, 96;\n" + kFence + "@%p2 ret;\n" + product() + kCommit + kWait + kStore, kind);
    wrong(kBegin + rest, kind, "only 3", 96);
    wrong(kBegin + rest, kind, "only 1", 160);
    // A guard that is off in one warp, or in one thread.
    wrong(kBegin + kFence + "setp.lt.u32 %p2, %t, 96;\n@%p2 " + product() + kCommit + kWait + kStore, kind);
    wrong(kBegin + kFence + "setp.ne.u32 %p2, %t, 3;\n@%p2 " + product() + kCommit + kWait + kStore, kind);
    // The same number of products, but not the same ones; another number of them.
    wrong(kBegin + kFence + "setp.lt.u32 %p2, %t, 96; @%p2 bra A;\n" + product() + "bra PAST;\nA:\n" + product() + "PAST:\n" + kCommit +
              kWait + kStore,
          kind, "the same instructions");
    wrong(kBegin + kFence + "mov.u32 %r10, 0; setp.lt.u32 %p2, %t, 96; selp.u32 %r11, 3, 4, %p2;\nNEXT:\n" + product() +
              "add.u32 %r10, %r10, 1; setp.lt.u32 %p3, %r10, %r11; @%p3 bra NEXT;\n" + kCommit + kWait + kStore,
          kind);
    wrong(kBegin + kFence + product() + "setp.lt.u32 %p2, %t, 96; @%p2 bra A;\n" + kCommit + "A:\n" + kCommit + kWait + kStore, kind);
}

TEST_CASE("functions and calls") {
    // A function that is given a register, one that multiplies in registers of its own, and one that leaves a product behind.
    const std::string begun = kBegin + kFence + product() + kCommit;
    const auto with = [](const std::string& function, const std::string& body) {
        Wgmma kernel = kernel_of(body);
        kernel.functions = ".func (.reg .b32 %result) " + function + "\n";
        return kernel;
    };
    const std::string identity = "f(.reg .b32 %given) { mov.b32 %result, %given; ret; }";
    right(with(identity, begun + kWait + "call (%r20), f, (%acc0);\n" + kStore));
    right(with(identity, begun + "call (%r20), f, (%r21);\n" + kWait + kStore));
    wrong(with(identity, begun + "call (%r20), f, (%acc0);\n" + kWait + kStore), {Fault::Kind::UnfinishedProduct}, "reads `%acc0`");
    wrong(with(identity, begun + "call (%acc5), f, (%r20);\n" + kWait + kStore), {Fault::Kind::UnfinishedProduct}, "writes `%acc5`");
    wrong(with(identity, kBegin + kFence + "call (%acc5), f, (%r20);\n" + product() + kCommit + kWait), {Fault::Kind::MissingProductFence},
          "`%acc5`");
    const auto multiplies = [](const std::string& end) {
        return "f(.reg .b32 %given) {\n.reg .b32 %acc<8>; .reg .b64 %rd<12>; .reg .pred %p<2>;\n" + kDescriptors +
               "mov.b32 %acc0, %given; mov.b32 %acc1, %given; mov.b32 %acc2, 0; mov.b32 %acc3, 0; mov.b32 %acc4, 0; mov.b32 %acc5, 0; "
               "mov.b32 "
               "%acc6, 0; mov.b32 %acc7, 0;\n" +
               kFence + product() + kCommit + end + "ret;\n}";
    };
    const std::string call = kClear + kReady + "mov.u32 %r21, 0x3f800000; call (%acc0), f, (%r21);\n" + kStore;
    const Wgmma kernel = with(multiplies(kWait + "mov.b32 %result, %acc1;\n"), call);
    right(kernel);
    const Run run = run_wgmma(kernel);
    for (size_t i = 0; i < 128; ++i) REQUIRE(run.out[i] == std::bit_cast<uint32_t>(17.0f));
    wrong(with(multiplies("mov.b32 %result, 0;\n"), call), {Fault::Kind::UnfinishedProduct}, "ends while");
}

TEST_CASE("results are right under all seeds, with products of two warpgroups under way") {
    // Sums of 16 ones, 1 to 4 times; each warpgroup loops over two accumulators.
    const std::string body = kBegin + "mov.u32 %r10, 0;\n" + kFence + "NEXT:\n" + product() + kCommit + product(8, 0) + kCommit + kWaitOne +
                             "add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 4; @%p2 bra NEXT;\n" + kWait + kStore +
                             "st.global.u32 [%rd20+2048], %acc9;\n";
    for (uint64_t seed = 0; seed < 12; ++seed) {
        Wgmma kernel = kernel_of(body, 256);
        kernel.seed = seed;
        const Run run = run_wgmma(kernel);
        REQUIRE_MESSAGE((run.error.empty() && !run.fault), verdict(run));
        for (size_t i = 0; i < 256; ++i) {
            REQUIRE(run.out[i] == std::bit_cast<uint32_t>(64.0f));
            REQUIRE(run.out[512 + i] == 0);
        }
    }
}

TEST_CASE("the seed chooses when a product reads its operands") {
    // B is cleared while the product is under way, and nobody objects: the sums are of ones, or of zeros.
    Wgmma kernel =
        kernel_of(kBegin + kFence + product() + kCommit +
                  "bar.sync 0;\nmov.u32 %r20, tile; mad.lo.u32 %r20, %t, 16, %r20; mov.u32 %r21, 0; st.shared.v4.u32 [%r20+8192], "
                  "{%r21, %r21, %r21, %r21};\nbar.sync 0;\n" +
                  kWait + kStore);
    kernel.check_races = false;
    size_t ones = 0, zeros = 0;
    for (kernel.seed = 0; kernel.seed < 24; ++kernel.seed) {
        const Run run = run_wgmma(kernel);
        REQUIRE_MESSAGE((run.error.empty() && !run.fault), verdict(run));
        ones += run.out[0] == std::bit_cast<uint32_t>(16.0f);
        zeros += run.out[0] == 0;
    }
    CHECK(ones > 0);
    CHECK(zeros > 0);
    CHECK(ones + zeros == 24);
}

TEST_CASE("setmaxnreg") {
    const auto with = [](const std::string& body, uint32_t threads, const std::string& directives) {
        Wgmma kernel = kernel_of(body, threads);
        kernel.directives = "\n" + directives + "\n";
        kernel.shared_words = 0;
        return kernel;
    };
    const auto set = [](const std::string& action, int count) {
        return "setmaxnreg." + action + ".sync.aligned.u32 " + std::to_string(count) + ";\n";
    };
    const auto groups = [&](const std::string& first, const std::string& others) {
        return "setp.lt.u32 %p2, %t, 128; @!%p2 bra OTHER;\n" + first + "bra PAST;\nOTHER:\n" + others + "PAST:\nbar.sync 0;\n";
    };
    // 384 threads have 168 registers each.
    const std::string three = ".maxntid 384, 1, 1";
    right(with(groups(set("inc", 256), set("dec", 120)), 384, three));
    right(with(groups(set("dec", 24), set("inc", 240)), 384, three));
    right(with(groups(set("dec", 168), set("inc", 168)), 384, three));
    right(with(groups(set("inc", 232), set("dec", 24)), 256, ".maxnreg 128"));
    right(with(groups(set("inc", 256), set("dec", 56)), 256, ".maxntid 256, 1, 1"));
    right(with(groups(set("inc", 232), set("dec", 24)), 256, ".maxntid 256, 1, 1\n.minnctapersm 2"));
    wrong(with(groups(set("inc", 240), set("dec", 24)), 256, ".maxntid 256, 1, 1\n.minnctapersm 2"), {Fault::Kind::Deadlock});
    // More than there is.
    wrong(with(groups(set("inc", 256), set("dec", 128)), 384, three), {Fault::Kind::Deadlock});
    wrong(with(groups(set("dec", 32), set("inc", 240)), 384, three), {Fault::Kind::Deadlock});
    // In the wrong direction.
    wrong(with(groups(set("dec", 176), ""), 384, three), {Fault::Kind::BadInstruction}, "168 registers");
    wrong(with(groups(set("inc", 160), ""), 384, three), {Fault::Kind::BadInstruction}, "168 registers");
    // By part of a warpgroup.
    wrong(with("setp.lt.u32 %p2, %t, 96; @!%p2 bra PAST;\n" + set("dec", 24) + "PAST:\nbar.sync 0;\n", 384, three),
          {Fault::Kind::Divergence});
    wrong(with("setp.ne.u32 %p2, %t, 9; @!%p2 bra PAST;\n" + set("dec", 24) + "PAST:\nbar.sync 0;\n", 384, three),
          {Fault::Kind::Divergence});
    // Twice: with a barrier between.
    right(with(groups(set("dec", 40) + "bar.sync 1, 128;\n" + set("inc", 168), ""), 384, three));
    wrong(with(groups(set("dec", 40) + set("inc", 168), ""), 384, three), {Fault::Kind::BadInstruction}, "no barrier");
    // A kernel that does not say how many registers it begins with keeps what it has.
    right(with(groups(set("inc", 256), set("inc", 256)), 384, ""));
}

TEST_CASE("what is refused at load") {
    const auto refusal = [](const std::string& instruction) { return run_wgmma(kernel_of(instruction)).error; };
    const auto f16 = [&](const std::string& shape, size_t count, const std::string& rest) {
        return "wgmma.mma_async.sync.aligned." + shape + " " + registers("acc", 0, count) + ", " + rest + ";\n";
    };
    const std::string operands = "%rd10, %rd11, %p1, 1, 1, 0, 0";
    CHECK(refusal(f16("m64n16k16.f32.f16.f16", 8, operands)).empty());
    CHECK(refusal(f16("m64n12k16.f32.f16.f16", 6, operands)).find("no such shape") != std::string::npos);
    CHECK(refusal(f16("m64n264k16.f32.f16.f16", 132, operands)).find("no such shape") != std::string::npos);
    CHECK(refusal(f16("m64n16k8.f32.f16.f16", 8, operands)).find("no such shape") != std::string::npos);
    CHECK(refusal(f16("m64n16k16.f32.f16.f16", 4, operands)).find("8 registers") != std::string::npos);
    CHECK(refusal(f16("m64n16k16.f16.f16.f16", 8, operands)).find("4 registers") != std::string::npos);
    CHECK(refusal(f16("m64n16k16.f16.bf16.bf16", 4, operands)).find("do not go together") != std::string::npos);
    CHECK(refusal(f16("m64n16k16.f32.f16.bf16", 8, operands)).find("do not go together") != std::string::npos);
    CHECK(refusal(f16("m64n16k16.f32.f16.f16", 8, "%rd10, %rd11, %p1, 1, 1")).find("8 operands") != std::string::npos);
    CHECK(refusal(f16("m64n16k16.f32.f16.f16", 8, "%rd10, %rd11, %p1, 2, 1, 0, 0")) != "");
    CHECK(refusal(f16("m64n16k16.f32.f16.f16", 8, "%rd10, %rd11, %p1, 0, 1, 0, 0")).find("1 or -1") != std::string::npos);
    CHECK(refusal(f16("m64n16k8.f32.tf32.tf32", 8, operands)).find("6 operands") != std::string::npos);
    CHECK(refusal(f16("m64n40k32.s32.s8.s8", 20, "%rd10, %rd11, %p1")).find("no such shape") != std::string::npos);
    CHECK(refusal(f16("m64n16k32.satfinite.f32.e4m3.e4m3", 8, "%rd10, %rd11, %p1, 1, 1")).find("satfinite") != std::string::npos);
    CHECK(
        refusal("wgmma.mma_async.sp.sync.aligned.m64n16k32.f32.f16.f16 {%acc0}, %rd10, %rd11, %r0, 0, %p1, 1, 1, 0, 0;\n").find("sparse") !=
        std::string::npos);
    CHECK(refusal("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%acc0, %acc1, %acc1, %acc2}, " + operands + ";\n")
              .find("different registers") != std::string::npos);
    CHECK(refusal("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%acc0, %acc1, %acc2, %acc3}, {%acc0, %frag0, %frag1, %frag2}, %rd11, "
                  "%p1, 1, 1, 0;\n")
              .find("part of A and an accumulator") != std::string::npos);
    CHECK(refusal("wgmma.fence.aligned;\n").find("sync") != std::string::npos);
    CHECK(refusal("wgmma.wait_group.sync.aligned %r0;\n") != "");
    CHECK(refusal("setmaxnreg.inc.sync.aligned.u32 250;\n").find("multiple of 8") != std::string::npos);
    CHECK(refusal("setmaxnreg.dec.sync.aligned.u32 16;\n") != "");
    CHECK(refusal("setmaxnreg.inc.sync.aligned.u32 264;\n") != "");
    Wgmma older = kernel_of("wgmma.fence.sync.aligned;\n");
    for (const std::string target : {"sm_80", "sm_90"}) {
        older.target = target;
        CHECK(run_wgmma(older).error.find("needs `.target sm_90a`") != std::string::npos);
    }
    older.body = "setmaxnreg.dec.sync.aligned.u32 64;\n";
    CHECK(run_wgmma(older).error.find("target of one architecture") != std::string::npos);
    CHECK(refusal("setmaxnreg.sync.aligned.u32 64;\n").find(".inc") != std::string::npos);
}

TEST_CASE("random instructions are taken or refused") {
    Random random{5};
    const auto one_of = [&](std::initializer_list<const char*> words) { return std::string(words.begin()[random.next() % words.size()]); };
    // Right ones, of which a part is changed now and then.
    struct Base {
        const char *types, *k, *rest;
        size_t columns;  // of a register
    };
    constexpr Base kBases[] = {{"f32.f16.f16", "16", ", 1, 1, 0, 0", 2},    {"f16.f16.f16", "16", ", -1, 1, 0, 1", 4},
                               {"f32.bf16.bf16", "16", ", 1, -1, 1, 0", 2}, {"f32.tf32.tf32", "8", ", 1, 1", 2},
                               {"f32.e4m3.e5m2", "32", ", 1, 1", 2},        {"s32.u8.s8", "32", "", 2}};
    size_t taken = 0;
    for (int i = 0; i < 3000; ++i) {
        const auto below = [&](size_t bound) { return static_cast<size_t>(random.next() % bound); };
        const auto or_else = [&](const std::string& usual, const std::string& other) { return below(8) == 0 ? other : usual; };
        const Base& base = kBases[below(std::size(kBases))];
        const size_t n = 16 * (1 + below(17));
        const std::string text = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(or_else("", "x").empty() ? n : 8 * below(40)) + "k" +
                                 or_else(base.k, one_of({"8", "16", "32", "256"})) + "." +
                                 or_else(base.types, one_of({"f32.f16.bf16", "s32.b1.b1", "f32.s8.s8", "f16.tf32.tf32"})) +
                                 or_else("", one_of({".and.popc", ".satfinite", ".sp", ".f32"})) + " " +
                                 registers("acc", 0, or_else("", "x").empty() ? n / base.columns : below(129)) + ", " +
                                 or_else("%rd10", one_of({"{%frag0, %frag1, %frag2, %frag3}", "%r0", "{%frag0}", "[%rd10]"})) + ", " +
                                 or_else("%rd11", one_of({"0", "%r1", "{%rd11}"})) + ", " +
                                 or_else("%p1", one_of({"1", "!%p1", "%r3", "_"})) +
                                 or_else(base.rest, one_of({", 1", ", 1, 1, 1", ", 0, 0", ", %r4, 1", ", 1.5, 1"}));
        const std::string error = run_wgmma(kernel_of("bra PAST;\n" + text + ";\nPAST:\n")).error;
        taken += error.empty();
        if (!error.empty()) CHECK_MESSAGE(error.find("line ") != std::string::npos, text << ": " << error);
    }
    CHECK(taken > 300);
    CHECK(taken < 2000);
}

}  // namespace
