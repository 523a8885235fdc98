#include "backend/skeletons/nvptx/careful.h"
#include "backend/skeletons/nvptx/combine.h"
#include "backend/skeletons/nvptx/copy.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/elements.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/mma.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/softmax.h"
#include "backend/skeletons/nvptx/summaries.h"
#include "backend/skeletons/nvptx/swizzle.h"
#include "backend/skeletons/nvptx/tiles.h"

namespace flexgpu {
namespace {

using QRows = Swizzle<kQRowBytes>;
using VRows = Swizzle<kVRowBytes>;

// Threads that share a slice of the ring: all, or one warp.
constexpr int32_t kTeam = kWarpsK == 1 ? kThreads : 32;

FLEX_DEVICE void team_barrier() {
    if constexpr (kWarpsK == 1)
        block_barrier();
    else
        warp_barrier();
}

/// The place of a thread in its block. All follows from its number, so loops ask for it anew: a handful of instructions, of which there
/// is plenty of room beside the tensor cores, instead of registers, of which there is none.
struct Place {
    int32_t thread, lane, warp, g, t;
    FLEX_DEVICE Place() : thread(opaque(thread_index())) {
        __builtin_assume(thread >= 0 && thread < kThreads);
        lane = thread % 32;
        warp = thread / 32;
        g = lane / 4;
        t = lane % 4;
    }
    [[nodiscard]] FLEX_DEVICE int32_t warp_row() const { return kWarpsK == 1 ? warp * kWarpRows : 0; }
    /// Of the thread's i-th row within the tile.
    [[nodiscard]] FLEX_DEVICE int32_t row(int32_t i) const { return warp_row() + i * 8 + g; }
    /// Which keys of a tile the warp takes.
    [[nodiscard]] FLEX_DEVICE int32_t slice() const { return kWarpsK == 1 ? 0 : warp; }
    [[nodiscard]] FLEX_DEVICE uint32_t slice_offset() const { return uint32_t(slice() * kSliceBytes); }
    [[nodiscard]] FLEX_DEVICE int32_t team_thread() const { return kWarpsK == 1 ? thread : lane; }

    // Where ldmatrix of this lane begins in a tile of Q and in slots of K and V: see mma.h and swizzle.h.
    [[nodiscard]] FLEX_DEVICE uint32_t q_offset() const { return QRows::offset(warp_row() + lane % 8 + lane / 8 % 2 * 8, lane / 16); }
    [[nodiscard]] FLEX_DEVICE uint32_t k_offset() const { return slice_offset() + QRows::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2); }
    [[nodiscard]] FLEX_DEVICE uint32_t v_offset() const {
        return slice_offset() + (kHalf ? VRows::offset(lane % 8 + lane / 8 % 2 * 8, lane / 16) : 0);
    }
};

/// A row as the hooks see it.
struct Row {
    int32_t h, q;
    float scale;
    RowState state;
};

/// The row t % kRows of this thread. The lanes of a row would all hold the same, so each keeps one of its rows and asks its neighbours for the others.
FLEX_DEVICE Row own_row(const Block& block, const Place& place) {
    Row row;
    const int32_t r = place.row(place.t % kRows);
    row.h = block.head(r);
    row.q = min(block.query(r), block.queries - 1);
    flex_hook_row(block.launch, block.b, row.h, row.q, &row.state);
    // One value for all rows is asked for once.
    row.scale = block.has(kDefaultScale) ? flex_hook_scale(block.launch, block.b, block.h0, block.q_lo)
                                         : flex_hook_scale(block.launch, block.b, row.h, row.q);
    return row;
}

/// All rows of this thread. `now`: anything that is new (from_quad).
struct Rows {
    Row row[kRows];
    FLEX_DEVICE Rows(const Block& block, const Row& own, int32_t now) {
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) {
            row[i].h = int32_t(from_quad(uint32_t(own.h), i, now));
            row[i].q = int32_t(from_quad(uint32_t(own.q), i, now));
            row[i].scale = block.has(kDefaultScale) ? own.scale : from_quad(own.scale, i, now);
            FLEX_UNROLL
            for (int32_t j = 0; j < kRowSlots; j++) row[i].state.slot[j] = from_quad(own.state.slot[j], i, now);
        }
    }
};

using Scores = float[kM][kN][4];
using Outputs = float[kM][kNv][4];

/// s = Q K^T for the rows of a warp and its keys in one slice.
FLEX_DEVICE void multiply_qk(Scores& s, uint32_t q_tile, uint32_t slot) {
    const Place place;
    const uint32_t q = q_tile + place.q_offset(), k = slot + place.k_offset();
    FLEX_UNROLL
    for (int32_t m = 0; m < kM; m++) FLEX_UNROLL
    for (int32_t n = 0; n < kN; n++) FLEX_UNROLL
    for (int32_t c = 0; c < 4; c++) s[m][n][c] = 0;
    // Four steps are enough to hide the latency of loads; all of them would be twice the code for ptxas to overschedule.
    FLEX_UNROLL_BY_4
    for (int32_t step = 0; step < kD / kStep; step++) {
        A a[kM];
        FLEX_UNROLL
        for (int32_t m = 0; m < kM; m++) a[m] = operand_a(load_matrices(QRows::step(q, step) + uint32_t(m * 16 * kQRowBytes)));
        FLEX_UNROLL
        for (int32_t n = 0; n < kN; n += 2) {
            const Words4 raw = load_matrices(QRows::step(k, step) + uint32_t(n * 8 * kQRowBytes));
            FLEX_UNROLL
            for (int32_t j = 0; j < 2; j++) {
                const B b = operand_b(raw.w[2 * j], raw.w[2 * j + 1]);
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) multiply(s[m][n + j], a[m], b);
            }
        }
    }
}

/// Calls f(element, i, offset) for each score of the thread: i is its row, offset its key relative to the thread's first. Rows change fastest, so that what
/// depends on k alone is computed once for them.
template <class F>
FLEX_DEVICE void each_score(Scores& s, F&& f) {
    FLEX_UNROLL
    for (int32_t n = 0; n < kN; n++) FLEX_UNROLL
    for (int32_t c = 0; c < 2; c++) FLEX_UNROLL
    for (int32_t i = 0; i < kRows; i++) f(s[i / 2][n][i % 2 * 2 + c], i, n * 8 + c);
}

/// The keys of a thread by number, and back: pairs, eight apart.
FLEX_DEVICE int32_t offset_of(int32_t column) {
    return column / 2 * 8 + column % 2;
}
FLEX_DEVICE int32_t column_of(int32_t offset) {
    return offset / 8 * 2 + offset % 2;
}

/// Products to scores: scale and score clause, then -inf for what the mask hides. Each pass begins with a key that the compiler takes for a new one,
/// or it would keep what it has computed of 16 keys for the next pass.
FLEX_DEVICE void apply_clauses(Scores& s, const Block& block, const Row& own, Visit tile) {
    const Place place;
    const int32_t first = tile.key() + place.slice() * kWarpKeys + place.t * 2, last = block.keys - 1;
    // A clause that is long (hooks.h) is written down once for the keys of a tile and not once for each; its scores then wait in local memory.
    if (!(block.has(kPlainScore) && block.has(kDefaultScale))) {
        const Rows rows(block, own, tile.code);
        const auto score = [&](float x, int32_t i, int32_t offset) {
            const Row& row = rows.row[i];
            return flex_hook_score(block.launch, &row.state, block.b, row.h, row.q, min(first + offset, last), x * row.scale);
        };
        if (block.has(kLongScore)) {
            float waiting[2 * kN][kRows];
            each_score(s, [&](float& x, int32_t i, int32_t offset) { waiting[column_of(offset)][i] = x; });
            FLEX_ROLLED
            for (int32_t j = 0; j < 2 * kN; j++) FLEX_UNROLL
            for (int32_t i = 0; i < kRows; i++) waiting[j][i] = score(waiting[j][i], i, offset_of(j));
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = waiting[column_of(offset)][i]; });
        } else {
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = score(x, i, offset); });
        }
    }
    if (tile.is_full()) return;
    if (!block.has(kNoMask)) {
        const int32_t key = opaque(first);
        const Rows rows(block, own, key);
        const auto mask = [&](int32_t i, int32_t offset) {
            const Row& row = rows.row[i];
            return flex_hook_mask(block.launch, &row.state, block.b, row.h, row.q, min(key + offset, last));
        };
        if (block.has(kLongMask)) {
            static_assert(2 * kN <= 32);
            uint32_t keep[kRows] = {};  // a bit a key
            FLEX_ROLLED
            for (int32_t j = 0; j < 2 * kN; j++) FLEX_UNROLL
            for (int32_t i = 0; i < kRows; i++) keep[i] |= uint32_t(mask(i, offset_of(j))) << j;
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = keep[i] >> column_of(offset) & 1 ? x : -kInf; });
        } else {
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = mask(i, offset) ? x : -kInf; });
        }
    }
    if (tile.key() + kTileK > block.keys) {
        const int32_t key = opaque(first);
        each_score(s, [&](float& x, int32_t, int32_t offset) { x = key + offset <= last ? x : -kInf; });
    }
}

/// Weights of 16 keys (halves) or 8 (floats) from their scores, as the operand of the second product, added up on the way.
FLEX_DEVICE A weigh(Scores& s, int32_t m, int32_t step, Softmax& softmax, float c, const float (&offset)[kRows]) {
    float p[kHalf ? 2 : 1][4];
    FLEX_UNROLL
    for (int32_t j = 0; j < (kHalf ? 2 : 1); j++) FLEX_UNROLL
    for (int32_t e = 0; e < 4; e++) {
        const int32_t i = m * 2 + e / 2;
        p[j][e] = exp2(fma(s[m][step * (kHalf ? 2 : 1) + j][e], c, -offset[i]));
        add_now(softmax.sum[i], p[j][e]);
    }
    if constexpr (kHalf) {
        return {
            {{pack_halves(p[0][0], p[0][1]), pack_halves(p[0][2], p[0][3]), pack_halves(p[1][0], p[1][1]), pack_halves(p[1][2], p[1][3])}},
            {}};
    } else {
        return operand_a({{bits_of(p[0][0]), bits_of(p[0][2]), bits_of(p[0][1]), bits_of(p[0][3])}});
    }
}

/// o += P V for one step of keys.
FLEX_DEVICE void multiply_pv(Outputs& o, const A (&p)[kM], uint32_t v, int32_t step) {
    if constexpr (kHalf) {
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n += 2) {
            const Words4 raw = load_matrices_transposed(VRows::step(v, n / 2) + uint32_t(step * 16 * kVRowBytes));
            FLEX_UNROLL
            for (int32_t j = 0; j < 2; j++) FLEX_UNROLL
            for (int32_t m = 0; m < kM; m++) multiply(o[m][n + j], p[m], operand_b(raw.w[2 * j], raw.w[2 * j + 1]));
        }
    } else {
        const Place place;
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n += 4) {
            const uint32_t even = v + VRows::offset(step * 8 + place.t * 2, n * 2 + place.g);
            const uint32_t odd = v + VRows::offset(step * 8 + place.t * 2 + 1, n * 2 + place.g);
            const Words4 raw0 = load_shared4(even), raw1 = load_shared4(odd);
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) {
                const B b = operand_b(raw0.w[j], raw1.w[j]);
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) multiply(o[m][n + j], p[m], b);
            }
        }
    }
}

FLEX_DEVICE void load_q(const Block& block, uint32_t shared, int32_t d, bool aligned) {
    const flex_gpu_launch* launch = block.launch;
    // A packed tile has rows of several heads: one strided piece a head would be shorter, but rows are loaded once.
    FLEX_ROLLED
    for (int32_t r = thread_index() / 32; r < kTileQ; r += kWarps) {
        const int32_t q = block.query(r);
        const Source source{row_address(launch->q, block.b, block.head(r), min(q, block.queries - 1), kBytes), 0, d};
        const int32_t lane = thread_index() % 32;
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
    copy_rows<kWarpKeys, RowBytes, kTeam>(slot + place.slice_offset(), source, tile.key() + place.slice() * kWarpKeys, keys,
                                          place.team_thread(), aligned);
}

// The staging area: parts (one a warp that divides keys), rows, columns in 16-byte chunks with the rows' swizzle; then of each part and row its
// greatest score, sum, and the factor that turns its weighted sums into means.
using StagedRows = Swizzle<kDv * 4>;
FLEX_DEVICE uint32_t staged(uint32_t shared, int32_t part, int32_t row, int32_t chunk) {
    return shared + uint32_t(part * kTileQ * kDv * 4) + StagedRows::offset(row, chunk);
}
struct StagedStatistic {
    Statistic statistic;
    float normalise;
};
FLEX_DEVICE uint32_t staged_statistic(uint32_t shared, int32_t part, int32_t row) {
    return shared + uint32_t(kWarpsK * kTileQ * kDv * 4 + (part * kTileQ + row) * 16);
}
FLEX_DEVICE StagedStatistic load_staged_statistic(uint32_t shared, int32_t part, int32_t row) {
    const Words4 v = load_shared4(staged_statistic(shared, part, row));
    return {{float_of(v.w[0]), float_of(v.w[1])}, float_of(v.w[2])};
}

/// Weighted sums of a thread's i-th row, as the products leave them: pairs of neighbouring columns, or (floats, see multiply_pv) two times
/// four of each 32.
FLEX_DEVICE void stage(uint32_t shared, const Outputs& o, int32_t i, const Place& place) {
    const int32_t c = i % 2 * 2;
    if constexpr (kHalf) {
        const uint32_t at = staged(shared, place.slice(), place.row(i), place.t / 2) + uint32_t(place.t % 2 * 8);
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n++) store_shared2(StagedRows::step(at, n), o[i / 2][n][c], o[i / 2][n][c + 1]);
    } else {
        FLEX_UNROLL
        for (int32_t e = 0; e < 2; e++) {
            const uint32_t at = staged(shared, place.slice(), place.row(i), place.t * 2 + e);
            FLEX_UNROLL
            for (int32_t n = 0; n < kNv; n += 4) {
                Words4 v;
                FLEX_UNROLL
                for (int32_t j = 0; j < 4; j++) v.w[j] = bits_of(o[i / 2][n + j][c + e]);
                store_shared4(StagedRows::step(at, n), v);
            }
        }
    }
}

/// Results of all warps from the staging area to o, or to the partial results of a split.
FLEX_DEVICE void store_results(const Block& block, uint32_t shared, bool careful) {
    const flex_gpu_launch* launch = block.launch;
    const int32_t dv = flex_hook_extent(launch, kExtentDv), heads = flex_hook_extent(launch, kExtentH);
    const Partials partials(launch, int64_t(flex_hook_extent(launch, kExtentB)) * heads * block.queries, dv);
    const bool is_partial = launch->splits > 1, aligned = output_is_aligned(launch->o, dv);
    const auto number = [&](int32_t h, int32_t q) { return (int64_t(block.b) * heads + h) * block.queries + q; };
    FLEX_ROLLED
    for (int32_t i = thread_index(); i < kTileQ * (kDv / 4); i += kThreads) {
        const int32_t r = i / (kDv / 4), column = i % (kDv / 4) * 4;
        const int32_t h = block.head(r), q = block.query(r);
        if (q >= block.queries) break;
        if (column >= dv) continue;
        StagedStatistic part[kWarpsK];
        Statistic whole{-kInf, 0};
        FLEX_UNROLL
        for (int32_t w = 0; w < kWarpsK; w++) {
            part[w] = load_staged_statistic(shared, w, r);
            whole.greatest = max(whole.greatest, part[w].statistic.greatest);
        }
        Floats4 mean{};
        FLEX_UNROLL
        for (int32_t w = 0; w < kWarpsK; w++) {
            const Words4 v = load_shared4(staged(shared, w, r, column / 4));
            const float weight = kWarpsK == 1 ? part[w].statistic.sum : weight_of(part[w].statistic, whole.greatest);
            whole.sum += weight;
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) {
                const float x = float_of(v.w[j]) * part[w].normalise;
                mean.x[j] = kWarpsK == 1 ? x : mean.x[j] + weighted(weight, x);
            }
        }
        if constexpr (kWarpsK > 1) {
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) mean.x[j] = mean_of(mean.x[j], whole.sum);
        }
        if (is_partial) {
            typedef float Vector __attribute__((ext_vector_type(4)));
            store_global(partials.mean(block_y(), number(h, q)) + uint64_t(column * 4), Vector{mean.x[0], mean.x[1], mean.x[2], mean.x[3]});
            if (column == 0) store_statistic(partials.statistic(block_y(), number(h, q)), whole);
        } else {
            store_output(row_address(launch->o, block.b, h, q, kBytes), column, dv, aligned, mean);
            if (column == 0) store_statistics(launch, block.b, h, q, whole);
        }
    }
    if (!careful) return;
    block_barrier();
    if (is_partial)
        patch<true>(block, shared, [&](int32_t, int32_t h, int32_t q) { return partials.mean(block_y(), number(h, q)); });
    else
        patch<false>(block, shared, [&](int32_t, int32_t h, int32_t q) { return row_address(launch->o, block.b, h, q, kBytes); });
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

FLEX_DEVICE void forward(const flex_gpu_launch* launch) {
    const Block block(launch, block_x());
    const uint32_t shared = shared_base();
    const int32_t d = flex_hook_extent(launch, kExtentD), dv = flex_hook_extent(launch, kExtentDv);
    const int32_t hkv = block.kv_head();
    const bool aligned = launch->aligned != 0;
    if (thread_index() == 0) {
        store_shared8(shared + kKeysAt, row_address(launch->k, block.b, hkv, 0, kBytes));
        store_shared8(shared + kValuesAt, row_address(launch->v, block.b, hkv, 0, kBytes));
    }
    block_barrier();

    const Row own = own_row(block, Place());
    const bool folded = block.has(kPlainScore) && block.has(kDefaultScale);  // scores are the bare products
    const float unit = folded ? own.scale : 1.0f;

    load_q(block, shared, d, aligned);

    bool careful = false;
    Outputs o;
    float normalise[kRows];
    Statistic statistic[kRows];
    for (;;) {
        FLEX_UNROLL
        for (int32_t m = 0; m < kM; m++) FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n++) FLEX_UNROLL
        for (int32_t e = 0; e < 4; e++) o[m][n][e] = 0;
        Softmax softmax(unit * kLog2e);
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
                clean<kTeam>(shared, ring.read + at.slice_offset(), at.team_thread(), coming[0].key());
                team_barrier();
            }

            apply_clauses(s, block, own, coming[0]);
            each_score(s, [&](float& x, int32_t i, int32_t) { softmax.highest[i] = max(softmax.highest[i], x); });
            float bases[kRows];
            softmax.ask_bases(bases, coming[0].code);
            if (softmax.must_move(bases)) {
                float factor[kRows];
                softmax.move(bases, factor, Place().t);
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) FLEX_UNROLL
                for (int32_t n = 0; n < kNv; n++) FLEX_UNROLL
                for (int32_t e = 0; e < 4; e++) o[m][n][e] *= factor[m * 2 + e / 2];
            }
            float c = softmax.c, offset[kRows];
            FLEX_UNROLL
            for (int32_t i = 0; i < kRows; i++) offset[i] = shown(bases[i]) * c;
            if (softmax.exact) {
                each_score(s, [&](float& x, int32_t i, int32_t) { x = (x - shown(bases[i])) * c; });
                c = 1;
                FLEX_UNROLL
                for (int32_t i = 0; i < kRows; i++) offset[i] = 0;
            }
            const uint32_t v = ring.read + Place().v_offset();
            FLEX_UNROLL
            for (int32_t step = 0; step < kWarpKeys / (kHalf ? 16 : 8); step++) {
                A p[kM];
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) p[m] = weigh(s, m, step, softmax, c, offset);
                multiply_pv(o, p, v, step);
            }
            ring.advance();
            pull();
        }

        bool suspicious = false;
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) {
            statistic[i] = softmax.finish(i, unit, &normalise[i]);
            bool bad = false;
            FLEX_UNROLL
            for (int32_t n = 0; n < kNv; n++) bad |= __builtin_isunordered(o[i / 2][n][i % 2 * 2], o[i / 2][n][i % 2 * 2 + 1]);
            suspicious |= bad && !is_nan(statistic[i].sum);
        }
        copies_wait<0>();
        // Also: all warps are done with the tiles in shared memory.
        const bool again = block_any(suspicious) && !careful;
        if (!again) break;
        careful = true;
        if (thread_index() == 0) clear_note(shared);
        block_barrier();
    }

    const Place place;
    FLEX_UNROLL
    for (int32_t i = 0; i < kRows; i++) {
        stage(shared, o, i, place);
        if (place.t == 0)
            store_shared4(staged_statistic(shared, place.slice(), place.row(i)),
                          {bits_of(statistic[i].greatest), bits_of(statistic[i].sum), bits_of(normalise[i]), 0});
    }
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
