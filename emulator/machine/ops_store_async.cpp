// st.async and red.async: values on their way to the shared memory of a block of the cluster, counted by an mbarrier there. In the generic proxy.
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/machine/ops_async.h"
#include "emulator/machine/ops_bulk.h"

namespace flexemu {
namespace {

struct AsyncStore {
    uint32_t bytes = 4;  // of an element
    size_t elements = 1;
    int64_t barrier_offset = 0;
    BulkReduction reduction;
};

/// Sources: the address, the values, the barrier.
void run_store(Warp& given, const Op& op, LaneMask active) {
    auto& warp = static_cast<WarpState&>(given);
    Launch& launch = warp.launch();
    const auto& store = *static_cast<const AsyncStore*>(op.extra.get());
    std::vector<Lanes> scratch(op.sources.size());
    std::vector<const uint64_t*> values;
    for (size_t i = 0; i < op.sources.size(); ++i) values.push_back(warp.read(op.sources[i], scratch[i]));
    const auto bytes = static_cast<uint32_t>(store.bytes * store.elements);
    AccessKind kind;
    kind.atomic = store.reduction.type != ptx::Type::None;
    if (kind.atomic) kind.scope = AccessKind::Scope::Cluster;
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        const uint64_t address = values[0][lane] + static_cast<uint64_t>(op.offset);
        BulkCopy copy;
        copy.op = &op;
        copy.warp = &warp;
        copy.lane = lane;
        copy.writes = launch.begin_operation(op);
        copy.reduction = store.reduction;
        copy.is_read = true;
        for (size_t i = 0; i < store.elements; ++i) {
            const auto* from = reinterpret_cast<const uint8_t*>(&values[1 + i][lane]);
            copy.held.insert(copy.held.end(), from, from + store.bytes);
        }
        WarpState::Place to;
        if (!warp.place(op, lane, ptx::Space::Shared, address, bytes, true, &to)) return;
        if (!bulk_barrier(warp, op, lane, values.back()[lane] + static_cast<uint64_t>(store.barrier_offset), to.block, bytes, &copy))
            return;
        if (launch.options.check_races &&
            !warp.check(op, lane, to, address, bytes, true, false, kind, &launch.operations[copy.writes], copy.writes))
            return;
        if (kind.atomic) {
            if (!warp.is_written(op, lane, to, bytes)) return;
        } else {
            to.segment->initialised.set(to.offset, bytes);
        }
        copy.pieces.push_back({to.data, to.data, bytes});
        remember_shared_use(*to.block, copy.writes, true);
        bulk_begin(std::move(copy));
        if (launch.fault) return;
    }
}

}  // namespace

bool decode_store_async(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    Decoding decoding(instruction, context, out, error);
    const bool reduces = instruction.opcode == "red";
    auto store = std::make_shared<AsyncStore>();
    out->extra = store;
    out->run = run_store;
    out->space = ptx::Space::Shared;
    if (!decoding.needs_target(90, instruction.spelling())) return false;
    decoding.take("async");
    decoding.take(reduces ? "relaxed" : "weak");
    decoding.take("cluster");
    decoding.take("shared::cluster");
    if (!decoding.take("mbarrier::complete_tx::bytes")) return decoding.fail("`.mbarrier::complete_tx::bytes` is missing");
    const int vector = reduces ? -1 : decoding.take_one({"v2", "v4"});
    store->elements = size_t{1} << (vector + 1);
    AtomicOperation operation = AtomicOperation::Add;
    if (reduces && !take_reduction(decoding, &operation)) return false;
    ptx::Type type = ptx::Type::None;
    if (!decoding.type(&type)) return false;
    const int bits = ptx::bits(type);
    if ((bits != 32 && bits != 64) || store->elements * static_cast<size_t>(bits) > 128)
        return decoding.fail("values of 32 or 64 bits, at most 16 bytes in all");
    if (reduces) {
        if (!reduction_fits_shared(operation, type))
            return decoding.fail(fmt::format("no such reduction with type `.{}`", ptx::name(type)));
        store->reduction = {operation, type, false};
    }
    store->bytes = static_cast<uint32_t>(bits / 8);
    if (!decoding.finish() || !decoding.operands(3) || !take_address(decoding, 0)) return false;
    const int64_t offset = out->offset;
    const ptx::Type value = bits == 32 ? ptx::Type::B32 : ptx::Type::B64;
    const ptx::Operand& operand = instruction.operands[1];
    if (vector >= 0) {
        if (operand.kind != ptx::Operand::Kind::Vector || operand.elements.size() != store->elements)
            return decoding.fail("wrong number of elements");
        for (const ptx::Operand& element : operand.elements)
            if (!decoding.source(element, value)) return false;
    } else if (!decoding.source(operand, value)) {
        return false;
    }
    if (!take_address(decoding, 2)) return false;
    store->barrier_offset = out->offset;
    out->offset = offset;
    return true;
}

}  // namespace flexemu
