// atom and red: one read-modify-write for each lane (for each element of the vector forms), in an order of lanes that the seed picks.
#include <bit>
#include <cstring>

#include "emulator/machine/atomic.h"
#include "emulator/machine/lanes.h"
#include "emulator/machine/memory.h"
#include "emulator/machine/ops_bulk.h"
#include "emulator/machine/semantics.h"
#include "emulator/numeric/float.h"

namespace flexemu {
namespace {

using Operation = AtomicOperation;

struct Atomic {
    Operation operation = Operation::Add;
    ptx::Type type = ptx::Type::U32;
    AccessKind kind;
    unsigned bytes = 4;    // of an element
    size_t elements = 1;   // of a vector form
    size_t registers = 1;  // of an element: 2 of .b128
    bool returns = false;  // atom
};

/// What one read-modify-write needs.
struct Change {
    const Atomic* atomic;
    uint64_t b[2], c[2];  // c: of cas
    bool flushes;         // f32 in global memory: subnormals become zeros of their sign
};

template <typename T>
uint64_t change_number(Operation operation, uint64_t old_bits, uint64_t b_bits) {
    const T old = Slot<T>::get(old_bits), b = Slot<T>::get(b_bits);
    T now = old;
    switch (operation) {
        case Operation::And: now = static_cast<T>(old & b); break;
        case Operation::Or: now = static_cast<T>(old | b); break;
        case Operation::Xor: now = static_cast<T>(old ^ b); break;
        case Operation::Exch: now = b; break;
        case Operation::Add:
            now = static_cast<T>(static_cast<std::make_unsigned_t<T>>(old) + static_cast<std::make_unsigned_t<T>>(b));
            break;
        case Operation::Inc: now = old >= b ? 0 : static_cast<T>(old + 1); break;
        case Operation::Dec: now = old == 0 || old > b ? b : static_cast<T>(old - 1); break;
        case Operation::Min: now = old < b ? old : b; break;
        case Operation::Max: now = old < b ? b : old; break;
        case Operation::Cas: break;
    }
    return Slot<T>::put(now);
}

template <typename T>
T change_half(Operation operation, T old, T b) {
    if (operation == Operation::Min) return numeric::min(old, b);
    if (operation == Operation::Max) return numeric::max(old, b);
    return numeric::add(old, b);
}
template <typename T>
uint64_t change_halves(Operation operation, uint64_t old, uint64_t b, bool pair) {
    const uint64_t low = Slot<T>::put(change_half(operation, Slot<T>::get(old), Slot<T>::get(b)));
    return pair ? low | Slot<T>::put(change_half(operation, Slot<T>::get(old >> 16), Slot<T>::get(b >> 16))) << 16 : low;
}

uint64_t changed(const Change& change, uint64_t old) {
    const Atomic& atomic = *change.atomic;
    if (atomic.operation == Operation::Cas) return old == change.b[0] ? change.c[0] : old;
    return combine(atomic.operation, atomic.type, old, change.b[0], change.flushes);
}

void apply(const void* old, void* now, const void* context) {
    const Change& change = *static_cast<const Change*>(context);
    const Atomic& atomic = *change.atomic;
    if (atomic.bytes == 16) {
        const bool writes = atomic.operation == Operation::Exch || std::memcmp(old, change.b, 16) == 0;
        const void* from = atomic.operation == Operation::Exch ? change.b : change.c;
        std::memcpy(now, writes ? from : old, 16);
        return;
    }
    uint64_t value = 0;
    std::memcpy(&value, old, atomic.bytes);
    value = changed(change, value);
    std::memcpy(now, &value, atomic.bytes);
}

/// Sources: the address, then the registers of b, then those of c.
void run_atomic(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const Atomic& atomic = *static_cast<const Atomic*>(op.extra.get());
    constexpr size_t kMostRegisters = 8;
    const size_t registers = atomic.elements * atomic.registers;
    Lanes address_scratch, scratch[2 * kMostRegisters];
    const uint64_t* addresses = warp.read(op.sources[0], address_scratch);
    const uint64_t* b[kMostRegisters] = {};
    const uint64_t* c[kMostRegisters] = {};
    for (size_t i = 0; i < registers; ++i) {
        b[i] = warp.read(op.sources[1 + i], scratch[i]);
        if (atomic.operation == Operation::Cas) c[i] = warp.read(op.sources[1 + registers + i], scratch[kMostRegisters + i]);
    }
    Lanes before[kMostRegisters] = {};
    const int first = static_cast<int>(warp.random() % kLanes);
    for (int i = 0; i < kLanes; ++i) {
        const int lane = (first + i) % kLanes;
        if ((active >> lane & 1) == 0) continue;
        const uint64_t address = addresses[lane] + static_cast<uint64_t>(op.offset);
        const size_t whole = atomic.bytes * atomic.elements;
        if (atomic.elements > 1 && address % whole != 0) {
            warp.fault(Fault::Kind::Misaligned, op, lane,
                       fmt::format("address {:#x} is not a multiple of the vector's {} bytes", address, whole));
            return;
        }
        const bool is_shared = op.space == ptx::Space::Shared || (address >= kSharedWindow && address < kLocalWindow);
        for (size_t element = 0; element < atomic.elements; ++element) {
            Change change{&atomic, {}, {}, !is_shared};
            for (size_t part = 0; part < atomic.registers; ++part) {
                change.b[part] = b[element * atomic.registers + part][lane];
                if (atomic.operation == Operation::Cas) change.c[part] = c[element * atomic.registers + part][lane];
            }
            uint64_t old[2] = {};
            if (!warp.modify(op, lane, op.space, address + element * atomic.bytes, atomic.bytes, old, atomic.kind, apply, &change)) return;
            for (size_t part = 0; part < atomic.registers; ++part)
                before[element * atomic.registers + part][static_cast<size_t>(lane)] = old[part];
        }
    }
    if (!atomic.returns) return;
    for (size_t i = 0; i < registers; ++i) warp.write(op.destinations[i], before[i], active);
}

bool is_half(ptx::Type type) {
    return type == ptx::Type::F16 || type == ptx::Type::BF16 || type == ptx::Type::F16x2 || type == ptx::Type::BF16x2;
}

bool type_fits(Decoding& decoding, Operation operation, ptx::Type type, bool vector, bool returns) {
    using ptx::Type;
    switch (operation) {
        case Operation::And:
        case Operation::Or:
        case Operation::Xor: return decoding.type_is(type, {Type::B32, Type::B64});
        case Operation::Cas:
            return (returns || decoding.fail("`red` has no `.cas`")) &&
                   decoding.type_is(type, {Type::B16, Type::B32, Type::B64, Type::B128});
        case Operation::Exch:
            return (returns || decoding.fail("`red` has no `.exch`")) && decoding.type_is(type, {Type::B32, Type::B64, Type::B128});
        case Operation::Inc:
        case Operation::Dec: return decoding.type_is(type, {Type::U32});
        case Operation::Add:
            if (vector) return decoding.type_is(type, {Type::F32, Type::F16, Type::BF16, Type::F16x2, Type::BF16x2});
            return decoding.type_is(
                type, {Type::U32, Type::S32, Type::U64, Type::F32, Type::F64, Type::F16, Type::BF16, Type::F16x2, Type::BF16x2});
        case Operation::Min:
        case Operation::Max:
            if (vector) return decoding.type_is(type, {Type::F16, Type::BF16, Type::F16x2, Type::BF16x2});
            return decoding.type_is(type, {Type::U32, Type::S32, Type::U64, Type::S64});
    }
    return false;
}

ptx::Type register_type(ptx::Type type) {
    if (type == ptx::Type::F16 || type == ptx::Type::BF16) return ptx::Type::B16;
    if (type == ptx::Type::F16x2 || type == ptx::Type::BF16x2) return ptx::Type::B32;
    return type;
}

/// Operand `index` as the registers of all elements; a .b128 is two of them.
template <typename Take>
bool take_elements(Decoding& decoding, size_t index, const Atomic& atomic, Take take) {
    const ptx::Operand& operand = decoding.text.operands[index];
    if ((operand.kind == ptx::Operand::Kind::Vector) != (atomic.elements > 1))
        return decoding.fail("a vector is expected with `.v2` to `.v8` alone");
    if (atomic.elements == 1) return take(operand);
    if (operand.elements.size() != atomic.elements) return decoding.fail("wrong number of elements");
    for (const ptx::Operand& element : operand.elements)
        if (!take(element)) return false;
    return true;
}

bool decode_atomic(Decoding& decoding) {
    if (decoding.sees("async")) {
        std::string error;
        return decode_store_async(decoding.text, decoding.context, &decoding.op, &error) || decoding.fail(error);
    }
    auto atomic = std::make_shared<Atomic>();
    atomic->returns = decoding.text.opcode == "atom";
    const int order = decoding.take_one({"relaxed", "acquire", "release", "acq_rel"});
    atomic->kind.atomic = true;
    atomic->kind.acquire = order == 1 || order == 3;
    atomic->kind.release = order == 2 || order == 3;
    if (!atomic->returns && atomic->kind.acquire) return decoding.fail("`red` cannot acquire");
    atomic->kind.scope = take_scope(decoding, AccessKind::Scope::Gpu);
    if (decoding.take("shared") || decoding.take("shared::cta") || decoding.take("shared::cluster"))
        decoding.op.space = ptx::Space::Shared;
    else
        decoding.op.space = decoding.take("global") ? ptx::Space::Global : ptx::Space::Generic;
    const int operation = decoding.take_one({"and", "or", "xor", "cas", "exch", "add", "inc", "dec", "min", "max"});
    if (operation < 0) return decoding.fail("the operation is missing");
    atomic->operation = static_cast<Operation>(operation);
    const int vector = decoding.take_one({"v2", "v4", "v8"});
    atomic->elements = size_t{1} << (vector + 1);
    if (!decoding.type(&atomic->type) || !type_fits(decoding, atomic->operation, atomic->type, vector >= 0, atomic->returns)) return false;
    if (decoding.take("noftz") != is_half(atomic->type)) return decoding.fail("`.noftz` belongs to f16 and bf16, and must be there");
    if (vector >= 0) {
        if (decoding.op.space == ptx::Space::Shared) return decoding.fail("vector forms are of global memory");
        if (atomic->elements * static_cast<size_t>(ptx::bits(atomic->type)) > 128)
            return decoding.fail("the vector is longer than 16 bytes");
    }
    const bool has_policy = decoding.take("L2::cache_hint");
    if (!decoding.finish()) return false;

    atomic->bytes = static_cast<unsigned>(ptx::bits(atomic->type) / 8);
    atomic->registers = atomic->type == ptx::Type::B128 ? 2 : 1;
    decoding.op.type = atomic->type;
    decoding.op.extra = atomic;
    decoding.op.run = run_atomic;
    const size_t first = atomic->returns ? 1 : 0, values = atomic->operation == Operation::Cas ? 2 : 1;
    if (!decoding.operands(first + 1 + values + (has_policy ? 1 : 0))) return false;
    const ptx::Type type = register_type(atomic->type);
    Op& op = decoding.op;
    const auto destination = [&](const ptx::Operand& operand) {
        if (!decoding.destination(operand, type)) return false;
        const uint32_t reg = op.destinations.back();
        if (atomic->registers == 2) op.destinations.push_back(reg == kNoRegister ? reg : reg + 1);
        return true;
    };
    const auto source = [&](const ptx::Operand& operand) {
        if (!decoding.source(operand, type)) return false;
        if (atomic->registers == 1) return true;
        Source high = op.sources.back();
        if (high.kind != Source::Kind::Register) return decoding.fail("a `.b128` must be a register");
        ++high.number;
        op.sources.push_back(high);
        return true;
    };
    if (atomic->returns && !take_elements(decoding, 0, *atomic, destination)) return false;
    Source base;
    std::string error;
    if (!decoding.context.address(decoding.text.operands[first], &base, &op.offset, &error)) return decoding.fail(error);
    op.sources.push_back(base);
    for (size_t i = 0; i < values; ++i)
        if (!take_elements(decoding, first + 1 + i, *atomic, source)) return false;
    return true;
}

constexpr DecoderEntry kDecoders[] = {{"atom", decoder<decode_atomic>}, {"red", decoder<decode_atomic>}};

}  // namespace

uint64_t combine(AtomicOperation operation, ptx::Type type, uint64_t old, uint64_t b, bool flushes) {
    switch (type) {
        case ptx::Type::S32: return change_number<int32_t>(operation, old, b);
        case ptx::Type::S64: return change_number<int64_t>(operation, old, b);
        case ptx::Type::B16: return change_number<uint16_t>(operation, old, b);
        case ptx::Type::U32:
        case ptx::Type::B32: return change_number<uint32_t>(operation, old, b);
        case ptx::Type::F32: return Slot<float>::put(numeric::add(Slot<float>::get(old), Slot<float>::get(b), {.ftz = flushes}));
        case ptx::Type::F64: return Slot<double>::put(numeric::add(Slot<double>::get(old), Slot<double>::get(b)));
        case ptx::Type::F16: return change_halves<numeric::F16>(operation, old, b, false);
        case ptx::Type::F16x2: return change_halves<numeric::F16>(operation, old, b, true);
        case ptx::Type::BF16: return change_halves<numeric::BF16>(operation, old, b, false);
        case ptx::Type::BF16x2: return change_halves<numeric::BF16>(operation, old, b, true);
        default: return change_number<uint64_t>(operation, old, b);
    }
}

std::span<const DecoderEntry> atomic_decoders() {
    return kDecoders;
}

}  // namespace flexemu
