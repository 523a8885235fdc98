// atom and red against plain C++, one lane at a time, and all lanes at once where the order does not matter.
#include <bit>
#include <functional>

#include "emulator/numeric/float.h"
#include "ptx_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

std::string verdict(const Run& run) {
    return run.error.empty() ? std::string(name(run.fault.kind)) + ": " + run.fault.text : "load: " + run.error;
}

struct Case {
    std::string operation, type;
    int bytes;
    std::function<uint64_t(uint64_t old, uint64_t b)> change;
};

template <typename T>
T as(uint64_t bits) {
    if constexpr (sizeof(T) == 8)
        return std::bit_cast<T>(bits);
    else
        return std::bit_cast<T>(static_cast<uint32_t>(bits));
}
template <typename T>
uint64_t bits_of(T value) {
    if constexpr (sizeof(T) == 8)
        return std::bit_cast<uint64_t>(value);
    else
        return std::bit_cast<uint32_t>(value);
}
template <typename T>
void add_integer_cases(std::vector<Case>& all, const std::string& type) {
    constexpr int kBytes = sizeof(T);
    all.push_back({"min", type, kBytes, [](uint64_t a, uint64_t b) { return bits_of(std::min(as<T>(a), as<T>(b))); }});
    all.push_back({"max", type, kBytes, [](uint64_t a, uint64_t b) { return bits_of(std::max(as<T>(a), as<T>(b))); }});
    if (type != "s64")
        all.push_back({"add", type, kBytes, [](uint64_t a, uint64_t b) { return kBytes == 8 ? a + b : static_cast<uint32_t>(a + b); }});
}

std::vector<Case> cases() {
    std::vector<Case> all;
    add_integer_cases<uint32_t>(all, "u32");
    add_integer_cases<int32_t>(all, "s32");
    add_integer_cases<uint64_t>(all, "u64");
    add_integer_cases<int64_t>(all, "s64");
    for (const std::string type : {"b32", "b64"}) {
        const int bytes = type == "b32" ? 4 : 8;
        all.push_back({"and", type, bytes, [](uint64_t a, uint64_t b) { return a & b; }});
        all.push_back({"or", type, bytes, [](uint64_t a, uint64_t b) { return a | b; }});
        all.push_back({"xor", type, bytes, [](uint64_t a, uint64_t b) { return a ^ b; }});
        all.push_back({"exch", type, bytes, [](uint64_t, uint64_t b) { return b; }});
    }
    all.push_back({"inc", "u32", 4, [](uint64_t a, uint64_t b) { return a >= b ? 0 : a + 1; }});
    all.push_back({"dec", "u32", 4, [](uint64_t a, uint64_t b) { return a == 0 || a > b ? b : a - 1; }});
    all.push_back({"add", "f32", 4, [](uint64_t a, uint64_t b) { return bits_of(as<float>(a) + as<float>(b)); }});
    all.push_back({"add", "f64", 8, [](uint64_t a, uint64_t b) { return bits_of(as<double>(a) + as<double>(b)); }});
    const auto half = [](uint64_t a, uint64_t b) -> uint64_t {
        return numeric::add(numeric::F16{static_cast<uint16_t>(a)}, numeric::F16{static_cast<uint16_t>(b)}).bits;
    };
    const auto brain = [](uint64_t a, uint64_t b) -> uint64_t {
        return numeric::add(numeric::BF16{static_cast<uint16_t>(a)}, numeric::BF16{static_cast<uint16_t>(b)}).bits;
    };
    all.push_back({"add.noftz", "f16", 2, half});
    all.push_back({"add.noftz", "bf16", 2, brain});
    all.push_back({"add.noftz", "f16x2", 4, [half](uint64_t a, uint64_t b) { return half(a, b) | half(a >> 16, b >> 16) << 16; }});
    all.push_back({"add.noftz", "bf16x2", 4, [brain](uint64_t a, uint64_t b) { return brain(a, b) | brain(a >> 16, b >> 16) << 16; }});
    return all;
}

uint64_t operand(Random& random, const Case& test) {
    const uint64_t r = random.next();
    if (test.type == "f32") return bits_of(static_cast<float>(static_cast<int64_t>(r) >> 30) * 0x1p-20f);
    if (test.type == "f64") return bits_of(static_cast<double>(static_cast<int64_t>(r)) * 0x1p-40);
    // Halves: exponents from the middle, so that no NaN comes up.
    if (test.type.starts_with("f16")) return r & 0xbfffbfff;
    if (test.type.starts_with("bf16")) return (r & 0xbfffbfff) | 0x30003000;
    if (test.operation == "inc" || test.operation == "dec") return r & 7;
    return test.bytes == 8 ? r : static_cast<uint32_t>(r);
}

std::string register_type(const Case& test) {
    return test.bytes == 2 ? "b16" : test.bytes == 4 ? "b32" : "b64";
}
std::string reg(const Case& test, int number) {
    if (test.type == "f32") return "%f" + std::to_string(number);
    if (test.type == "f64") return "%fd" + std::to_string(number);
    return (test.bytes == 2 ? "%h" : test.bytes == 4 ? "%r" : "%rd") + std::to_string(number);
}

TEST_CASE("every operation and type, in global and shared memory, as atom and as red") {
    for (const Case& test : cases())
        for (const bool shared : {false, true})
            for (const bool returns : {true, false}) {
                if (!returns && test.operation == "exch") continue;
                const std::string space = shared ? ".shared" : ".global";
                CAPTURE(test.operation);
                CAPTURE(test.type);
                CAPTURE(space);
                Random random{std::hash<std::string>()(test.operation + test.type)};
                // Each lane has 8 bytes of the first value, then 8 of the second.
                std::vector<uint32_t> in(128);
                std::vector<uint64_t> first(32), second(32);
                for (size_t lane = 0; lane < 32; ++lane) {
                    first[lane] = operand(random, test);
                    second[lane] = lane % 5 == 0 ? first[lane] : operand(random, test);
                    if (test.bytes == 2) first[lane] &= 0xffff, second[lane] &= 0xffff;
                    std::memcpy(&in[lane * 4], &first[lane], 8);
                    std::memcpy(&in[lane * 4 + 2], &second[lane], 8);
                }
                const std::string width = register_type(test), a = reg(test, 1), b = reg(test, 2);
                std::string body =
                    "mul.wide.u32 %rd10, %lane, 16; add.u64 %rd11, %in, %rd10; add.u64 %rd12, %out, %rd10; mov.b64 %rd13, 0;\n"
                    "st.global.u64 [%rd12], %rd13; st.global.u64 [%rd12 + 8], %rd13;\n"
                    "mov.u32 %r10, cells; mul.lo.u32 %r11, %lane, 8; add.u32 %r10, %r10, %r11;\n"
                    "ld.global." +
                    width + " " + a + ", [%rd11]; ld.global." + width + " " + b + ", [%rd11 + 8];\n";
                const std::string cell = shared ? "[%r10]" : "[%rd12]";
                body += "st" + space + "." + width + " " + cell + ", " + a + ";\n";
                const std::string spelled = space + "." + test.operation + "." + test.type;
                if (returns)
                    body += "atom" + spelled + " " + reg(test, 3) + ", " + cell + ", " + b + ";\nst.global." + width + " [%rd12 + 8], " +
                            reg(test, 3) + ";\n";
                else
                    body += "red" + spelled + " " + cell + ", " + b + ";\n";
                if (shared) body += "ld.shared." + width + " " + a + ", [%r10]; st.global." + width + " [%rd12], " + a + ";\n";
                const auto out = run_well(body, in, 128, {.declarations = ".shared .align 8 .b8 cells[256];"});
                for (size_t lane = 0; lane < 32; ++lane) {
                    uint64_t now = 0, old = 0;
                    std::memcpy(&now, &out[lane * 4], 8);
                    std::memcpy(&old, &out[lane * 4 + 2], 8);
                    REQUIRE(now == test.change(first[lane], second[lane]));
                    if (returns) REQUIRE(old == first[lane]);
                }
            }
}

TEST_CASE("cas and exch of all widths") {
    std::vector<uint32_t> in(32 * 12);
    Random random{5};
    for (size_t lane = 0; lane < 32; ++lane) {
        for (size_t i = 0; i < 12; ++i) in[lane * 12 + i] = static_cast<uint32_t>(random.next());
        // Every second lane compares with what is there.
        if (lane % 2 == 0) std::memcpy(&in[lane * 12 + 4], &in[lane * 12], 16);
        // One lane differs in the upper half only.
        if (lane == 6) ++in[lane * 12 + 7];
    }
    const std::string start =
        "mul.wide.u32 %rd10, %lane, 48; add.u64 %rd11, %in, %rd10; mul.wide.u32 %rd10, %lane, 32; add.u64 %rd12, %out, %rd10;\n"
        "ld.global.v2.u64 {%rd0, %rd1}, [%rd11]; ld.global.v2.u64 {%rd2, %rd3}, [%rd11 + 16]; ld.global.v2.u64 {%rd4, %rd5}, [%rd11 + "
        "32];\n"
        "st.global.v2.u64 [%rd12], {%rd0, %rd1}; st.global.v2.u64 [%rd12 + 16], {%rd0, %rd1};\n";
    for (const int bytes : {2, 4, 8, 16}) {
        CAPTURE(bytes);
        std::string body = start;
        if (bytes == 16)
            body +=
                "mov.b128 %q1, {%rd2, %rd3}; mov.b128 %q2, {%rd4, %rd5};\natom.global.cas.b128 %q0, [%rd12], %q1, %q2;\nmov.b128 {%rd6, "
                "%rd7}, %q0; st.global.v2.u64 [%rd12 + 16], {%rd6, %rd7};\n";
        else if (bytes == 8)
            body += "atom.relaxed.cta.global.cas.b64 %rd6, [%rd12], %rd2, %rd4;\nst.global.u64 [%rd12 + 16], %rd6;\n";
        else if (bytes == 4)
            body +=
                "cvt.u32.u64 %r2, %rd2; cvt.u32.u64 %r4, %rd4;\natom.acq_rel.sys.global.cas.b32 %r6, [%rd12], %r2, %r4;\nst.global.u32 "
                "[%rd12 + 16], %r6;\n";
        else
            body +=
                "cvt.u16.u64 %h2, %rd2; cvt.u16.u64 %h4, %rd4;\natom.global.cas.b16 %h6, [%rd12], %h2, %h4;\nst.global.b16 [%rd12 + 16], "
                "%h6;\n";
        const auto out = run_well(body, in, 256);
        const auto width = static_cast<size_t>(bytes);
        for (size_t lane = 0; lane < 32; ++lane) {
            const bool same = std::memcmp(&in[lane * 12], &in[lane * 12 + 4], width) == 0;
            REQUIRE(std::memcmp(&out[lane * 8], same ? &in[lane * 12 + 8] : &in[lane * 12], width) == 0);
            REQUIRE(std::memcmp(reinterpret_cast<const uint8_t*>(&out[lane * 8]) + width,
                                reinterpret_cast<const uint8_t*>(&in[lane * 12]) + width, 16 - width) == 0);
            REQUIRE(std::memcmp(&out[lane * 8 + 4], &in[lane * 12], width) == 0);
        }
    }
    const auto out = run_well(start +
                                  "mov.b128 %q1, {%rd2, %rd3};\natom.global.exch.b128 %q0, [%rd12], %q1;\nmov.b128 {%rd6, %rd7}, %q0; "
                                  "st.global.v2.u64 [%rd12 + 16], {%rd6, %rd7};\n",
                              in, 256);
    for (size_t lane = 0; lane < 32; ++lane) {
        REQUIRE(std::memcmp(&out[lane * 8], &in[lane * 12 + 4], 16) == 0);
        REQUIRE(std::memcmp(&out[lane * 8 + 4], &in[lane * 12], 16) == 0);
    }
}

TEST_CASE("vector forms work on each element") {
    const std::string load =
        "mul.wide.u32 %rd10, %lane, 32; add.u64 %rd11, %in, %rd10; add.u64 %rd12, %out, %rd10;\n"
        "ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%rd11]; ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd11 + 16];\n"
        "st.global.v4.u32 [%rd12], {%r0, %r1, %r2, %r3}; st.global.v4.u32 [%rd12 + 16], {%r0, %r1, %r2, %r3};\n"
        "mov.b32 %f4, %r4; mov.b32 %f5, %r5; mov.b32 %f6, %r6; mov.b32 %f7, %r7;\nmov.b32 {%h0, %h1}, %r4; mov.b32 {%h2, %h3}, %r5;\n";
    std::vector<uint32_t> floats(256), halves(256);
    Random random{6};
    for (auto& each : floats) each = std::bit_cast<uint32_t>(static_cast<float>(random.next() % 1000) / 8.0f);
    for (auto& each : halves) each = static_cast<uint32_t>(random.next()) & 0xbfffbfff;
    auto out = run_well(load +
                            "atom.global.add.v4.f32 {%f0, %f1, %f2, %f3}, [%rd12], {%f4, %f5, %f6, %f7};\nst.global.v4.f32 [%rd12 + 16], "
                            "{%f0, %f1, %f2, %f3};",
                        floats, 256);
    for (size_t i = 0; i < 256; ++i) {
        const size_t lane = i / 8, part = i % 8;
        const float a = std::bit_cast<float>(floats[lane * 8 + part % 4]), b = std::bit_cast<float>(floats[lane * 8 + 4 + part % 4]);
        REQUIRE(std::bit_cast<float>(out[i]) == (part < 4 ? a + b : a));
    }
    const auto half_at = [](const std::vector<uint32_t>& words, size_t lane, size_t i) {
        return static_cast<uint16_t>(words[lane * 8 + i / 2] >> (i % 2 * 16));
    };
    out = run_well(load + "red.global.max.noftz.v4.f16x2 [%rd12], {%r4, %r5, %r6, %r7};", halves, 256);
    for (size_t i = 0; i < 256; ++i)
        REQUIRE(half_at(out, i / 8, i % 8) ==
                numeric::max(numeric::F16{half_at(halves, i / 8, i % 8)}, numeric::F16{half_at(halves, i / 8, 8 + i % 8)}).bits);
    out = run_well(load +
                       "atom.global.v4.bf16.add.noftz {%h4, %h5, %h6, _}, [%rd12], {%h0, %h1, %h2, %h3};\nmov.b32 %r9, {%h4, %h5}; "
                       "st.global.b32 [%rd12 + 16], %r9;",
                   halves, 256);
    for (size_t i = 0; i < 128; ++i) {
        const numeric::BF16 a{half_at(halves, i / 4, i % 4)}, b{half_at(halves, i / 4, 8 + i % 4)};
        REQUIRE(half_at(out, i / 4, i % 4) == numeric::add(a, b).bits);
        if (i % 4 < 2) REQUIRE(half_at(out, i / 4, 8 + i % 4) == a.bits);
    }
    const Run run = run_ptx(load + "red.global.add.v2.f32 [%rd12 + 4], {%f4, %f5};", floats, 256);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Misaligned, verdict(run));
}

TEST_CASE("all threads of all blocks at one place") {
    // Counters in global memory by all, in shared memory by the block; the order of arrival is a permutation.
    for (uint64_t seed = 0; seed < 3; ++seed) {
        const std::string body =
            "mov.u32 %r20, counter; setp.eq.u32 %p0, %t, 0; mov.u32 %r21, 0; @%p0 st.shared.u32 [%r20], %r21;\nbar.sync 0;\n"
            "atom.global.add.u32 %r0, [%out], 1;\natom.shared.inc.u32 %r1, [%r20], 1000;\nred.global.add.f32 [%out + 4], 0f3F000000;\n"
            "mov.u32 %r2, %ctaid.x; mad.lo.u32 %r3, %r2, 96, %t;\nmul.wide.u32 %rd1, %r0, 4; add.u64 %rd1, %out, %rd1; st.global.u32 [%rd1 "
            "+ 8], %r3;\n"
            "mad.lo.u32 %r4, %r2, 96, %r1; mul.wide.u32 %rd1, %r4, 4; add.u64 %rd1, %out, %rd1; st.global.u32 [%rd1 + 1160], %t;";
        // The counters start at zero: `out` is filled with another pattern, so one thread of a first launch sets them.
        Device device;
        std::string error;
        const auto module = device.load(module_of(body, ".shared .align 4 .b32 counter;"), &error);
        REQUIRE_MESSAGE(module, error);
        const uint64_t out = device.allocate(4 * 700), in = device.allocate(4);
        device.fill(out, 0, 4, 700);
        std::vector<uint8_t> parameters(16);
        std::memcpy(parameters.data(), &in, 8);
        std::memcpy(parameters.data() + 8, &out, 8);
        LaunchOptions options;
        options.seed = seed;
        const Fault fault = device.launch(*module, module->ptx().find_function("k"), {3, 1, 1}, {96, 1, 1}, 0, parameters, options);
        CHECK_MESSAGE(!fault, fault.text);
        std::vector<uint32_t> words(700);
        device.read(words.data(), out, 2800);
        CHECK(words[0] == 288);
        CHECK(std::bit_cast<float>(words[1]) == 144.0f);
        std::vector<int> seen(288, 0), seen_in_block(288, 0);
        for (size_t i = 0; i < 288; ++i) {
            REQUIRE(words[2 + i] < 288);
            ++seen[words[2 + i]];
            REQUIRE(words[290 + i] < 96);
            ++seen_in_block[i / 96 * 96 + words[290 + i]];
        }
        for (size_t i = 0; i < 288; ++i) {
            REQUIRE(seen[i] == 1);
            REQUIRE(seen_in_block[i] == 1);
        }
    }
}

TEST_CASE("subnormal sums, and what is refused") {
    const std::string body =
        "mov.u32 %r20, cell; mov.f32 %f0, 0f00000100; st.shared.f32 [%r20], %f0; st.global.f32 [%out], %f0; bar.sync 0;\n"
        "red.global.add.f32 [%out], %f0; red.shared.add.f32 [%r20], %f0; ld.shared.f32 %f1, [%r20]; st.global.f32 [%out + 4], %f1;";
    const auto out = run_well(body, {}, 2, {.threads = 1, .declarations = ".shared .align 4 .b32 cell;"});
    CHECK(out[0] == 0);  // f32 in global memory flushes
    CHECK(out[1] == 0x200);
    for (const char* wrong :
         {"atom.global.add.s64 %rd0, [%out], %rd1;", "atom.global.add.f16x2 %r0, [%out], %r1;", "atom.global.inc.s32 %r0, [%out], %r1;",
          "atom.global.exch.u32 %r0, [%out], %r1;", "red.global.exch.b32 [%out], %r1;", "red.acquire.gpu.global.add.u32 [%out], %r1;",
          "atom.shared.add.v2.f32 {%f0, %f1}, [%r0], {%f2, %f3};", "atom.global.min.noftz.f16x2 %r0, [%out], %r1;",
          "atom.global.mul.u32 %r0, [%out], %r1;", "atom.global.add.u32 %rd0, [%out], %r1;", "atom.global.cas.b32 %r0, [%out], %r1;"}) {
        CAPTURE(wrong);
        CHECK(!run_ptx(wrong, {}, 1).error.empty());
    }
    Run run = run_ptx("atom.global.add.u32 %r0, [%out + 2], 1;", {}, 4);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Misaligned, verdict(run));
    run = run_ptx("mov.u32 %r1, cell; atom.shared.add.u32 %r0, [%r1], 1;", {}, 4, {.declarations = ".shared .align 4 .b32 cell;"});
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Uninitialised, verdict(run));
    // An ordinary store beside the atomics of others.
    run = run_ptx("setp.eq.u32 %p0, %t, 40; mov.u32 %r1, 7; @%p0 st.global.u32 [%out], %r1; @!%p0 red.global.add.u32 [%out], 1;", {}, 4,
                  {.threads = 64});
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Race, verdict(run));
    // Atomics of the block do not order two blocks.
    run = run_ptx("red.relaxed.cta.global.add.u32 [%out], 1;", {}, 4, {.blocks = 2});
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Race, verdict(run));
}

}  // namespace
