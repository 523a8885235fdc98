#include "emulator/machine/mbarrier.h"

#include <fmt/format.h>

namespace flexemu {

void Mbarrier::settle() {
    if (pending != 0 || bytes != 0) return;
    ++phase;
    pending = expected;
    completed = std::move(arriving);
    arriving = blank;
    announced = transferred = 0;
    completed.learn(component, static_cast<uint32_t>(phase));
}

std::string Mbarrier::arrive(uint32_t count, bool may_complete) {
    if (count == 0 || count > kMostArrivals) return fmt::format("arrives {} times at once: it must be from 1 to {}", count, kMostArrivals);
    if (count > pending) return fmt::format("{} arrivals where phase {} of the barrier waits for {} more only", count, phase, pending);
    if (!may_complete && count == pending) return fmt::format("`.noComplete` on the last arrival of phase {}", phase);
    pending -= count;
    settle();
    return {};
}

std::string Mbarrier::arrive_and_drop(uint32_t count, bool may_complete) {
    if (count > expected) return fmt::format("drops {} of {} expected arrivals", count, expected);
    // The phase that follows this one has fewer already.
    expected -= count;
    std::string error = arrive(count, may_complete);
    if (!error.empty()) expected += count;
    return error;
}

std::string Mbarrier::expect_arrivals(uint32_t count) {
    if (pending + count > kMostArrivals) return fmt::format("more than {} pending arrivals", kMostArrivals);
    pending += count;
    return {};
}

std::string Mbarrier::expect_bytes(uint64_t count) {
    if (bytes + static_cast<int64_t>(count) > kMostBytes) return fmt::format("a transaction count beyond {}", kMostBytes);
    bytes += static_cast<int64_t>(count);
    announced += count;
    settle();
    return {};
}

std::string Mbarrier::complete_bytes(uint64_t count) {
    if (bytes - static_cast<int64_t>(count) < -kMostBytes) return fmt::format("a transaction count below {}", -kMostBytes);
    bytes -= static_cast<int64_t>(count);
    transferred += count;
    settle();
    return {};
}

std::string Mbarrier::text() const {
    std::string result = fmt::format("phase {} waits for {} of {} arrivals", phase, pending, expected);
    if (announced != 0 || transferred != 0)
        result += fmt::format(" and {} bytes ({} announced, {} transferred)", bytes, announced, transferred);
    return result;
}

bool Mbarrier::is_over(uint64_t state, bool* over, std::string* error) const {
    const uint64_t current = phase & 0xffffffff, asked = state >> 24;
    *over = asked != current;
    if (asked == current || asked == ((phase - 1) & 0xffffffff)) return true;
    *error = fmt::format("the state is of phase {}, but the barrier is in phase {}: only this one and the one before can be asked for",
                         asked, current);
    return false;
}

}  // namespace flexemu
