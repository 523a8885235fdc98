// Control flow: divergence and reconvergence, loops, calls, recursion, indirect branches, exits; lanes of a warp that wait for each other.
#include <set>

#include "emulator/machine/op.h"
#include "ptx_run.h"

using namespace flexemu;
using namespace flexemu::test;

namespace {

const std::string kOut = "mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %out, %rd1;\n";

std::vector<uint32_t> zeros(size_t count) {
    return std::vector<uint32_t>(count, 0);
}

}  // namespace

TEST_CASE("lanes part at a branch and meet again") {
    // The .aligned vote behind the branch faults if they do not.
    const std::string body = kOut + R"(
        and.b32 %r1, %t, 1; setp.eq.u32 %p1, %r1, 0;
        @%p1 bra EVEN;
        mov.u32 %r2, 100;
        bra DONE;
        EVEN: mov.u32 %r2, 200;
        DONE: bar.sync 0;
        add.u32 %r2, %r2, %t;
        st.global.u32 [%rd1], %r2;)";
    for (uint64_t seed = 0; seed < 8; ++seed) {
        const auto out = run_well(body, {}, 64, {.threads = 64, .seed = seed});
        for (uint32_t i = 0; i < 64; ++i) CHECK(out[i] == (i % 2 == 0 ? 200 : 100) + i);
    }
}

TEST_CASE("code that a compiler moved behind the return meets where it comes back") {
    const std::string body = kOut + R"(
        mov.u32 %r2, 1;
        setp.gt.u32 %p1, %t, 20;
        @%p1 bra FAR;
        BACK: bar.sync 0;
        st.global.u32 [%rd1], %r2;
        ret;
        FAR: mov.u32 %r2, 2;
        bra.uni BACK;)";
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(body, {}, 32, {.seed = seed});
        for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == (i > 20 ? 2 : 1));
    }
}

TEST_CASE("loops of different lengths, nested branches") {
    // Each lane counts the odd numbers below its index, then all meet.
    const std::string body = kOut + R"(
        mov.u32 %r1, 0; mov.u32 %r2, 0;
        LOOP: setp.ge.u32 %p1, %r1, %t;
        @%p1 bra AFTER;
        and.b32 %r3, %r1, 1; setp.eq.u32 %p2, %r3, 0;
        @%p2 bra SKIP;
        add.u32 %r2, %r2, 1;
        SKIP: add.u32 %r1, %r1, 1;
        bra LOOP;
        AFTER: bar.sync 0;
        st.global.u32 [%rd1], %r2;)";
    for (uint64_t seed = 0; seed < 8; ++seed) {
        const auto out = run_well(body, {}, 96, {.threads = 96, .seed = seed});
        for (uint32_t i = 0; i < 96; ++i) CHECK(out[i] == i / 2);
    }
}

TEST_CASE("a loop that is left at two places") {
    const std::string body = kOut + R"(
        mov.u32 %r1, 0;
        LOOP: add.u32 %r1, %r1, 1;
        setp.gt.u32 %p1, %r1, %t;
        @%p1 bra ONE;
        setp.ge.u32 %p2, %r1, 10;
        @%p2 bra TWO;
        bra LOOP;
        ONE: add.u32 %r1, %r1, 1000;
        bra END;
        TWO: add.u32 %r1, %r1, 2000;
        END: bar.sync 0;
        st.global.u32 [%rd1], %r1;)";
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(body, {}, 32, {.seed = seed});
        for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == (i < 10 ? 1001 + i : 2010));
    }
}

TEST_CASE("some lanes exit early, in the middle and under a guard") {
    const std::string body = kOut + R"(
        setp.lt.u32 %p1, %t, 3;
        @%p1 exit;
        setp.gt.u32 %p2, %t, 28;
        @%p2 bra OUT;
        mov.u32 %r1, 7;
        bar.sync 0;
        st.global.u32 [%rd1], %r1;
        OUT: ret;)";
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const Run run = run_ptx(body, {}, 64, {.threads = 64, .seed = seed});
        // Lanes 29 to 31 have gone to the end while lanes 3 to 28 are at the barrier: on the first warp, that is no barrier for all.
        CHECK(run.fault.kind == Fault::Kind::Divergence);
        CHECK(run.fault.text.find("thread (29,0,0) of block (0,0,0), which has gone to the end of the kernel") != std::string::npos);
    }
    const std::string good = kOut + R"(
        setp.lt.u32 %p1, %t, 3;
        @%p1 exit;
        setp.gt.u32 %p2, %t, 28;
        @%p2 exit;
        mov.u32 %r1, 7;
        bar.sync 0;
        st.global.u32 [%rd1], %r1;)";
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(good, {}, 32, {.seed = seed});
        for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == (i >= 3 && i <= 28 ? 7 : 0xdddddddd));
    }
}

TEST_CASE("brx.idx") {
    const std::string body = kOut + R"(
        and.b32 %r1, %t, 3;
        ts: .branchtargets A, B, C, A;
        brx.idx %r1, ts;
        A: mov.u32 %r2, 10; bra END;
        B: mov.u32 %r2, 20; bra END;
        C: mov.u32 %r2, 30;
        END: bar.sync 0;
        st.global.u32 [%rd1], %r2;)";
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(body, {}, 32, {.seed = seed});
        const uint32_t expected[4] = {10, 20, 30, 10};
        for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == expected[i % 4]);
    }
    const Run run = run_ptx("ts: .branchtargets A, A; brx.idx %t, ts; A:", {}, 4);
    CHECK(run.fault.kind == Fault::Kind::BadInstruction);
}

TEST_CASE("functions with parameters in memory and in registers") {
    const std::string declarations = R"(
        .func (.param .b32 result) twice(.param .b32 a, .param .align 8 .b8 pair[16]) {
            .reg .b32 %x<8>;
            ld.param.u32 %x1, [a]; ld.param.u32 %x2, [pair+4]; ld.param.u32 %x3, [pair+8];
            shl.b32 %x1, %x1, 1; add.u32 %x1, %x1, %x2; add.u32 %x1, %x1, %x3;
            st.param.b32 [result], %x1;
            ret;
        }
        .func (.reg .u32 r) plus(.reg .u32 a, .reg .u32 b) { add.u32 r, a, b; ret; }
        )";
    const std::string body = kOut + R"(
        {
        .param .b32 p0; .param .align 8 .b8 p1[16]; .param .b32 ret0;
        st.param.b32 [p0], %t;
        mov.u32 %r1, 1000; mov.u32 %r2, 5; st.param.v2.b32 [p1], {%r1, %r2}; st.param.v2.b32 [p1+8], {%r2, %r1};
        call.uni (ret0), twice, (p0, p1);
        ld.param.b32 %r3, [ret0];
        }
        call (%r4), plus, (%r3, 7);
        st.global.u32 [%rd1], %r4;)";
    const auto out = run_well(body, {}, 32, {.declarations = declarations});
    for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == 2 * i + 10 + 7);
}

TEST_CASE("recursion of different depths, called by some lanes only") {
    const std::string declarations = R"(
        .func (.param .b32 result) fib(.param .b32 n) {
            .reg .b32 %x<8>; .reg .pred %p;
            .local .align 4 .b8 keep[8];
            ld.param.u32 %x1, [n];
            setp.lt.u32 %p, %x1, 2;
            @%p bra LEAF;
            st.local.u32 [keep], %x1;
            { .param .b32 a; .param .b32 r; sub.u32 %x2, %x1, 1; st.param.b32 [a], %x2; call (r), fib, (a); ld.param.b32 %x3, [r]; }
            ld.local.u32 %x1, [keep];
            { .param .b32 a; .param .b32 r; sub.u32 %x2, %x1, 2; st.param.b32 [a], %x2; call (r), fib, (a); ld.param.b32 %x4, [r]; }
            add.u32 %x1, %x3, %x4;
            LEAF: st.param.b32 [result], %x1;
            ret;
        })";
    const std::string body = kOut + R"(
        mov.u32 %r3, 77;
        setp.ge.u32 %p1, %t, 4;
        { .param .b32 a; .param .b32 r; and.b32 %r1, %t, 7; st.param.b32 [a], %r1; @%p1 call (r), fib, (a); @%p1 ld.param.b32 %r3, [r]; }
        bar.sync 0;
        st.global.u32 [%rd1], %r3;)";
    const uint32_t fib[8] = {0, 1, 1, 2, 3, 5, 8, 13};
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(body, {}, 32, {.seed = seed, .declarations = declarations});
        for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == (i >= 4 ? fib[i % 8] : 77));
    }
}

TEST_CASE("indirect calls") {
    const std::string declarations = R"(
        .func (.param .b32 r) add1(.param .b32 a) { .reg .b32 %x; ld.param.b32 %x, [a]; add.u32 %x, %x, 1; st.param.b32 [r], %x; ret; }
        .func (.param .b32 r) mul3(.param .b32 a) { .reg .b32 %x; ld.param.b32 %x, [a]; mul.lo.u32 %x, %x, 3; st.param.b32 [r], %x; ret; }
        .global .align 8 .u64 table[2] = {add1, mul3};
        )";
    const std::string body = kOut + R"(
        and.b32 %r1, %t, 1; mul.wide.u32 %rd2, %r1, 8; mov.u64 %rd3, table; add.u64 %rd3, %rd3, %rd2; ld.global.u64 %rd4, [%rd3];
        proto: .callprototype (.param .b32 _) _ (.param .b32 _);
        { .param .b32 a; .param .b32 r; st.param.b32 [a], %t; call (r), %rd4, (a), proto; ld.param.b32 %r2, [r]; }
        bar.sync 0;
        st.global.u32 [%rd1], %r2;)";
    const auto out = run_well(body, {}, 32, {.declarations = declarations});
    for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == (i % 2 == 0 ? i + 1 : i * 3));
    const Run run = run_ptx("mov.u64 %rd4, 4096; call (%r1), %rd4, (%r2), p; p: .callprototype (.reg .b32 _) _ (.reg .b32 _);", {}, 4,
                            {.declarations = declarations});
    CHECK(run.fault.kind == Fault::Kind::BadInstruction);
}

TEST_CASE("a lane may wait for another lane of its warp") {
    // A lock that every lane takes in turn: who holds it must get on while the others spin, also where the spinning ones would have to meet it first.
    const std::string body = kOut + R"(
        mov.u64 %rd2, lock;
        SPIN: atom.global.acquire.gpu.cas.b32 %r1, [%rd2], 0, 1;
        setp.ne.u32 %p1, %r1, 0;
        @%p1 bra SPIN;
        ld.global.u32 %r2, [%rd2+4]; add.u32 %r2, %r2, 1; st.global.u32 [%rd2+4], %r2;
        atom.global.release.gpu.exch.b32 %r3, [%rd2], 0;
        shfl.sync.idx.b32 %r4, %r2, 0, 31, 0xffffffff;
        bar.sync 0;
        st.global.u32 [%rd1], %r2;)";
    for (uint64_t seed = 0; seed < 8; ++seed) {
        const Run run = run_ptx(body, {}, 64, {.threads = 64, .seed = seed, .declarations = ".global .align 8 .u32 lock[2];"});
        CHECK_MESSAGE(!run.fault, run.fault.text);
        uint64_t sum = 0;
        for (const uint32_t value : run.out) sum += value;
        CHECK(sum == 64 * 65 / 2);
    }
}

TEST_CASE("lanes that wait for what only a lane behind the meeting does") {
    const std::string body = kOut + R"(
        mov.u64 %rd2, flag;
        setp.eq.u32 %p1, %t, 5;
        @%p1 bra JOIN;
        WAIT: ld.relaxed.gpu.global.u32 %r1, [%rd2];
        setp.eq.u32 %p2, %r1, 0;
        @%p2 bra WAIT;
        JOIN: @%p1 st.relaxed.gpu.global.u32 [%rd2], 1;
        bar.warp.sync 0xffffffff;
        st.global.u32 [%rd1], %t;)";
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto out = run_well(body, {}, 32, {.seed = seed, .declarations = ".global .align 4 .u32 flag;"});
        for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == i);
    }
}

TEST_CASE("traps and failed assertions end the launch with a word") {
    Run run = run_ptx("setp.eq.u32 %p1, %t, 9; @%p1 trap;", {}, 4);
    CHECK(run.fault.kind == Fault::Kind::Trap);
    CHECK(run.fault.text.find("thread (9,0,0) of block (0,0,0)") != std::string::npos);
    const std::string declarations = R"(
        .extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
        .global .align 1 .b8 what[6] = {120, 32, 62, 32, 48, 0};
        .global .align 1 .b8 file[5] = {97, 46, 99, 117, 0};)";
    run = run_ptx(R"(
        { .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
        mov.u64 %rd1, what; mov.u64 %rd2, file; mov.b64 %rd3, 1;
        st.param.b64 [a], %rd1; st.param.b64 [b], %rd2; st.param.b32 [c], 17; st.param.b64 [d], %rd2; st.param.b64 [e], %rd3;
        call.uni __assertfail, (a, b, c, d, e); })",
                  {}, 4, {.declarations = declarations});
    CHECK(run.fault.kind == Fault::Kind::Trap);
    CHECK_MESSAGE(run.fault.text.find("assertion `x > 0` failed, a.cu:17") != std::string::npos, run.fault.text);
}

TEST_CASE("what the emulator does not know is refused when a module is loaded") {
    Run run = run_ptx("\nfrobnicate.u32 %r1, %r2;", {}, 4);
    CHECK_MESSAGE(run.error.find("`frobnicate.u32` is not supported by the emulator") != std::string::npos, run.error);
    CHECK_MESSAGE(run.error.find("line 10") != std::string::npos, run.error);
    run = run_ptx("ld.global.frob.u32 %r1, [%rd1];", {}, 4);
    CHECK_MESSAGE(run.error.find("`ld.global.frob.u32` is not supported by the emulator: `.frob`") != std::string::npos, run.error);
    run = run_ptx("call.uni elsewhere;", {}, 4, {.declarations = ".extern .func elsewhere();"});
    CHECK_MESSAGE(run.error.find("`elsewhere` is not defined") != std::string::npos, run.error);
}

TEST_CASE(".uni is a promise") {
    CHECK(run_ptx("setp.lt.u32 %p1, %t, 7; @%p1 bra.uni END; END:", {}, 4).fault.kind == Fault::Kind::Divergence);
    CHECK(run_ptx("and.b32 %r1, %t, 1; ts: .branchtargets A, B; brx.idx.uni %r1, ts; A: add.u32 %r2, %r2, 1; B:", {}, 4).fault.kind ==
          Fault::Kind::Divergence);
    run_well("setp.lt.u32 %p1, %t, 32; @%p1 bra.uni END; trap; END:", {}, 4);
    run_well("setp.lt.u32 %p1, %t, 7; @!%p1 bra END; bra.uni END; END:", {}, 4);
}

TEST_CASE("malloc, free and vprintf") {
    const std::string declarations = R"(
        .extern .func (.param .b64 r) malloc(.param .b64 n);
        .extern .func free(.param .b64 p);
        .extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
        .global .align 1 .b8 format[12] = {37, 100, 32, 37, 46, 49, 102, 37, 37, 10, 0};)";
    const std::string allocate = R"(
        { .param .b64 n; .param .b64 r; mov.b64 %rd1, 64; st.param.b64 [n], %rd1; call (r), malloc, (n); ld.param.b64 %rd2, [r]; }
        st.u32 [%rd2+60], %t; ld.u32 %r1, [%rd2+60];)";
    const std::string release = "{ .param .b64 p; st.param.b64 [p], %rd2; call free, (p); }";
    run_well(allocate + release, {}, 4, {.declarations = declarations});
    CHECK(run_ptx(allocate + release + release, {}, 4, {.declarations = declarations}).fault.kind == Fault::Kind::OutOfBounds);
    CHECK(run_ptx(allocate + "ld.u32 %r1, [%rd2];", {}, 4, {.declarations = declarations}).fault.kind == Fault::Kind::Uninitialised);
    const auto out = run_well(R"(
        .local .align 8 .b8 arguments[16];
        mov.u32 %r1, -5; st.local.u32 [arguments], %r1; mov.f64 %fd1, 0d4004000000000000; st.local.f64 [arguments+8], %fd1;
        { .param .b64 f; .param .b64 a; .param .b32 r; mov.u64 %rd1, format; mov.u64 %rd2, arguments; cvta.local.u64 %rd2, %rd2;
        st.param.b64 [f], %rd1; st.param.b64 [a], %rd2; call (r), vprintf, (f, a); ld.param.b32 %r2, [r]; }
        st.global.u32 [%out], %r2;)",
                              {}, 1, {.threads = 1, .declarations = declarations});
    CHECK(out[0] == 1);
}

TEST_CASE("an opcode stands in one table only") {
    std::set<std::string_view> seen;
    for (const auto table : {integer_decoders(), float_decoders(), shared_decoders(), control_decoders(), memory_decoders(),
                             atomic_decoders(), warp_decoders(), async_decoders(), matrix_decoders()}) {
        for (const DecoderEntry& entry : table) CHECK_MESSAGE(seen.insert(entry.opcode).second, entry.opcode);
    }
}

TEST_CASE("special registers") {
    const auto out = run_well(kOut + R"(
        mov.u32 %r1, %ntid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %nctaid.x; mov.u32 %r4, %warpid; mov.u32 %r5, %lanemask_lt;
        mad.lo.u32 %r6, %r2, %r1, %t; mul.wide.u32 %rd1, %r6, 16; add.u64 %rd1, %out, %rd1;
        shl.b32 %r7, %r1, 16; or.b32 %r7, %r7, %r3;
        st.global.v4.u32 [%rd1], {%r7, %r2, %r4, %r5};)",
                              zeros(1), size_t{4} * 3 * 48, {.threads = 48, .blocks = 3});
    for (uint32_t b = 0; b < 3; ++b) {
        for (uint32_t t = 0; t < 48; ++t) {
            const uint32_t* at = &out[size_t{4} * (b * 48 + t)];
            CHECK(at[0] == (48U << 16 | 3));
            CHECK(at[1] == b);
            CHECK(at[2] == t / 32);
            CHECK(at[3] == (1U << t % 32) - 1);
        }
    }
}
