// Launches that would never end are ended, with where everybody stands.
#include "ptx_run.h"

using namespace flexemu;
using namespace flexemu::test;

namespace {

Run expect(const std::string& body, Fault::Kind kind, const Shape& shape) {
    CAPTURE(body);
    Run last;
    for (uint64_t seed = 0; seed < 4; ++seed) {
        Shape seeded = shape;
        seeded.seed = seed;
        last = run_ptx(body, {}, 256, seeded);
        CHECK_MESSAGE(last.error.empty(), last.error);
        CHECK_MESSAGE(last.fault.kind == kind, "seed ", seed, ": ", name(last.fault.kind), " ", last.fault.text);
    }
    return last;
}

const std::string kBarriers = R"(
    .shared .align 8 .b64 full;
    mov.u32 %r1, full; setp.eq.u32 %p1, %t, 0; @%p1 mbarrier.init.shared.b64 [%r1], 1; bar.sync 0;
)";

}  // namespace

TEST_CASE("a barrier of which some know nothing") {
    const Run run =
        expect("setp.lt.u32 %p1, %t, 32;\n@%p1 bra LOOP; bar.sync 0; ret;\nLOOP: bra LOOP;", Fault::Kind::Deadlock, {.threads = 64});
    CHECK_MESSAGE(run.fault.text.find("bar.sync") != std::string::npos, run.fault.text);
    CHECK_MESSAGE(run.fault.text.find("line 11 (bra)") != std::string::npos, run.fault.text);
}

TEST_CASE("waiting for an mbarrier that nobody completes") {
    const std::string wait = "WAIT: mbarrier.try_wait.parity.shared.b64 %p2, [%r1], 0; @!%p2 bra WAIT;";
    const Run run = expect(kBarriers + wait, Fault::Kind::Deadlock, {.threads = 64});
    CHECK_MESSAGE(run.fault.text.find("mbarrier.try_wait") != std::string::npos, run.fault.text);
    expect(kBarriers + "@%p1 mbarrier.arrive.shared.b64 %rd5, [%r1];\n" + wait, Fault::Kind::None, {.threads = 64});
    expect(kBarriers + "WAIT: mbarrier.test_wait.parity.shared.b64 %p2, [%r1], 0; @!%p2 bra WAIT;", Fault::Kind::Deadlock, {.threads = 64});
}

TEST_CASE("spinning on memory that nobody writes") {
    const std::string declarations = ".global .align 4 .u32 flag;";
    const std::string spin = "SPIN: ld.acquire.gpu.global.u32 %r1, [flag]; setp.eq.u32 %p1, %r1, 0; @%p1 bra SPIN;";
    expect(spin, Fault::Kind::Deadlock, {.threads = 64, .blocks = 3, .declarations = declarations});
    const std::string first = "mov.u32 %r2, %ctaid.x; setp.eq.u32 %p2, %r2, 2; @%p2 st.release.gpu.global.u32 [flag], 1;\n";
    expect(first + spin, Fault::Kind::None, {.threads = 64, .blocks = 3, .declarations = declarations});
    // A lock that is never given back.
    expect("SPIN: atom.global.cas.b32 %r1, [flag], 0, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra SPIN;", Fault::Kind::Deadlock,
           {.threads = 2, .declarations = declarations});
}

TEST_CASE("blocks may wait for blocks that start later") {
    // Block i waits for block i + 1: more blocks than share the machine at a time must get in.
    const std::string declarations = ".global .align 4 .u32 done;";
    const std::string body = R"(
        mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x; sub.u32 %r2, %r2, %r1; sub.u32 %r2, %r2, 1;
        SPIN: ld.acquire.gpu.global.u32 %r3, [done]; setp.ne.u32 %p1, %r3, %r2; @%p1 bra SPIN;
        add.u32 %r3, %r3, 1; st.release.gpu.global.u32 [done], %r3;)";
    expect(body, Fault::Kind::None, {.threads = 1, .blocks = 40, .declarations = declarations});
}

TEST_CASE("a launch has its limit") {
    Device device;
    std::string error;
    const auto module = device.load(module_of("LOOP: add.u32 %r1, %r1, 1; bra LOOP;"), &error);
    REQUIRE_MESSAGE(module, error);
    LaunchOptions options;
    options.max_instructions = 100000;
    const Fault fault = device.launch(*module, 0, {1, 1, 1}, {32, 1, 1}, 0, std::vector<uint8_t>(16), options);
    CHECK_MESSAGE(fault.kind == Fault::Kind::Timeout, fault.text);
    // Long loops that do something are no deadlock.
    run_well("mov.u32 %r1, 0; LOOP: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 300000; @%p1 bra LOOP;", {}, 1, {.threads = 1});
}
