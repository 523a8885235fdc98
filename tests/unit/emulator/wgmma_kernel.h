// Kernels of one warpgroup (or several) around wgmma, as text, and matrices laid out in shared memory as descriptors say. Layouts are written here element by
// element, apart from the emulator's.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "emulator/numeric/mma.h"
#include "ptx_run.h"

namespace flexemu::test {

using numeric::Element;

/// A module for sm_90a: body as in ptx_run.h, plus %acc0-127 and %frag0-15 (32 bits). `in` lies in shared memory from `tile` on, copied by st.shared (the first
/// `shared_words` words), before the body runs; there is no fence and no barrier behind these stores.
struct Wgmma {
    std::string body;
    std::vector<uint32_t> in;
    size_t shared_words = 0, out_words = 0;
    size_t room_words = 0;  // of shared memory, if more than is copied
    uint32_t threads = 128;
    uint64_t seed = 0;
    std::string directives = {}, functions = {}, target = "sm_90a";
    bool check_races = true;
};

inline std::string wgmma_module(const Wgmma& kernel) {
    std::string text =
        ".version 8.6\n.target " + kernel.target + "\n.address_size 64\n.extern .shared .align 1024 .b8 tile[];\n" + kernel.functions +
        ".visible .entry k(.param .u64 p_in, .param .u64 p_out)" + kernel.directives +
        " {\n.reg .b32 %r<64>, %acc<256>, %frag<16>; .reg .b64 %rd<32>, %in, %out; .reg .b32 %t, %lane; .reg .f32 %f<16>; .reg .pred "
        "%p<16>;\n"
        "ld.param.u64 %in, [p_in]; ld.param.u64 %out, [p_out]; mov.u32 %t, %tid.x; mov.u32 %lane, %laneid;\n";
    if (kernel.shared_words > 0) {
        text += "mov.u32 %r0, %t;\nCOPY: setp.ge.u32 %p0, %r0, " + std::to_string(kernel.shared_words) +
                "; @%p0 bra COPIED;\nmul.wide.u32 %rd0, %r0, 4; add.u64 %rd0, %in, %rd0; ld.global.u32 %r1, [%rd0]; mov.u32 %r2, tile; "
                "shl.b32 %r3, %r0, 2; add.u32 %r2, %r2, "
                "%r3; st.shared.u32 [%r2], %r1; add.u32 %r0, %r0, " +
                std::to_string(kernel.threads) + "; bra COPY;\nCOPIED:\n";
    }
    return text + kernel.body + "\nret;\n}\n";
}

inline Run run_wgmma(const Wgmma& kernel) {
    Run result;
    Device device;
    const auto module = device.load(wgmma_module(kernel), &result.error);
    if (!module) return result;
    const uint64_t in = device.allocate(kernel.in.size() * 4 + 4), out = device.allocate(kernel.out_words * 4 + 4);
    device.write(in, kernel.in.data(), kernel.in.size() * 4);
    result.out.assign(kernel.out_words, 0xdddddddd);
    device.write(out, result.out.data(), kernel.out_words * 4);
    std::vector<uint8_t> parameters(16);
    std::memcpy(parameters.data(), &in, 8);
    std::memcpy(parameters.data() + 8, &out, 8);
    LaunchOptions options;
    options.seed = kernel.seed;
    options.check_races = kernel.check_races;
    result.fault = device.launch(*module, module->ptx().find_function("k"), {1, 1, 1}, {kernel.threads, 1, 1},
                                 static_cast<uint32_t>(std::max(kernel.shared_words, kernel.room_words) * 4), parameters, options);
    device.read(result.out.data(), out, kernel.out_words * 4);
    return result;
}

/// "{%acc0, %acc1, ...}"
inline std::string registers(const std::string& name, size_t from, size_t count) {
    std::string text = "{";
    for (size_t i = 0; i < count; ++i) text += (i ? ", %" : "%") + name + std::to_string(from + i);
    return text + "}";
}
/// Register i of thread t to out[(i * threads + t)], from register `from` on.
inline std::string store_registers(const std::string& name, size_t from, size_t count, uint32_t threads = 128) {
    std::string text = "mul.wide.u32 %rd31, %t, 4; add.u64 %rd31, %out, %rd31;\n";
    for (size_t i = 0; i < count; ++i)
        text += "st.global.u32 [%rd31+" + std::to_string(i * threads * 4) + "], %" + name + std::to_string(from + i) + ";\n";
    return text;
}
inline std::string load_registers(const std::string& name, size_t count, size_t from_word) {
    std::string text = "mul.wide.u32 %rd30, %t, 4; add.u64 %rd30, %in, %rd30;\n";
    for (size_t i = 0; i < count; ++i)
        text += "ld.global.u32 %" + name + std::to_string(i) + ", [%rd30+" + std::to_string((from_word + i * 128) * 4) + "];\n";
    return text;
}

/// A matrix of `lines` lines (m or n) of 32 bytes along k, somewhere in shared memory.
struct Layout {
    uint32_t start = 0, leading = 16, stride = 1024;
    int span = 128;  // of the swizzle; 0: none
    bool mn_major = false;
    uint32_t base_offset = 0;

    [[nodiscard]] uint64_t descriptor() const {
        const uint64_t mode = span == 128 ? 1 : span == 64 ? 2 : span == 32 ? 3 : 0;
        return uint64_t{(start & 0x3ffff) >> 4} | uint64_t{leading >> 4} << 16 | uint64_t{stride >> 4} << 32 | uint64_t{base_offset} << 49 |
               mode << 62;
    }
    /// Where byte `byte` (0 to 31) of line `line` lies, with elements of `size` bytes.
    [[nodiscard]] uint32_t at(int line, int byte, int size) const {
        uint32_t address = start;
        if (!mn_major) {
            // Rows of the width of the swizzle, eight of them, then the stride.
            const int width = span == 0 ? 16 : span;
            address += static_cast<uint32_t>(line % 8 * width) + static_cast<uint32_t>(line / 8) * stride;
            address += static_cast<uint32_t>(byte % 16) + (byte / 16 == 0 ? 0 : span == 0 ? leading : 16);
        } else {
            const int k = byte / size, across = (span == 0 ? 16 : span) / size;
            const auto atom = static_cast<uint32_t>(line / across), eight = static_cast<uint32_t>(k / 8);
            address += static_cast<uint32_t>(line % across * size + byte % size) + static_cast<uint32_t>(k % 8 * (span == 0 ? 16 : span));
            address += span == 0 ? atom * stride + eight * leading : atom * leading + eight * stride;
        }
        const uint32_t row = (address / 128 - base_offset) % 8;
        for (int bit = 0; bit < (span == 128 ? 3 : span == 64 ? 2 : span == 32 ? 1 : 0); ++bit) {
            if ((row >> bit & 1) != 0) address ^= 16U << bit;
        }
        return address;
    }
};

inline std::string hex(uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

inline const std::string kReady = "fence.proxy.async.shared::cta;\nbar.sync 0;\n";

}  // namespace flexemu::test
