// wmma.load, wmma.mma and wmma.store (nvcuda::wmma). The ISA leaves open which lane holds which element. Here a fragment is the matrix in one line, cut into 32
// equal pieces: A and B in the order of their layout in memory (so a fragment that was loaded by rows and is multiplied as if by columns comes out wrong,
// as it should), C and D by rows whatever the layout. Where the registers hold more than the matrix (f16, the smaller of A and B), the line starts again.
#include <algorithm>
#include <cstring>

#include "emulator/machine/ops_matrix.h"
#include "emulator/numeric/float.h"

namespace flexemu {
namespace {

using numeric::Element;
using numeric::MmaShape;

enum class Part : uint8_t { A, B, C };
enum class Value : uint8_t { F16, F32, F64, S32, Other };  // of C and D; Other: elements of A and B

struct Fragment {
    int lines = 0, length = 0;  // as they lie in the registers
    int bits = 0;               // of an element
    int registers = 0, register_bytes = 4;
    bool across = false;  // memory has the lines as columns
    [[nodiscard]] int total_bits() const { return lines * length * bits; }
    [[nodiscard]] int lane_bytes() const { return registers * register_bytes; }
};
constexpr int kMostLaneBytes = 64;

int bits(Value value) {
    return value == Value::F16 ? 16 : value == Value::F64 ? 64 : 32;
}
Value value_named(std::string_view name) {
    return name == "f16" ? Value::F16 : name == "f32" ? Value::F32 : name == "f64" ? Value::F64 : name == "s32" ? Value::S32 : Value::Other;
}
ptx::Type register_type(Value value) {
    return value == Value::F32   ? ptx::Type::F32
           : value == Value::F64 ? ptx::Type::F64
           : value == Value::S32 ? ptx::Type::S32
                                 : ptx::Type::B32;
}

bool has_shape(Element element, const MmaShape& shape) {
    const auto is = [&](int m, int n, int k) { return shape.m == m && shape.n == n && shape.k == k; };
    switch (element) {
        case Element::F16:
        case Element::BF16:
        case Element::S8:
        case Element::U8: return is(16, 16, 16) || is(32, 8, 16) || is(8, 32, 16);
        case Element::TF32: return is(16, 16, 8);
        case Element::F64: return is(8, 8, 4);
        case Element::S4:
        case Element::U4: return is(8, 8, 32);
        case Element::B1: return is(8, 8, 128);
        default: return false;
    }
}

Fragment operand_fragment(Part part, const MmaShape& shape, Element element, bool by_rows) {
    Fragment fragment;
    const int rows = part == Part::A ? shape.m : shape.k, columns = part == Part::A ? shape.k : shape.n;
    fragment.lines = by_rows ? rows : columns;
    fragment.length = by_rows ? columns : rows;
    fragment.bits = numeric::bits(element);
    fragment.register_bytes = element == Element::F64 ? 8 : 4;
    // f16 fragments have eight registers always.
    fragment.registers = element == Element::F16 ? 8 : fragment.total_bits() / (kLanes * fragment.register_bytes * 8);
    return fragment;
}
Fragment sum_fragment(const MmaShape& shape, Value value, bool by_rows) {
    Fragment fragment{.lines = shape.m, .length = shape.n, .bits = bits(value), .across = !by_rows};
    fragment.register_bytes = value == Value::F64 ? 8 : 4;
    fragment.registers = fragment.total_bits() / (kLanes * fragment.register_bytes * 8);
    return fragment;
}

/// A piece of memory as large as an access may be: of all lanes, piece `index` of each.
int piece_bytes(const Fragment& fragment) {
    if (fragment.across) return fragment.bits / 8;
    return std::min({16, fragment.lane_bytes(), fragment.length * fragment.bits / 8});
}
void piece_addresses(const Fragment& fragment, int index, uint64_t base, int64_t stride, uint64_t* addresses) {
    const int lane_bits = fragment.lane_bytes() * 8, piece_bits = piece_bytes(fragment) * 8;
    for (int lane = 0; lane < kLanes; ++lane) {
        const int element = (lane * lane_bits + index * piece_bits) % fragment.total_bits() / fragment.bits;
        const int line = element / fragment.length, at = element % fragment.length;
        const int64_t place = fragment.across ? at * stride + line : line * stride + at;
        addresses[lane] = base + static_cast<uint64_t>(place * fragment.bits / 8);
    }
}

/// The address and the stride must be those of lane 0 in all lanes.
bool read_place(Warp& warp, const Op& op, size_t address, const Fragment& fragment, uint64_t* base, int64_t* stride) {
    Lanes scratch, stride_scratch;
    const uint64_t* addresses = warp.read(op.sources[address], scratch);
    *base = addresses[0] + static_cast<uint64_t>(op.offset);
    *stride = fragment.across ? fragment.lines : fragment.length;
    const uint64_t* strides = address + 1 < op.sources.size() ? warp.read(op.sources[address + 1], stride_scratch) : nullptr;
    if (strides != nullptr) *stride = static_cast<int32_t>(strides[0]);
    for (int lane = 1; lane < kLanes; ++lane) {
        if (addresses[lane] == addresses[0] && (strides == nullptr || strides[lane] == strides[0])) continue;
        warp.fault(Fault::Kind::BadInstruction, op, lane, "the address or the stride differs from that of lane 0");
        return false;
    }
    return true;
}

void run_load(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    const Fragment& fragment = *static_cast<const Fragment*>(op.extra.get());
    uint64_t base = 0, addresses[kLanes];
    int64_t stride = 0;
    if (!read_place(warp, op, 0, fragment, &base, &stride)) return;
    uint8_t bytes[kLanes * kMostLaneBytes];
    const int piece = piece_bytes(fragment), lane_bytes = fragment.lane_bytes();
    for (int i = 0; i * piece < lane_bytes; ++i) {
        piece_addresses(fragment, i, base, stride, addresses);
        if (!warp.load_lanes(op, active, op.space, addresses, static_cast<unsigned>(piece), bytes + i * piece,
                             static_cast<size_t>(lane_bytes)))
            return;
    }
    for (int r = 0; r < fragment.registers; ++r) {
        Lanes values{};
        for (int lane = 0; lane < kLanes; ++lane)
            std::memcpy(&values[static_cast<size_t>(lane)], bytes + lane * lane_bytes + r * fragment.register_bytes,
                        static_cast<size_t>(fragment.register_bytes));
        warp.write(op.destinations[static_cast<size_t>(r)], values, active);
    }
}

/// The line of a fragment: the registers of lane 0, then of lane 1, ...
void read_line(Warp& warp, const Op& op, size_t source, const Fragment& fragment, uint8_t* line) {
    Lanes scratch;
    for (int r = 0; r < fragment.registers; ++r) {
        const uint64_t* values = warp.read(op.sources[source + static_cast<size_t>(r)], scratch);
        for (int lane = 0; lane < kLanes; ++lane)
            std::memcpy(line + lane * fragment.lane_bytes() + r * fragment.register_bytes, &values[lane],
                        static_cast<size_t>(fragment.register_bytes));
    }
}

void run_store(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    const Fragment& fragment = *static_cast<const Fragment*>(op.extra.get());
    const auto registers = static_cast<size_t>(fragment.registers);
    uint64_t base = 0, addresses[kLanes];
    int64_t stride = 0;
    if (!read_place(warp, op, registers, fragment, &base, &stride)) return;
    uint8_t bytes[kLanes * kMostLaneBytes];
    read_line(warp, op, 0, fragment, bytes);
    const int piece = piece_bytes(fragment), lane_bytes = fragment.lane_bytes();
    for (int i = 0; i * piece < lane_bytes; ++i) {
        piece_addresses(fragment, i, base, stride, addresses);
        if (!warp.store_lanes(op, active, op.space, addresses, static_cast<unsigned>(piece), bytes + i * piece,
                              static_cast<size_t>(lane_bytes)))
            return;
    }
}

struct Wmma {
    MmaShape shape;
    Element a_type = Element::F16, b_type = Element::F16;
    Value c_value = Value::F32, d_value = Value::F32;
    Fragment a, b, c, d;
    bool a_by_rows = true, b_by_rows = false, saturate = false;
    numeric::BitOperation bit_operation = numeric::BitOperation::Xor;
    numeric::Rounding rounding = numeric::Rounding::NearestEven;
};

/// lines x length -> length x lines, of whole bytes.
void transpose(const Fragment& fragment, const uint8_t* from, uint8_t* to) {
    const int size = fragment.bits / 8;
    for (int i = 0; i < fragment.lines; ++i)
        for (int j = 0; j < fragment.length; ++j)
            std::memcpy(to + (j * fragment.lines + i) * size, from + (i * fragment.length + j) * size, static_cast<size_t>(size));
}

template <typename T>
void write_sums(Warp& warp, const Op& op, const Fragment& fragment, const T* sums, LaneMask active) {
    const int per_lane = fragment.lane_bytes() / static_cast<int>(sizeof(T));
    for (int r = 0; r < fragment.registers; ++r) {
        Lanes values{};
        for (int lane = 0; lane < kLanes; ++lane)
            std::memcpy(&values[static_cast<size_t>(lane)],
                        reinterpret_cast<const uint8_t*>(sums + lane * per_lane) + r * fragment.register_bytes,
                        static_cast<size_t>(fragment.register_bytes));
        warp.write(op.destinations[static_cast<size_t>(r)], values, active);
    }
}

void run_wmma(Warp& warp, const Op& op, LaneMask active) {
    if (!takes_whole_warp(warp, op, active)) return;
    const Wmma& wmma = *static_cast<const Wmma*>(op.extra.get());
    constexpr int kMost = 256;
    alignas(8) uint8_t line[kLanes * kMostLaneBytes], a[kLanes * kMostLaneBytes], b[kLanes * kMostLaneBytes], c[kLanes * kMostLaneBytes];
    const auto a_count = static_cast<size_t>(wmma.a.registers), b_count = static_cast<size_t>(wmma.b.registers);
    read_line(warp, op, 0, wmma.a, wmma.a_by_rows ? a : line);
    if (!wmma.a_by_rows) transpose(wmma.a, line, a);
    read_line(warp, op, a_count, wmma.b, wmma.b_by_rows ? line : b);
    if (wmma.b_by_rows) transpose(wmma.b, line, b);
    read_line(warp, op, a_count + b_count, wmma.c, c);
    const int count = wmma.shape.m * wmma.shape.n;

    if (wmma.d_value == Value::S32) {
        int32_t start[kMost], sums[kMost];
        std::memcpy(start, c, static_cast<size_t>(count) * 4);
        numeric::mma_to_s32(wmma.shape, wmma.a_type, a, wmma.b_type, b, start, sums, wmma.saturate, wmma.bit_operation);
        return write_sums(warp, op, wmma.d, sums, active);
    }
    if (wmma.d_value == Value::F64) {
        double left[kMost], right[kMost], start[kMost], sums[kMost];
        std::memcpy(left, a, sizeof(double) * 8 * 4);
        std::memcpy(right, b, sizeof(double) * 8 * 4);
        std::memcpy(start, c, static_cast<size_t>(count) * 8);
        numeric::mma_to_f64(wmma.shape, left, right, start, sums, wmma.rounding);
        return write_sums(warp, op, wmma.d, sums, active);
    }
    if (wmma.c_value == Value::F16 && wmma.d_value == Value::F16) {
        uint16_t start[kMost], sums[kMost];
        std::memcpy(start, c, static_cast<size_t>(count) * 2);
        numeric::mma_to_f16(wmma.shape, wmma.a_type, a, wmma.b_type, b, start, sums);
        return write_sums(warp, op, wmma.d, sums, active);
    }
    float start[kMost], sums[kMost];
    for (int i = 0; i < count; ++i) {
        if (wmma.c_value == Value::F16) {
            numeric::F16 half;
            std::memcpy(&half.bits, c + i * 2, 2);
            start[i] = numeric::to_f32(half);
        } else {
            std::memcpy(&start[i], c + i * 4, 4);
        }
    }
    numeric::mma_to_f32(wmma.shape, wmma.a_type, a, wmma.b_type, b, start, sums);
    if (wmma.d_value == Value::F32) return write_sums(warp, op, wmma.d, sums, active);
    uint16_t halves[kMost];
    for (int i = 0; i < count; ++i) halves[i] = numeric::to_f16(static_cast<double>(sums[i])).bits;
    write_sums(warp, op, wmma.d, halves, active);
}

bool decode_access(Decoding& decoding, bool is_store) {
    const int part = is_store ? (decoding.take("d") ? 2 : -1) : decoding.take_one({"a", "b", "c"});
    MmaShape shape;
    bool by_rows = true;
    if (part < 0) return decoding.fail("which matrix it is, is missing");
    if (!take_layout(decoding, &by_rows) || !take_shape(decoding, &shape)) return false;
    decoding.op.space = take_space(decoding);
    const std::vector<std::string> types = take_elements(decoding);
    if (types.size() != 1) return decoding.fail("the type is missing");
    if (!decoding.finish()) return false;
    Fragment fragment;
    ptx::Type type = ptx::Type::B32;
    if (part == 2) {
        const Value value = value_named(types[0]);
        const bool known =
            (value == Value::F16 && has_shape(Element::F16, shape)) || (value == Value::F64 && has_shape(Element::F64, shape)) ||
            (value == Value::F32 && (has_shape(Element::F16, shape) || has_shape(Element::TF32, shape))) ||
            (value == Value::S32 && (has_shape(Element::S8, shape) || has_shape(Element::S4, shape) || has_shape(Element::B1, shape)));
        if (!known) return decoding.fail("there is no such shape for this type");
        fragment = sum_fragment(shape, value, by_rows);
        type = register_type(value);
    } else {
        const auto element = element_named(types[0]);
        if (!element || !has_shape(*element, shape)) return decoding.fail("there is no such shape for this type");
        if (numeric::bits(*element) < 8 && by_rows != (part == 0)) return decoding.fail("this type takes A by rows and B by columns alone");
        fragment = operand_fragment(part == 0 ? Part::A : Part::B, shape, *element, by_rows);
        type = *element == Element::F64 ? ptx::Type::F64 : ptx::Type::B32;
    }
    const auto registers = static_cast<size_t>(fragment.registers);
    decoding.op.extra = std::make_shared<Fragment>(fragment);
    decoding.op.run = is_store ? run_store : run_load;
    if (!decoding.operands(2, 3)) return false;
    const bool ok = is_store ? tuple_source(decoding, 1, registers, type) && address_source(decoding, 0)
                             : tuple_destination(decoding, 0, registers, type) && address_source(decoding, 1);
    return ok && (decoding.text.operands.size() == 2 || decoding.source(2, ptx::Type::U32));
}

bool decode_product(Decoding& decoding) {
    auto wmma = std::make_shared<Wmma>();
    const int operation = decoding.take_one({"xor", "and"});
    const bool has_popc = decoding.take("popc");
    if (!take_layout(decoding, &wmma->a_by_rows) || !take_layout(decoding, &wmma->b_by_rows) || !take_shape(decoding, &wmma->shape))
        return false;
    const std::vector<std::string> types = take_elements(decoding);
    wmma->saturate = decoding.take("satfinite");
    const int rounding = decoding.take_one({"rn", "rz", "rm", "rp"});
    if (!decoding.finish()) return false;
    if (types.size() != 2 && types.size() != 4) return decoding.fail("expected the types of d and c, or of d, a, b and c");
    const auto a = types.size() == 2 ? std::optional(Element::F16) : element_named(types[1]);
    const auto b = types.size() == 2 ? std::optional(Element::F16) : element_named(types[2]);
    wmma->d_value = value_named(types.front());
    wmma->c_value = value_named(types.back());
    if (!a || !b || *a != *b) return decoding.fail("these types do not go together");
    const Value needed = *a == Element::F64 ? Value::F64 : *a == Element::BF16 || *a == Element::TF32 ? Value::F32 : Value::S32;
    const auto is_half_or_float = [](Value value) { return value == Value::F16 || value == Value::F32; };
    const bool fits = *a == Element::F16 ? is_half_or_float(wmma->c_value) && is_half_or_float(wmma->d_value)
                                         : wmma->c_value == needed && wmma->d_value == needed;
    if (!fits) return decoding.fail("these types do not go together");
    if (!has_shape(*a, wmma->shape)) return decoding.fail("there is no such shape for these types");
    if (numeric::bits(*a) < 8 && (!wmma->a_by_rows || wmma->b_by_rows))
        return decoding.fail("this type takes A by rows and B by columns alone");
    if ((*a == Element::B1) != (operation >= 0 && has_popc)) return decoding.fail("`.xor.popc` and `.and.popc` belong to `.b1`");
    if (wmma->saturate && (needed != Value::S32 || *a == Element::F16 || *a == Element::B1))
        return decoding.fail("`.satfinite` belongs to integers");
    if (rounding >= 0 && *a != Element::F64) return decoding.fail("rounding belongs to `.f64`");
    constexpr numeric::Rounding kRoundings[] = {numeric::Rounding::NearestEven, numeric::Rounding::Zero, numeric::Rounding::Down,
                                                numeric::Rounding::Up};
    wmma->rounding = kRoundings[rounding < 0 ? 0 : rounding];
    wmma->bit_operation = operation == 1 ? numeric::BitOperation::And : numeric::BitOperation::Xor;
    wmma->a_type = *a, wmma->b_type = *b;
    wmma->a = operand_fragment(Part::A, wmma->shape, *a, wmma->a_by_rows);
    wmma->b = operand_fragment(Part::B, wmma->shape, *b, wmma->b_by_rows);
    wmma->c = sum_fragment(wmma->shape, wmma->c_value, true);
    wmma->d = sum_fragment(wmma->shape, wmma->d_value, true);
    decoding.op.extra = wmma;
    decoding.op.run = run_wmma;
    const ptx::Type word = *a == Element::F64 ? ptx::Type::F64 : ptx::Type::B32;
    return decoding.operands(4) && tuple_destination(decoding, 0, static_cast<size_t>(wmma->d.registers), register_type(wmma->d_value)) &&
           tuple_source(decoding, 1, static_cast<size_t>(wmma->a.registers), word) &&
           tuple_source(decoding, 2, static_cast<size_t>(wmma->b.registers), word) &&
           tuple_source(decoding, 3, static_cast<size_t>(wmma->c.registers), register_type(wmma->c_value));
}

}  // namespace

bool decode_wmma(Decoding& decoding) {
    decoding.op.aligned = true;
    if (!decoding.take("sync") || !decoding.take("aligned")) return decoding.fail("`.sync.aligned` is missing");
    switch (decoding.take_one({"load", "store", "mma"})) {
        case 0: return decode_access(decoding, false);
        case 1: return decode_access(decoding, true);
        case 2: return decode_product(decoding);
        default: return decoding.fail("expected `.load`, `.store` or `.mma`");
    }
}

}  // namespace flexemu
