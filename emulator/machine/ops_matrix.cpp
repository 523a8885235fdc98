// ldmatrix, stmatrix, movmatrix and mma.sync. Layouts: PTX ISA, "Matrix Fragments for mma" and "ldmatrix".
//
// With g = lane / 4 and t = lane % 4, all shapes of mma follow one rule when a line of A (along k) and of B (along k) is seen as words of 32 bits (64 for
// f64): register r of A is word t + 4 (r / 2) of row g + 8 (r % 2) (m = 8: only rows below 8, register r is word t + 4 r), register r of B is word t + 4 r of
// column g. An accumulator register r of 32 bits or more is row g + 8 (r / 2), column 2 t + r % 2; of f16 pairs, register r is row g + 8 r, columns 2 t, 2 t + 1.
#include "emulator/machine/ops_matrix.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace flexemu {
namespace {

using numeric::Element;
using numeric::MmaShape;

// 8 x 8 matrices of 16 bits

using Matrix = std::array<std::array<uint16_t, 8>, 8>;

uint32_t pair_of(const Matrix& matrix, int lane, bool transposed) {
    const auto line = static_cast<size_t>(lane / 4), at = static_cast<size_t>(lane % 4 * 2);
    const uint32_t low = transposed ? matrix[at][line] : matrix[line][at], high = transposed ? matrix[at + 1][line] : matrix[line][at + 1];
    return low | high << 16;
}
void set_pair(Matrix& matrix, int lane, bool transposed, uint32_t pair) {
    const auto line = static_cast<size_t>(lane / 4), at = static_cast<size_t>(lane % 4 * 2);
    (transposed ? matrix[at][line] : matrix[line][at]) = static_cast<uint16_t>(pair);
    (transposed ? matrix[at + 1][line] : matrix[line][at + 1]) = static_cast<uint16_t>(pair >> 16);
}

constexpr uint32_t kTransposed = 1;

/// Addresses of the rows, by lane: lane i has row i % 8 of matrix i / 8.
void row_addresses(Warp& warp, const Op& op, uint64_t* addresses) {
    Lanes scratch;
    const uint64_t* base = warp.read(op.sources[0], scratch);
    for (int lane = 0; lane < kLanes; ++lane) addresses[lane] = base[lane] + static_cast<uint64_t>(op.offset);
}
LaneMask row_lanes(size_t matrices) {
    return matrices == 4 ? ~LaneMask{0} : (LaneMask{1} << matrices * 8) - 1;
}

void run_ldmatrix(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    uint64_t addresses[kLanes];
    row_addresses(warp, op, addresses);
    std::array<Matrix, 4> matrices;
    const size_t count = op.destinations.size();
    if (!warp.load_lanes(op, row_lanes(count), op.space, addresses, 16, &matrices, 16)) return;
    for (size_t i = 0; i < count; ++i) {
        Lanes values;
        for (int lane = 0; lane < kLanes; ++lane) values[static_cast<size_t>(lane)] = pair_of(matrices[i], lane, op.flags == kTransposed);
        warp.write(op.destinations[i], values, active);
    }
}

void run_stmatrix(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    uint64_t addresses[kLanes];
    row_addresses(warp, op, addresses);
    std::array<Matrix, 4> matrices;
    const size_t count = op.sources.size() - 1;
    for (size_t i = 0; i < count; ++i) {
        Lanes scratch;
        const uint64_t* values = warp.read(op.sources[i + 1], scratch);
        for (int lane = 0; lane < kLanes; ++lane) set_pair(matrices[i], lane, op.flags == kTransposed, static_cast<uint32_t>(values[lane]));
    }
    warp.store_lanes(op, row_lanes(count), op.space, addresses, 16, &matrices, 16);
}

void run_movmatrix(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    Lanes scratch, values;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    Matrix matrix;
    for (int lane = 0; lane < kLanes; ++lane) set_pair(matrix, lane, false, static_cast<uint32_t>(from[lane]));
    for (int lane = 0; lane < kLanes; ++lane) values[static_cast<size_t>(lane)] = pair_of(matrix, lane, true);
    warp.write(op.destinations[0], values, active);
}

/// The modifiers that the three have in common, and the number of matrices; 0 with an error.
size_t decode_matrices(Decoding& decoding) {
    decoding.op.flags = decoding.take("trans") ? kTransposed : 0;
    decoding.op.space = take_space(decoding);
    decoding.op.aligned = true;
    const int count = decoding.text.opcode == "movmatrix" ? 0 : decoding.take_one({"x1", "x2", "x4"});
    for (const char* needed : {"sync", "aligned", "m8n8", "b16"})
        if (!decoding.take(needed)) return decoding.fail(std::string("`.") + needed + "` is missing"), 0;
    if (count < 0) return decoding.fail("the number of matrices is missing"), 0;
    return decoding.finish() && decoding.operands(2) ? size_t{1} << count : 0;
}

bool decode_ldmatrix(Decoding& decoding) {
    const size_t count = decode_matrices(decoding);
    decoding.op.run = run_ldmatrix;
    return count != 0 && tuple_destination(decoding, 0, count, ptx::Type::B32) && address_source(decoding, 1);
}

bool decode_stmatrix(Decoding& decoding) {
    const size_t count = decode_matrices(decoding);
    decoding.op.run = run_stmatrix;
    return count != 0 && address_source(decoding, 0) && tuple_source(decoding, 1, count, ptx::Type::B32);
}

bool decode_movmatrix(Decoding& decoding) {
    if (decode_matrices(decoding) == 0) return false;
    if (decoding.op.flags != kTransposed) return decoding.fail("`.trans` is missing");
    decoding.op.run = run_movmatrix;
    return decoding.destination(0, ptx::Type::B32) && decoding.source(1, ptx::Type::B32);
}

// mma

enum class Sum : uint8_t { F16, F32, F64, S32 };

struct Mma {
    MmaShape shape;
    Element a = Element::F16, b = Element::F16;
    Sum sum = Sum::F32;
    bool saturate = false;
    numeric::BitOperation bit_operation = numeric::BitOperation::Xor;
    int a_registers = 0, b_registers = 0, c_registers = 0;
};

template <typename Word>
void gather_lines(Warp& warp, const Source* sources, int registers, int rows, int words, Word* lines) {
    Lanes scratch;
    for (int r = 0; r < registers; ++r) {
        const uint64_t* from = warp.read(sources[r], scratch);
        const int row = rows > 8 ? 8 * (r % 2) : 0, word = 4 * (rows > 8 ? r / 2 : r);
        Word* to = lines + row * words + word;
        for (int lane = 0; lane < kLanes; ++lane) to[lane / 4 * words + lane % 4] = static_cast<Word>(from[lane]);
    }
}

template <typename Value>
void gather_sums(Warp& warp, const Source* sources, const Mma& mma, Value* c) {
    Lanes scratch;
    for (int r = 0; r < mma.c_registers; ++r) {
        const uint64_t* from = warp.read(sources[r], scratch);
        for (int lane = 0; lane < kLanes; ++lane) {
            const int row = lane / 4, column = lane % 4 * 2;
            if constexpr (sizeof(Value) == 2) {
                c[(row + 8 * r) * mma.shape.n + column] = static_cast<Value>(from[lane]);
                c[(row + 8 * r) * mma.shape.n + column + 1] = static_cast<Value>(from[lane] >> 16);
            } else {
                using Bits = std::conditional_t<sizeof(Value) == 8, uint64_t, uint32_t>;
                c[(row + 8 * (r / 2)) * mma.shape.n + column + r % 2] = std::bit_cast<Value>(static_cast<Bits>(from[lane]));
            }
        }
    }
}

template <typename Value>
void scatter_sums(Warp& warp, const Op& op, const Mma& mma, const Value* d, LaneMask active) {
    for (int r = 0; r < mma.c_registers; ++r) {
        Lanes values;
        for (int lane = 0; lane < kLanes; ++lane) {
            const int row = lane / 4, column = lane % 4 * 2;
            if constexpr (sizeof(Value) == 2) {
                const Value* pair = d + (row + 8 * r) * mma.shape.n + column;
                values[static_cast<size_t>(lane)] = pair[0] | uint32_t{pair[1]} << 16;
            } else {
                using Bits = std::conditional_t<sizeof(Value) == 8, uint64_t, uint32_t>;
                values[static_cast<size_t>(lane)] = std::bit_cast<Bits>(d[(row + 8 * (r / 2)) * mma.shape.n + column + r % 2]);
            }
        }
        warp.write(op.destinations[static_cast<size_t>(r)], values, active);
    }
}

template <typename Value>
void run_sum(Warp& warp, const Op& op, LaneMask active) {
    constexpr int kMost = 16 * 8;
    const Mma& mma = *static_cast<const Mma*>(op.extra.get());
    const Source* sources = op.sources.data();
    using Word = std::conditional_t<sizeof(Value) == 8, uint64_t, uint32_t>;
    const int words = mma.shape.k * numeric::bits(mma.a) / static_cast<int>(sizeof(Word) * 8);
    Word a[16 * numeric::kMaxMmaLineBytes / sizeof(Word)], b[8 * numeric::kMaxMmaLineBytes / sizeof(Word)];
    Value c[kMost], d[kMost];
    gather_lines(warp, sources, mma.a_registers, mma.shape.m, words, a);
    gather_lines(warp, sources + mma.a_registers, mma.b_registers, 8, words, b);
    gather_sums(warp, sources + mma.a_registers + mma.b_registers, mma, c);
    if constexpr (std::is_same_v<Value, float>)
        numeric::mma_to_f32(mma.shape, mma.a, a, mma.b, b, c, d);
    else if constexpr (std::is_same_v<Value, uint16_t>)
        numeric::mma_to_f16(mma.shape, mma.a, a, mma.b, b, c, d);
    else if constexpr (std::is_same_v<Value, double>)
        numeric::mma_to_f64(mma.shape, reinterpret_cast<const double*>(a), reinterpret_cast<const double*>(b), c, d);
    else
        numeric::mma_to_s32(mma.shape, mma.a, a, mma.b, b, c, d, mma.saturate, mma.bit_operation);
    scatter_sums(warp, op, mma, d, active);
}

void run_mma(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    switch (static_cast<const Mma*>(op.extra.get())->sum) {
        case Sum::F32: return run_sum<float>(warp, op, active);
        case Sum::F16: return run_sum<uint16_t>(warp, op, active);
        case Sum::F64: return run_sum<double>(warp, op, active);
        case Sum::S32: return run_sum<int32_t>(warp, op, active);
    }
}

std::optional<Sum> sum_named(std::string_view name) {
    if (name == "f16") return Sum::F16;
    if (name == "f32") return Sum::F32;
    if (name == "f64") return Sum::F64;
    if (name == "s32") return Sum::S32;
    return std::nullopt;
}

/// The shapes that the ISA has for a type of elements.
bool has_shape(Element element, const MmaShape& shape) {
    const auto is = [&](int m, std::initializer_list<int> ks) {
        return shape.m == m && shape.n == 8 && std::find(ks.begin(), ks.end(), shape.k) != ks.end();
    };
    switch (element) {
        case Element::F16:
        case Element::BF16: return is(16, {8, 16});
        case Element::TF32: return is(16, {4, 8});
        case Element::F64: return is(8, {4}) || is(16, {4, 8, 16});
        case Element::E4M3:
        case Element::E5M2: return is(16, {16, 32});
        case Element::S8:
        case Element::U8: return is(8, {16}) || is(16, {16, 32});
        case Element::S4:
        case Element::U4: return is(8, {32}) || is(16, {32, 64});
        case Element::B1: return is(8, {128}) || is(16, {128, 256});
    }
    return false;
}

bool is_float8(Element element) {
    return element == Element::E4M3 || element == Element::E5M2;
}
bool is_integer(Element element) {
    return element == Element::S8 || element == Element::U8 || element == Element::S4 || element == Element::U4;
}

bool sums_fit(Element a, Element b, Sum sum) {
    if (is_integer(a)) return is_integer(b) && numeric::bits(a) == numeric::bits(b) && sum == Sum::S32;
    if (is_float8(a)) return is_float8(b) && (sum == Sum::F32 || sum == Sum::F16);
    if (a != b) return false;
    switch (a) {
        case Element::F16: return sum == Sum::F16 || sum == Sum::F32;
        case Element::F64: return sum == Sum::F64;
        case Element::B1: return sum == Sum::S32;
        default: return sum == Sum::F32;
    }
}

bool decode_mma(Decoding& decoding) {
    auto mma = std::make_shared<Mma>();
    if (!decoding.take("sync") || !decoding.take("aligned")) return decoding.fail("`.sync.aligned` is missing");
    if (!take_shape(decoding, &mma->shape)) return false;
    if (mma->shape.m == 8 && mma->shape.k == 4 && !decoding.sees("f64")) return decode_quad_mma(decoding);
    if (!decoding.take("row") || !decoding.take("col")) return decoding.fail("only `.row.col` is known here");
    const std::vector<std::string> types = take_elements(decoding);
    mma->saturate = decoding.take("satfinite");
    const int operation = decoding.take_one({"xor", "and"});
    const bool has_popc = decoding.take("popc");
    if (!decoding.finish()) return false;
    if (types.size() != 4) return decoding.fail("expected the types of d, a, b and c");
    const auto a = element_named(types[1]), b = element_named(types[2]);
    const auto sum = sum_named(types[0]);
    if (!a || !b || !sum || types[0] != types[3] || !sums_fit(*a, *b, *sum)) return decoding.fail("these types do not go together");
    if (!has_shape(*a, mma->shape)) return decoding.fail("there is no such shape for these types");
    if ((*a == Element::B1) != (has_popc && operation >= 0)) return decoding.fail("`.xor.popc` and `.and.popc` belong to `.b1`");
    if (mma->saturate && !is_integer(*a)) return decoding.fail("`.satfinite` belongs to integers");
    mma->bit_operation = operation == 1 ? numeric::BitOperation::And : numeric::BitOperation::Xor;
    mma->a = *a, mma->b = *b, mma->sum = *sum;

    const int words = mma->shape.k * numeric::bits(*a) / (*sum == Sum::F64 ? 64 : 32);
    mma->a_registers = mma->shape.m / 8 * words / 4;
    mma->b_registers = words / 4;
    mma->c_registers = mma->shape.m / 8 * (*sum == Sum::F16 ? 1 : 2);
    const ptx::Type word = *sum == Sum::F64 ? ptx::Type::F64 : ptx::Type::B32;
    const ptx::Type sum_word = *sum == Sum::F32 ? ptx::Type::F32 : *sum == Sum::S32 ? ptx::Type::S32 : word;
    const auto sums = static_cast<size_t>(mma->c_registers);
    decoding.op.run = run_mma;
    decoding.op.aligned = true;
    decoding.op.extra = mma;
    return decoding.operands(4) && tuple_destination(decoding, 0, sums, sum_word) &&
           tuple_source(decoding, 1, static_cast<size_t>(mma->a_registers), word) &&
           tuple_source(decoding, 2, static_cast<size_t>(mma->b_registers), word) && tuple_source(decoding, 3, sums, sum_word);
}

constexpr DecoderEntry kDecoders[] = {
    {"ldmatrix", decoder<decode_ldmatrix>}, {"stmatrix", decoder<decode_stmatrix>}, {"movmatrix", decoder<decode_movmatrix>},
    {"mma", decoder<decode_mma>},           {"wmma", decoder<decode_wmma>},
};

}  // namespace

bool takes_whole_warp(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return false;
    if (active == ~LaneMask{0}) return true;
    const int lane = std::countr_zero(~active);
    const char* why = (warp.alive() >> lane & 1) == 0       ? "has exited or does not exist"
                      : (warp.converged() >> lane & 1) == 0 ? "is elsewhere"
                                                            : "has its guard off";
    warp.fault(Fault::Kind::Divergence, op, std::countr_zero(active),
               "all 32 lanes must take part, but lane " + std::to_string(lane) + " " + why);
    return false;
}

std::span<const ptx::Operand> elements_of(const ptx::Operand& operand) {
    return operand.kind == ptx::Operand::Kind::Vector ? std::span<const ptx::Operand>(operand.elements)
                                                      : std::span<const ptx::Operand>(&operand, 1);
}

bool tuple_source(Decoding& decoding, size_t index, size_t count, ptx::Type type) {
    const auto elements = elements_of(decoding.text.operands[index]);
    if (elements.size() != count)
        return decoding.fail("operand " + std::to_string(index + 1) + " should have " + std::to_string(count) + " registers");
    return std::all_of(elements.begin(), elements.end(), [&](const ptx::Operand& each) { return decoding.source(each, type); });
}

bool tuple_destination(Decoding& decoding, size_t index, size_t count, ptx::Type type) {
    const auto elements = elements_of(decoding.text.operands[index]);
    if (elements.size() != count)
        return decoding.fail("operand " + std::to_string(index + 1) + " should have " + std::to_string(count) + " registers");
    return std::all_of(elements.begin(), elements.end(), [&](const ptx::Operand& each) { return decoding.destination(each, type); });
}

bool address_source(Decoding& decoding, size_t index) {
    Source base;
    std::string error;
    if (!decoding.context.address(decoding.text.operands[index], &base, &decoding.op.offset, &error)) return decoding.fail(error);
    decoding.op.sources.push_back(base);
    return true;
}

std::optional<Element> element_named(std::string_view name) {
    constexpr std::pair<std::string_view, Element> kNames[] = {
        {"f16", Element::F16},   {"bf16", Element::BF16}, {"tf32", Element::TF32}, {"e4m3", Element::E4M3},
        {"e5m2", Element::E5M2}, {"f64", Element::F64},   {"s8", Element::S8},     {"u8", Element::U8},
        {"s4", Element::S4},     {"u4", Element::U4},     {"b1", Element::B1},
    };
    for (const auto& [known, element] : kNames)
        if (known == name) return element;
    return std::nullopt;
}

std::optional<MmaShape> shape_named(std::string_view name) {
    MmaShape shape;
    for (const auto& [letter, field] : {std::pair{'m', &shape.m}, std::pair{'n', &shape.n}, std::pair{'k', &shape.k}}) {
        if (name.empty() || name[0] != letter) return std::nullopt;
        name.remove_prefix(1);
        if (name.empty() || name[0] < '0' || name[0] > '9') return std::nullopt;
        for (; !name.empty() && name[0] >= '0' && name[0] <= '9' && *field < 1000; name.remove_prefix(1))
            *field = *field * 10 + (name[0] - '0');
    }
    return name.empty() ? std::optional(shape) : std::nullopt;
}

bool take_shape(Decoding& decoding, MmaShape* out) {
    for (const std::string& modifier : decoding.text.modifiers)
        if (const auto shape = shape_named(modifier)) {
            *out = *shape;
            return decoding.take(modifier);
        }
    return decoding.fail("the shape is missing");
}

bool take_layout(Decoding& decoding, bool* by_rows) {
    for (const std::string& modifier : decoding.text.modifiers)
        if ((modifier == "row" || modifier == "col") && decoding.take(modifier)) {
            *by_rows = modifier == "row";
            return true;
        }
    return decoding.fail("`.row` or `.col` is missing");
}

std::vector<std::string> take_elements(Decoding& decoding) {
    std::vector<std::string> types;
    for (const std::string& modifier : decoding.text.modifiers)
        if ((element_named(modifier) || modifier == "f32" || modifier == "s32") && decoding.take(modifier)) types.push_back(modifier);
    return types;
}

ptx::Space take_space(Decoding& decoding) {
    if (decoding.take("shared") || decoding.take("shared::cta") || decoding.take("shared::cluster")) return ptx::Space::Shared;
    return decoding.take("global") ? ptx::Space::Global : ptx::Space::Generic;
}

std::span<const DecoderEntry> matrix_decoders() {
    return kDecoders;
}

}  // namespace flexemu
