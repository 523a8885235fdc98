// What handlers see of the running machine.
#pragma once

#include <cstdint>
#include <string>

#include "emulator/machine/op.h"

namespace flexemu {

class Block;  // block.h
class Clock;  // clock.h: what is known to have happened; also what a barrier hands from those who arrive to those who wait

/// How memory is touched, for the race detector: relaxed and stronger accesses of a scope that covers both parties are no race.
struct AccessKind {
    bool atomic = false;  // atom, red, and ld/st with .relaxed, .acquire, .release, .volatile
    bool acquire = false, release = false;
    enum class Scope : uint8_t { None, Cta, Cluster, Gpu, Sys } scope = Scope::None;
    bool async_proxy = false;  // done by an asynchronous agent rather than a thread's own load or store
};

class Warp {
public:
    virtual ~Warp() = default;

    /// 32 values of a source; `scratch` may be used to hold them.
    virtual const uint64_t* read(const Source& source, Lanes& scratch) = 0;
    /// The slots of a register of the running function.
    virtual uint64_t* slots(uint32_t reg) = 0;
    /// Writes the lanes of `active`; nothing for kNoRegister.
    void write(uint32_t reg, const Lanes& values, LaneMask active) {
        if (reg == kNoRegister) return;
        uint64_t* to = slots(reg);
        for (int i = 0; i < kLanes; ++i) to[i] = active >> i & 1 ? values[static_cast<size_t>(i)] : to[i];
    }

    /// Lanes that have not exited; and of these the ones that are now executing together.
    [[nodiscard]] virtual LaneMask alive() const = 0;
    [[nodiscard]] virtual LaneMask converged() const = 0;
    [[nodiscard]] virtual Block& block() = 0;
    [[nodiscard]] virtual int index() const = 0;  // in the block

    /// One access of one lane. False after a fault, which ends the launch: the handler returns at once. `bytes` is 1, 2, 4, 8 or 16, and the address must be a
    /// multiple of it. Generic addresses are resolved; shared ones may be 32-bit offsets or generic.
    virtual bool load(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, void* to,
                      const AccessKind& kind = {}) = 0;
    virtual bool store(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, const void* from,
                       const AccessKind& kind = {}) = 0;
    /// Read, change, write as one: `change` gets the old bytes and writes the new ones.
    virtual bool modify(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, void* old, const AccessKind& kind,
                        void (*change)(const void* old, void* now, const void* context), const void* context) = 0;

    /// The same for the lanes of `active`: addresses by lane, values of lane i at `values + i * stride`. Faster than lane by lane.
    virtual bool load_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, void* values,
                            size_t stride, const AccessKind& kind = {}) = 0;
    virtual bool store_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, const void* values,
                             size_t stride, const AccessKind& kind = {}) = 0;
    /// Where a shared (or generic) address lies: the block that owns it, and the offset there. Null after a fault.
    virtual Block* shared_location(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, uint32_t* offset) = 0;

    // Order between threads. A release makes what the lanes did and know until now known to whoever acquires from the same clock later.
    virtual void release(LaneMask lanes, Clock& to) = 0;
    virtual void acquire(LaneMask lanes, const Clock& from) = 0;
    /// What the lanes did so far is known to one another (bar.warp.sync).
    virtual void order_lanes(LaneMask lanes) = 0;

    /// For .sync instructions with a membermask: true if all of `members` that have not exited are in `active` now. Otherwise the lanes wait here for the
    /// others, and the handler returns at once, without effect; it is called again with all of them, or the launch ends with a fault if they never come.
    virtual bool gather(const Op& op, LaneMask active, LaneMask members) = 0;
    /// For instructions that may wait for a while (mbarrier.try_wait): true: return at once, without effect, to be called again when something has changed.
    /// False: the time is over, nothing else can run now; give the negative answer.
    virtual bool suspend(const Op& op) = 0;
    /// Others get their turn after this instruction (nanosleep, a negative test_wait).
    virtual void yield() = 0;
    /// Depends on the launch's seed alone.
    virtual uint64_t random() = 0;

    /// Ends the launch with a fault at this instruction; "line 12: OPCODE by thread (..) of block (..): TEXT".
    virtual void fault(Fault::Kind kind, const Op& op, int lane, const std::string& text) = 0;
    /// The warp cannot go on and tries this instruction again later (barriers, mbarrier waits with suspension, copies to wait for). To be called before any effect.
    virtual void retry(const Op& op) = 0;
};

}  // namespace flexemu
