// Kernels with bulk copies: a module whose kernel k(map, map2, in, out) gets two tensor maps as parameters and two buffers.
//
// The body finds what ptx_run.h gives, and %map, %map2 (generic addresses). Tensors are described by TensorSpec; their maps and a reference for their tiles are made here.
#pragma once

#include <algorithm>

#include "emulator/tensor_map.h"
#include "ptx_run.h"

namespace flexemu::test {

/// Where in `in` or `out` a tensor begins is for the caller: `address` is filled in by run_bulk.
struct TensorSpec {
    int type = 2;  // CUtensorMapDataType: 0 u8, 1 u16, 2 u32, 3 s32, 4 u64, 5 s64, 6 f16, 7 f32, 8 f64, 9 bf16
    std::vector<uint64_t> dims;
    std::vector<uint64_t> strides;  // bytes, of dimensions 1 and up
    std::vector<uint32_t> box;
    std::vector<uint32_t> element_strides = {};  // empty: ones
    int swizzle = 0, fill = 0, interleave = 0;

    [[nodiscard]] size_t element() const { return static_cast<size_t>(tensor_map_element_bytes(type)); }
    [[nodiscard]] uint32_t step(size_t dim) const { return dim == 0 || element_strides.empty() ? 1 : element_strides[dim]; }
    [[nodiscard]] uint32_t count(size_t dim) const { return (box[dim] + step(dim) - 1) / step(dim); }
    [[nodiscard]] size_t tile_bytes() const {
        size_t bytes = element();
        for (size_t i = 0; i < dims.size(); ++i) bytes *= count(i);
        return bytes;
    }
    [[nodiscard]] TensorMap map(uint64_t address) const {
        TensorMap result;
        result.type = static_cast<uint8_t>(type);
        result.rank = static_cast<uint8_t>(dims.size());
        result.swizzle = static_cast<uint8_t>(swizzle);
        result.fill = static_cast<uint8_t>(fill);
        result.interleave = static_cast<uint8_t>(interleave);
        result.address = address;
        for (size_t i = 0; i < dims.size(); ++i) {
            result.dims[i] = static_cast<uint32_t>(dims[i] - 1);
            result.box[i] = static_cast<uint16_t>(box[i]);
            result.element_strides[i] = static_cast<uint8_t>(element_strides.empty() ? 1 : element_strides[i]);
            if (i > 0) result.strides[i - 1] = strides[i - 1];
        }
        return result;
    }
    /// Calls each(byte of the tensor or -1, byte of the tile) for every element of the tile at the coordinates, one by one; the tile lies `base` bytes behind a multiple of 1024, and its bytes count from there.
    template <typename Each>
    void elements(const std::vector<int32_t>& at, Each each, size_t base = 0) const {
        size_t total = 1;
        for (size_t i = 0; i < dims.size(); ++i) total *= count(i);
        for (size_t number = 0; number < total; ++number) {
            size_t rest = number;
            int64_t offset = 0;
            bool inside = true;
            for (size_t i = 0; i < dims.size(); ++i) {
                const int64_t place = int64_t{at[i]} + static_cast<int64_t>(rest % count(i)) * step(i);
                rest /= count(i);
                inside = inside && place >= 0 && place < static_cast<int64_t>(dims[i]);
                offset += place * static_cast<int64_t>(i == 0 ? element() : strides[i - 1]);
            }
            const size_t plain = base + number * element();
            const size_t row = plain / 128, chunk = plain / 16 % 8;
            constexpr size_t kMask[] = {0, 1, 3, 7};
            each(inside ? offset : -1, row * 128 + (chunk ^ (row & kMask[swizzle])) * 16 + plain % 16);
        }
    }
};

struct BulkShape {
    uint32_t threads = 32, blocks = 1, cluster = 1;
    uint64_t seed = 0;
    std::string declarations = ".shared .align 1024 .b8 tile[65536]; .shared .align 8 .b64 bar[8];";
    uint32_t dynamic_shared = 0;
    bool checks = true;
};

/// A launch with `in` and `out` as buffers of bytes; `first` describes the tensor in `in` (the first map), `second` the one in `out`.
struct BulkRun {
    Fault fault;
    std::string error;
    std::vector<uint8_t> in, out;
    double seconds = 0;
};

inline BulkRun run_bulk(const std::string& body, const TensorSpec* first, const TensorSpec* second, const std::vector<uint8_t>& in,
                        const std::vector<uint8_t>& out, const BulkShape& shape = {}) {
    BulkRun result;
    Device device;
    const std::string text =
        ".version 8.6\n.target sm_90a\n.address_size 64\n" + shape.declarations +
        "\n.visible .entry k(.param .align 64 .b8 p_map[128], .param .align 64 .b8 p_map2[128], .param .u64 p_in, .param .u64 p_out) {\n"
        ".reg .b32 %r<64>; .reg .b64 %rd<32>; .reg .b16 %h<32>; .reg .pred %p<16>; .reg .b64 %in, %out, %map, %map2; .reg .b32 %t;\n"
        "ld.param.u64 %in, [p_in]; ld.param.u64 %out, [p_out]; mov.u32 %t, %tid.x;\n"
        "mov.b64 %map, p_map; cvta.param.u64 %map, %map; mov.b64 %map2, p_map2; cvta.param.u64 %map2, %map2;\n" +
        body + "\nret;\n}\n";
    const auto module = device.load(text, &result.error);
    if (!module) return result;
    const uint64_t in_at = device.allocate(std::max<size_t>(in.size(), 16)), out_at = device.allocate(std::max<size_t>(out.size(), 16));
    device.write(in_at, in.data(), in.size());
    device.write(out_at, out.data(), out.size());
    std::vector<uint8_t> parameters(272);
    const TensorMap none{.magic = 0};
    const TensorMap maps[] = {first != nullptr ? first->map(in_at) : none, second != nullptr ? second->map(out_at) : none};
    std::memcpy(parameters.data(), maps, sizeof maps);
    std::memcpy(parameters.data() + 256, &in_at, 8);
    std::memcpy(parameters.data() + 264, &out_at, 8);
    LaunchOptions options;
    options.seed = shape.seed;
    options.check_races = options.check_uninitialised = shape.checks;
    LaunchStats stats;
    result.fault = device.launch_clusters(*module, 0, {shape.blocks, 1, 1}, {shape.threads, 1, 1}, {shape.cluster, 1, 1},
                                          shape.dynamic_shared, parameters, options, &stats);
    result.seconds = stats.seconds;
    result.in.resize(in.size());
    result.out.resize(out.size());
    device.read(result.in.data(), in_at, in.size());
    device.read(result.out.data(), out_at, out.size());
    return result;
}

inline std::vector<uint8_t> random_bytes(Random& random, size_t count) {
    std::vector<uint8_t> bytes(count);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
    return bytes;
}

inline std::string verdict(const BulkRun& run) {
    return run.error.empty() ? std::string(name(run.fault.kind)) + ": " + run.fault.text : "load: " + run.error;
}
inline bool well(const BulkRun& run) {
    const bool good = run.error.empty() && run.fault.kind == Fault::Kind::None;
    CHECK_MESSAGE(good, verdict(run));
    return good;
}

inline std::string coordinates(const std::vector<int32_t>& at) {
    std::string text;
    for (const int32_t each : at) text += (text.empty() ? "{" : ", ") + std::to_string(each);
    return text + "}";
}

/// Only thread 0: `text`, and the others go on behind it, with a barrier.
inline std::string by_first(const std::string& text) {
    static int number = 0;
    const std::string label = "L" + std::to_string(++number);
    return "setp.ne.u32 %p15, %t, 0; @%p15 bra " + label + ";\n" + text + "\n" + label + ": bar.sync 0;\n";
}
/// Every thread waits for a phase of a barrier.
inline std::string wait_for(const std::string& barrier, int parity) {
    static int number = 0;
    const std::string label = "W" + std::to_string(++number);
    return label + ": mbarrier.try_wait.parity.shared::cta.b64 %p14, [" + barrier + "], " + std::to_string(parity) + "; @!%p14 bra " +
           label + ";\n";
}
/// `bytes` (of 16s) of shared memory at `tile` to %out, by all threads, and back.
inline std::string tile_to_out(size_t bytes, uint32_t threads = 32) {
    static int number = 0;
    const std::string label = "O" + std::to_string(++number);
    return "mov.u32 %r60, %t;\n" + label + ": setp.ge.u32 %p13, %r60, " + std::to_string(bytes / 16) + "; @%p13 bra " + label +
           "E;\nmov.u32 %r61, tile; shl.b32 %r62, %r60, 4; add.u32 %r61, %r61, %r62; ld.shared.v4.u32 {%r56, %r57, %r58, %r59}, [%r61];\n"
           "mul.wide.u32 %rd31, %r60, 16; add.u64 %rd31, %out, %rd31; st.global.v4.u32 [%rd31], {%r56, %r57, %r58, %r59};\n"
           "add.u32 %r60, %r60, " +
           std::to_string(threads) + "; bra " + label + ";\n" + label + "E:\n";
}
inline std::string in_to_tile(size_t bytes, uint32_t threads = 32) {
    static int number = 0;
    const std::string label = "I" + std::to_string(++number);
    return "mov.u32 %r60, %t;\n" + label + ": setp.ge.u32 %p13, %r60, " + std::to_string(bytes / 16) + "; @%p13 bra " + label +
           "E;\nmul.wide.u32 %rd31, %r60, 16; add.u64 %rd31, %in, %rd31; ld.global.v4.u32 {%r56, %r57, %r58, %r59}, [%rd31];\n"
           "mov.u32 %r61, tile; shl.b32 %r62, %r60, 4; add.u32 %r61, %r61, %r62; st.shared.v4.u32 [%r61], {%r56, %r57, %r58, %r59};\n"
           "add.u32 %r60, %r60, " +
           std::to_string(threads) + "; bra " + label + ";\n" + label + "E:\n";
}

}  // namespace flexemu::test
