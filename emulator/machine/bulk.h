// Bulk copies that are under way: cp.async.bulk, tensor copies and reductions, by agents of the asynchronous proxy.
//
// A lane begins a copy; its bytes move piece by piece at moments that the seed chooses, at the latest when somebody waits for them, or when nobody else can go on. It completes
// in one of two ways: its bytes are counted by an mbarrier, after all of them have arrived; or it belongs to a group of the lane (commit, wait), where a wait may ask
// for the source only (.read) or for everything.
//
// Two asynchronous operations stand in the shadow for each copy: one that reads the source and one that writes the destination. Until they are complete, and known to be,
// the source must not be written and the destination not be touched. Shared memory that a copy uses must outlive it: a block that ends before one of its threads knows
// of the completion is a fault.
#pragma once

#include <cstdint>
#include <vector>

#include "emulator/machine/atomic.h"
#include "emulator/machine/op.h"

namespace flexemu {

class BlockState;
class Launch;
class WarpState;
struct ClusterState;

struct BulkPiece {
    uint8_t* to = nullptr;
    const uint8_t* from = nullptr;  // null: the fill pattern
    uint32_t bytes = 0;
};

/// How the bytes of a copy change those at its destination.
struct BulkReduction {
    AtomicOperation operation = AtomicOperation::Add;
    ptx::Type type = ptx::Type::None;  // None: they replace them
    bool flushes = false;
};

struct BulkCopy {
    const Op* op = nullptr;
    WarpState* warp = nullptr;
    int lane = 0;
    uint32_t reads = 0, writes = 0;  // operations (Launch::operations)
    std::vector<BulkPiece> pieces;
    BulkReduction reduction;
    uint64_t fill = 0;  // repeated

    // Completion at an mbarrier: `barrier` is its place in the shared memory of the block.
    BlockState* block = nullptr;  // null: by group
    uint32_t barrier = 0, bytes = 0;
    uint64_t word = 0;  // what lies there while it is the same barrier
    // Completion by group of the lane.
    uint32_t group = UINT32_MAX;

    // How far it is.
    std::vector<uint8_t> held;  // the bytes of the pieces from `landed` on, if the source has been read already
    size_t landed = 0;          // pieces
    bool is_read = false, is_landed = false;
    uint32_t delay = 0;
    bool is_piecewise = false;
};

/// Shared memory of a block that a copy reads or writes.
struct SharedUse {
    const BlockState* block = nullptr;
    uint32_t operation = 0;
    bool writes = false;
};

void remember_shared_use(const BlockState& block, uint32_t operation, bool writes);
/// Takes a copy that has passed all checks.
void bulk_begin(BulkCopy copy);
void bulk_commit(WarpState& warp, LaneMask active);
/// Until at most `pending` of the lanes' latest groups are unfinished; `read`: until their sources have been read.
void bulk_wait(WarpState& warp, LaneMask active, uint32_t pending, bool read);
enum class Landing : uint8_t { Due, One, All };
/// Lets bytes arrive. True if something that others may wait for has happened.
bool bulk_land(Launch& launch, ClusterState& cluster, Landing which);
/// The block has ended: is any of its shared memory still in use? A fault then.
void bulk_block_ends(BlockState& block);

}  // namespace flexemu
