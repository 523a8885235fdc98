// mbarrier objects: a phase that completes when all expected arrivals have come and all announced bytes have been transferred.
//
// The object lies in 8 bytes of shared memory, which are opaque to programs. Here they hold a number made at mbarrier.init that nobody can know; the counts
// are kept beside. So a barrier that was never initialised, or that an ordinary store has overwritten, is noticed at its next use.
//
// Phases count from 0. Waiting for parity P succeeds if the current phase has the other parity, that is, if the phase before it had parity P. Knowledge goes from
// those who arrive in a phase to those who see that it is complete, and no further: the clock of a phase does not include those before it.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "emulator/machine/block.h"

namespace flexemu {

struct Mbarrier {
    static constexpr uint32_t kMostArrivals = (1U << 20) - 1;
    static constexpr int64_t kMostBytes = (int64_t{1} << 20) - 1;

    uint64_t word = 0;      // what the shared memory holds
    uint32_t expected = 0;  // arrivals of the next phases
    uint32_t pending = 0;   // arrivals that this phase still waits for
    int64_t bytes = 0;      // transfers announced and not yet complete; below 0 if they complete before they are announced
    uint64_t announced = 0, transferred = 0;  // of this phase, for messages
    uint64_t phase = 0;
    uint32_t component = 0;     // of clocks: phases of this barrier that are known to be complete
    Clock arriving, completed;  // what was released into this phase, and into the one before
    Clock blank;                // knows nothing
    // Who initialised it, and whether a fence has made that known to the agents of other blocks.
    uint32_t by_component = 0, by_lane = 0, by_time = 0;
    bool is_fenced = false;

    // Each gives a text if the ISA does not allow it; nothing has changed then.
    std::string arrive(uint32_t count, bool may_complete = true);
    std::string arrive_and_drop(uint32_t count, bool may_complete = true);
    std::string expect_arrivals(uint32_t count);  // of this phase only
    std::string expect_bytes(uint64_t count);
    std::string complete_bytes(uint64_t count);

    /// The state that an arrival returns: phase and pending arrivals before it.
    [[nodiscard]] uint64_t state() const { return (phase & 0xffffffff) << 24 | uint64_t{pending} << 1 | 1; }
    static uint32_t pending_of(uint64_t state) { return static_cast<uint32_t>(state >> 1) & kMostArrivals; }
    /// Waiting for the phase of a state. False with a text if that phase is neither this one nor the one before.
    bool is_over(uint64_t state, bool* over, std::string* error) const;
    [[nodiscard]] bool is_over(bool parity) const { return ((phase & 1) != 0) != parity; }
    /// "phase 3 waits for 1 of 2 arrivals and 64 bytes (128 announced, 64 transferred)"
    [[nodiscard]] std::string text() const;

private:
    void settle();  // completes the phase if it is complete
};

/// The barriers of a block, by offset in its shared memory. Block::attached<Mbarriers>().
struct Mbarriers {
    std::unordered_map<uint32_t, Mbarrier> at;
    uint64_t made = 0;
    uint32_t unfenced = 0;  // of them
};

}  // namespace flexemu
