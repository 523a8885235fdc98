// tensormap.replace, tensormap.cp_fenceproxy, fence.proxy.tensormap: tensor maps that kernels make or change.
//
// Bulk tensor copies read maps through a proxy of their own. A map that threads wrote in this launch is seen by a copy only behind a release of the writer and a
// fence.proxy.tensormap.acquire of that map, by the copying thread or by one it has heard from. The machine remembers acquisitions (TensorMapUse) with the write that they saw.
#include "emulator/machine/ops_tensormap.h"

#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/machine/ops_async.h"
#include "emulator/machine/semantics.h"
#include "emulator/tensor_map.h"

namespace flexemu {
namespace {

constexpr uint32_t kAlign = 64;

enum class Field : uint32_t { Address, Rank, Box, Dim, Stride, ElementStride, Type, Interleave, Swizzle, Fill };

/// The numbers of tensormap.replace.elemtype are not those of the driver.
constexpr uint8_t kDriverTypes[] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12};

bool is_empty(const TensorMap& map) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&map);
    for (size_t i = 0; i < sizeof map; ++i) {
        if (bytes[i] != 0) return false;
    }
    return true;
}

/// A text if the value does not fit.
std::string replace(TensorMap& map, Field field, uint64_t ordinal, uint64_t value) {
    const auto beyond = [&](uint64_t most, const char* what) {
        return value > most ? fmt::format("{} is no {}: at most {}", value, what, most) : std::string();
    };
    const uint64_t most = field == Field::Stride ? TensorMap::kMaxRank - 2 : TensorMap::kMaxRank - 1;
    if (ordinal > most) return fmt::format("there is no dimension {}: at most {}", ordinal, most);
    std::string error;
    switch (field) {
        case Field::Address: map.address = value; break;
        case Field::Rank:
            error = beyond(TensorMap::kMaxRank - 1, "rank less one");
            map.rank = static_cast<uint8_t>(value + 1);
            break;
        case Field::Box:
            error = beyond(256, "box dimension");
            map.box[ordinal] = static_cast<uint16_t>(value);
            break;
        case Field::Dim: map.dims[ordinal] = static_cast<uint32_t>(value) - 1; break;
        case Field::Stride: map.strides[ordinal] = value; break;
        case Field::ElementStride:
            error = beyond(8, "element stride");
            map.element_strides[ordinal] = static_cast<uint8_t>(value);
            break;
        case Field::Type:
            error = beyond(std::size(kDriverTypes) - 1, "element type");
            if (error.empty()) map.type = kDriverTypes[value];
            break;
        case Field::Interleave:
            error = beyond(2, "interleave layout");
            map.interleave = static_cast<uint8_t>(value);
            break;
        case Field::Swizzle:
            error = beyond(3, "swizzle mode");
            map.swizzle = static_cast<uint8_t>(value);
            break;
        case Field::Fill:
            error = beyond(1, "fill mode");
            map.fill = static_cast<uint8_t>(value);
            break;
    }
    return error;
}

/// Sources: the map's address, the new value. Op::flags: the field; flags2: the ordinal.
void run_replace(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, value_scratch;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    const uint64_t* values = warp.read(op.sources[1], value_scratch);
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        const uint64_t address = bases[lane] + static_cast<uint64_t>(op.offset);
        if (address % kAlign != 0)
            return warp.fault(Fault::Kind::Misaligned, op, lane, fmt::format("address {:#x} is no multiple of {}", address, kAlign));
        TensorMap map;
        auto* const bytes = reinterpret_cast<uint8_t*>(&map);
        for (size_t at = 0; at < sizeof map; at += 16)
            if (!warp.load(op, lane, op.space, address + at, 16, bytes + at)) return;
        const TensorMap before = map;
        // A map begins as zeros, or as another map.
        if (map.magic != TensorMap::kMagic && !is_empty(map))
            return warp.fault(Fault::Kind::BadInstruction, op, lane, fmt::format("there is no tensor map, nor zeros, at {:#x}", address));
        map.magic = TensorMap::kMagic;
        if (const std::string error = replace(map, static_cast<Field>(op.flags), op.flags2, values[lane]); !error.empty())
            return warp.fault(Fault::Kind::BadInstruction, op, lane, error);
        for (size_t at = 0; at < sizeof map; at += 16) {
            if (std::memcmp(bytes + at, reinterpret_cast<const uint8_t*>(&before) + at, 16) != 0 &&
                !warp.store(op, lane, op.space, address + at, 16, bytes + at))
                return;
        }
    }
}

bool decode_replace(Decoding& decoding) {
    Op& op = decoding.op;
    op.run = run_replace;
    if (!decoding.take("tile") || !decoding.take("b1024")) return decoding.fail("expected `.tile` and `.b1024`");
    const int field = decoding.take_one({"global_address", "rank", "box_dim", "global_dim", "global_stride", "element_stride", "elemtype",
                                         "interleave_layout", "swizzle_mode", "fill_mode"});
    if (field < 0) return decoding.fail("no field that is known");
    op.flags = static_cast<uint32_t>(field);
    const auto which = static_cast<Field>(field);
    const bool has_ordinal = which == Field::Box || which == Field::Dim || which == Field::Stride || which == Field::ElementStride;
    const bool is_wide = which == Field::Address || which == Field::Stride;
    op.space = decoding.take("global")                             ? ptx::Space::Global
               : decoding.take_one({"shared::cta", "shared"}) >= 0 ? ptx::Space::Shared
                                                                   : ptx::Space::Generic;
    if (!decoding.take(is_wide ? "b64" : "b32")) return decoding.fail(fmt::format("expected `.{}`", is_wide ? "b64" : "b32"));
    const size_t value = has_ordinal ? 2 : 1;
    if (!decoding.finish() || !decoding.operands(value + 1) || !take_address(decoding, 0) ||
        !decoding.source(value, is_wide ? ptx::Type::B64 : ptx::Type::B32))
        return false;
    int64_t ordinal = 0;
    if (has_ordinal && !decoding.constant(1, 0, 4, &ordinal)) return false;
    op.flags2 = static_cast<uint32_t>(ordinal);
    return true;
}

AccessKind kind_of(const Op& op, bool acquires) {
    AccessKind kind;
    kind.atomic = true;
    kind.acquire = acquires;
    kind.release = !acquires;
    kind.scope = static_cast<AccessKind::Scope>(op.flags);
    return kind;
}

/// The map in shared memory becomes one in global memory, for all who acquire it. Executed by the whole warp as one.
void run_copy(Warp& given, const Op& op, LaneMask active) {
    if (active == 0) return;
    auto& warp = static_cast<WarpState&>(given);
    Lanes scratch, from_scratch;
    const int lane = std::countr_zero(active);
    const uint64_t to = warp.read(op.sources[0], scratch)[lane];
    const uint64_t from = warp.read(op.sources[1], from_scratch)[lane];
    if ((to | from) % 128 != 0) return warp.fault(Fault::Kind::Misaligned, op, lane, "tensor maps are copied between multiples of 128");
    // Any lane may be the one that reads.
    uint8_t bytes[sizeof(TensorMap)];
    for (LaneMask left = active; left != 0; left &= left - 1)
        for (size_t at = 0; at < sizeof bytes; at += 16)
            if (!warp.load(op, std::countr_zero(left), ptx::Space::Shared, from + at, 16, bytes + at, {})) return;
    WarpState::Place place;
    if (!warp.place(op, lane, ptx::Space::Global, to, 128, true, sizeof bytes, &place)) return;
    for (size_t at = 0; at < sizeof bytes; at += 16)
        if (!warp.store(op, lane, ptx::Space::Global, to + at, 16, bytes + at, {})) return;
    warp.strong_write(active, *place.segment, place.offset, kind_of(op, false), true);
}

bool decode_copy(Decoding& decoding) {
    Op& op = decoding.op;
    op.run = run_copy;
    op.aligned = true;
    if (!decoding.take("global") || decoding.take_one({"shared::cta", "shared"}) < 0 || !decoding.take("tensormap::generic") ||
        !decoding.take("release") || !decoding.take("sync") || !decoding.take("aligned"))
        return decoding.fail("expected `.global.shared::cta.tensormap::generic.release.SCOPE.sync.aligned`");
    op.flags = static_cast<uint32_t>(take_scope(decoding, AccessKind::Scope::Gpu));
    int64_t bytes = 0;
    return decoding.finish() && decoding.operands(3) && take_address(decoding, 0) && take_address(decoding, 1) &&
           decoding.constant(2, 128, 128, &bytes);
}

void run_release(Warp& warp, const Op& op, LaneMask active) {
    if (active != 0) static_cast<WarpState&>(warp).fence(active, static_cast<AccessKind::Scope>(op.flags));
}

void run_acquire(Warp& given, const Op& op, LaneMask active) {
    auto& warp = static_cast<WarpState&>(given);
    Lanes scratch;
    if (active == 0) return;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        const uint64_t address = bases[lane] + static_cast<uint64_t>(op.offset);
        WarpState::Place place;
        if (!warp.place(op, lane, ptx::Space::Generic, address, kAlign, false, sizeof(TensorMap), &place)) return;
        if (place.segment == nullptr || place.is_shared) continue;  // of parameters: nobody writes them
        warp.strong_read(LaneMask{1} << lane, *place.segment, place.offset, kind_of(op, true));
        warp.acquire_tensor_map(lane, place);
    }
}

}  // namespace

bool decode_tensor_map(Decoding& decoding) {
    if (!decoding.needs_target(90, "tensormap")) return false;
    if (decoding.take("replace")) return decode_replace(decoding);
    if (decoding.take("cp_fenceproxy")) return decode_copy(decoding);
    return decoding.fail("expected `.replace` or `.cp_fenceproxy`");
}

bool decode_tensor_map_fence(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    Decoding decoding(instruction, context, out, error);
    decoding.take("proxy");
    decoding.take("tensormap::generic");
    const int order = decoding.take_one({"release", "acquire"});
    if (order < 0) return decoding.fail("expected `.release` or `.acquire`");
    out->flags = static_cast<uint32_t>(take_scope(decoding, AccessKind::Scope::Sys));
    out->run = order == 0 ? run_release : run_acquire;
    if (!decoding.finish() || !decoding.operands(order == 0 ? 0 : 2)) return false;
    int64_t bytes = 0;
    return order == 0 || (take_address(decoding, 0) && decoding.constant(1, 128, 128, &bytes));
}

}  // namespace flexemu
