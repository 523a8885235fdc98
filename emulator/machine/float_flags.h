// Modifiers of floating-point instructions, as Op::flags holds them.
#pragma once

#include "emulator/machine/decode.h"
#include "emulator/numeric/float.h"

namespace flexemu {

inline constexpr uint32_t kRoundingMask = 7;  // numeric::Rounding
inline constexpr uint32_t kFlush = 8, kSaturate = 16, kRelu = 32, kNanWins = 64, kXorSign = 128, kSatFinite = 256;

inline numeric::Mode mode_of(const Op& op) {
    return {static_cast<numeric::Rounding>(op.flags & kRoundingMask), (op.flags & kFlush) != 0, (op.flags & kSaturate) != 0};
}

/// Takes .rn .rz .rm .rp into the flags. False if there is none.
inline bool take_rounding(Decoding& decoding) {
    constexpr numeric::Rounding kModes[] = {numeric::Rounding::NearestEven, numeric::Rounding::Zero, numeric::Rounding::Down,
                                            numeric::Rounding::Up};
    const int index = decoding.take_one({"rn", "rz", "rm", "rp"});
    if (index >= 0) decoding.op.flags |= static_cast<uint32_t>(kModes[index]);
    return index >= 0;
}
inline bool take_flag(Decoding& decoding, std::string_view modifier, uint32_t flag) {
    const bool taken = decoding.take(modifier);
    if (taken) decoding.op.flags |= flag;
    return taken;
}

}  // namespace flexemu
