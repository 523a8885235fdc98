// mma.sync.m8n8k4 of f16, the shape of sm_70 that later targets still take: each of four groups of eight lanes (4 q to 4 q + 3, and the same + 16) multiplies
// matrices of its own. Layouts: PTX ISA, "Matrix Fragments for mma.m8n8k4 with .f16". With s = 0 for the lower and 4 for the upper half of the warp and t = lane % 4:
//
//   A by rows, B by columns   element i is k = i of line t + s
//   A by columns, B by rows   element i is k = t of line i + s
//   f16 sums                  element i is row t + s, column i
//   f32 sums                  element i is row (lane & 1) + (i & 2) + s, column (i & 4) + (lane & 2) + (i & 1)
#include <bit>

#include "emulator/machine/ops_matrix.h"
#include "emulator/numeric/float.h"

namespace flexemu {
namespace {

using numeric::Element;

struct QuadMma {
    bool a_by_rows = true, b_by_rows = false, c_is_half = false, d_is_half = false;
};
constexpr numeric::MmaShape kShape{8, 8, 4};
constexpr int kGroups = 4;

/// Lines of four halves, for each group.
using Lines = std::array<std::array<uint16_t, 8 * 4>, kGroups>;

int group_of(int lane) {
    return lane % 16 / 4;
}
int upper(int lane) {
    return lane / 16 * 4;
}
uint16_t half_of(const uint64_t* const* registers, int lane, int i) {
    return static_cast<uint16_t>(registers[i / 2][lane] >> (i % 2 * 16));
}

void gather_lines(Warp& warp, const Source* sources, bool along, Lines* lines) {
    Lanes scratch[2];
    const uint64_t* const registers[] = {warp.read(sources[0], scratch[0]), warp.read(sources[1], scratch[1])};
    for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 4; ++i) {
            const int line = (along ? lane % 4 : i) + upper(lane), k = along ? i : lane % 4;
            (*lines)[static_cast<size_t>(group_of(lane))][static_cast<size_t>(line * 4 + k)] = half_of(registers, lane, i);
        }
}

size_t sum_place(int lane, int i, bool is_half) {
    const int row = is_half ? lane % 4 : (lane & 1) + (i & 2), column = is_half ? i : (i & 4) + (lane & 2) + (i & 1);
    return static_cast<size_t>((row + upper(lane)) * 8 + column);
}

void run_quads(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    const QuadMma& mma = *static_cast<const QuadMma*>(op.extra.get());
    Lines a, b;
    gather_lines(warp, op.sources.data(), mma.a_by_rows, &a);
    gather_lines(warp, op.sources.data() + 2, !mma.b_by_rows, &b);
    std::array<std::array<float, 64>, kGroups> c, d;
    std::array<std::array<uint16_t, 64>, kGroups> half_c, half_d;
    Lanes scratch[8];
    const uint64_t* registers[8];
    for (size_t i = 0; i + 4 < op.sources.size(); ++i) registers[i] = warp.read(op.sources[i + 4], scratch[i]);
    for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 8; ++i) {
            const auto group = static_cast<size_t>(group_of(lane));
            const size_t place = sum_place(lane, i, mma.c_is_half);
            if (mma.c_is_half) {
                half_c[group][place] = half_of(registers, lane, i);
                c[group][place] = numeric::to_f32(numeric::F16{half_c[group][place]});
            } else {
                c[group][place] = std::bit_cast<float>(static_cast<uint32_t>(registers[i][lane]));
            }
        }
    for (size_t group = 0; group < kGroups; ++group) {
        if (mma.d_is_half)
            numeric::mma_to_f16(kShape, Element::F16, a[group].data(), Element::F16, b[group].data(), half_c[group].data(),
                                half_d[group].data());
        else
            numeric::mma_to_f32(kShape, Element::F16, a[group].data(), Element::F16, b[group].data(), c[group].data(), d[group].data());
    }
    for (size_t r = 0; r < op.destinations.size(); ++r) {
        Lanes values;
        for (int lane = 0; lane < kLanes; ++lane) {
            const auto group = static_cast<size_t>(group_of(lane));
            const int i = static_cast<int>(r);
            uint64_t& value = values[static_cast<size_t>(lane)];
            if (mma.d_is_half)
                value = half_d[group][sum_place(lane, 2 * i, true)] | uint32_t{half_d[group][sum_place(lane, 2 * i + 1, true)]} << 16;
            else
                value = std::bit_cast<uint32_t>(d[group][sum_place(lane, i, false)]);
        }
        warp.write(op.destinations[r], values, active);
    }
}

}  // namespace

bool decode_quad_mma(Decoding& decoding) {
    auto mma = std::make_shared<QuadMma>();
    if (!take_layout(decoding, &mma->a_by_rows) || !take_layout(decoding, &mma->b_by_rows)) return false;
    const std::vector<std::string> types = take_elements(decoding);
    if (!decoding.finish()) return false;
    const auto is_sum = [](const std::string& type) { return type == "f16" || type == "f32"; };
    if (types.size() != 4 || types[1] != "f16" || types[2] != "f16" || !is_sum(types[0]) || !is_sum(types[3]))
        return decoding.fail("these types do not go together");
    mma->d_is_half = types[0] == "f16";
    mma->c_is_half = types[3] == "f16";
    if (mma->d_is_half && !mma->c_is_half) return decoding.fail("sums of f32 give a result of f32");
    decoding.op.run = run_quads;
    decoding.op.aligned = true;
    decoding.op.extra = mma;
    const auto type = [](bool is_half) { return is_half ? ptx::Type::B32 : ptx::Type::F32; };
    return decoding.operands(4) && tuple_destination(decoding, 0, mma->d_is_half ? 4 : 8, type(mma->d_is_half)) &&
           tuple_source(decoding, 1, 2, ptx::Type::B32) && tuple_source(decoding, 2, 2, ptx::Type::B32) &&
           tuple_source(decoding, 3, mma->c_is_half ? 4 : 8, type(mma->c_is_half));
}

}  // namespace flexemu
