// A consumer: a warpgroup with 64 rows.
//
// One step of its loop, for a tile b that follows a:
//
//   issue    S = Q K b             wait for K b
//   issue    O += P V a            wait for V a;     P: weights of a
//   wait     S                     K b is free
//   S        clauses, softmax      in place, while the tensor cores are at O
//   wait     O                     V a is free
//   O        *= factor             only where a base moved
//   P        = S                   packed
//
// So the softmax of each tile but the first overlaps with a product of the same warpgroup, and what it leaves of the tensor cores' time is
// the other warpgroups'.
#pragma once

#include "backend/skeletons/nvptx/clauses.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/elements.h"
#include "backend/skeletons/nvptx/outputs.h"
#include "backend/skeletons/nvptx/place.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/sm90a_async.h"
#include "backend/skeletons/nvptx/sm90a_pieces.h"
#include "backend/skeletons/nvptx/sm90a_results.h"
#include "backend/skeletons/nvptx/sm90a_wgmma.h"
#include "backend/skeletons/nvptx/softmax.h"

namespace flexgpu {

/// Weights of a tile as the left operand of the product with V: a step takes 16 keys.
using Weights = uint32_t[kTileK / 16][4];

/// s = Q K^T, issued.
FLEX_DEVICE void start_qk(Scores& s, uint32_t q, uint32_t k) {
    auto& d = reinterpret_cast<float(&)[kN * 4]>(s);
    const uint64_t a = along_rows(q), b = along_rows(k);
    constexpr int32_t kSteps = kMapColumns / 16;  // of a panel
    wgmma_fence();
    FLEX_UNROLL
    for (int32_t step = 0; step < kD / 16; step++) {
        const int32_t panel = step / kSteps, within = step % kSteps * 2;
        const uint64_t at_a = a + uint64_t(panel * (kPanelQ >> 4) + within), at_b = b + uint64_t(panel * (kPanelK >> 4) + within);
        if (step == 0)
            wgmma<true>(d, at_a, at_b);
        else
            wgmma<false>(d, at_a, at_b);
    }
    wgmma_commit();
}

/// o += P V, issued.
FLEX_DEVICE void start_pv(Outputs& o, const Weights& p, uint32_t v) {
    auto& d = reinterpret_cast<float(&)[kNv * 4]>(o);
    const uint64_t b = across_rows(v);
    wgmma_fence();
    FLEX_UNROLL
    for (int32_t step = 0; step < kTileK / 16; step++) wgmma(d, p[step], b + uint64_t(step * (16 * kPanelBytes >> 4)));
    wgmma_commit();
}
template <int32_t Pending>
FLEX_DEVICE void wait_for_scores(Scores& s) {
    wgmma_wait<Pending>(reinterpret_cast<float(&)[kN * 4]>(s));
}
FLEX_DEVICE void wait_for_sums(Outputs& o) {
    wgmma_wait<0>(reinterpret_cast<float(&)[kNv * 4]>(o));
}

FLEX_DEVICE void pack_weights(Weights& p, const Scores& s) {
    FLEX_UNROLL
    for (int32_t step = 0; step < kTileK / 16; step++) {
        FLEX_UNROLL
        for (int32_t e = 0; e < 4; e++) p[step][e] = pack_halves(s[0][step * 2 + e / 2][e % 2 * 2], s[0][step * 2 + e / 2][e % 2 * 2 + 1]);
    }
}

/// Scores to weights, added to the softmax. True if what was summed before is to be multiplied by the factors.
FLEX_DEVICE bool weigh(Scores& s, Softmax& softmax, int32_t now, float (&factor)[kRows]) {
    each_score(s, [&](float& x, int32_t i, int32_t) { softmax.highest[i] = max(softmax.highest[i], x); });
    float bases[kRows];
    softmax.ask_bases(bases, now);
    const bool moves = softmax.must_move(bases);
    if (moves) softmax.move(bases, factor, Place().t);
    float c = softmax.c, offset[kRows];
    FLEX_UNROLL
    for (int32_t i = 0; i < kRows; i++) offset[i] = shown(bases[i]) * c;
    if (softmax.exact) {
        // The exponents themselves, so that one piece of code forms the weights either way.
        each_score(s, [&](float& x, int32_t i, int32_t) { x = (x - shown(bases[i])) * c; });
        c = 1;
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) offset[i] = 0;
    }
    each_score(s, [&](float& x, int32_t i, int32_t) {
        x = exp2(fma(x, c, -offset[i]));
        add_now(softmax.sum[i], x);
    });
    return moves;
}

/// Ends a block of code, at a branch that depends on the sums and is never taken (they are not negative), so that ptxas cannot move the wait that follows before
/// the exponentials. Where the outputs take more registers than that leaves room for, it does harm: ptxas then waits after each product.
FLEX_DEVICE void settle(const Softmax& softmax) {
    asm volatile(
        "{\n\t.reg .pred never;\n\t.reg .f32 both;\n\t"
        "add.rn.f32 both, %0, %1;\n\tsetp.lt.f32 never, both, 0f00000000;\n\t@never trap;\n\t}" ::"f"(softmax.sum[0]),
        "f"(softmax.sum[1])
        : "memory");
}

struct Consumer {
    const flex_gpu_launch* launch;
    const flex_gpu_tensors* tensors;
    uint32_t shared;
    int32_t group;       // of the consumers: known to be the same in all lanes, so that descriptors are computed once a warp
    Turn k{}, v{};       // the slots to read next
    int32_t number = 0;  // of the piece

    // Warpgroups issue their products in turn, each while the one before is at its softmax: a barrier of each, at which it waits and the one before arrives.
    static constexpr bool kTakesTurns = kConsumers > 1 && kD <= 128;
    static constexpr int32_t kPair = 2 * kGroup;
    FLEX_DEVICE void begin() const {
        if (kTakesTurns && group == kConsumers - 1) named_arrive(kBarrierOfTurn, kPair);
    }
    FLEX_DEVICE void end() const {
        if (kTakesTurns && group == 0) named_barrier(kBarrierOfTurn, kPair);
    }
    FLEX_DEVICE void wait_for_turn() const {
        if (kTakesTurns) named_barrier(kBarrierOfTurn + group, kPair);
    }
    FLEX_DEVICE void pass_turn() const {
        if (kTakesTurns) named_arrive(kBarrierOfTurn + (group == kConsumers - 1 ? 0 : group + 1), kPair);
    }

    FLEX_DEVICE Visit next_tile(bool* is_last) {
        wait(shared + uint32_t(kKFull + k.slot * 8), k.parity);
        const int32_t code = load_shared(shared + uint32_t(kCodesAt + k.slot * 4));
        *is_last = (code & kLastTile) != 0;
        return {code & ~kLastTile};
    }
    FLEX_DEVICE void start_scores(Scores& s) {
        start_qk(s, uint32_t(opaque(int32_t(shared + uint32_t(kQAt + group * kGroupQ)))), shared + uint32_t(kKAt + k.slot * kKeyBytes));
    }
    FLEX_DEVICE void release_k() {
        warp_arrive(shared + uint32_t(kKEmpty + k.slot * 8));
        k.advance();
    }
    FLEX_DEVICE void start_sums(Outputs& o, const Weights& p) {
        wait(shared + uint32_t(kVFull + v.slot * 8), v.parity);
        start_pv(o, p, shared + uint32_t(kVAt + v.slot * kValueBytes));
    }
    FLEX_DEVICE void release_v() {
        warp_arrive(shared + uint32_t(kVEmpty + v.slot * 8));
        v.advance();
    }

    /// A piece with its results in memory. False if there is none.
    FLEX_DEVICE bool consume() {
        const uint32_t record = record_address(shared, number);
        wait(shared + uint32_t(kQFull), uint32_t(number & 1));
        const int32_t kind = load_shared(record + kKindAt);
        if (kind & kEnd) return false;
        const bool careful = (kind & kCareful) != 0, has_tiles = (kind & kHasTiles) != 0;

        Outputs o;
        clear(o);
        const Block block = Piece::load(record).block(launch);
        const Row own = own_row(block, Place());
        const bool folded = block.has(kPlainScore) && block.has(kDefaultScale);  // scores are the bare products
        Softmax softmax(folded ? own.scale * kLog2e : kLog2e);
        if (has_tiles) {
            Scores s;
            Weights p;
            float factor[kRows];
            bool is_last;
            Visit tile = next_tile(&is_last);
            start_scores(s);
            wait_for_scores<0>(s);
            release_k();
            apply_clauses(s, block, own, tile);
            weigh(s, softmax, tile.code, factor);
            pack_weights(p, s);
            while (!is_last) {
                tile = next_tile(&is_last);
                wait_for_turn();
                start_scores(s);
                start_sums(o, p);
                pass_turn();
                wait_for_scores<1>(s);
                release_k();
                apply_clauses(s, block, own, tile);
                const bool moves = weigh(s, softmax, tile.code, factor);
                if constexpr (kTakesTurns) settle(softmax);
                wait_for_sums(o);
                release_v();
                if (moves) scale_rows(o, factor);
                pack_weights(p, s);
            }
            if (kSeparateOutput) warp_arrive(shared + uint32_t(kQEmpty));
            start_sums(o, p);
            wait_for_sums(o);
            release_v();
        } else if (kSeparateOutput) {
            warp_arrive(shared + uint32_t(kQEmpty));
        }

        float normalise[kRows];
        Statistic statistic[kRows];
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) statistic[i] = softmax.finish(i, folded ? softmax.c * kLn2 : 1.0f, &normalise[i]);
        if (!careful && is_suspicious(o, statistic)) store_shared(record + kSuspiciousAt, 1u);
        scale_rows(o, normalise);
        store_results(launch, tensors, shared, record, careful, o, statistic);
        if (!kSeparateOutput) warp_arrive(shared + uint32_t(kQEmpty));
        warp_arrive(done_barrier(shared, number));
        number++;
        return true;
    }
};

}  // namespace flexgpu
