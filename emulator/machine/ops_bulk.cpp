// cp.async.bulk, cp.reduce.async.bulk, their tensor forms, groups and prefetches. Each lane begins copies of its own; bulk.h is what becomes of them.
#include "emulator/machine/ops_bulk.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "emulator/machine/machine.h"
#include "emulator/machine/ops_async.h"
#include "emulator/machine/tensor_tile.h"

namespace flexemu {
namespace {

constexpr uint32_t kUnit = 16, kTensorAlign = 128, kMapAlign = 64;
constexpr uint32_t kRead = 1;  // Op::flags of wait_group

struct Address {
    size_t source = 0;
    int64_t offset = 0;
};

enum class Kind : uint8_t { Load, Store, Peer, Prefetch };

/// What an instruction says; indices are of Op::sources.
struct Bulk {
    Kind kind = Kind::Load;
    int rank = 0;  // of a tensor form; 0: plain
    Address to, from, barrier, map;
    size_t size = 0, coordinates = 0;
    std::optional<size_t> mask;  // multicast
    std::optional<AtomicOperation> operation;
    ptx::Type type = ptx::Type::None;  // of a plain reduction
};

/// One lane at one bulk instruction: its operands, then the copies it begins.
class Lane {
public:
    Lane(WarpState& warp, const Op& op, const Bulk& bulk, int lane, const std::vector<const uint64_t*>& values)
        : warp_(warp), launch_(warp.launch()), op_(op), bulk_(bulk), lane_(lane), values_(values) {}

    void run() {
        if (bulk_.rank != 0 && !fetch_map()) return;
        switch (bulk_.kind) {
            case Kind::Load: load(); break;
            case Kind::Store: store(); break;
            case Kind::Peer: peer(); break;
            case Kind::Prefetch: prefetch(); break;
        }
    }

private:
    [[nodiscard]] uint64_t value(size_t source) const { return values_[source][lane_]; }
    [[nodiscard]] uint64_t address(const Address& of) const { return value(of.source) + static_cast<uint64_t>(of.offset); }
    bool bad(const std::string& text, Fault::Kind kind = Fault::Kind::BadInstruction) {
        warp_.fault(kind, op_, lane_, text);
        return false;
    }

    bool fetch_map() {
        WarpState::Place at;
        const uint64_t from = address(bulk_.map);
        if (!warp_.place(op_, lane_, ptx::Space::Generic, from, kMapAlign, false, sizeof map_, &at)) return false;
        if (at.is_shared || at.written != nullptr) return bad("a tensor map lies in parameters, constants or global memory");
        if (at.segment != nullptr && !warp_.check_tensor_map(op_, lane_, at, from, sizeof map_)) return false;
        if (!decode(at.data, &map_)) return bad(fmt::format("there is no tensor map at {:#x}", from));
        if (map_.rank != bulk_.rank) return bad(fmt::format("the tensor map has {} dimensions, the instruction {}", map_.rank, bulk_.rank));
        if (const std::string error = tensor_map_error(map_); !error.empty())
            return bad("the tensor map is none that could be used: " + error);
        if (map_.interleave != 0) return bad("interleaved tensor maps are not emulated");
        int32_t coordinates[TensorMap::kMaxRank] = {};
        for (int i = 0; i < map_.rank; ++i) coordinates[i] = static_cast<int32_t>(value(bulk_.coordinates + static_cast<size_t>(i)));
        tile_runs(map_, coordinates, &runs_);
        return true;
    }

    /// The number of bytes of a plain copy.
    bool size(uint32_t* bytes) {
        *bytes = static_cast<uint32_t>(value(bulk_.size));
        return *bytes % kUnit == 0 || bad(fmt::format("a size of {} bytes is no multiple of 16", *bytes));
    }

    BulkCopy begin() {
        BulkCopy copy;
        copy.op = &op_;
        copy.warp = &warp_;
        copy.lane = lane_;
        copy.reads = launch_.begin_operation(op_);
        copy.writes = launch_.begin_operation(op_);
        return copy;
    }
    bool place_shared(uint64_t at, uint32_t bytes, bool writes, WarpState::Place* out) {
        return warp_.place(op_, lane_, ptx::Space::Shared, at, bulk_.rank != 0 ? kTensorAlign : kUnit, writes, bytes, out);
    }
    bool place_global(uint64_t at, uint32_t bytes, bool writes, WarpState::Place* out) {
        return warp_.place(op_, lane_, ptx::Space::Global, at, bulk_.rank != 0 ? 1 : kUnit, writes, bytes, out);
    }
    bool reads(const BulkCopy& copy, const WarpState::Place& at, uint64_t address, uint32_t bytes) {
        return warp_.check_span_source(op_, lane_, at, address, bytes, copy.reads);
    }
    bool writes(const BulkCopy& copy, const WarpState::Place& at, uint64_t address, uint32_t bytes) {
        const bool reduces = copy.reduction.type != ptx::Type::None;
        if (!warp_.check_span(op_, lane_, at, address, bytes, true, copy.writes, reduces)) return false;
        if (reduces) return warp_.is_written(op_, lane_, at, bytes);
        at.segment->initialised.set(at.offset, bytes);
        return true;
    }

    /// Shared memory that a tile takes: whole lines where it is swizzled.
    [[nodiscard]] uint32_t shared_bytes() const {
        const uint32_t bytes = tile_bytes(map_);
        return swizzle_span(map_) == 0 ? bytes : (bytes + kTensorAlign - 1) / kTensorAlign * kTensorAlign;
    }
    /// Calls `each(shared offset in the tile, bytes from the start of the run, bytes)` for what of a run lies together.
    template <typename Each>
    void parts(const TileRun& run, uint64_t base, Each each) const {
        if (swizzle_span(map_) == 0) return each(run.shared, 0U, run.bytes);
        for (uint32_t done = 0; done < run.bytes;) {
            const uint32_t from = run.shared + done;
            const uint32_t bytes = std::min(run.bytes - done, kSwizzleChunk - from % kSwizzleChunk);
            const auto at = static_cast<uint32_t>(base) + from;
            each(swizzled(map_, at) - static_cast<uint32_t>(base), done, bytes);
            done += bytes;
        }
    }
    /// The ranges of shared memory that the runs inside of the tensor (or all) take, joined.
    [[nodiscard]] std::vector<std::pair<uint32_t, uint32_t>> ranges(uint64_t base, bool all) const {
        std::vector<std::pair<uint32_t, uint32_t>> result;
        const uint32_t bytes = tile_bytes(map_);
        const bool whole = all || std::all_of(runs_.begin(), runs_.end(), [](const TileRun& run) { return run.is_inside; });
        if (whole && shared_bytes() == bytes) return {{0, bytes}};
        for (const TileRun& run : runs_) {
            if (all || run.is_inside) parts(run, base, [&](uint32_t at, uint32_t, uint32_t count) { result.emplace_back(at, count); });
        }
        std::sort(result.begin(), result.end());
        size_t last = 0;
        for (size_t i = 1; i < result.size(); ++i) {
            if (result[last].first + result[last].second == result[i].first) {
                result[last].second += result[i].second;
            } else {
                result[++last] = result[i];
            }
        }
        if (!result.empty()) result.resize(last + 1);
        return result;
    }

    /// What fills elements outside of the tensor.
    [[nodiscard]] uint64_t fill() const {
        if (map_.fill == 0) return 0;
        switch (tensor_map_element_bytes(map_.type)) {
            case 2: return 0x7fff7fff7fff7fff;
            case 4: return 0x7fffffff7fffffff;
            default: return 0x7fffffffffffffff;
        }
    }

    void load() {
        const uint64_t to = address(bulk_.to), barrier = address(bulk_.barrier);
        if (!bulk_.mask) {
            load_into(to, barrier);
            return;
        }
        // To each block of the mask, at the same place, and to its own barrier there.
        const auto mask = static_cast<uint32_t>(value(*bulk_.mask)) & 0xffff;
        if (mask == 0 || mask >> warp_.block().cluster_size() != 0) {
            bad(fmt::format("a mask of blocks of {:#x} in a cluster of {}", mask, warp_.block().cluster_size()));
            return;
        }
        for (uint32_t rank = 0; rank < 16; ++rank) {
            const auto there = [&](uint64_t at) { return (uint64_t{rank} + 1) * kBlockStride + at % kBlockStride; };
            if ((mask >> rank & 1) != 0 && !load_into(there(to), there(barrier))) return;
        }
    }

    bool load_into(uint64_t to, uint64_t barrier) {
        uint32_t bytes = 0, span = 0;
        if (bulk_.rank != 0) {
            bytes = tile_bytes(map_);
            span = shared_bytes();
        } else if (!size(&bytes)) {
            return false;
        } else {
            span = bytes;
        }
        BulkCopy copy = begin();
        WarpState::Place into;
        if (!place_shared(to, span, true, &into) || !bulk_barrier(warp_, op_, lane_, barrier, into.block, bytes, &copy)) return false;
        if (bulk_.rank == 0) {
            WarpState::Place from;
            const uint64_t at = address(bulk_.from);
            if (!place_global(at, bytes, false, &from) || !reads(copy, from, at, bytes) || !writes(copy, into, to, bytes)) return false;
            copy.pieces.push_back({into.data, from.data, bytes});
        } else {
            copy.fill = fill();
            for (const auto& [first, count] : ranges(into.offset, true)) {
                WarpState::Place range = into;
                range.offset += first;
                if (!writes(copy, range, to + first, count)) return false;
            }
            for (const TileRun& run : runs_) {
                WarpState::Place from;
                if (run.is_inside && (!place_global(run.global, run.bytes, false, &from) || !reads(copy, from, run.global, run.bytes)))
                    return false;
                parts(run, into.offset, [&](uint32_t at, uint32_t done, uint32_t count) {
                    copy.pieces.push_back({into.data + at, run.is_inside ? from.data + done : nullptr, count});
                });
            }
        }
        remember_shared_use(*into.block, copy.writes, true);
        bulk_begin(std::move(copy));
        return true;
    }

    void store() {
        const uint64_t from = address(bulk_.from);
        BulkCopy copy = begin();
        if (!take_reduction(&copy)) return;
        WarpState::Place source, to;
        if (bulk_.rank == 0) {
            uint32_t bytes = 0;
            const uint64_t at = address(bulk_.to);
            if (!size(&bytes) || !place_shared(from, bytes, false, &source) || !place_global(at, bytes, true, &to) ||
                !reads(copy, source, from, bytes) || !writes(copy, to, at, bytes))
                return;
            copy.pieces.push_back({to.data, source.data, bytes});
        } else {
            if (!place_shared(from, shared_bytes(), false, &source)) return;
            for (const auto& [first, count] : ranges(source.offset, false)) {
                WarpState::Place range = source;
                range.offset += first;
                if (!reads(copy, range, from + first, count)) return;
            }
            for (const TileRun& run : runs_) {
                if (!run.is_inside) continue;
                if (!place_global(run.global, run.bytes, true, &to) || !writes(copy, to, run.global, run.bytes)) return;
                parts(run, source.offset, [&](uint32_t at, uint32_t done, uint32_t count) {
                    copy.pieces.push_back({to.data + done, source.data + at, count});
                });
            }
        }
        if (source.block != &warp_.block()) {
            bad("the source must lie in the block's own shared memory");
            return;
        }
        remember_shared_use(*source.block, copy.reads, false);
        bulk_begin(std::move(copy));
    }

    bool take_reduction(BulkCopy* copy) {
        if (!bulk_.operation) return true;
        copy->reduction = {*bulk_.operation, bulk_.rank != 0 ? element_type() : bulk_.type, bulk_.kind == Kind::Store};
        return reduction_fits(*bulk_.operation, copy->reduction.type) || bad("no such reduction of the tensor map's elements");
    }
    [[nodiscard]] ptx::Type element_type() const {
        using ptx::Type;
        constexpr Type kTypes[] = {Type::U8,  Type::U16, Type::U32,  Type::S32, Type::U64,  Type::S64, Type::F16,
                                   Type::F32, Type::F64, Type::BF16, Type::F32, Type::None, Type::None};
        const Type type = map_.type < std::size(kTypes) ? kTypes[map_.type] : Type::None;
        const bool bitwise =
            *bulk_.operation == AtomicOperation::And || *bulk_.operation == AtomicOperation::Or || *bulk_.operation == AtomicOperation::Xor;
        if (bitwise && (type == Type::U32 || type == Type::S32)) return Type::B32;
        if (bitwise && (type == Type::U64 || type == Type::S64)) return Type::B64;
        return *bulk_.operation == AtomicOperation::Add && type == Type::S64 ? Type::U64 : type;
    }

    void peer() {
        uint32_t bytes = 0;
        const uint64_t from = address(bulk_.from), to = address(bulk_.to);
        BulkCopy copy = begin();
        WarpState::Place source, into;
        if (!size(&bytes) || !place_shared(from, bytes, false, &source) || !place_shared(to, bytes, true, &into)) return;
        if (source.block != &warp_.block()) {
            bad("the source must lie in the block's own shared memory");
            return;
        }
        if (!bulk_barrier(warp_, op_, lane_, address(bulk_.barrier), into.block, bytes, &copy) || !take_reduction(&copy) ||
            !reads(copy, source, from, bytes) || !writes(copy, into, to, bytes))
            return;
        copy.pieces.push_back({into.data, source.data, bytes});
        remember_shared_use(*source.block, copy.reads, false);
        remember_shared_use(*into.block, copy.writes, true);
        bulk_begin(std::move(copy));
    }

    /// Nothing but the checks of addresses.
    void prefetch() {
        uint32_t bytes = 0;
        WarpState::Place at;
        if (bulk_.rank == 0) {
            if (size(&bytes)) place_global(address(bulk_.from), bytes, false, &at);
            return;
        }
        for (const TileRun& run : runs_) {
            if (run.is_inside && !place_global(run.global, run.bytes, false, &at)) return;
        }
    }

    WarpState& warp_;
    Launch& launch_;
    const Op& op_;
    const Bulk& bulk_;
    int lane_;
    const std::vector<const uint64_t*>& values_;
    TensorMap map_;
    std::vector<TileRun> runs_;
};

void run_bulk(Warp& given, const Op& op, LaneMask active) {
    auto& warp = static_cast<WarpState&>(given);
    std::vector<Lanes> scratch(op.sources.size());
    std::vector<const uint64_t*> values;
    for (size_t i = 0; i < op.sources.size(); ++i) values.push_back(warp.read(op.sources[i], scratch[i]));
    for (LaneMask left = active; left != 0 && !warp.launch().fault; left &= left - 1)
        Lane(warp, op, *static_cast<const Bulk*>(op.extra.get()), std::countr_zero(left), values).run();
}

void run_commit(Warp& warp, const Op&, LaneMask active) {
    if (active != 0) bulk_commit(static_cast<WarpState&>(warp), active);
}

void run_wait(Warp& warp, const Op& op, LaneMask active) {
    if (active != 0) bulk_wait(static_cast<WarpState&>(warp), active, op.flags2, (op.flags & kRead) != 0);
}

bool take(Decoding& decoding, size_t index, Address* out) {
    if (!take_address(decoding, index)) return false;
    *out = {decoding.op.sources.size() - 1, decoding.op.offset};
    decoding.op.offset = 0;
    return true;
}

/// [map, {coordinates}]
bool take_map(Decoding& decoding, size_t index, Bulk* bulk) {
    if (!take(decoding, index, &bulk->map)) return false;
    const ptx::Operand& operand = decoding.text.operands[index];
    if (operand.elements.size() != 2 || operand.elements[1].kind != ptx::Operand::Kind::Vector ||
        operand.elements[1].elements.size() != static_cast<size_t>(bulk->rank))
        return decoding.fail(fmt::format("expected a tensor map and {} coordinates in brackets", bulk->rank));
    bulk->coordinates = decoding.op.sources.size();
    return std::all_of(operand.elements[1].elements.begin(), operand.elements[1].elements.end(),
                       [&](const ptx::Operand& each) { return decoding.source(each, ptx::Type::S32); });
}

/// The destination stands first.
bool is_from_shared(const ptx::Instruction& instruction) {
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier == "global") return true;
        if (modifier.starts_with("shared")) return false;
    }
    return false;
}

bool take_operation(Decoding& decoding, Bulk* bulk) {
    AtomicOperation operation = AtomicOperation::Add;
    if (!take_reduction(decoding, &operation)) return false;
    bulk->operation = operation;
    if (bulk->rank != 0) return true;
    const bool noftz = decoding.take("noftz");
    if (!decoding.type(&bulk->type)) return false;
    const bool is_half = bulk->type == ptx::Type::F16 || bulk->type == ptx::Type::BF16;
    if (noftz != (is_half && bulk->operation == AtomicOperation::Add))
        return decoding.fail("`.noftz` belongs to additions of f16 and bf16, and must be there");
    if (!(bulk->kind == Kind::Peer ? reduction_fits_shared : reduction_fits)(*bulk->operation, bulk->type))
        return decoding.fail(fmt::format("no such reduction with type `.{}`", ptx::name(bulk->type)));
    return true;
}

}  // namespace

bool reduction_fits(AtomicOperation operation, ptx::Type type) {
    using ptx::Type;
    const auto one_of = [&](std::initializer_list<Type> types) { return std::find(types.begin(), types.end(), type) != types.end(); };
    switch (operation) {
        case AtomicOperation::Add: return one_of({Type::U32, Type::S32, Type::U64, Type::F16, Type::BF16, Type::F32, Type::F64});
        case AtomicOperation::Min:
        case AtomicOperation::Max: return one_of({Type::U32, Type::S32, Type::U64, Type::S64, Type::F16, Type::BF16});
        case AtomicOperation::Inc:
        case AtomicOperation::Dec: return type == Type::U32;
        case AtomicOperation::And:
        case AtomicOperation::Or:
        case AtomicOperation::Xor: return one_of({Type::B32, Type::B64});
        default: return false;
    }
}

bool reduction_fits_shared(AtomicOperation operation, ptx::Type type) {
    if (type == ptx::Type::U64) return operation == AtomicOperation::Add;
    return (type == ptx::Type::U32 || type == ptx::Type::S32 || type == ptx::Type::B32) && reduction_fits(operation, type);
}

bool take_reduction(Decoding& decoding, AtomicOperation* out) {
    constexpr AtomicOperation kOperations[] = {AtomicOperation::Add, AtomicOperation::Min, AtomicOperation::Max, AtomicOperation::Inc,
                                               AtomicOperation::Dec, AtomicOperation::And, AtomicOperation::Or,  AtomicOperation::Xor};
    const int operation = decoding.take_one({"add", "min", "max", "inc", "dec", "and", "or", "xor"});
    if (operation < 0) return decoding.fail("the operation is missing");
    *out = kOperations[operation];
    return true;
}

bool bulk_barrier(WarpState& warp, const Op& op, int lane, uint64_t address, const BlockState* owner, uint32_t bytes, BulkCopy* copy) {
    Block* block = nullptr;
    const Mbarrier* barrier = find_mbarrier(warp, op, lane, address, &block);
    if (barrier == nullptr) return false;
    if (block != owner) {
        warp.fault(Fault::Kind::BadBarrier, op, lane, "the barrier must lie in the block whose shared memory is written");
        return false;
    }
    if (block != &warp.block() && !barrier->is_fenced) {
        warp.fault(Fault::Kind::MissingProxyFence, op, lane,
                   "the barrier is of another block, and no fence.mbarrier_init (or fence.proxy.async) stands behind its initialisation");
        return false;
    }
    copy->block = static_cast<BlockState*>(block);
    copy->barrier = static_cast<uint32_t>(address % kBlockStride);
    copy->word = barrier->word;
    copy->bytes = bytes;
    return true;
}

bool decode_bulk(Decoding& decoding, bool reduces) {
    Op& op = decoding.op;
    decoding.take("bulk");
    if (!decoding.needs_target(90, decoding.text.spelling())) return false;
    if (decoding.take("commit_group")) {
        op.run = run_commit;
        return decoding.finish() && decoding.operands(0);
    }
    if (decoding.take("wait_group")) {
        int64_t pending = 0;
        op.run = run_wait;
        op.flags = decoding.take("read") ? kRead : 0;
        if (!decoding.finish() || !decoding.operands(1) || !decoding.constant(0, 0, INT32_MAX, &pending)) return false;
        op.flags2 = static_cast<uint32_t>(pending);
        return true;
    }
    auto bulk = std::make_shared<Bulk>();
    op.extra = bulk;
    op.run = run_bulk;
    op.space = ptx::Space::Shared;  // of barriers
    const bool prefetches = decoding.take("prefetch");
    if (decoding.take("tensor")) {
        bulk->rank = decoding.take_one({"1d", "2d", "3d", "4d", "5d"}) + 1;
        if (bulk->rank == 0) return decoding.fail("the number of dimensions is missing");
        for (const std::string& modifier : decoding.text.modifiers) {
            if (modifier.starts_with("im2col") || modifier.starts_with("tile::"))
                return decoding.fail(fmt::format("tensor copies are emulated in tile mode only, not `.{}`", modifier));
        }
        decoding.take("tile");
    }
    const bool global = decoding.take("global"), cluster = decoding.take("shared::cluster"), cta = decoding.take("shared::cta");
    const bool counts = decoding.take("mbarrier::complete_tx::bytes"), groups = decoding.take("bulk_group");
    if (prefetches) {
        bulk->kind = Kind::Prefetch;
        if (!decoding.take("L2") || (bulk->rank == 0 && !global)) return decoding.fail("expected `.L2.global`");
    } else if (counts && global && cluster != cta && !reduces && !is_from_shared(decoding.text)) {
        bulk->kind = Kind::Load;
    } else if (counts && !global && cluster && cta && bulk->rank == 0) {
        bulk->kind = Kind::Peer;
    } else if (groups && global && cta && !cluster && is_from_shared(decoding.text)) {
        bulk->kind = Kind::Store;
    } else {
        return decoding.fail("no copy between these spaces completes in this way");
    }
    if (reduces && !take_operation(decoding, bulk.get())) return false;
    const bool multicast = bulk->kind == Kind::Load && decoding.take("multicast::cluster"), has_policy = decoding.take("L2::cache_hint");
    if (!decoding.finish()) return false;

    const bool is_tensor = bulk->rank != 0;
    size_t index = 0, count = (multicast ? 1 : 0) + (has_policy ? 1 : 0);
    switch (bulk->kind) {
        case Kind::Load:
        case Kind::Peer: count += is_tensor ? 3 : 4; break;
        case Kind::Store: count += is_tensor ? 2 : 3; break;
        case Kind::Prefetch: count += is_tensor ? 1 : 2;
    }
    if (!decoding.operands(count)) return false;
    const auto size = [&] {
        bulk->size = op.sources.size();
        return decoding.source(index++, ptx::Type::U32);
    };
    const bool has_barrier = bulk->kind == Kind::Load || bulk->kind == Kind::Peer;
    if (bulk->kind == Kind::Store && is_tensor) {
        if (!take_map(decoding, index++, bulk.get()) || !take(decoding, index++, &bulk->from)) return false;
    } else {
        if (bulk->kind != Kind::Prefetch && !take(decoding, index++, &bulk->to)) return false;
        if (is_tensor ? !take_map(decoding, index++, bulk.get()) : !take(decoding, index++, &bulk->from) || !size()) return false;
        if (has_barrier && !take(decoding, index++, &bulk->barrier)) return false;
    }
    if (multicast) {
        bulk->mask = op.sources.size();
        if (!decoding.source(index++, ptx::Type::U16)) return false;
    }
    return !has_policy || decoding.source(index, ptx::Type::B64);
}

}  // namespace flexemu
