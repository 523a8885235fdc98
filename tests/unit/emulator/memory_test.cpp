// Memory: spaces and generic addresses, vectors and widths, bounds, alignment, bytes never written, constants, parameters, shared layout.
#include "ptx_run.h"

using namespace flexemu;
using namespace flexemu::test;

namespace {

const std::string kOut = "mul.wide.u32 %rd1, %t, 4; add.u64 %rd1, %out, %rd1;\n";

void expect(const std::string& body, Fault::Kind kind, std::string_view words, const Shape& shape = {}, size_t out_words = 64) {
    CAPTURE(body);
    const Run run = run_ptx(body, {1, 2, 3, 4}, out_words, shape);
    CHECK_MESSAGE(run.error.empty(), run.error);
    CHECK_MESSAGE(run.fault.kind == kind, name(run.fault.kind), " ", run.fault.text);
    CHECK_MESSAGE(run.fault.text.find(words) != std::string::npos, run.fault.text);
}

}  // namespace

TEST_CASE("loads extend, stores cut off") {
    const auto out = run_well(kOut + R"(
        mov.u32 %r1, 0x8182f3f4; st.global.u32 [%rd1], %r1;
        ld.global.s8 %r2, [%rd1+1]; ld.global.u8 %r3, [%rd1+1]; ld.global.s16 %r4, [%rd1+2]; ld.global.u16 %r5, [%rd1+2];
        ld.global.s32 %rd2, [%rd1];
        st.global.u8 [%rd1], %r1; mov.b64 {%r6, %r7}, %rd2;
        st.global.v4.u32 [%out+32], {%r2, %r3, %r4, %r5}; st.global.v2.u32 [%out+48], {%r6, %r7};)",
                              {}, 14, {.threads = 1});
    CHECK(out[8] == 0xfffffff3);
    CHECK(out[9] == 0xf3);
    CHECK(out[10] == 0xffff8182);
    CHECK(out[11] == 0x8182);
    CHECK(out[12] == 0x8182f3f4);
    CHECK(out[13] == 0xffffffff);
}

TEST_CASE("vectors of all widths, and 128 bits") {
    const auto out = run_well(R"(
        ld.global.v2.b64 {%rd1, %rd2}, [%in];
        st.global.v4.b16 [%out], {%h1, %h1, %h1, %h1};
        ld.global.b128 %q1, [%in];
        st.global.b128 [%out+16], %q1;
        st.global.v2.b64 [%out+32], {%rd2, %rd1};
        ld.global.v4.u8 {%r1, %r2, %r3, %r4}, [%in+4];
        st.global.v4.u32 [%out+48], {%r1, %r2, %r3, %r4};
        ld.global.v8.b32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%in];
        st.global.v8.b32 [%out+64], {%r8, %r7, %r6, %r5, %r4, %r3, %r2, %r1};)",
                              {1, 0x05060708, 3, 4, 5, 6, 7, 8}, 24, {.threads = 1});
    CHECK(out[0] == 0);
    CHECK(out[4] == 1);
    CHECK(out[7] == 4);
    CHECK(out[8] == 3);
    CHECK(out[10] == 1);
    CHECK(out[12] == 8);
    CHECK(out[15] == 5);
    CHECK(out[16] == 8);
    CHECK(out[23] == 1);
}

TEST_CASE("generic addresses of every space, and back") {
    const std::string body = kOut + R"(
        .shared .align 16 .b8 s[256]; .local .align 8 .b8 l[64];
        mov.u64 %rd2, s; cvta.shared.u64 %rd3, %rd2; mul.wide.u32 %rd4, %t, 4; add.u64 %rd3, %rd3, %rd4;
        st.u32 [%rd3], %t;
        cvta.to.shared.u64 %rd5, %rd3; ld.shared.u32 %r1, [%rd5]; cvt.u32.u64 %r9, %rd5; ld.shared.u32 %r2, [%r9];
        mov.u64 %rd6, l; cvta.local.u64 %rd7, %rd6; st.u32 [%rd7+8], %t; ld.local.u32 %r3, [l+8];
        isspacep.shared %p1, %rd3; isspacep.local %p2, %rd7; isspacep.global %p3, %rd1; isspacep.global %p4, %rd3;
        selp.u32 %r4, 1, 0, %p1; selp.u32 %r5, 2, 0, %p2; selp.u32 %r6, 4, 0, %p3; selp.u32 %r7, 8, 0, %p4;
        add.u32 %r4, %r4, %r5; add.u32 %r4, %r4, %r6; add.u32 %r4, %r4, %r7;
        add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; shl.b32 %r1, %r1, 8; add.u32 %r1, %r1, %r4;
        cvta.to.global.u64 %rd8, %rd1; cvta.global.u64 %rd8, %rd8; st.u32 [%rd8], %r1;)";
    const auto out = run_well(body, {}, 64, {.threads = 64});
    for (uint32_t i = 0; i < 64; ++i) CHECK(out[i] == (3 * i << 8 | 7));
}

TEST_CASE("variables of the module") {
    const std::string declarations = R"(
        .const .align 4 .u32 table[4] = {5, 6, 7};
        .global .align 8 .u64 pointer = generic(table);
        .global .align 4 .u32 counter = 9;)";
    const auto out = run_well(R"(
        ld.const.u32 %r1, [table+8]; ld.const.u32 %r2, [table+12]; ld.global.u64 %rd1, [pointer]; ld.u32 %r3, [%rd1+4]; ld.global.u32 %r4, [counter];
        st.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};)",
                              {}, 4, {.threads = 1, .declarations = declarations});
    CHECK(out == std::vector<uint32_t>{7, 0, 6, 9});
    expect("mov.u64 %rd1, table; st.u32 [%rd1], %r1;", Fault::Kind::OutOfBounds, "cannot be written",
           {.threads = 1, .declarations = declarations});
}

TEST_CASE("static and dynamic shared memory do not overlap, and have their size") {
    const std::string declarations = ".extern .shared .align 16 .b8 dyn[];";
    const auto out = run_well(R"(
        .shared .align 4 .u32 a[3]; .shared .align 16 .b8 b[20];
        mov.u32 %r1, a; mov.u32 %r2, b; mov.u32 %r3, dyn; mov.u32 %r4, %total_smem_size;
        st.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};)",
                              {}, 4, {.threads = 1, .declarations = declarations, .dynamic_shared = 100});
    const auto overlap = [](uint32_t a, uint32_t size, uint32_t b, uint32_t other) { return a < b + other && b < a + size; };
    CHECK(!overlap(out[0], 12, out[1], 20));
    CHECK(!overlap(out[0], 12, out[2], 100));
    CHECK(!overlap(out[1], 20, out[2], 100));
    CHECK(out[2] % 16 == 0);
    CHECK(out[3] == out[2] + 100);
    expect("mov.u32 %r3, dyn; st.shared.u32 [%r3+100], %r3;", Fault::Kind::OutOfBounds, "100 bytes of shared memory",
           {.threads = 1, .declarations = declarations, .dynamic_shared = 100});
    run_well("mov.u32 %r3, dyn; st.shared.u32 [%r3+96], %r3;", {}, 4, {.threads = 1, .declarations = declarations, .dynamic_shared = 100});
    expect("", Fault::Kind::Resources, "bytes of shared memory", {.threads = 1, .declarations = declarations, .dynamic_shared = 300000});
}

TEST_CASE("out of bounds: the nearest allocation is named") {
    expect("ld.global.u32 %r1, [%out+256];", Fault::Kind::OutOfBounds, "0 bytes after the 256 bytes", {.threads = 1});
    expect("ld.global.u64 %rd1, [%out+248]; ld.global.u32 %r1, [%in+-4];", Fault::Kind::OutOfBounds, "4 bytes before the 16 bytes",
           {.threads = 1});
    expect("ld.global.v2.u64 {%rd1, %rd2}, [%in+16];", Fault::Kind::OutOfBounds, "after the 16 bytes", {.threads = 1});
    expect("mov.u64 %rd1, 0; ld.global.u32 %r1, [%rd1];", Fault::Kind::OutOfBounds, "in no allocation", {.threads = 1});
    expect("mov.u32 %r2, 64; ld.shared.u32 %r1, [%r2];", Fault::Kind::OutOfBounds, "outside of the block's 0 bytes of shared memory",
           {.threads = 1});
    expect("ld.param.u64 %rd1, [p_out+8];", Fault::Kind::OutOfBounds, "parameters", {.threads = 1});
    const Run run = run_ptx("setp.eq.u32 %p1, %t, 40;\n@%p1 ld.global.u32 %r1, [%in+64];", {1}, 4, {.threads = 64});
    CHECK_MESSAGE(run.fault.text.find("ld.global.u32 by thread (40,0,0) of block (0,0,0)") != std::string::npos, run.fault.text);
    CHECK_MESSAGE(run.fault.text.find("line 10: ") == 0, run.fault.text);
}

TEST_CASE("misaligned accesses") {
    expect("ld.global.u32 %r1, [%out+2];", Fault::Kind::Misaligned, "no multiple of 4", {.threads = 1});
    expect("st.global.v4.u32 [%out+8], {%r1, %r1, %r1, %r1};", Fault::Kind::Misaligned, "no multiple of 16", {.threads = 1});
    expect("st.global.v8.b32 [%out+16], {%r1, %r1, %r1, %r1, %r1, %r1, %r1, %r1};", Fault::Kind::Misaligned, "no multiple of 32",
           {.threads = 1});
    run_well("st.global.v2.u32 [%out+8], {%r1, %r1};", {}, 8, {.threads = 1});
}

TEST_CASE("bytes that were never written") {
    const std::string shared = ".shared .align 16 .b8 s[256];\n";
    expect(shared + "ld.shared.u32 %r1, [s+4];", Fault::Kind::Uninitialised, "shared byte 0x4 has never been written", {.threads = 1});
    expect(shared + "mov.u16 %h1, 1; st.shared.u16 [s+4], %h1; ld.shared.u32 %r1, [s+4];", Fault::Kind::Uninitialised, "shared byte 0x6",
           {.threads = 1});
    expect(".local .align 4 .b8 l[8]; st.local.u32 [l], %t; ld.local.u32 %r1, [l+4];", Fault::Kind::Uninitialised, "local byte",
           {.threads = 1});
    expect(shared + "st.shared.u32 [s], %t; atom.shared.add.u32 %r1, [s+8], 1;", Fault::Kind::Uninitialised, "shared byte 0x8",
           {.threads = 1});
    run_well(shared + "st.shared.u32 [s+4], %t; ld.shared.u32 %r1, [s+4];", {}, 1, {.threads = 1});

    Device device;
    std::string error;
    const auto module = device.load(module_of("ld.global.u32 %r1, [%in]; st.global.u32 [%out], %r1;"), &error);
    REQUIRE_MESSAGE(module, error);
    const uint64_t in = device.allocate(64), out = device.allocate(64);
    std::vector<uint8_t> parameters(16);
    std::memcpy(parameters.data(), &in, 8);
    std::memcpy(parameters.data() + 8, &out, 8);
    LaunchOptions options;
    Fault fault = device.launch(*module, 0, {1, 1, 1}, {1, 1, 1}, 0, parameters, options);
    CHECK(fault.kind == Fault::Kind::Uninitialised);
    options.check_uninitialised = false;
    CHECK(!device.launch(*module, 0, {1, 1, 1}, {1, 1, 1}, 0, parameters, options));
    options.check_uninitialised = true;
    CHECK(device.fill(in, 7, 4, 16));
    fault = device.launch(*module, 0, {1, 1, 1}, {1, 1, 1}, 0, parameters, options);
    CHECK_MESSAGE(!fault, fault.text);
    uint32_t value = 0;
    CHECK(device.read(&value, out, 4));
    CHECK(value == 7);
    // Copying does not make bytes known that were not.
    const uint64_t other = device.allocate(64), third = device.allocate(64);
    CHECK(device.copy(third, other, 64));
    std::memcpy(parameters.data(), &third, 8);
    CHECK(device.launch(*module, 0, {1, 1, 1}, {1, 1, 1}, 0, parameters, options).kind == Fault::Kind::Uninitialised);
    // Freed memory is gone.
    CHECK(device.free(in));
    std::memcpy(parameters.data(), &in, 8);
    CHECK(device.launch(*module, 0, {1, 1, 1}, {1, 1, 1}, 0, parameters, options).kind == Fault::Kind::OutOfBounds);
}

TEST_CASE("allocations") {
    Device device;
    CHECK(device.allocate(0) == 0);
    CHECK(device.allocate(size_t{1} << 50) == 0);
    const uint64_t a = device.allocate(1000), b = device.allocate(1);
    CHECK(a % 512 == 0);
    CHECK(b >= a + 1000 + 512);
    CHECK(device.used_bytes() == 1001);
    CHECK(device.range_of(a + 999).base == a);
    CHECK(device.range_of(a + 1000).bytes == 0);
    const std::vector<uint8_t> data(1001, 3);
    CHECK(!device.write(a, data.data(), 1001));
    CHECK(device.write(a, data.data(), 1000));
    CHECK(!device.free(a + 1));
    CHECK(device.free(a));
    CHECK(!device.free(a));
    CHECK(device.used_bytes() == 1);
    std::vector<uint32_t> host(16, 5);
    CHECK(device.map_host(host.data(), 64));
    CHECK(!device.map_host(host.data() + 4, 8));
    CHECK(device.fill(reinterpret_cast<uint64_t>(host.data() + 1), 9, 4, 2));
    CHECK(host[0] == 5);
    CHECK(host[2] == 9);
    CHECK(device.unmap_host(host.data()));
    CHECK(!device.unmap_host(host.data()));
}

TEST_CASE("launches that cannot be") {
    Device device;
    std::string error;
    const auto module = device.load(
        ".version 8.0\n.target sm_80\n.address_size 64\n.entry k(.param .u32 a) .maxntid 64, 1, 1 { ret; }\n.func f() { ret; }", &error);
    REQUIRE_MESSAGE(module, error);
    const int32_t k = module->ptx().find_function("k");
    const std::vector<uint8_t> parameters(4);
    CHECK(!device.launch(*module, k, {1, 1, 1}, {64, 1, 1}, 0, parameters, {}));
    CHECK(device.launch(*module, k, {1, 1, 1}, {65, 1, 1}, 0, parameters, {}).kind == Fault::Kind::Resources);
    CHECK(device.launch(*module, k, {1, 0, 1}, {64, 1, 1}, 0, parameters, {}).kind == Fault::Kind::Resources);
    CHECK(device.launch(*module, k, {1, 1, 1}, {32, 32, 2}, 0, parameters, {}).kind == Fault::Kind::Resources);
    CHECK(device.launch(*module, k, {1, 1, 1}, {64, 1, 1}, 0, {}, {}).kind == Fault::Kind::Resources);
    CHECK(device.launch(*module, module->ptx().find_function("f"), {1, 1, 1}, {1, 1, 1}, 0, parameters, {}).kind == Fault::Kind::Resources);
    CHECK(!device.load(".version 8.7\n.target sm_120\n.address_size 64\n", &error));
    CHECK_MESSAGE(error.find("sm_120") != std::string::npos, error);
}
