// Tensor copies against a reference that moves element by element: ranks, boxes, strides, swizzles, element types, coordinates inside and outside.
#include "bulk_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

uint64_t below(Random& random, uint64_t bound) {
    return random.next() % bound;
}

/// A tensor of a few dozen KiB at most, and a box whose tile fits.
TensorSpec random_tensor(Random& random, bool dense_strides = false) {
    TensorSpec spec;
    spec.type = static_cast<int>(below(random, 10));
    const auto rank = static_cast<size_t>(1 + below(random, 5));
    spec.swizzle = static_cast<int>(below(random, 4));
    const uint64_t unit = 16 / spec.element();
    constexpr uint64_t kSpans[] = {256, 32, 64, 128};
    // Rows of a power of two of chunks where they are swizzled: those are what kernels use.
    uint64_t row = 16 * (1 + below(random, kSpans[spec.swizzle] / 16));
    if (spec.swizzle != 0) row = kSpans[spec.swizzle] >> below(random, 2);
    row = std::min<uint64_t>(std::max<uint64_t>(row, 16), 256 * spec.element());
    spec.box.push_back(static_cast<uint32_t>(row / spec.element()));
    spec.dims.push_back(1 + below(random, 2 * spec.box[0]));
    if (!dense_strides && below(random, 3) == 0) spec.dims[0] = (spec.dims[0] + unit - 1) / unit * unit;
    spec.element_strides.push_back(1 + static_cast<uint32_t>(below(random, 2)));
    uint64_t stride = (spec.dims[0] * spec.element() + 15) / 16 * 16;
    size_t tile = row;
    for (size_t i = 1; i < rank; ++i) {
        if (!dense_strides) stride += 16 * below(random, 3);
        spec.strides.push_back(stride);
        spec.dims.push_back(1 + below(random, rank > 3 ? 4 : 10));
        const auto step = static_cast<uint32_t>(below(random, 3) == 0 ? 1 + below(random, 3) : 1);
        spec.element_strides.push_back(step);
        uint64_t most = std::min<uint64_t>(16384 / tile, rank > 3 ? 5 : 12);
        const auto count = static_cast<uint32_t>(1 + below(random, most));
        spec.box.push_back(std::min<uint32_t>(count * step, 256));
        tile *= spec.count(i);
        stride *= spec.dims[i];
    }
    spec.fill = spec.type >= 6 ? static_cast<int>(below(random, 2)) : 0;
    return spec;
}

size_t tensor_bytes(const TensorSpec& spec) {
    size_t bytes = spec.dims[0] * spec.element();
    for (size_t i = 1; i < spec.dims.size(); ++i) bytes += (spec.dims[i] - 1) * spec.strides[i - 1];
    return bytes;
}

std::vector<int32_t> random_place(Random& random, const TensorSpec& spec) {
    std::vector<int32_t> at;
    for (size_t i = 0; i < spec.dims.size(); ++i) {
        const auto range = static_cast<int64_t>(spec.dims[i] + spec.box[i]);
        at.push_back(below(random, 3) == 0
                         ? 0
                         : static_cast<int32_t>(static_cast<int64_t>(below(random, static_cast<uint64_t>(range))) - spec.box[i]));
    }
    return at;
}

std::string rank_text(const TensorSpec& spec) {
    return std::to_string(spec.dims.size()) + "d";
}

std::string load_text(const TensorSpec& spec, const std::vector<int32_t>& at, size_t base) {
    return "mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], " + std::to_string(spec.tile_bytes()) + ";\ncp.async.bulk.tensor." +
           rank_text(spec) + ".shared::cluster.global.mbarrier::complete_tx::bytes [tile + " + std::to_string(base) + "], [%map, " +
           coordinates(at) + "], [bar];\n";
}
const std::string kInit = "mbarrier.init.shared::cta.b64 [bar], 1;\n";

TEST_CASE("tensor loads of all kinds") {
    Random random{7};
    for (uint64_t trial = 0; trial < 250; ++trial) {
        CAPTURE(trial);
        const TensorSpec spec = random_tensor(random);
        const auto at = random_place(random, spec);
        const auto in = random_bytes(random, tensor_bytes(spec));
        // The pattern goes by the address, wherever the tile begins.
        const size_t base = 128 * below(random, 8);
        const size_t lines = (spec.tile_bytes() + 127) / 128 * 128, bytes = base + (spec.swizzle == 0 ? spec.tile_bytes() : lines);
        std::vector<uint8_t> want(bytes, 0);
        const uint8_t nan[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
        spec.elements(
            at,
            [&](int64_t from, size_t to) {
                if (from >= 0)
                    std::memcpy(&want[to], &in[static_cast<size_t>(from)], spec.element());
                else if (spec.fill != 0)
                    std::memcpy(&want[to], nan + 8 - spec.element(), spec.element());
            },
            base);
        // The rest of a last line that the swizzle spreads over is not written: it is filled before.
        const std::string clear = by_first(
            "mov.u32 %r1, tile; mov.u32 %r2, 0;\nC: st.shared.u32 [%r1], 0; add.u32 %r1, %r1, 4; add.u32 %r2, %r2, 4; "
            "setp.lt.u32 %p0, %r2, " +
            std::to_string(bytes) + "; @%p0 bra C;\nfence.proxy.async;\n");
        const auto run = run_bulk(clear + by_first(kInit + load_text(spec, at, base)) + wait_for("bar", 0) + tile_to_out(bytes), &spec,
                                  nullptr, in, std::vector<uint8_t>(bytes), {.seed = trial});
        if (!well(run)) return;
        REQUIRE(run.out == want);
    }
}

TEST_CASE("tensor stores of all kinds") {
    Random random{8};
    for (uint64_t trial = 0; trial < 250; ++trial) {
        CAPTURE(trial);
        TensorSpec spec = random_tensor(random);
        const auto at = random_place(random, spec);
        const size_t bytes = (spec.tile_bytes() + 127) / 128 * 128;
        const auto tile = random_bytes(random, bytes);
        auto want = random_bytes(random, tensor_bytes(spec));
        const auto before = want;
        spec.elements(at, [&](int64_t to, size_t from) {
            if (to >= 0) std::memcpy(&want[static_cast<size_t>(to)], &tile[from], spec.element());
        });
        const auto run = run_bulk(
            in_to_tile(bytes) + "fence.proxy.async.shared::cta; bar.sync 0;\n" +
                by_first("cp.async.bulk.tensor." + rank_text(spec) + ".global.shared::cta.tile.bulk_group [%map2, " + coordinates(at) +
                         "], [tile];\ncp.async.bulk.commit_group;\ncp.async.bulk.wait_group" + (trial % 2 == 0 ? ".read" : "") + " 0;\n"),
            nullptr, &spec, tile, before, {.seed = trial});
        if (!well(run)) return;
        REQUIRE(run.out == want);
    }
}

}  // namespace
