// The attention kernel for sm_80 and all later GPUs: mma.sync, ldmatrix, cp.async. The compiler links the hooks of a variant (hooks.h) to one instance of it
// (instances.def, shape.h), inlines them and prints PTX.
//
// A block computes tile_q rows of O = softmax(Q K^T) V, one pass over the tiles of keys that its mask leaves (tiles.h). For D = 128 with halves:
//
//                        K tile: 64 keys x 128            V tile: 64 keys x 128
//                       +-----------------+              +-----------------+
//   Q tile: 128 x 128   |                 |              |                 |
//   +---------------+   +-----------------+              +-----------------+
//   | warp 0: 32 x D|    S: 32 x 64, 64 registers   ->    O: 32 x 128, 128 registers of each thread
//   | warp 1        |    clauses, softmax: in place       P = weights, as operands of the second product:
//   | warp 2        |    (clauses.h, softmax.h)           the fragment of S that a thread has is the
//   | warp 3        |                                     fragment of P that it needs (products.h)
//   +---------------+
//
// 32 rows a warp, because each fragment of K and V that a warp loads serves all its rows: 128 bytes a cycle of shared memory feed 4 warps at
// 16 rows barely, at 32 rows with half to spare. Where O of 32 rows does not fit into registers (D > 128, and f32 with three products) a warp has 16.
// Short queries (tile_q = 16) have one stripe of rows; there the warps divide the keys of each tile, go through the whole loop each for itself, with warp
// barriers only, and meet in the end (results.h): what counts is the number of bytes under way.
//
// Ring. K and V come in turn into slots of one ring; with kSlots = 3, for tiles a, b, c that the walk has found:
//
//   half-step     0          1          2          3          4
//   wait for      K a        V a        K b        V b        K c         cp.async.wait_group kSlots - 2, then a barrier: all copies of all threads
//   start         K b -> 2   V b -> 0   K c -> 1   V c -> 2   K d -> 0    into the slot that half-step i - 1 has read: the barrier says it is free
//   multiply      Q K a      P V a      Q K b      P V b      Q K c       slots 0 1 2 0 1
//
// One barrier a half-step serves both: data have come, and the slot before is free. Each half-step commits one group, empty at the end, so the count
// holds. The clauses and the softmax stand between the second barrier and the second product, so that K of the next tile travels meanwhile.
//
// Budget, D = 128 halves: 128 O + 64 S + 12 running maxima and sums + 8 Q + 4..20 K or V fragments + about 20 addresses, walk, row: 255 registers, so
// 2 blocks of 4 warps a multiprocessor. What can be found again is not kept (Place, Block), what lanes of a row share is divided among them (clauses.h,
// softmax.h), what is needed once a tile lies in shared memory: 32 KB Q + 3 * 16 KB ring + 32 bytes, so that two blocks fit into the 164 KB of sm_80 and one into the
// 100 KB of sm_86 and sm_89. No instance takes more than 99 KB.
//
// PTX ISA, in its sections on warp-level matrix instructions, data movement and synchronisation: "Matrix Fragments for mma.m16n8k16" and "mma.m16n8k8",
// ldmatrix, "Non-bulk copy" (cp.async and its groups), bar and bar.red, vote.sync, shfl.sync, red. Version 7.0 is the first with all of sm_80.
#include "backend/skeletons/nvptx/careful.h"
#include "backend/skeletons/nvptx/clauses.h"
#include "backend/skeletons/nvptx/combine.h"
#include "backend/skeletons/nvptx/copy.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/mma.h"
#include "backend/skeletons/nvptx/outputs.h"
#include "backend/skeletons/nvptx/place.h"
#include "backend/skeletons/nvptx/products.h"
#include "backend/skeletons/nvptx/results.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/softmax.h"
#include "backend/skeletons/nvptx/summaries.h"
#include "backend/skeletons/nvptx/swizzle.h"
#include "backend/skeletons/nvptx/tiles.h"

namespace flexgpu {
namespace {

FLEX_DEVICE void load_q(const Block& block, uint32_t shared, int32_t d, bool aligned) {
    const flex_gpu_launch* launch = block.launch;
    // A packed tile has rows of several heads: one strided piece a head would be shorter, but rows are loaded once.
    const Place place;
    FLEX_ROLLED
    for (int32_t r = place.warp; r < kTileQ; r += kWarps) {
        const int32_t q = block.query(r);
        const Source source{row_address(launch->q, block.b, block.head(r), min(q, block.queries - 1), kBytes), 0, d};
        const int32_t lane = place.lane;
        if (aligned) {
            FLEX_ROLLED
            for (int32_t chunk = lane; chunk < kQRowBytes / 16; chunk += 32)
                copy_async16(shared + QRows::offset(r, chunk), source.data + uint64_t(chunk * 16),
                             q < block.queries && chunk * 16 < d * kBytes);
        } else {
            FLEX_ROLLED
            for (int32_t column = lane; column < kD; column += 32) {
                const bool exists = q < block.queries && column < d;
                const Bits value = exists ? load_global<Bits>(source.data + uint64_t(column * kBytes)) : Bits(0);
                store_shared(shared + QRows::offset(r, column * kBytes / 16) + uint32_t(column * kBytes % 16), value);
            }
        }
    }
}

/// A tile of K or V to a slot.
template <int32_t RowBytes>
FLEX_DEVICE void load_keys(uint32_t slot, uint64_t data, int64_t row_stride, int32_t columns, Visit tile, int32_t keys, bool aligned) {
    const Place place;
    const Source source{data, row_stride * kBytes, columns};
    copy_rows<kWarpKeys, RowBytes, kTeam>(slot + place.slice_offset(), source, tile.first() + place.slice() * kWarpKeys, keys,
                                          place.team_thread(), aligned);
}

/// The slots of the ring in turn. Half-step 2i multiplies K of the i-th tile, 2i + 1 its V; half-step j reads slot j % kSlots while the copy for
/// half-step j + kSlots - 1 goes to the slot that j - 1 has read.
struct Ring {
    uint32_t begin, read;
    FLEX_DEVICE explicit Ring(uint32_t first) : begin(first), read(first) {}
    [[nodiscard]] FLEX_DEVICE uint32_t free() const {
        return read == begin ? begin + uint32_t(kRingBytes - kSlotBytes) : read - kSlotBytes;
    }
    FLEX_DEVICE void advance() { read = read == begin + uint32_t(kRingBytes - kSlotBytes) ? begin : read + kSlotBytes; }
};

/// Scores of a tile to weights, added to the softmax; o += P V.
FLEX_DEVICE void weigh_and_multiply(Scores& s, Outputs& o, Softmax& softmax, uint32_t slot, Visit tile) {
    each_score(s, [&](float& x, int32_t i, int32_t) { softmax.highest[i] = max(softmax.highest[i], x); });
    float bases[kRows];
    softmax.ask_bases(bases, tile.code);
    if (softmax.must_move(bases)) {
        float factor[kRows];
        softmax.move(bases, factor, Place().t);
        scale_rows(o, factor);
    }
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
    const uint32_t v = slot + Place().v_offset();
    FLEX_UNROLL
    for (int32_t step = 0; step < kWarpKeys / kStepKeys; step++) {
        A p[kM];
        FLEX_UNROLL
        for (int32_t m = 0; m < kM; m++) p[m] = weigh(s, m, step, softmax, c, offset);
        multiply_pv(o, p, v, step);
    }
}

FLEX_DEVICE void forward(const flex_gpu_launch* launch) {
    const Block block(launch, block_x());
    const uint32_t shared = shared_base();
    const int32_t d = flex_hook_extent(launch, kExtentD), dv = flex_hook_extent(launch, kExtentDv);
    const bool aligned = launch->aligned != 0;
    if (thread_index() == 0) {
        store_shared8(shared + kKeysAt, row_address(launch->k, block.b, block.kv_head(), 0, kBytes));
        store_shared8(shared + kValuesAt, row_address(launch->v, block.b, block.kv_head(), 0, kBytes));
    }
    block_barrier();

    const Row own = own_row(block, Place());
    const bool folded = block.has(kPlainScore) && block.has(kDefaultScale);  // scores are the bare products

    load_q(block, shared, d, aligned);

    bool careful = false;
    Outputs o;
    float normalise[kRows];
    Statistic statistic[kRows];
    for (;;) {
        clear(o);
        Softmax softmax(folded ? own.scale * kLog2e : kLog2e);
        TileWalk walk(block);
        Ring ring(shared + kQBytes);

        // Tiles whose copies are under way or about to be: coming[0] is the one to multiply now.
        constexpr int32_t kAhead = kSlots / 2;
        Visit coming[kAhead + 1];
        const auto pull = [&] {
            FLEX_UNROLL
            for (int32_t i = 0; i < kAhead; i++) coming[i] = coming[i + 1];
            coming[kAhead] = walk.next(launch);
        };
        FLEX_ROLLED
        for (int32_t i = 0; i <= kAhead; i++) pull();

        const auto load_k = [&](uint32_t slot, Visit tile) {
            if (tile.exists())
                load_keys<kQRowBytes>(slot, load_shared8(shared + kKeysAt), launch->k.row_stride, d, tile, block.keys, aligned);
            copies_commit();
        };
        const auto load_v = [&](uint32_t slot, Visit tile) {
            if (tile.exists())
                load_keys<kVRowBytes>(slot, load_shared8(shared + kValuesAt), launch->v.row_stride, dv, tile, block.keys, aligned);
            copies_commit();
        };
        FLEX_UNROLL
        for (int32_t j = 0; j < kSlots - 1; j++) {
            const uint32_t slot = ring.begin + uint32_t(j * kSlotBytes);
            if (j % 2 == 0)
                load_k(slot, coming[j / 2]);
            else
                load_v(slot, coming[j / 2]);
        }

        if constexpr (kWarpsK > 1) {
            // Warps have copied K and V each for itself, Q for all.
            copies_wait<kSlots - 2>();
            block_barrier();
        }

        while (coming[0].exists()) {
            Scores s;
            copies_wait<kSlots - 2>();
            team_barrier();
            if constexpr (kSlots % 2 == 0)
                load_v(ring.free(), coming[kAhead - 1]);
            else
                load_k(ring.free(), coming[kAhead]);
            multiply_qk(s, shared, ring.read);
            ring.advance();

            copies_wait<kSlots - 2>();
            team_barrier();
            if constexpr (kSlots % 2 == 0)
                load_k(ring.free(), coming[kAhead]);
            else
                load_v(ring.free(), coming[kAhead]);
            if (careful) {
                const Place at;
                clean<kTeam>(shared + kNoteAt, ring.read + at.slice_offset(), at.team_thread(), coming[0].first());
                team_barrier();
            }
            apply_clauses(s, block, own, coming[0]);
            weigh_and_multiply(s, o, softmax, ring.read, coming[0]);
            ring.advance();
            pull();
        }

        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) statistic[i] = softmax.finish(i, folded ? softmax.c * kLn2 : 1.0f, &normalise[i]);
        copies_wait<0>();
        // The vote is also the barrier after which nobody reads the tiles in shared memory.
        if (!block_any(is_suspicious(o, statistic)) || careful) break;
        careful = true;
        if (thread_index() == 0) clear_note(shared + kNoteAt);
        block_barrier();
    }

    stage(shared, o, statistic, normalise);
    block_barrier();
    store_results(Block(launch, opaque(block_x())), shared, careful);
}

}  // namespace
}  // namespace flexgpu

extern "C" {

extern const int32_t flex_gpu_combine_threads = 128, flex_gpu_summarise_threads = 128;
extern const int32_t flex_gpu_max_pack = 256;

__attribute__((nvptx_kernel)) void flex_gpu_forward(flex_gpu_launch launch) {
    flexgpu::forward(&launch);
}
__attribute__((nvptx_kernel)) void flex_gpu_combine(flex_gpu_launch launch) {
    flexgpu::combine(&launch);
}
__attribute__((nvptx_kernel)) void flex_gpu_summarise(flex_gpu_launch launch) {
    flexgpu::summarise(&launch);
}
__attribute__((always_inline)) int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo,
                                                          int32_t hi) {
    return flexgpu::summary_range(flex_hook_summary(launch, index), b, h, lo, hi);
}

}  // extern "C"
