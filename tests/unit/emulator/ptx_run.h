// Runs a few lines of PTX on the emulated device, as the body of a kernel k(in, out): buffers of 32-bit words.
//
// The body finds: %in and %out (64-bit addresses), %t (thread in the block), %lane, and registers %r0-63, %rd0-31, %f0-63, %fd0-31, %h0-31, %p0-15, %q0-3.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "emulator/device.h"

namespace flexemu::test {

struct Shape {
    uint32_t threads = 32, blocks = 1;
    uint64_t seed = 0;
    std::string declarations = {};  // of the module: shared variables, functions
    uint32_t dynamic_shared = 0;
    uint32_t cluster = 1;  // blocks
};

struct Run {
    Fault fault;
    std::string error;  // of loading
    std::vector<uint32_t> out;
};

inline std::string module_of(const std::string& body, const std::string& declarations = "") {
    return ".version 8.6\n.target sm_90\n.address_size 64\n" + declarations +
           "\n.visible .entry k(.param .u64 p_in, .param .u64 p_out) {\n"
           ".reg .b32 %r<64>; .reg .b64 %rd<32>; .reg .f32 %f<64>; .reg .f64 %fd<32>; .reg .b16 %h<32>; .reg .pred %p<16>; .reg .b128 "
           "%q<4>;\n"
           ".reg .b64 %in, %out; .reg .b32 %t, %lane;\n"
           "ld.param.u64 %in, [p_in]; ld.param.u64 %out, [p_out]; mov.u32 %t, %tid.x; mov.u32 %lane, %laneid;\n" +
           body + "\nret;\n}\n";
}

/// `out_words` words of 0xdddddddd are there for the kernel to overwrite.
inline Run run_ptx(const std::string& body, const std::vector<uint32_t>& in, size_t out_words, const Shape& shape = {}) {
    Run result;
    Device device;
    std::string error;
    const auto module = device.load(module_of(body, shape.declarations), &error);
    if (!module) {
        result.error = error;
        return result;
    }
    const uint64_t in_address = device.allocate(in.empty() ? 4 : in.size() * 4), out_address = device.allocate(out_words * 4);
    if (!in.empty()) device.write(in_address, in.data(), in.size() * 4);
    result.out.assign(out_words, 0xdddddddd);
    device.write(out_address, result.out.data(), out_words * 4);
    std::vector<uint8_t> parameters(16);
    std::memcpy(parameters.data(), &in_address, 8);
    std::memcpy(parameters.data() + 8, &out_address, 8);
    LaunchOptions options;
    options.seed = shape.seed;
    result.fault = device.launch_clusters(*module, module->ptx().find_function("k"), {shape.blocks, 1, 1}, {shape.threads, 1, 1},
                                          {shape.cluster, 1, 1}, shape.dynamic_shared, parameters, options);
    device.read(result.out.data(), out_address, out_words * 4);
    return result;
}

/// The same, where nothing may go wrong.
inline std::vector<uint32_t> run_well(const std::string& body, const std::vector<uint32_t>& in, size_t out_words, const Shape& shape = {}) {
    Run run = run_ptx(body, in, out_words, shape);
    CHECK_MESSAGE(run.error.empty(), run.error);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::None, run.fault.text);
    return run.error.empty() ? run.out : std::vector<uint32_t>(out_words);
}

/// Address registers %rd30 = %in + 4 * lane-like index, %rd31 = %out + ...: `index` is a 32-bit register.
inline std::string addresses(const std::string& index) {
    return "mul.wide.u32 %rd31, " + index + ", 4; add.u64 %rd30, %in, %rd31; add.u64 %rd31, %out, %rd31;\n";
}

struct Random {
    uint64_t state = 1;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
};

}  // namespace flexemu::test
