// Bulk copies: every way of not waiting, not fencing, not counting, each beside the kernel that does; plain copies, clusters, device-made tensor maps.
#include "bulk_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;
using Kinds = std::initializer_list<Fault::Kind>;

constexpr uint64_t kSeeds = 8;

/// Every seed must find one of these.
template <typename F>
void check_each_seed(F run, Kinds kinds) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        CAPTURE(seed);
        const BulkRun result = run(seed);
        const bool found = std::find(kinds.begin(), kinds.end(), result.fault.kind) != kinds.end();
        CHECK_MESSAGE((result.error.empty() && found), verdict(result));
    }
}

// A tile of 16 rows of 128 bytes out of a tensor of 64 x 40 bf16.
const TensorSpec kTensor{.type = 9, .dims = {64, 40}, .strides = {128}, .box = {64, 16}, .swizzle = 0};
constexpr size_t kBytes = 2048;

std::vector<uint8_t> tensor_data() {
    Random random{3};
    return random_bytes(random, size_t{128} * 40);
}

BulkRun run_with(const std::string& body, uint64_t seed, const BulkShape& shape = {}) {
    BulkShape mine = shape;
    mine.seed = seed;
    return run_bulk(body, &kTensor, &kTensor, tensor_data(), std::vector<uint8_t>(size_t{128} * 40), mine);
}

void check_well(const std::string& body, const std::vector<uint8_t>& want, const BulkShape& shape = {}) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        CAPTURE(seed);
        const BulkRun run = run_with(body, seed, shape);
        if (!well(run)) return;
        REQUIRE(std::equal(want.begin(), want.end(), run.out.begin()));
    }
}

void check_wrong(const std::string& body, Kinds kinds, const BulkShape& shape = {}) {
    check_each_seed([&](uint64_t seed) { return run_with(body, seed, shape); }, kinds);
}

std::vector<uint8_t> rows(int first, int count) {
    const auto data = tensor_data();
    return {data.begin() + first * 128, data.begin() + (first + count) * 128};
}

const std::string kInit = "mbarrier.init.shared::cta.b64 [bar], 1;\n";
std::string expect(const std::string& bytes = "2048") {
    return "mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], " + bytes + ";\n";
}
std::string load(int row = 0, const std::string& to = "tile") {
    return "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [" + to + "], [%map, {0, " + std::to_string(row) +
           "}], [bar];\n";
}
const std::string kStore = "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%map2, {0, 0}], [tile];\n";
const std::string kCommit = "cp.async.bulk.commit_group;\n", kWait = "cp.async.bulk.wait_group 0;\n",
                  kWaitRead = "cp.async.bulk.wait_group.read 0;\n";
const std::string kSync = "bar.sync 0;\n", kFence = "fence.proxy.async.shared::cta;\n";

constexpr Kinds kEarly = {Fault::Kind::UnfinishedCopy, Fault::Kind::Race};

TEST_CASE("bulk: a load must be announced, counted and waited for") {
    const auto want = rows(3, 16);
    const std::string out = tile_to_out(kBytes);
    check_well(by_first(kInit + expect() + load(3)) + wait_for("bar", 0) + out, want);
    // The copy may begin before its bytes are announced, and before others have arrived.
    check_well(by_first("mbarrier.init.shared::cta.b64 [bar], 33;\n" + load(3)) + by_first(expect()) +
                   "mbarrier.arrive.shared::cta.b64 _, [bar];\n" + wait_for("bar", 0) + out,
               want);
    check_well(by_first(kInit + "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 2048;\n" + load(3) +
                        "mbarrier.arrive.shared::cta.b64 _, [bar];\n") +
                   wait_for("bar", 0) + out,
               want);
    // Half by half, and half of the bytes counted by hand.
    check_well(by_first(kInit + "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 1024;\n" + expect("2048") + load(3) +
                        "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 1024;\n") +
                   wait_for("bar", 0) + out,
               want);
    check_wrong(by_first(kInit + expect() + load(3)) + out, kEarly);
    check_wrong(by_first(kInit + expect() + load(3)) + wait_for("bar", 1) + out,
                {Fault::Kind::UnfinishedCopy, Fault::Kind::Race, Fault::Kind::Deadlock});
    check_wrong(by_first(kInit + "mbarrier.arrive.shared::cta.b64 _, [bar];\n" + load(3)) + wait_for("bar", 0) + out, kEarly);
    check_wrong(by_first(kInit + expect("2032") + load(3)) + wait_for("bar", 0) + out, {Fault::Kind::Deadlock});
    check_wrong(by_first(kInit + expect("2064") + load(3)) + wait_for("bar", 0) + out, {Fault::Kind::Deadlock});
    check_wrong(by_first(kInit + load(3)) + wait_for("bar", 0) + out, {Fault::Kind::Deadlock});
    check_wrong(by_first(kInit + expect()) + wait_for("bar", 0) + out, {Fault::Kind::Deadlock});
    // One announcement for two copies: the phase may end with the first.
    check_wrong(by_first(kInit + expect() + load(3) + load(9, "tile + 2048")) + wait_for("bar", 0) + tile_to_out(2 * kBytes),
                {Fault::Kind::UnfinishedCopy, Fault::Kind::Race});
    check_wrong(by_first(expect() + load(3)) + wait_for("bar", 0) + out, {Fault::Kind::BadBarrier});
    check_wrong(by_first(kInit + expect() + load(3) + "mbarrier.inval.shared::cta.b64 [bar];\n"),
                {Fault::Kind::BadBarrier, Fault::Kind::UnfinishedCopy});
    // Nobody waits: the block may be gone before the bytes come.
    check_wrong(by_first(kInit + expect() + load(3)), {Fault::Kind::UnfinishedCopy});
    const BulkRun run = run_with(by_first(kInit + expect("4096") + load(3)) + wait_for("bar", 0) + out, 0);
    CHECK_MESSAGE(run.fault.text.find("2048 bytes (4096 announced, 2048 transferred)") != std::string::npos, run.fault.text);
}

TEST_CASE("bulk: what stands in the way of a load") {
    const std::string out = tile_to_out(kBytes), first = by_first(kInit + expect() + load(0)) + wait_for("bar", 0) + out;
    const std::string second = by_first(expect() + load(5)) + wait_for("bar", 1) + tile_to_out(kBytes);
    // Reads of the tile must be over, but need no proxy fence.
    check_well(first + kSync + second, rows(5, 16));
    check_wrong(first + second, {Fault::Kind::Race});
    // Written by threads: over, and fenced, on either side of the barrier.
    const std::string write = "mov.u32 %r1, tile; shl.b32 %r2, %t, 2; add.u32 %r1, %r1, %r2; st.shared.u32 [%r1], %t;\n";
    const std::string rest = by_first(kInit + expect() + load(5)) + wait_for("bar", 0) + out;
    check_well(write + kFence + kSync + rest, rows(5, 16));
    check_well(write + kSync + kFence + rest, rows(5, 16));
    check_well(write + "fence.proxy.async;\n" + kSync + rest, rows(5, 16));
    check_wrong(write + kSync + rest, {Fault::Kind::MissingProxyFence});
    check_wrong(write + "fence.proxy.async.global;\n" + kSync + rest, {Fault::Kind::MissingProxyFence});
    check_wrong(write + kFence + rest, {Fault::Kind::Race});
    check_wrong(by_first(kInit + expect() + load(5)) + write + wait_for("bar", 0) + out, kEarly);
    // The source, written in the same kernel.
    const std::string change = "mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %in, %rd1; st.global.u32 [%rd1], %t;\n";
    const std::string from = by_first(kInit + expect() + load(0)) + wait_for("bar", 0) + out;
    auto changed = rows(0, 16);
    for (uint32_t i = 0; i < 32; ++i) std::memcpy(&changed[i * 4], &i, 4);
    check_well(change + "fence.proxy.async;\n" + kSync + from, changed);
    check_well(change + "fence.proxy.async.global;\n" + kSync + from, changed);
    check_wrong(change + kSync + from, {Fault::Kind::MissingProxyFence});
    check_wrong(change + kFence + kSync + from, {Fault::Kind::MissingProxyFence});
    check_wrong(by_first(kInit + expect() + load(0)) + change + wait_for("bar", 0) + out, {Fault::Kind::Race});
    check_well(by_first(kInit + expect() + load(0)) + wait_for("bar", 0) + out + change, rows(0, 16));
}

TEST_CASE("bulk: what a store needs") {
    const auto want = rows(0, 16);
    const std::string fill = in_to_tile(kBytes);
    check_well(fill + kFence + kSync + by_first(kStore + kCommit + kWait), want);
    check_well(fill + kSync + by_first(kFence + kStore + kCommit + kWaitRead), want);
    check_wrong(fill + kSync + by_first(kStore + kCommit + kWait), {Fault::Kind::MissingProxyFence});
    check_wrong(fill + kFence + by_first(kStore + kCommit + kWait), {Fault::Kind::Race});
    check_wrong(by_first(kStore + kCommit + kWait), {Fault::Kind::Uninitialised});
    // The tile may be written again when it has been read, by others behind a barrier.
    const std::string again = in_to_tile(kBytes);
    check_well(fill + kFence + kSync + by_first(kStore + kCommit + kWaitRead) + again, want);
    check_wrong(fill + kFence + kSync + by_first(kStore + kCommit) + again, {Fault::Kind::Race});
    check_wrong(fill + kFence + kSync + by_first(kStore + kWaitRead) + again, {Fault::Kind::Race});
    check_wrong(fill + kFence + kSync + by_first(kStore + kCommit + "cp.async.bulk.wait_group.read 1;\n") + again, {Fault::Kind::Race});
    // Two groups: the older is read, the younger may not be.
    const std::string other = "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%map2, {0, 16}], [tile + 2048];\n";
    const std::string both =
        in_to_tile(2 * kBytes) + kFence + kSync + by_first(kStore + kCommit + other + kCommit + "cp.async.bulk.wait_group.read 1;\n");
    const std::string write = "st.shared.u32 [tile + ", leave = by_first(kWaitRead);
    check_well(both + by_first(write + "0], 1;\n") + leave, rows(0, 32));
    check_wrong(both + by_first(write + "2048], 1;\n") + leave, {Fault::Kind::Race});
    // What was stored may be read when the store is complete.
    const std::string read = "mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %out, %rd1; ld.global.u32 %r1, [%rd1];\n";
    check_well(fill + kFence + kSync + by_first(kStore + kCommit + kWait) + read, want);
    check_wrong(fill + kFence + kSync + by_first(kStore + kCommit + kWaitRead) + read, {Fault::Kind::UnfinishedCopy});
    const std::string alone = "setp.ne.u32 %p9, %t, 0; @%p9 bra Q;\n" + kStore + kCommit + kWait + "Q:\n";
    check_well(fill + kFence + kSync + alone + "bar.warp.sync 0xffffffff;\n" + read, want);
    check_wrong(fill + kFence + kSync + alone + read, {Fault::Kind::Race, Fault::Kind::UnfinishedCopy});
    check_wrong(fill + kFence + kSync + by_first(kStore + kCommit), {Fault::Kind::UnfinishedCopy});
    check_wrong(fill + kFence + kSync + by_first(kStore + kWait), {Fault::Kind::UnfinishedCopy});
}

TEST_CASE("bulk: operands") {
    const auto once = [&](const std::string& text, Kinds kinds, const TensorSpec& spec = kTensor) {
        check_each_seed(
            [&](uint64_t seed) {
                return run_bulk(by_first(kInit + expect() + text) + wait_for("bar", 0), &spec, &spec, tensor_data(),
                                std::vector<uint8_t>(5120), {.seed = seed});
            },
            kinds);
    };
    const std::string to = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes ";
    once(load(0, "tile + 64"), {Fault::Kind::Misaligned});
    once(to + "[tile + 8], [%in], 16, [bar];\n", {Fault::Kind::Misaligned});
    once(to + "[tile], [%in + 8], 16, [bar];\n", {Fault::Kind::Misaligned});
    once(to + "[tile], [%in], 24, [bar];\n", {Fault::Kind::BadInstruction});
    once(to + "[tile], [%in + 5104], 32, [bar];\n", {Fault::Kind::OutOfBounds});
    once(to + "[tile + 65520], [%in], 4096, [bar];\n", {Fault::Kind::OutOfBounds});
    once(to + "[tile], [%in], 16, [bar + 8];\n", {Fault::Kind::BadBarrier});
    once("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%map, {0, 0, 0}], [bar];\n",
         {Fault::Kind::BadInstruction});
    once("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%in, {0, 0}], [bar];\n",
         {Fault::Kind::BadInstruction});
    once("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%map + 8, {0, 0}], [bar];\n",
         {Fault::Kind::Misaligned});
    // A map that promises more than there is.
    TensorSpec large = kTensor;
    large.dims[1] = 41;
    once(load(30), {Fault::Kind::OutOfBounds}, large);
    for (const std::string text :
         {"cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [tile], [%map, {0, 0}], [bar], {1};",
          "cp.async.bulk.tensor.6d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%map, {0, 0}], [bar];",
          "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%map, {0}], [bar];",
          "cp.async.bulk.tensor.2d.shared::cluster.global.bulk_group [tile], [%map, {0, 0}], [bar];",
          "cp.async.bulk.global.shared::cta.mbarrier::complete_tx::bytes [%out], [tile], 16, [bar];",
          "cp.async.bulk.global.shared::cta.bulk_group [%out], [tile];", "cp.async.bulk.wait_group %r0;",
          "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f16 [%out], [tile], 16;",
          "cp.reduce.async.bulk.global.shared::cta.bulk_group.inc.s32 [%out], [tile], 16;",
          "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.f32 [%out], [tile], 16;",
          "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.f32 [tile], [tile], 16, [bar];"}) {
        CAPTURE(text);
        CHECK(!run_with(text, 0).error.empty());
    }
}

TEST_CASE("bulk: plain copies, and prefetches") {
    const auto want = rows(0, 16);
    const std::string to = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [tile + ";
    std::string copies = kInit + expect() + "createpolicy.fractional.L2::evict_first.b64 %rd9, 1.0;\n";
    // In unequal parts.
    for (const auto& [first, count] : {std::pair{0, 16}, {16, 1008}, {1024, 1024}})
        copies += "add.u64 %rd8, %in, " + std::to_string(first) + "; " + to + std::to_string(first) + "], [%rd8], " +
                  std::to_string(count) + ", [bar], %rd9;\n";
    check_well(by_first(copies) + wait_for("bar", 0) + tile_to_out(kBytes), want);
    check_well(by_first(kInit + expect() + "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [tile], [%in], 2048, [bar];\n") +
                   wait_for("bar", 0) + tile_to_out(kBytes),
               want);
    check_well(in_to_tile(kBytes) + kFence + kSync +
                   by_first("cp.async.bulk.global.shared::cta.bulk_group [%out], [tile], 2048;\n" + kCommit + kWait),
               want);
    check_well(
        in_to_tile(kBytes) + kFence + kSync +
            by_first("cp.async.bulk.prefetch.L2.global [%in], 2048;\ncp.async.bulk.prefetch.tensor.2d.L2.global.tile [%map, {0, 0}];\n"
                     "prefetch.tensormap [%map];\n"
                     "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group.L2::cache_hint [%map2, {0, 0}], [tile], %rd9;\n" +
                     kCommit + kWait),
        want);
    // A copy within the block, counted by the barrier.
    const std::string within =
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [tile], [tile + 4096], 2048, [bar];\n";
    const std::string fill =
        "mov.u32 %r1, tile; add.u32 %r1, %r1, 4096; mul.lo.u32 %r2, %t, 64; add.u32 %r1, %r1, %r2; mul.wide.u32 %rd1, %t, 64; "
        "add.u64 %rd1, %in, %rd1;\nmov.u32 %r3, 0;\nF: ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd1]; st.shared.v4.u32 [%r1], "
        "{%r4, %r5, %r6, %r7}; add.u32 %r1, %r1, 16; add.u64 %rd1, %rd1, 16; add.u32 %r3, %r3, 1; setp.lt.u32 %p0, %r3, 4; @%p0 "
        "bra F;\n";
    check_well(fill + kFence + kSync + by_first(kInit + expect() + within) + wait_for("bar", 0) + tile_to_out(kBytes), want);
    check_wrong(fill + kSync + by_first(kInit + expect() + within) + wait_for("bar", 0) + tile_to_out(kBytes),
                {Fault::Kind::MissingProxyFence});
    check_wrong(fill + kFence + kSync + by_first(kInit + expect() + within) + tile_to_out(kBytes), kEarly);
}

// ---- Clusters of two blocks; %out of block r begins r * 2048 bytes further.

const BulkShape kCluster{.blocks = 2, .cluster = 2};
const std::string kOutOfRank = "mov.u32 %r50, %cluster_ctarank; mul.wide.u32 %rd30, %r50, 2048; add.u64 %out, %out, %rd30;\n";
const std::string kClusterSync = "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
const std::string kRelaxedSync = "barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
const std::string kInitFence = "fence.mbarrier_init.release.cluster;\n";
std::string by_rank(int rank, const std::string& text) {
    return "setp.ne.u32 %p12, %r50, " + std::to_string(rank) + "; setp.ne.or.u32 %p11, %t, 0, %p12; @%p11 bra R" + std::to_string(rank) +
           ";\n" + text + "R" + std::to_string(rank) + ":\n";
}

TEST_CASE("bulk: multicast to the blocks of a cluster") {
    auto want = rows(7, 16);
    want.insert(want.end(), want.begin(), want.begin() + kBytes);
    const std::string cast =
        "mov.u16 %h0, 3; cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [tile], [%map, {0, "
        "7}], "
        "[bar], %h0;\n";
    const std::string finish = wait_for("bar", 0) + tile_to_out(kBytes);
    const std::string begin = kOutOfRank + by_first(kInit + kInitFence + expect());
    check_well(begin + kClusterSync + by_rank(0, cast) + finish, want, kCluster);
    check_well(begin + kRelaxedSync + by_rank(1, cast) + finish, want, kCluster);
    check_well(kOutOfRank + by_first(kInit + "fence.proxy.async;\n" + expect()) + kClusterSync + by_rank(0, cast) + finish, want, kCluster);
    // The other block's announcement may come later than the bytes.
    check_well(kOutOfRank + by_first(kInit + kInitFence) + kClusterSync + by_rank(0, cast) + by_first(expect()) + finish, want, kCluster);
    check_wrong(kOutOfRank + by_first(kInit + expect()) + kClusterSync + by_rank(0, cast) + finish, {Fault::Kind::MissingProxyFence},
                kCluster);
    check_wrong(kOutOfRank + by_first(kInit + expect()) + kRelaxedSync + by_rank(0, cast) + finish,
                {Fault::Kind::Race, Fault::Kind::MissingProxyFence}, kCluster);
    check_wrong(begin + by_rank(0, cast) + finish,
                {Fault::Kind::Race, Fault::Kind::BadBarrier, Fault::Kind::MissingProxyFence, Fault::Kind::OutOfBounds}, kCluster);
    check_wrong(kOutOfRank + by_first(kInit + kInitFence + expect()) + kClusterSync + by_rank(0, cast) +
                    "setp.eq.u32 %p10, %r50, 1; @%p10 bra X;\n" + wait_for("bar", 0) + "X:\n",
                {Fault::Kind::UnfinishedCopy, Fault::Kind::OutOfBounds}, kCluster);
    const std::string too_far =
        "mov.u16 %h0, 5; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [tile], [%in], 2048, "
        "[bar], %h0;\n";
    check_wrong(begin + kClusterSync + by_rank(0, too_far) + finish, {Fault::Kind::BadInstruction}, kCluster);
}

TEST_CASE("bulk: from block to block") {
    const std::string fill = in_to_tile(kBytes);
    // Block 0 sends its tile to block 1, whose barrier counts it.
    const std::string send =
        "mov.u32 %r1, tile; mapa.shared::cluster.u32 %r2, %r1, 1; mov.u32 %r3, bar; mapa.shared::cluster.u32 %r3, %r3, 1;\n"
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r2 + 8192], [%r1], 2048, [%r3];\n";
    const std::string copy_out =
        "setp.ne.u32 %p10, %r50, 1; @%p10 bra X;\n" + wait_for("bar", 0) +
        "mov.u32 %r60, %t;\nY: mov.u32 %r61, tile; shl.b32 %r62, %r60, 4; add.u32 %r61, %r61, %r62; ld.shared.v4.u32 {%r56, %r57, "
        "%r58, %r59}, [%r61 + 8192]; mul.wide.u32 %rd31, %r60, 16; add.u64 %rd31, %out, %rd31; st.global.v4.u32 [%rd31], {%r56, "
        "%r57, %r58, %r59}; add.u32 %r60, %r60, 32; setp.lt.u32 %p9, %r60, 128; @%p9 bra Y;\nX:\n";
    const std::string rank = "mov.u32 %r50, %cluster_ctarank;\n";
    const std::string begin = rank + fill + "fence.proxy.async;\n" + by_first(kInit + kInitFence + expect()) + kClusterSync;
    check_well(begin + by_rank(0, send) + copy_out + kClusterSync, rows(0, 16), kCluster);
    // The sender may not leave before its tile has been read.
    check_wrong(begin + by_rank(0, send) + copy_out, {Fault::Kind::UnfinishedCopy}, kCluster);
    const std::string own =
        "mov.u32 %r1, tile; mapa.shared::cluster.u32 %r2, %r1, 1;\n"
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r2 + 8192], [%r1], 2048, [bar];\n";
    check_wrong(begin + by_rank(0, own) + copy_out + kClusterSync, {Fault::Kind::BadBarrier}, kCluster);
    // Arrivals at a barrier of the other block: 32 threads of each arrive at the other's.
    const std::string arrive =
        "mov.u32 %r3, bar; xor.b32 %r4, %r50, 1; mapa.shared::cluster.u32 %r3, %r3, %r4; "
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];\n";
    const std::string remote = rank + by_first("mbarrier.init.shared::cta.b64 [bar], 32;\n" + kInitFence) + kClusterSync;
    // The tile of the other block, written before its arrival, is read behind the wait.
    const std::string read =
        "mov.u32 %r1, tile; shl.b32 %r2, %t, 2; add.u32 %r1, %r1, %r2; mapa.shared::cluster.u32 %r1, %r1, %r4; "
        "ld.shared::cluster.u32 %r5, [%r1];\n";
    check_well(remote + fill + arrive + wait_for("bar", 0) + read + kClusterSync, {}, kCluster);
    check_wrong(remote + fill + arrive + read + kClusterSync, {Fault::Kind::Race, Fault::Kind::Uninitialised}, kCluster);
}

TEST_CASE("bulk: tensor maps of the host in constant and global memory") {
    const auto data = tensor_data();
    for (const std::string space : {"const", "global"})
        for (uint64_t seed = 0; seed < 3; ++seed) {
            CAPTURE(space);
            Device device;
            std::string error;
            const auto module = device.load(
                ".version 8.6\n.target sm_90a\n.address_size 64\n.visible ." + space +
                    " .align 64 .b8 kept[128];\n.shared .align 1024 .b8 tile[4096]; .shared .align 8 .b64 bar;\n"
                    ".visible .entry k(.param .u64 p_out) {\n.reg .b32 %r<64>; .reg .b64 %rd<32>; .reg .pred %p<16>; .reg .b64 %out; .reg "
                    ".b32 %t;\n"
                    "ld.param.u64 %out, [p_out]; mov.u32 %t, %tid.x; mov.b64 %rd1, kept; cvta." +
                    space + ".u64 %rd1, %rd1;\n" +
                    by_first(
                        kInit + expect() +
                        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd1, {0, 4}], [bar];\n") +
                    wait_for("bar", 0) + tile_to_out(kBytes) + "ret;\n}\n",
                &error);
            REQUIRE_MESSAGE(module, error);
            const uint64_t in = device.allocate(data.size()), out = device.allocate(kBytes);
            device.write(in, data.data(), data.size());
            const TensorMap map = kTensor.map(in);
            size_t bytes = 0;
            device.write(module->address_of("kept", &bytes), &map, sizeof map);
            std::vector<uint8_t> parameters(8), got(kBytes);
            std::memcpy(parameters.data(), &out, 8);
            const Fault fault = device.launch(*module, 0, {1, 1, 1}, {32, 1, 1}, 0, parameters, {.seed = seed});
            CHECK_MESSAGE(!fault, fault.text);
            device.read(got.data(), out, kBytes);
            CHECK(got == rows(4, 16));
        }
}

TEST_CASE("bulk: single values from block to block") {
    // Each thread of a block sends 16 bytes to its like in the other block, whose barrier counts 512 bytes; then adds 1 to a word there.
    const std::string rank = "mov.u32 %r50, %cluster_ctarank; xor.b32 %r51, %r50, 1;\n";
    const std::string begin =
        rank + by_first(kInit + kInitFence + "mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;\n") + kClusterSync;
    const std::string addresses =
        "mov.u32 %r1, tile; shl.b32 %r2, %t, 4; add.u32 %r1, %r1, %r2; mapa.shared::cluster.u32 %r3, %r1, %r51;\n"
        "mov.u32 %r4, bar; mapa.shared::cluster.u32 %r4, %r4, %r51; add.u32 %r5, %r50, 7; mov.u32 %r6, 9;\n";
    const std::string send = "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r3], {%t, %r5, %r6, %r6}, [%r4];\n";
    const std::string read = "ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r1];\n";
    const std::string out =
        "mul.lo.u32 %r20, %r50, 512; add.u32 %r20, %r20, %r2; cvt.u64.u32 %rd1, %r20; add.u64 %rd1, %out, %rd1; "
        "st.global.v4.u32 [%rd1], {%r10, %r11, %r12, %r13};\n";
    std::vector<uint8_t> want(1024);
    for (uint32_t i = 0; i < 64; ++i) {
        const uint32_t words[] = {i % 32, i < 32 ? 8U : 7U, 9, 9};
        std::memcpy(&want[i * 16], words, 16);
    }
    check_well(begin + addresses + send + wait_for("bar", 0) + read + out + kClusterSync, want, kCluster);
    check_wrong(begin + addresses + send + read + out + kClusterSync,
                {Fault::Kind::Race, Fault::Kind::UnfinishedCopy, Fault::Kind::Uninitialised}, kCluster);
    check_wrong(begin + addresses + send + kClusterSync, {Fault::Kind::UnfinishedCopy}, kCluster);
    check_wrong(
        begin + addresses + "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%r3], %t, [%r4];\n" + wait_for("bar", 0),
        {Fault::Kind::Deadlock}, kCluster);
    // Reductions by all threads of both blocks: 64 ones at the first word of each block's tile.
    const std::string zero =
        by_first("st.shared.u32 [tile], 5;\n" + kInit + kInitFence + "mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;\n");
    const std::string add =
        "mov.u32 %r1, tile; mov.u32 %r4, bar; mov.u32 %r7, 1;\nmapa.shared::cluster.u32 %r3, %r1, 0; mapa.shared::cluster.u32 %r5, %r4, "
        "0;\n"
        "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r3], %r7, [%r5];\n"
        "mapa.shared::cluster.u32 %r3, %r1, 1; mapa.shared::cluster.u32 %r5, %r4, 1;\n"
        "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r3], %r7, [%r5];\n";
    const std::string sum =
        "ld.shared.u32 %r10, [tile]; mul.wide.u32 %rd1, %r50, 4; add.u64 %rd1, %out, %rd1; setp.eq.u32 %p1, %t, 0; @%p1 st.global.u32 "
        "[%rd1], %r10;\n";
    std::vector<uint8_t> sums(8);
    for (size_t i = 0; i < 2; ++i) sums[i * 4] = 69;
    check_well(rank + zero + kClusterSync + add + wait_for("bar", 0) + sum + kClusterSync, sums, kCluster);
    check_wrong(rank + zero + kClusterSync + add + sum + kClusterSync, {Fault::Kind::Race, Fault::Kind::UnfinishedCopy}, kCluster);
}

// ---- Maps that kernels make

std::string make_map(const std::string& space, const std::string& at) {
    const std::string head = "tensormap.replace.tile.", tail = "." + space + ".b1024.";
    return head + "global_address" + tail + "b64 [" + at + "], %in;\n" + head + "rank" + tail + "b32 [" + at + "], 1;\n" + head +
           "box_dim" + tail + "b32 [" + at + "], 0, 64;\n" + head + "box_dim" + tail + "b32 [" + at + "], 1, 16;\n" + head + "global_dim" +
           tail + "b32 [" + at + "], 0, 64;\n" + head + "global_dim" + tail + "b32 [" + at + "], 1, 40;\nmov.u64 %rd1, 128;\n" + head +
           "global_stride" + tail + "b64 [" + at + "], 0, %rd1;\n" + head + "element_stride" + tail + "b32 [" + at + "], 0, 1;\n" + head +
           "element_stride" + tail + "b32 [" + at + "], 1, 1;\n" + head + "elemtype" + tail + "b32 [" + at + "], 0xa;\n" + head +
           "interleave_layout" + tail + "b32 [" + at + "], 0;\n" + head + "swizzle_mode" + tail + "b32 [" + at + "], 0;\n" + head +
           "fill_mode" + tail + "b32 [" + at + "], 0;\n";
}

TEST_CASE("bulk: tensor maps made by the kernel") {
    const auto want = rows(2, 16);
    const std::string zero = "mov.u32 %r1, tile; shl.b32 %r2, %t, 2; add.u32 %r1, %r1, %r2; st.shared.u32 [%r1 + 4096], 0; bar.sync 0;\n";
    const std::string make = by_first("mov.u32 %r1, tile; add.u32 %r1, %r1, 4096;\n" + make_map("shared::cta", "%r1"));
    // The second half of %out is room for the map.
    const std::string place = "add.u64 %rd2, %out, 3072; mov.u32 %r3, tile; add.u32 %r3, %r3, 4096;\n";
    const std::string copy =
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd2], [%r3], 0x80;\n";
    const std::string acquire = "fence.proxy.tensormap::generic.acquire.gpu [%rd2], 0x80;\n";
    const std::string use =
        by_first(kInit + expect() +
                 "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd2, {0, 2}], [bar];\n") +
        wait_for("bar", 0) + tile_to_out(kBytes);
    check_well(zero + make + place + copy + acquire + use, want);
    check_well(zero + make + place + copy + by_first(acquire) + use, want);
    check_wrong(zero + make + place + copy + use, {Fault::Kind::MissingProxyFence});
    check_wrong(zero + make + place + acquire + copy + use, {Fault::Kind::MissingProxyFence});
    // In place in global memory.
    const std::string in_place =
        "add.u64 %rd2, %out, 3072; mul.wide.u32 %rd5, %t, 4; add.u64 %rd6, %rd2, %rd5; add.u64 %rd7, %map, %rd5; ld.u32 %r4, "
        "[%rd7]; st.global.u32 [%rd6], %r4; bar.sync 0;\n";
    const std::string release = "fence.proxy.tensormap::generic.release.gpu;\n";
    check_well(in_place + by_first(make_map("global", "%rd2") + release + acquire) + use, want);
    check_wrong(in_place + by_first(make_map("global", "%rd2")) + use, {Fault::Kind::MissingProxyFence});
    check_wrong(by_first(make_map("global", "%in")), {Fault::Kind::BadInstruction});
    // A map that the driver would not have made.
    const std::string odd = "tensormap.replace.tile.box_dim.global.b1024.b32 [%rd2], 0, 65;\n";
    check_wrong(in_place + by_first(make_map("global", "%rd2") + odd + release + acquire) + use, {Fault::Kind::BadInstruction});
}

}  // namespace
