// cp.async: what it copies, and every way of not waiting for it.
#include <algorithm>

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
/// Where the order of threads and of landings decides which rule is broken first: every seed must find one of these.
template <typename F>
void check_each_seed(F run, std::initializer_list<Fault::Kind> kinds) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
        const Run result = run(seed);
        const bool found = std::find(kinds.begin(), kinds.end(), result.fault.kind) != kinds.end();
        CHECK_MESSAGE((result.error.empty() && found), verdict(result));
    }
}

std::vector<uint32_t> numbers(size_t count) {
    std::vector<uint32_t> words(count);
    for (size_t i = 0; i < count; ++i) words[i] = static_cast<uint32_t>(i * 2654435761U);
    return words;
}

// Read too early: the copy is under way, or complete but not known to be, or has not even begun.
constexpr std::initializer_list<Fault::Kind> kEarly = {Fault::Kind::UnfinishedCopy, Fault::Kind::Race, Fault::Kind::Uninitialised};

// Thread t copies 16 bytes from in + 16 t to tile + 16 t: %rd20 and %r20.
const std::string kAddresses =
    "mul.wide.u32 %rd10, %t, 16; add.u64 %rd20, %in, %rd10; add.u64 %rd21, %out, %rd10;\nmov.u32 %r20, tile; shl.b32 %r21, %t, 4; add.u32 "
    "%r20, %r20, %r21;\n";
const std::string kStore = "ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [%r20]; st.global.v4.u32 [%rd21], {%r0, %r1, %r2, %r3};\n";
Shape shape(uint32_t threads = 32, uint64_t seed = 0) {
    return {.threads = threads, .seed = seed, .declarations = ".shared .align 128 .b8 tile[16384];"};
}

TEST_CASE("copies of all sizes, whole, in part, and ignored") {
    const auto in = numbers(128);
    for (const int size : {4, 8, 16})
        for (const std::string level : {"ca", "cg"}) {
            if (level == "cg" && size != 16) continue;
            for (int mode = 0; mode < 6; ++mode) {
                CAPTURE(size);
                CAPTURE(mode);
                // 0: whole; 1: a source size of 0 to size by lane; 2: a constant one; 3: ignored by odd lanes; 4: by even ones, with !; 5: with hints.
                std::string copy = "cp.async." + level + ".shared.global";
                if (mode == 5) copy += ".L2::cache_hint.L2::128B";
                copy += " [%r20], [%rd20], " + std::to_string(size);
                if (mode == 1) copy += ", %r22";
                if (mode == 2) copy += ", " + std::to_string(size / 2);
                if (mode == 3) copy += ", %p0";
                if (mode == 4) copy += ", !%p0";
                if (mode == 5) copy += ", %r23, %rd5";
                const std::string body =
                    kAddresses + "and.b32 %r23, %t, 1; setp.eq.u32 %p0, %r23, 1; mov.u32 %r23, " + std::to_string(size) +
                    "; rem.u32 %r22, %t, " + std::to_string(size + 1) +
                    "; mov.u64 %rd5, 0;\nmov.u32 %r24, 0xeeeeeeee; st.shared.v4.u32 [%r20], {%r24, %r24, %r24, %r24};\n" + copy +
                    ";\ncp.async.commit_group;\ncp.async.wait_group 0;\n" + kStore;
                const auto out = run_well(body, in, 128, shape());
                for (size_t lane = 0; lane < 32; ++lane) {
                    const auto bytes = static_cast<size_t>(size);
                    size_t taken = bytes;
                    if (mode == 1) taken = lane % (bytes + 1);
                    if (mode == 2) taken = bytes / 2;
                    if (mode == 3 && lane % 2 == 1) taken = 0;
                    if (mode == 4 && lane % 2 == 0) taken = 0;
                    std::vector<uint8_t> want(16, 0xee);
                    std::fill(want.begin(), want.begin() + static_cast<long>(bytes), 0);
                    std::memcpy(want.data(), &in[lane * 4], taken);
                    REQUIRE(std::memcmp(want.data(), &out[lane * 4], 16) == 0);
                }
            }
        }
}

TEST_CASE("a ring of groups: the oldest are waited for") {
    // Four stages; in step i stage i % 4 is read while three are under way. All threads read what another one copied.
    const auto in = numbers(64 * 4 * 12);
    std::string body = kAddresses;
    const auto issue = [](int step) {
        return "cp.async.cg.shared.global [%r20 + " + std::to_string(step % 4 * 1024) + "], [%rd20 + " + std::to_string(step * 1024) +
               "], 16;\n";
    };
    for (int step = 0; step < 3; ++step) body += issue(step) + "cp.async.commit_group;\n";
    body += "xor.b32 %r25, %r20, 512;\n";  // of the other warp
    for (int step = 0; step < 12; ++step) {
        body += "cp.async.wait_group 2;\nbar.sync 0;\n";
        if (step + 3 < 12) body += issue(step + 3);
        body += "cp.async.commit_group;\nld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [%r25 + " + std::to_string(step % 4 * 1024) +
                "]; st.global.v4.u32 [%rd21 + " + std::to_string(step * 1024) + "], {%r0, %r1, %r2, %r3};\n";
    }
    for (uint64_t seed = 0; seed < 8; ++seed) {
        const auto out = run_well("mov.u32 %r20, tile;\n" + body, in, in.size(),
                                  {.threads = 64, .seed = seed, .declarations = ".shared .align 1024 .b8 tile[4096];"});
        for (size_t step = 0; step < 12; ++step)
            for (size_t word = 0; word < 256; ++word) REQUIRE(out[step * 256 + word] == in[step * 256 + (word ^ 128)]);
    }
    // One wait too short, or a barrier too few, and it is noticed.
    const auto without = [&](const std::string& what, const std::string& instead, size_t occurrence, uint64_t seed) {
        std::string text = body;
        size_t at = text.find(what);
        for (size_t i = 0; i < occurrence; ++i) at = text.find(what, at + 1);
        text.replace(at, what.size(), instead);
        return run_ptx(text, in, in.size(), {.threads = 64, .seed = seed, .declarations = ".shared .align 1024 .b8 tile[4096];"});
    };
    check_each_seed([&](uint64_t seed) { return without("cp.async.wait_group 2;", "cp.async.wait_group 3;", 4, seed); }, kEarly);
    check_each_seed([&](uint64_t seed) { return without("cp.async.wait_group 2;", "", 0, seed); }, kEarly);
    check_each_seed([&](uint64_t seed) { return without("bar.sync 0;", "", 0, seed); }, kEarly);
    check_each_seed([&](uint64_t seed) { return without("bar.sync 0;", "", 5, seed); }, kEarly);
    check_each_seed([&](uint64_t seed) { return without("cp.async.commit_group;", "", 2, seed); }, kEarly);
}

TEST_CASE("groups") {
    const auto in = numbers(256);
    // wait_group N leaves the latest N alone: the first is safe, the second not.
    const std::string two = kAddresses +
                            "cp.async.cg.shared.global [%r20], [%rd20], 16;\ncp.async.commit_group;\ncp.async.cg.shared.global [%r20 + "
                            "512], [%rd20 + 512], 16;\ncp.async.commit_group;\n";
    const auto out = run_well(two + "cp.async.wait_group 1;\n" + kStore + "cp.async.wait_all;", in, 128, shape());
    CHECK(std::memcmp(out.data(), in.data(), 512) == 0);
    check_fault(run_ptx(two + "cp.async.wait_group 1;\nld.shared.u32 %r0, [%r20 + 512];", in, 128, shape()), Fault::Kind::UnfinishedCopy);
    // What was not committed belongs to no group that could be waited for, but wait_all waits for it.
    const std::string open = kAddresses + "cp.async.ca.shared.global [%r20], [%rd20], 8;\n";
    check_fault(run_ptx(open + "cp.async.wait_group 0;\nld.shared.u32 %r0, [%r20];", in, 128, shape()), Fault::Kind::UnfinishedCopy);
    run_well(open + "cp.async.wait_all;\nld.shared.u32 %r0, [%r20]; st.global.u32 [%rd21], %r0;", in, 128, shape());
    // Empty groups count.
    run_well(open + "cp.async.commit_group;\ncp.async.commit_group;\ncp.async.wait_group 1;\nld.shared.u32 %r0, [%r20];", in, 128, shape());
    check_fault(run_ptx(open + "cp.async.commit_group;\ncp.async.wait_group 1;\nld.shared.u32 %r0, [%r20];", in, 128, shape()),
                Fault::Kind::UnfinishedCopy);
    // Waiting is each thread's own affair.
    check_fault(run_ptx(open + "setp.ne.u32 %p0, %t, 3;\ncp.async.commit_group;\n@%p0 cp.async.wait_group 0;\nld.shared.u32 %r0, [%r20];",
                        in, 128, shape()),
                Fault::Kind::UnfinishedCopy);
}

TEST_CASE("what must not be touched while a copy is under way") {
    const auto in = numbers(4096);
    const std::string copy = kAddresses + "cp.async.cg.shared.global [%r20], [%rd20], 16;\n";
    check_fault(run_ptx(copy + "ld.shared.u32 %r0, [%r20];", in, 128, shape()), Fault::Kind::UnfinishedCopy);
    check_fault(run_ptx(copy + "st.shared.u32 [%r20 + 12], %t;", in, 128, shape()), Fault::Kind::UnfinishedCopy);
    // The bytes beside it may be.
    run_well(copy + "st.shared.u32 [%r20 + 1024], %t;\ncp.async.wait_all;", in, 128, shape());
    // Its source must not be written, by the thread itself either.
    const Run source = run_ptx(copy + "st.global.u32 [%rd20 + 4], %t;\ncp.async.wait_all;", in, 128, shape());
    CHECK_MESSAGE((source.fault.kind == Fault::Kind::Race || source.fault.kind == Fault::Kind::UnfinishedCopy), verdict(source));
    // The thread has waited, the others have met no barrier.
    const std::string other = "xor.b32 %r26, %r20, 512;\n";  // of the other warp
    check_fault(
        run_ptx(
            "mov.u32 %r20, tile; shl.b32 %r21, %t, 4; add.u32 %r20, %r20, %r21; st.shared.v4.u32 [%r20], {%t, %t, %t, %t};\nbar.sync 0;\n" +
                copy + other + "cp.async.wait_all;\nsetp.lt.u32 %p0, %t, 32;\n@%p0 bra DONE;\nld.shared.u32 %r0, [%r26];\nDONE:",
            in, 1024, {.threads = 64, .declarations = ".shared .align 1024 .b8 tile[1024];"}),
        Fault::Kind::Race);
    check_each_seed(
        [&](uint64_t seed) {
            return run_ptx(copy + other + "bar.sync 0;\nld.shared.u32 %r0, [%r26];", in, 1024,
                           {.threads = 64, .seed = seed, .declarations = ".shared .align 1024 .b8 tile[1024];"});
        },
        kEarly);
    // A copy over what others may still be reading.
    check_fault(run_ptx(copy + "cp.async.wait_all;\nbar.sync 0;\nxor.b32 %r26, %r20, 512; ld.shared.u32 %r0, "
                               "[%r26];\ncp.async.cg.shared.global [%r20], [%rd20 + 1024], 16;\ncp.async.wait_all;",
                        in, 1024, {.threads = 64, .declarations = ".shared .align 1024 .b8 tile[1024];"}),
                Fault::Kind::Race);
}

TEST_CASE("copies are checked like loads and stores") {
    const auto in = numbers(128);
    const std::string wait = "cp.async.wait_all;\n";
    check_fault(run_ptx(kAddresses + "cp.async.cg.shared.global [%r20 + 8], [%rd20], 16;\n" + wait, in, 128, shape()),
                Fault::Kind::Misaligned);
    check_fault(run_ptx(kAddresses + "cp.async.cg.shared.global [%r20], [%rd20 + 4], 16;\n" + wait, in, 128, shape()),
                Fault::Kind::Misaligned);
    check_fault(run_ptx(kAddresses + "cp.async.cg.shared.global [%r20 + 16384], [%rd20], 16;\n" + wait, in, 128, shape()),
                Fault::Kind::OutOfBounds);
    check_fault(run_ptx(kAddresses + "cp.async.cg.shared.global [%r20], [%rd20 + 512], 16;\n" + wait, in, 128, shape()),
                Fault::Kind::OutOfBounds);
    check_fault(run_ptx(kAddresses + "mov.u32 %r22, 17; cp.async.cg.shared.global [%r20], [%rd20], 16, %r22;\n" + wait, in, 128, shape()),
                Fault::Kind::BadInstruction);
    // Nothing is read where the source size is zero: the pointer may lead anywhere.
    const auto out = run_well(kAddresses + "cp.async.cg.shared.global [%r20], [%rd20 + 65536], 16, 0;\n" + wait + kStore, in, 128, shape());
    CHECK(out[5] == 0);
    for (const char* wrong : {"cp.async.cg.shared.global [%r20], [%rd20], 8;", "cp.async.ca.shared.global [%r20], [%rd20], 12;",
                              "cp.async.ca.shared.global [%r20], [%rd20], %r1;", "cp.async.shared.global [%r20], [%rd20], 16;",
                              "cp.async.ca.global.shared [%rd20], [%r20], 16, 4, 5;", "cp.async.wait_group %r0;"}) {
        CAPTURE(wrong);
        CHECK(!run_ptx(wrong, {}, 1).error.empty());
    }
    run_well("griddepcontrol.wait;\ngriddepcontrol.launch_dependents;", {}, 1);
}

}  // namespace
