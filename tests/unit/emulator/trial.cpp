#include "tests/unit/emulator/trial.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "emulator/device.h"

namespace flexemu::test {
namespace {

constexpr int kThreads = 64;

std::string head(const std::string& target) {
    return fmt::format(".version 8.6\n.target {}\n.address_size 64\n", target);
}
constexpr const char* kRegisters = ".reg .pred p<8>; .reg .b8 c<8>; .reg .b16 h<8>; .reg .b32 r<8>; .reg .b64 d<8>; .reg .b128 q<4>;\n";

/// From and to a 64-bit register `x`.
std::string from_wide(const std::string& name) {
    switch (name[0]) {
        case 'p': return fmt::format("setp.ne.u64 {}, x, 0;\n", name);
        case 'h': return fmt::format("cvt.u16.u64 {}, x;\n", name);
        case 'r': return fmt::format("cvt.u32.u64 {}, x;\n", name);
        default: return fmt::format("mov.b64 {}, x;\n", name);
    }
}
std::string to_wide(const std::string& name) {
    switch (name[0]) {
        case 'p': return fmt::format("selp.u64 x, 1, 0, {};\n", name);
        case 'h': return fmt::format("cvt.u64.u16 x, {};\n", name);
        case 'r': return fmt::format("cvt.u64.u32 x, {};\n", name);
        default: return fmt::format("mov.b64 x, {};\n", name);
    }
}

}  // namespace

std::vector<Values> run(const std::string& instructions, const std::vector<Input>& inputs, const std::vector<std::string>& outputs,
                        const std::string& target) {
    size_t count = 1;
    for (const Input& input : inputs) count = std::max(count, input.values.size());
    const size_t blocks = (count + kThreads - 1) / kThreads, padded = blocks * kThreads;
    std::string text = head(target) + ".entry trial(.param .u64 in, .param .u64 out) {\n" + kRegisters;
    text += ".reg .b64 from, to, at, x; .reg .b32 i, n;\n";
    text += "ld.param.u64 from, [in]; ld.param.u64 to, [out];\n";
    text += fmt::format("mov.u32 i, %tid.x; mov.u32 n, %ctaid.x; mad.lo.u32 i, n, {}, i; mul.wide.u32 at, i, 8;\n", kThreads);
    text += "add.u64 from, from, at; add.u64 to, to, at;\n";
    size_t row = 0;
    for (const Input& input : inputs) text += fmt::format("ld.global.u64 x, [from+{}];\n", 8 * padded * row++) + from_wide(input.name);
    text += instructions + "\n";
    row = 0;
    for (const std::string& name : outputs) text += to_wide(name) + fmt::format("st.global.u64 [to+{}], x;\n", 8 * padded * row++);
    text += "ret;\n}\n";

    Device device;
    std::string error;
    const auto module = device.load(text, &error);
    REQUIRE_MESSAGE(module != nullptr, instructions, ": ", error);
    const uint64_t in = device.allocate(std::max<size_t>(8 * padded * inputs.size(), 8)),
                   out = device.allocate(8 * padded * outputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
        Values values = inputs[i].values;
        values.resize(padded, values.empty() ? 0 : values[0]);
        REQUIRE(device.write(in + 8 * padded * i, values.data(), 8 * padded));
    }
    std::vector<uint8_t> parameters(16);
    std::copy_n(reinterpret_cast<const uint8_t*>(&in), 8, parameters.begin());
    std::copy_n(reinterpret_cast<const uint8_t*>(&out), 8, parameters.begin() + 8);
    const Fault fault = device.launch(*module, 0, {static_cast<uint32_t>(blocks), 1, 1}, {kThreads, 1, 1}, 0, parameters, {});
    REQUIRE_MESSAGE(!fault, instructions, ": ", fault.text);
    std::vector<Values> results;
    for (size_t i = 0; i < outputs.size(); ++i) {
        Values values(padded);
        REQUIRE(device.read(values.data(), out + 8 * padded * i, 8 * padded));
        values.resize(count);
        results.push_back(std::move(values));
    }
    return results;
}

std::string refusal(const std::string& instruction, const std::string& target) {
    Device device({.compute_capability = 120});
    std::string error;
    const auto module = device.load(head(target) + ".entry trial() {\n" + kRegisters + instruction + "\nret;\n}\n", &error);
    return module == nullptr ? error : "";
}

Values Samples::mixed(const std::vector<uint64_t>& edges, int width, size_t count, const std::function<uint64_t()>& any) {
    const uint64_t mask = width == 64 ? ~uint64_t{0} : (uint64_t{1} << width) - 1;
    Values values(count);
    for (uint64_t& value : values) {
        const uint64_t edge = edges[random_() % edges.size()];
        switch (random_() % 4) {
            case 0: value = edge; break;
            case 1: value = edge + random_() % 5 - 2; break;
            case 2: value = any(); break;
            default: value = random_();
        }
        value &= mask;
    }
    return values;
}

Values Samples::bits(int width, size_t count) {
    std::vector<uint64_t> edges = {0, 1, ~uint64_t{0}, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 32, 64, 255};
    for (int i = 0; i < width; ++i) edges.push_back(uint64_t{1} << i);
    // Small numbers of either sign: shift amounts, fields, quotients.
    return mixed(edges, width, count, [&] { return (random_() & 0xff) * ((random_() & 1) != 0 ? 1 : ~uint64_t{0}); });
}

namespace {

std::vector<uint64_t> float_edges(int exponent_bits, int mantissa_bits) {
    std::vector<uint64_t> edges;
    const uint64_t exponents = (uint64_t{1} << exponent_bits) - 1, bias = exponents >> 1,
                   sign = uint64_t{1} << (exponent_bits + mantissa_bits);
    for (const uint64_t exponent : {uint64_t{0}, uint64_t{1}, bias - 1, bias, bias + 1, bias + 7, exponents - 1, exponents}) {
        for (const uint64_t mantissa : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << mantissa_bits) - 1, uint64_t{1} << (mantissa_bits - 1)}) {
            edges.push_back(exponent << mantissa_bits | mantissa);
            edges.push_back(sign | edges.back());
        }
    }
    return edges;
}

}  // namespace

Values Samples::f16(size_t count) {
    return mixed(float_edges(5, 10), 16, count, [&] { return 0x3800 + random_() % 0x1800; });
}
Values Samples::bf16(size_t count) {
    return mixed(float_edges(8, 7), 16, count, [&] { return 0x3f00 + random_() % 0x200; });
}
Values Samples::f32(size_t count) {
    return mixed(float_edges(8, 23), 32, count, [&] {
        // Ordinary numbers, some of them whole.
        const double value = std::ldexp(static_cast<double>(random_() % 20001) - 10000, static_cast<int>(random_() % 16) - 12);
        return uint64_t{std::bit_cast<uint32_t>(static_cast<float>(value))};
    });
}
Values Samples::f64(size_t count) {
    return mixed(float_edges(11, 52), 64, count, [&] {
        return std::bit_cast<uint64_t>(
            std::ldexp(static_cast<double>(random_() % 20000001) - 10000000, static_cast<int>(random_() % 40) - 26));
    });
}
Values Samples::pairs(const Values& low, Values high) {
    for (size_t i = 0; i < high.size(); ++i) high[i] = high[i] << 16 | low[i];
    return high;
}

}  // namespace flexemu::test
