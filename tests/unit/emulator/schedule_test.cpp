// Orders of warps and blocks: the seed alone decides, different seeds differ, and results of correct programs do not.
#include "ptx_run.h"

#include <set>

using namespace flexemu;
using namespace flexemu::test;

TEST_CASE("the order of warps and blocks follows the seed") {
    // Each warp takes a ticket twenty times; the tickets show the order.
    const std::string body = R"(
        mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mad.lo.u32 %r3, %r1, %r2, %t; shr.u32 %r3, %r3, 5; setp.eq.u32 %p1, %lane, 0;
        mov.u32 %r4, 0;
        LOOP: @%p1 atom.global.add.u32 %r5, [ticket], 1;
        mul.wide.u32 %rd1, %r5, 4; add.u64 %rd1, %out, %rd1; @%p1 st.global.u32 [%rd1], %r3;
        add.u32 %r4, %r4, 1; setp.lt.u32 %p2, %r4, 20; @%p2 bra LOOP;)";
    const Shape shape = {.threads = 128, .blocks = 4, .declarations = ".global .align 4 .u32 ticket;"};
    std::set<std::vector<uint32_t>> orders;
    for (uint64_t seed = 0; seed < 12; ++seed) {
        Shape seeded = shape;
        seeded.seed = seed;
        const auto once = run_well(body, {}, 320, seeded), again = run_well(body, {}, 320, seeded);
        CHECK(once == again);
        orders.insert(once);
        std::vector<int> count(16);
        for (const uint32_t warp : once) ++count[warp];
        for (const int each : count) CHECK(each == 20);
    }
    CHECK(orders.size() > 8);
}

TEST_CASE("statistics of a launch") {
    Device device;
    std::string error;
    const auto module = device.load(module_of("bar.sync 0;"), &error);
    REQUIRE_MESSAGE(module, error);
    LaunchStats stats;
    CHECK(!device.launch(*module, 0, {3, 2, 1}, {64, 1, 1}, 0, std::vector<uint8_t>(16), {}, &stats));
    CHECK(stats.blocks == 6);
    CHECK(stats.warp_instructions == 6 * 2 * 6);
    CHECK(stats.seconds >= 0);
}

TEST_CASE("clocks go on") {
    run_well(R"(
        mov.u64 %rd1, %globaltimer;
        WAIT: nanosleep.u32 20; mov.u64 %rd2, %globaltimer; sub.u64 %rd3, %rd2, %rd1; setp.lt.u64 %p1, %rd3, 1000; @%p1 bra WAIT;
        mov.u64 %rd1, %clock64;
        TURN: mov.u64 %rd2, %clock64; sub.u64 %rd3, %rd2, %rd1; setp.lt.u64 %p1, %rd3, 1000; @%p1 bra TURN;)",
             {}, 1, {.threads = 64});
}

TEST_CASE("memory is shared by the blocks of a launch and kept between launches") {
    Device device;
    std::string error;
    const auto module = device.load(module_of(R"(
        mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd1, %r1, 4; add.u64 %rd1, %out, %rd1; ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1; st.global.u32 [%rd1], %r2;)"),
                                    &error);
    REQUIRE_MESSAGE(module, error);
    const uint64_t out = device.allocate(400);
    CHECK(device.fill(out, 1, 4, 100));
    std::vector<uint8_t> parameters(16);
    std::memcpy(parameters.data() + 8, &out, 8);
    for (uint64_t seed = 0; seed < 3; ++seed) {
        LaunchOptions options;
        options.seed = seed;
        const Fault fault = device.launch(*module, 0, {100, 1, 1}, {1, 1, 1}, 0, parameters, options);
        CHECK_MESSAGE(!fault, fault.text);
    }
    std::vector<uint32_t> result(100);
    CHECK(device.read(result.data(), out, 400));
    for (uint32_t i = 0; i < 100; ++i) CHECK(result[i] == 1 + 3 * i);
}
