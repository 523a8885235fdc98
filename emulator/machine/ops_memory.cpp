// Loads and stores of all spaces, addresses and their spaces, prefetches and fences.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/machine/ops_bulk.h"
#include "emulator/machine/ops_tensormap.h"

namespace flexemu {
namespace {

using ptx::Instruction;
using ptx::Operand;
using ptx::Space;
using ptx::Type;

/// Op::flags of loads and stores.
constexpr uint32_t kAtomic = 1, kAcquire = 2, kRelease = 4, kSigned = 8;
constexpr int kScopeShift = 8;

bool is_signed(Type type) {
    return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64;
}

bool space_of(std::string_view modifier, Space* space) {
    const std::string_view name = modifier.substr(0, modifier.find("::"));
    if (name == "global")
        *space = Space::Global;
    else if (name == "shared")
        *space = Space::Shared;
    else if (name == "local")
        *space = Space::Local;
    else if (name == "param")
        *space = Space::Param;
    else if (name == "const")
        *space = Space::Const;
    else
        return false;
    return true;
}

bool scope_of(std::string_view modifier, AccessKind::Scope* scope) {
    if (modifier == "cta")
        *scope = AccessKind::Scope::Cta;
    else if (modifier == "cluster")
        *scope = AccessKind::Scope::Cluster;
    else if (modifier == "gpu")
        *scope = AccessKind::Scope::Gpu;
    else if (modifier == "sys")
        *scope = AccessKind::Scope::Sys;
    else
        return false;
    return true;
}

/// What only advises the caches.
bool is_hint(std::string_view modifier) {
    return modifier.starts_with("L1::") || modifier.starts_with("L2::") || modifier == "nc" || modifier == "ca" || modifier == "cg" ||
           modifier == "cs" || modifier == "lu" || modifier == "cv" || modifier == "wb" || modifier == "wt" || modifier == "unified" ||
           modifier == "weak";
}

AccessKind kind_of(const Op& op) {
    AccessKind kind;
    kind.atomic = (op.flags & kAtomic) != 0;
    kind.acquire = (op.flags & kAcquire) != 0;
    kind.release = (op.flags & kRelease) != 0;
    kind.scope = static_cast<AccessKind::Scope>(op.flags >> kScopeShift & 7);
    return kind;
}

/// Addresses of all lanes. In shared memory they may be 32-bit sums that wrap around.
void addresses_of(Warp& warp, const Op& op, uint64_t* out) {
    Lanes scratch;
    const uint64_t* base = warp.read(op.sources[0], scratch);
    for (int i = 0; i < kLanes; ++i) out[i] = base[i] + static_cast<uint64_t>(op.offset);
}

uint64_t extended(const Op& op, uint64_t value) {
    if ((op.flags & kSigned) == 0) return value;
    switch (op.type) {
        case Type::S8: return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(value)));
        case Type::S16: return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int16_t>(value)));
        case Type::S32: return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(value)));
        default: return value;
    }
}

/// Vectors: op.flags2 elements of op.type. The widths of destinations follow in `extra`, for sign extension into wider registers.
struct Widths {
    std::vector<int> bits;
};

void run_load(Warp& warp, const Op& op, LaneMask active) {
    uint64_t addresses[kLanes];
    addresses_of(warp, op, addresses);
    const unsigned element = static_cast<unsigned>(ptx::bits(op.type)) / 8;
    const unsigned total = element * op.flags2;
    alignas(16) uint8_t bytes[kLanes][32] = {};
    const AccessKind kind = kind_of(op);
    for (unsigned at = 0; at < total; at += 16) {
        uint64_t shifted[kLanes];
        for (int i = 0; i < kLanes; ++i) shifted[i] = addresses[i] + at;
        if (at == 0 && total > 16) {
            for (int i = 0; i < kLanes; ++i) {
                if ((active >> i & 1) != 0 && addresses[i] % total != 0) {
                    return warp.fault(Fault::Kind::Misaligned, op, i,
                                      fmt::format("address {:#x} is no multiple of {}", addresses[i], total));
                }
            }
        }
        if (!warp.load_lanes(op, active, op.space, shifted, std::min(total, 16U), &bytes[0][at], sizeof(bytes[0]), kind)) return;
    }
    const auto* widths = static_cast<const Widths*>(op.extra.get());
    for (size_t e = 0; e < op.destinations.size(); ++e) {
        if (op.destinations[e] == kNoRegister) continue;
        uint64_t* const to = warp.slots(op.destinations[e]);
        const int width = widths->bits[e];
        const uint64_t mask = width >= 64 ? ~uint64_t{0} : (uint64_t{1} << width) - 1;
        // A .b128 is two destinations of 8 bytes each.
        const unsigned step = element == 16 ? 8 : element;
        if ((op.flags & kSigned) == 0 && step == 4 && width >= 32) {
            for (int i = 0; i < kLanes; ++i) {
                uint32_t value;
                std::memcpy(&value, &bytes[i][e * 4], 4);
                to[i] = (active >> i & 1) != 0 ? value : to[i];
            }
            continue;
        }
        for (int i = 0; i < kLanes; ++i) {
            if ((active >> i & 1) == 0) continue;
            uint64_t value = 0;
            std::memcpy(&value, &bytes[i][e * step], step);
            to[i] = extended(op, value) & mask;
        }
    }
}

void run_store(Warp& warp, const Op& op, LaneMask active) {
    uint64_t addresses[kLanes];
    addresses_of(warp, op, addresses);
    const unsigned element = static_cast<unsigned>(ptx::bits(op.type)) / 8;
    const unsigned total = element * op.flags2;
    alignas(16) uint8_t bytes[kLanes][32];
    const unsigned step = element == 16 ? 8 : element;
    Lanes scratch;
    for (size_t e = 1; e < op.sources.size(); ++e) {
        const uint64_t* values = warp.read(op.sources[e], scratch);
        for (int i = 0; i < kLanes; ++i) std::memcpy(&bytes[i][(e - 1) * step], &values[i], step);
    }
    const AccessKind kind = kind_of(op);
    if (total > 16) {
        for (int i = 0; i < kLanes; ++i) {
            if ((active >> i & 1) != 0 && addresses[i] % total != 0) {
                return warp.fault(Fault::Kind::Misaligned, op, i, fmt::format("address {:#x} is no multiple of {}", addresses[i], total));
            }
        }
    }
    for (unsigned at = 0; at < total; at += 16) {
        uint64_t shifted[kLanes];
        for (int i = 0; i < kLanes; ++i) shifted[i] = addresses[i] + at;
        if (!warp.store_lanes(op, active, op.space, shifted, std::min(total, 16U), &bytes[0][at], sizeof(bytes[0]), kind)) return;
    }
}

/// Modifiers of loads and stores up to the type.
bool decode_access(const Instruction& instruction, bool is_load, Op* out, std::string* error) {
    out->space = Space::Generic;
    out->flags2 = 1;
    AccessKind::Scope scope = AccessKind::Scope::None;
    for (const std::string& modifier : instruction.modifiers) {
        if (space_of(modifier, &out->space) || scope_of(modifier, &scope) || is_hint(modifier)) continue;
        if (modifier == "v2" || modifier == "v4" || modifier == "v8")
            out->flags2 = static_cast<uint32_t>(modifier[1] - '0');
        else if (modifier == "volatile") {
            out->flags |= kAtomic;
            scope = AccessKind::Scope::Sys;
        } else if (modifier == "relaxed" || modifier == "mmio")
            out->flags |= kAtomic;
        else if (modifier == "acquire" && is_load)
            out->flags |= kAtomic | kAcquire;
        else if (modifier == "release" && !is_load)
            out->flags |= kAtomic | kRelease;
        else if (const Type type = ptx::type_named(modifier); type != Type::None)
            out->type = type;
        else {
            *error = fmt::format("`.{}` is not known here", modifier);
            return false;
        }
    }
    if (out->type == Type::None || ptx::bits(out->type) < 8) {
        *error = "a type is missing";
        return false;
    }
    const int bytes = ptx::bits(out->type) / 8 * static_cast<int>(out->flags2);
    if (bytes > 32 || (out->flags2 == 8 && bytes != 32)) {
        *error = fmt::format("a vector of {} bytes", bytes);
        return false;
    }
    if ((out->flags & kAtomic) != 0 && scope == AccessKind::Scope::None) scope = AccessKind::Scope::Sys;
    // Local memory and parameters belong to one thread.
    if (out->space == Space::Local || out->space == Space::Param || out->space == Space::Const) out->flags = 0;
    out->flags |= static_cast<uint32_t>(scope) << kScopeShift;
    if (is_signed(out->type)) out->flags |= kSigned;
    return true;
}

std::vector<Operand> elements_of(const Operand& operand) {
    if (operand.kind == Operand::Kind::Vector) return operand.elements;
    return {operand};
}

/// Whether two operands are the same address: the same register and offset, or a register that has just been made by adding the difference.
bool is_same_address(const Operand& load, const Operand& swap, const Instruction* from, const Instruction* to) {
    if (load.kind != Operand::Kind::Memory || swap.kind != Operand::Kind::Memory || load.elements.empty() || swap.elements.empty())
        return false;
    const Operand &a = load.elements[0], &b = swap.elements[0];
    if (a.kind != b.kind) return false;
    if (a.number == b.number) return load.offset == swap.offset;
    for (const Instruction* each = to; each-- != from;) {
        if (each->operands.empty() || each->operands[0].kind != b.kind || each->operands[0].number != b.number) continue;
        return each->opcode == "add" && each->guard < 0 && each->operands.size() == 3 && each->operands[1].kind == a.kind &&
               each->operands[1].number == a.number && each->operands[2].kind == Operand::Kind::Immediate &&
               static_cast<int64_t>(each->operands[2].bits) + swap.offset == load.offset;
    }
    return false;
}

/// Whether the value is what a compare-and-swap close by starts from: `old = *x; do old = atomicCAS(x, seen = old, ...) while (old != seen)`. The swap
/// corrects a stale value, so compilers write the first read as an ordinary one; it counts as a relaxed one here.
bool feeds_compare_and_swap(const Instruction& load, const ptx::Function& function) {
    constexpr ptrdiff_t kReach = 64;
    const auto& all = function.instructions;
    if (all.empty() || &load < all.data() || &load >= all.data() + all.size()) return false;
    const ptrdiff_t at = &load - all.data();
    for (ptrdiff_t i = at + 1; i < std::min<ptrdiff_t>(at + kReach, static_cast<ptrdiff_t>(all.size())); ++i) {
        const Instruction& swap = all[static_cast<size_t>(i)];
        if (swap.opcode != "atom" || !swap.has("cas") || swap.operands.size() < 2) continue;
        if (is_same_address(load.operands[1], swap.operands[1], &load + 1, &swap)) return true;
    }
    return false;
}

bool decode_load(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    if (!decode_access(instruction, true, out, error)) return false;
    if (instruction.operands.size() < 2) {
        *error = "expected a destination and an address";
        return false;
    }
    auto widths = std::make_shared<Widths>();
    const std::vector<Operand> elements = elements_of(instruction.operands[0]);
    if (elements.size() != out->flags2) {
        *error = fmt::format("{} destinations for {} elements", elements.size(), out->flags2);
        return false;
    }
    for (const Operand& element : elements) {
        uint32_t reg = kNoRegister;
        if (!context.destination(element, &reg, error)) return false;
        const int width = element.kind == Operand::Kind::Register
                              ? ptx::bits(context.function().registers[static_cast<size_t>(element.number)].type)
                              : ptx::bits(out->type);
        if (element.kind == Operand::Kind::Register && width < ptx::bits(out->type)) {
            *error = fmt::format("a register of {} bits for an element of {}", width, ptx::bits(out->type));
            return false;
        }
        out->destinations.push_back(reg);
        widths->bits.push_back(std::min(width, 64));
        if (out->type == Type::B128) {
            out->destinations.push_back(reg == kNoRegister ? reg : reg + 1);
            widths->bits.push_back(64);
        }
    }
    const bool shared_with_others = out->space == Space::Generic || out->space == Space::Global || out->space == Space::Shared;
    if (shared_with_others && (out->flags & kAtomic) == 0 && feeds_compare_and_swap(instruction, context.function()))
        out->flags |= kAtomic | static_cast<uint32_t>(AccessKind::Scope::Sys) << kScopeShift;
    out->extra = std::move(widths);
    out->sources.resize(1);
    out->run = run_load;
    return context.address(instruction.operands[1], &out->sources[0], &out->offset, error);
}

bool decode_store(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    if (instruction.has("async")) return decode_store_async(instruction, context, out, error);
    if (!decode_access(instruction, false, out, error)) return false;
    if (instruction.operands.size() < 2) {
        *error = "expected an address and a value";
        return false;
    }
    const std::vector<Operand> elements = elements_of(instruction.operands[1]);
    if (elements.size() != out->flags2) {
        *error = fmt::format("{} values for {} elements", elements.size(), out->flags2);
        return false;
    }
    out->sources.resize(1);
    for (const Operand& element : elements) {
        Source source;
        if (!context.source(element, out->type, &source, error)) return false;
        out->sources.push_back(source);
        if (out->type == Type::B128) {
            if (source.kind != Source::Kind::Register) {
                *error = "a .b128 value must be a register";
                return false;
            }
            ++source.number;
            out->sources.push_back(source);
        }
    }
    out->run = run_store;
    return context.address(instruction.operands[0], &out->sources[0], &out->offset, error);
}

// ---- Addresses and their spaces

uint64_t window_of(Space space) {
    switch (space) {
        case Space::Shared: return kSharedWindow;
        case Space::Local: return kLocalWindow;
        case Space::Param: return kParamWindow;
        default: return 0;
    }
}

void run_cvta(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    const uint64_t window = window_of(op.space);
    for (size_t i = 0; i < kLanes; ++i) result[i] = op.flags != 0 ? from[i] - window : from[i] + window;
    warp.write(op.destinations[0], result, active);
}

bool decode_cvta(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    bool has_space = false;
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier == "to")
            out->flags = 1;
        else if (space_of(modifier, &out->space))
            has_space = true;
        else if (modifier == "u64")
            out->type = Type::U64;
        else {
            *error = fmt::format("`.{}` is not known here", modifier);
            return false;
        }
    }
    if (!has_space || instruction.operands.size() != 2 || out->type == Type::None) {
        *error = "expected a space, `.u64` and two operands";
        return false;
    }
    out->sources.resize(1);
    out->destinations.resize(1);
    out->run = run_cvta;
    return context.destination(instruction.operands[0], &out->destinations[0], error) &&
           context.source(instruction.operands[1], Type::U64, &out->sources[0], error);
}

void run_isspacep(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    for (size_t i = 0; i < kLanes; ++i) {
        const uint64_t window = from[i] & 0xff00'0000'0000'0000;
        bool is = false;
        if (op.space == Space::Shared) {
            const uint64_t rank = (from[i] - kSharedWindow) / kBlockStride;
            is = window == kSharedWindow && (op.flags != 0 || rank == 0 || rank == warp.block().rank() + 1);
        } else if (op.space == Space::Local) {
            is = window == kLocalWindow;
        } else if (op.space == Space::Param) {
            is = window == kParamWindow;
        } else {
            const Segment* segment = static_cast<WarpState&>(warp).launch().device.memory.find(from[i]);
            is = window == 0 && (op.space == Space::Const) == (segment != nullptr && segment->is_read_only);
        }
        result[i] = is ? 1 : 0;
    }
    warp.write(op.destinations[0], result, active);
}

bool decode_isspacep(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    if (instruction.modifiers.size() != 1 || !space_of(instruction.modifiers[0], &out->space) || instruction.operands.size() != 2) {
        *error = "expected one space and two operands";
        return false;
    }
    out->flags = instruction.modifiers[0] == "shared::cluster" ? 1 : 0;
    out->sources.resize(1);
    out->destinations.resize(1);
    out->run = run_isspacep;
    return context.destination(instruction.operands[0], &out->destinations[0], error) &&
           context.source(instruction.operands[1], Type::U64, &out->sources[0], error);
}

/// mapa: the same place in another block of the cluster. getctarank: whose an address is.
void run_mapa(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, ranks, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    const uint64_t* rank = warp.read(op.sources[1], ranks);
    for (size_t i = 0; i < kLanes; ++i) {
        if ((active >> i & 1) != 0 && (rank[i] & 0xffffffff) >= warp.block().cluster_size()) {
            return warp.fault(
                Fault::Kind::OutOfBounds, op, static_cast<int>(i),
                fmt::format("the cluster has {} blocks, there is no rank {}", warp.block().cluster_size(), rank[i] & 0xffffffff));
        }
        const uint64_t window = from[i] & 0xff00'0000'0000'0000;
        result[i] = window + ((rank[i] & 0xffffffff) + 1) * kBlockStride + from[i] % kBlockStride;
    }
    warp.write(op.destinations[0], result, active);
}

bool decode_mapa(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier == "u32" || modifier == "u64")
            out->type = ptx::type_named(modifier);
        else if (modifier != "shared::cluster") {
            *error = fmt::format("`.{}` is not known here", modifier);
            return false;
        }
    }
    if (instruction.operands.size() != 3) {
        *error = "expected three operands";
        return false;
    }
    out->sources.resize(2);
    out->destinations.resize(1);
    out->run = run_mapa;
    return context.destination(instruction.operands[0], &out->destinations[0], error) &&
           context.source(instruction.operands[1], Type::U64, &out->sources[0], error) &&
           context.source(instruction.operands[2], Type::U32, &out->sources[1], error);
}

void run_getctarank(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    for (size_t i = 0; i < kLanes; ++i) {
        const uint64_t rank = (from[i] & 0x00ff'ffff'ffff'ffff) / kBlockStride;
        result[i] = rank == 0 ? warp.block().rank() : rank - 1;
    }
    warp.write(op.destinations[0], result, active);
}

bool decode_getctarank(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    if (instruction.operands.size() != 2) {
        *error = "expected two operands";
        return false;
    }
    out->sources.resize(1);
    out->destinations.resize(1);
    out->run = run_getctarank;
    return context.destination(instruction.operands[0], &out->destinations[0], error) &&
           context.source(instruction.operands[1], Type::U64, &out->sources[0], error);
}

// ---- What has no effect on values

void run_nothing(Warp&, const Op&, LaneMask) {}

/// prefetch, prefetchu, applypriority, discard, createpolicy's users: hints to the caches.
bool decode_hint(const Instruction&, DecodeContext&, Op* out, std::string*) {
    out->run = run_nothing;
    return true;
}

/// createpolicy: some bits that only a cache would read.
void run_policy(Warp& warp, const Op& op, LaneMask active) {
    Lanes result;
    result.fill(0x14f0000000000000);
    warp.write(op.destinations[0], result, active);
}

bool decode_policy(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    if (instruction.operands.empty()) {
        *error = "expected a destination";
        return false;
    }
    out->destinations.resize(1);
    out->run = run_policy;
    return context.destination(instruction.operands[0], &out->destinations[0], error);
}

void run_fence(Warp& warp, const Op& op, LaneMask active) {
    static_cast<WarpState&>(warp).fence(active, static_cast<AccessKind::Scope>(op.flags));
}

/// fence.mbarrier_init
void run_barrier_fence(Warp& warp, const Op& op, LaneMask active) {
    static_cast<WarpState&>(warp).fence_barriers(active);
    run_fence(warp, op, active);
}

/// Op::flags: 1 shared memory, 2 global memory.
void run_proxy_fence(Warp& warp, const Op& op, LaneMask active) {
    static_cast<WarpState&>(warp).fence_proxy(active, (op.flags & 1) != 0, (op.flags & 2) != 0);
}

bool decode_fence(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    AccessKind::Scope scope = AccessKind::Scope::None;
    bool is_proxy = false, is_async = false, is_init = false;
    if (instruction.has("tensormap::generic")) return decode_tensor_map_fence(instruction, context, out, error);
    for (const std::string& modifier : instruction.modifiers) {
        Space space = Space::Generic;
        if (scope_of(modifier, &scope) || modifier == "sc" || modifier == "acq_rel" || modifier == "acquire" || modifier == "release" ||
            modifier.starts_with("sync_restrict::") || space_of(modifier, &space)) {
            continue;
        }
        if (modifier == "proxy")
            is_proxy = true;
        else if (modifier == "async" || modifier == "async::generic")
            is_async = true;
        else if (modifier == "mbarrier_init")
            is_init = true;
        else if (modifier != "alias") {
            *error = fmt::format("`.{}` is not known here", modifier);
            return false;
        }
    }
    // A bare fence.proxy.async orders accesses of the two proxies; the alias proxy has no state here.
    if (is_proxy) {
        out->run = is_async ? run_proxy_fence : run_nothing;
        const bool global = instruction.has("global"), shared = instruction.has("shared::cta") || instruction.has("shared::cluster");
        out->flags = global ? 2 : shared ? 1 : 3;
        return true;
    }
    out->flags = static_cast<uint32_t>(scope == AccessKind::Scope::None ? AccessKind::Scope::Sys : scope);
    out->run = is_init ? run_barrier_fence : run_fence;
    return true;
}

bool decode_membar(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    AccessKind::Scope scope = AccessKind::Scope::None;
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier == "cta")
            scope = AccessKind::Scope::Cta;
        else if (modifier == "gl")
            scope = AccessKind::Scope::Gpu;
        else if (modifier == "sys")
            scope = AccessKind::Scope::Sys;
        else if (modifier == "proxy")
            return decode_fence(instruction, context, out, error);
    }
    if (scope == AccessKind::Scope::None) {
        *error = "expected `.cta`, `.gl` or `.sys`";
        return false;
    }
    out->flags = static_cast<uint32_t>(scope);
    out->run = run_fence;
    return true;
}

constexpr DecoderEntry kDecoders[] = {
    {"ld", decode_load},
    {"ldu", decode_load},
    {"st", decode_store},
    {"cvta", decode_cvta},
    {"isspacep", decode_isspacep},
    {"mapa", decode_mapa},
    {"getctarank", decode_getctarank},
    {"prefetch", decode_hint},
    {"prefetchu", decode_hint},
    {"applypriority", decode_hint},
    {"discard", decode_hint},
    {"createpolicy", decode_policy},
    {"fence", decode_fence},
    {"membar", decode_membar},
};

}  // namespace

std::span<const DecoderEntry> memory_decoders() {
    return kDecoders;
}

}  // namespace flexemu
