// Copies that are under way: cp.async now, bulk copies and products of other agents in the same manner.
//
// A copy is begun by lanes of a warp; its bytes arrive at some moment that the seed chooses, at the latest when somebody waits for it. Until it has been waited for, its
// destination must not be touched and its source must not be written by anyone, the lanes themselves included (UnfinishedCopy, Race). Waiting makes it known to those who
// waited; others learn of it through barriers, as of everything.
//
// Two ways of waiting: groups of the lanes' own (copy_commit, copy_wait), and an object that counts completions, an mbarrier (copy_attach).
#pragma once

#include <cstdint>
#include <functional>

#include "emulator/machine/warp.h"

namespace flexemu {

class Launch;
struct ClusterState;

/// What the lanes of one instruction copy: for each active lane `bytes` bytes are written, of which the first `from_source[lane]` are read and the rest are zeros.
struct CopyRequest {
    ptx::Space source_space = ptx::Space::Global, destination_space = ptx::Space::Shared;
    const uint64_t* source = nullptr;
    const uint64_t* destination = nullptr;
    unsigned bytes = 16;
    const uint32_t* from_source = nullptr;  // by lane; null: all bytes
};
/// Begins a copy, which belongs to the lanes' next group. False after a fault.
bool copy_begin(Warp& warp, const Op& op, LaneMask active, const CopyRequest& request);
/// What the lanes have begun since their last commit becomes a group.
void copy_commit(Warp& warp, LaneMask active);
/// Until at most `pending` of the lanes' latest groups are unfinished. `all`: what has not been committed, too.
void copy_wait(Warp& warp, LaneMask active, uint32_t pending, bool all);
/// All copies that each of the lanes has begun so far and not waited for: when they are complete, now or at a moment that the seed chooses, `done` is called, once,
/// for all these lanes. They become known to those who learn that `component` has reached `time` (a component of Block::new_component, and its phase). `done` runs
/// outside of any instruction; what it hands to others it must have taken before (Warp::release at the time of the instruction).
void copy_attach(Warp& warp, const Op& op, LaneMask active, uint32_t component, uint32_t time, std::function<void()> done);

/// Lets copies arrive whose moment has come (`all`: every one). True if something that others may wait for has happened.
bool land_copies(Launch& launch, ClusterState& cluster, bool all);

}  // namespace flexemu
