// SIMD video instructions: vadd2/4, vsub2/4, vabsdiff2/4, vmin2/4, vmax2/4 on the halves or bytes of registers, without selectors and masks. With .add
// the results are summed onto c; else c is what masked parts would keep, of which there are none.
#include <algorithm>

#include "emulator/machine/arithmetic.h"
#include "emulator/machine/lanes.h"

namespace flexemu {
namespace {

using ptx::Type;

enum class Video : uint32_t { Add, Sub, AbsDiff, Min, Max };
constexpr uint32_t kSigned = 1, kASigned = 2, kBSigned = 4, kClamp = 8, kAccumulate = 16, kHalves = 32;

struct Parts {
    explicit Parts(const Op& op) : flags(op.flags), video(static_cast<Video>(op.flags2)), bits((op.flags & kHalves) != 0 ? 16 : 8) {}

    [[nodiscard]] int64_t part(uint32_t value, uint32_t at, bool is_signed) const {
        const uint32_t raised = value >> at << (32 - bits);
        return is_signed ? static_cast<int32_t>(raised) >> (32 - bits) : static_cast<int64_t>(raised >> (32 - bits));
    }
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        const int64_t most = (int64_t{1} << ((flags & kSigned) != 0 ? bits - 1 : bits)) - 1, least = (flags & kSigned) != 0 ? -most - 1 : 0;
        uint32_t packed = 0;
        int64_t sum = c;
        for (uint32_t at = 0; at < 32; at += bits) {
            const int64_t x = part(a, at, (flags & kASigned) != 0), y = part(b, at, (flags & kBSigned) != 0);
            int64_t result = 0;
            switch (video) {
                case Video::Add: result = x + y; break;
                case Video::Sub: result = x - y; break;
                case Video::AbsDiff: result = x < y ? y - x : x - y; break;
                case Video::Min: result = std::min(x, y); break;
                case Video::Max: result = std::max(x, y); break;
            }
            if ((flags & kClamp) != 0) result = std::clamp(result, least, most);
            sum += result;
            packed |= (static_cast<uint32_t>(result) & ((uint32_t{1} << bits) - 1)) << at;
        }
        return (flags & kAccumulate) != 0 ? static_cast<uint32_t>(sum) : packed;
    }

    uint32_t flags;
    Video video;
    uint32_t bits;
};

}  // namespace

bool decode_video(Decoding& decoding) {
    constexpr std::string_view kNames[] = {"vadd", "vsub", "vabsdiff", "vmin", "vmax"};
    const std::string_view opcode = decoding.text.opcode;
    const auto* name = std::find(std::begin(kNames), std::end(kNames), opcode.substr(0, opcode.size() - 1));
    decoding.op.flags2 = static_cast<uint32_t>(name - std::begin(kNames));
    Type to, a, b;
    if (!decoding.type(&to) || !decoding.type(&a) || !decoding.type(&b)) return false;
    for (const Type type : {to, a, b})
        if (!decoding.type_is(type, {Type::U32, Type::S32})) return false;
    decoding.op.flags = (is_signed(to) ? kSigned : 0) | (is_signed(a) ? kASigned : 0) | (is_signed(b) ? kBSigned : 0) |
                        (opcode.back() == '2' ? kHalves : 0);
    if (decoding.take("sat")) decoding.op.flags |= kClamp;
    // Sums and differences of parts may need a bit more than the part has; what .add then sums is left to hardware.
    const auto video = static_cast<Video>(decoding.op.flags2);
    if (video != Video::Add && video != Video::Sub && decoding.take("add")) decoding.op.flags |= kAccumulate;
    decoding.op.run = map<Parts, uint32_t, uint32_t, uint32_t, uint32_t>;
    return decoding.operation(Type::B32, 3) && decoding.finish();
}

}  // namespace flexemu
