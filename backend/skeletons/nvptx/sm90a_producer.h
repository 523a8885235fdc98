// The producer: decides which pieces and tiles come, and brings them.
//
// Its first warp does that alone where tensor maps exist: one lane issues the copies, all lanes walk over the tiles. Where there are none, and for careful pieces, it
// calls the other three warps, and the 128 threads copy rows. Order of copies, for tiles a b c: K a, Q, K b, V a, K c, V b, V c, as they are needed.
#pragma once

#include "backend/skeletons/nvptx/careful.h"
#include "backend/skeletons/nvptx/copy.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/memory.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/sm90a_async.h"
#include "backend/skeletons/nvptx/sm90a_pieces.h"
#include "backend/skeletons/nvptx/swizzle.h"
#include "backend/skeletons/nvptx/walk.h"

namespace flexgpu {

FLEX_DEVICE void producer_barrier() {
    named_barrier(kBarrierOfProducer, kGroup);
}

/// A tile of a head's K or V, from row `first` on, to panels, by the 128 threads of the producer; complete for the calling thread. Loops are rolled: the producer has
/// few registers, and this is not the usual way.
template <int32_t Panels>
FLEX_DEVICE void copy_keys(uint32_t to, const flex_gpu_view& view, const Block& block, int32_t columns, int32_t first, int32_t thread) {
    thread = opaque(thread);  // or what follows from it would be kept in registers from before all loops
    const int64_t stride = view.row_stride * kBytes;
    const uint64_t head = row_address(view, block.b, block.kv_head(), first, kBytes);
    const int32_t rows = block.keys - first;
    if (block.launch->aligned != 0) {
        constexpr int32_t kChunks = kPanelBytes / 16, kDown = kGroup / kChunks;  // kDown is a multiple of 8: the swizzle stays the same
        const int32_t column = thread % kChunks * (16 / kBytes), row = thread / kChunks;
        FLEX_ROLLED
        for (int32_t p = 0; p < Panels; p++) {
            uint64_t source = head + uint64_t(stride * row) + uint64_t((p * kMapColumns + column) * kBytes);
            uint32_t at = to + uint32_t(p * kPanelK) + Swizzle<kPanelBytes>::offset(row, thread % kChunks);
            const int32_t there = p * kMapColumns + column < columns ? rows : 0;
            FLEX_ROLLED
            for (int32_t r = row; r < kTileK; r += kDown) {
                copy_async16(at, source, r < there);
                source += uint64_t(stride * kDown);
                at += uint32_t(kDown * kPanelBytes);
            }
        }
        copies_commit();
        copies_wait<0>();
        return;
    }
    constexpr int32_t kDown = kGroup / kMapColumns, kBatch = 4;
    static_assert(kTileK % (kDown * kBatch) == 0);
    const int32_t column = thread % kMapColumns, row = thread / kMapColumns;
    FLEX_ROLLED
    for (int32_t p = 0; p < Panels; p++) {
        uint64_t source = head + uint64_t(stride * row) + uint64_t((p * kMapColumns + column) * kBytes);
        const uint32_t panel = to + uint32_t(p * kPanelK + column * kBytes % 16);
        const int32_t there = p * kMapColumns + column < columns ? rows : 0;
        FLEX_ROLLED
        for (int32_t r = row; r < kTileK; r += kDown * kBatch) {
            Bits value[kBatch];
            FLEX_UNROLL
            for (int32_t j = 0; j < kBatch; j++) {
                value[j] = r + j * kDown < there ? load_global<Bits>(source) : Bits(0);
                source += uint64_t(stride * kDown);
            }
            FLEX_UNROLL
            for (int32_t j = 0; j < kBatch; j++)
                store_shared(panel + Swizzle<kPanelBytes>::offset(r + j * kDown, column * kBytes / 16), value[j]);
        }
    }
}

/// The rows of a piece, likewise.
FLEX_DEVICE void copy_queries(uint32_t to, const Block& block, int32_t thread) {
    thread = opaque(thread);  // or what follows from it would be kept in registers from before all loops
    const flex_gpu_launch* launch = block.launch;
    const int32_t d = flex_hook_extent(launch, kExtentD), lane = thread % 32;
    FLEX_ROLLED
    for (int32_t r = thread / 32; r < kTileQ; r += kGroup / 32) {
        const int32_t q = block.query(r);
        const uint64_t source = row_address(launch->q, block.b, block.head(r), min(q, block.queries - 1), kBytes);
        const uint32_t row = to + uint32_t(r / 64 * kGroupQ);
        FLEX_ROLLED
        for (int32_t column = lane; column < kPanels * kMapColumns; column += 32) {
            const bool exists = q < block.queries && column < d;
            const Bits value = exists ? load_global<Bits>(source + uint64_t(column * kBytes)) : Bits(0);
            const int32_t within = column % kMapColumns * kBytes;
            store_shared(
                row + uint32_t(column / kMapColumns * kPanelQ) + Swizzle<kPanelBytes>::offset(r % 64, within / 16) + uint32_t(within % 16),
                value);
        }
    }
}

struct Producer {
    const flex_gpu_launch* launch;
    const flex_gpu_tensors* tensors;
    uint32_t shared;
    int32_t thread;      // of the producer
    Turn k{}, v{};       // the slots to fill next
    int32_t number = 0;  // of the record to publish next

    template <bool Mapped>
    FLEX_DEVICE void load_k(Visit tile, bool is_last) {
        const uint32_t full = shared + uint32_t(kKFull + k.slot * 8), slot = shared + uint32_t(kKAt + k.slot * kKeyBytes);
        const Piece piece = Piece::load(record_address(shared, number));
        wait(shared + uint32_t(kKEmpty + k.slot * 8), k.parity ^ 1);
        if constexpr (!Mapped) {
            const Block block = piece.block(launch);
            copy_keys<kPanels>(slot, launch->k, block, flex_hook_extent(launch, kExtentD), tile.first(), thread);
            fence_async();
            producer_barrier();
        }
        if (thread == 0) {
            store_shared(shared + uint32_t(kCodesAt + k.slot * 4), uint32_t(tile.code | (is_last ? kLastTile : 0)));
            if constexpr (Mapped) {
                const Block block = piece.block(launch);
                const int32_t head = block.kv_head(), batch = launch->k.b_stride ? block.b : 0;
                arrive_expecting(full, kKeyBytes);
                FLEX_UNROLL
                for (int32_t p = 0; p < kPanels; p++)
                    load_box(slot + uint32_t(p * kPanelK), tensors->k, p * kMapColumns, tile.first(), head, batch, full);
            } else {
                arrive(full);
            }
        }
        k.advance();
    }

    template <bool Mapped>
    FLEX_DEVICE void load_v(Visit tile, bool careful) {
        const uint32_t full = shared + uint32_t(kVFull + v.slot * 8), slot = shared + uint32_t(kVAt + v.slot * kValueBytes);
        const uint32_t record = record_address(shared, number);
        const Piece piece = Piece::load(record);
        wait(shared + uint32_t(kVEmpty + v.slot * 8), v.parity ^ 1);
        if constexpr (!Mapped) {
            const Block block = piece.block(launch);
            copy_keys<kValuePanels>(slot, launch->v, block, flex_hook_extent(launch, kExtentDv), tile.first(), thread);
            if (careful) {
                producer_barrier();
                clean<kGroup>(record + kNoteOfRecordAt, slot, thread, tile.first());
            }
            fence_async();
            producer_barrier();
        }
        if (thread == 0) {
            if constexpr (Mapped) {
                const Block block = piece.block(launch);
                const int32_t head = block.kv_head(), batch = launch->v.b_stride ? block.b : 0;
                arrive_expecting(full, kValueBytes);
                FLEX_UNROLL
                for (int32_t p = 0; p < kValuePanels; p++)
                    load_box(slot + uint32_t(p * kPanelK), tensors->v, p * kMapColumns, tile.first(), head, batch, full);
            } else {
                arrive(full);
            }
        }
        v.advance();
    }

    /// Q of the piece, and with it the record.
    template <bool Mapped>
    FLEX_DEVICE void load_q(int32_t kind) {
        const uint32_t record = record_address(shared, number), full = shared + uint32_t(kQFull);
        wait(shared + uint32_t(kQEmpty), uint32_t(number & 1) ^ 1);
        const bool has_tiles = (kind & kHasTiles) != 0;
        if constexpr (!Mapped) {
            if (has_tiles) {
                copy_queries(shared + uint32_t(kQAt), Piece::load(record).block(launch), thread);
                fence_async();
            }
            producer_barrier();
        }
        if (thread == 0) {
            store_shared(record + kKindAt, uint32_t(kind));
            if (Mapped && has_tiles) {
                const Piece piece = Piece::load(record);
                const int32_t batch = launch->q.b_stride ? piece.b : 0, pack = launch->pack;
                arrive_expecting(full, kConsumers * kGroupQ);
                FLEX_UNROLL
                for (int32_t w = 0; w < kConsumers; w++) {
                    const int32_t q = (piece.row0 + w * 64) / pack;
                    FLEX_UNROLL
                    for (int32_t p = 0; p < kPanels; p++)
                        load_box(shared + uint32_t(kQAt + w * kGroupQ + p * kPanelQ), tensors->q, p * kMapColumns, piece.h0, q, batch,
                                 full);
                }
            } else {
                arrive(full);
            }
        }
    }

    /// All of the piece whose record has been written.
    template <bool Mapped>
    FLEX_DEVICE void produce(bool careful) {
        const KeysOfPiece axis{launch, record_address(shared, number)};
        Walk<kTileK> walk = [&] {
            const KeysOfPiece::Here here = axis.here();
            return Walk<kTileK>(here.block.first_key(here.split));
        }();
        Visit now = walk.next(axis), next = now.exists() ? walk.next(axis) : Visit();
        if (now.exists()) load_k<Mapped>(now, !next.exists());
        load_q<Mapped>((careful ? kCareful : 0) | (now.exists() ? kHasTiles : 0));
        while (now.exists()) {
            const Visit after = next.exists() ? walk.next(axis) : Visit();
            if (next.exists()) load_k<Mapped>(next, !after.exists());
            load_v<Mapped>(now, careful);
            now = next;
            next = after;
        }
        number++;
    }

    // The first warp calls the others, by eight words: what to do, and where it stands.
    enum Call { kStop, kProduce, kProduceCarefully };
    FLEX_DEVICE void call(int32_t what) const {
        if (thread != 0) return;
        const uint32_t at = shared + uint32_t(kCallAt);
        store_shared4(at, {{uint32_t(what), uint32_t(number), uint32_t(k.slot), k.parity}});
        store_shared4(at + 16, {{uint32_t(v.slot), v.parity, 0, 0}});
    }
    FLEX_DEVICE int32_t called() {
        const uint32_t at = shared + uint32_t(kCallAt);
        const Words4 a = load_shared4(at), b = load_shared4(at + 16);
        number = int32_t(a.w[1]);
        k = {int32_t(a.w[2]), a.w[3]};
        v = {int32_t(b.w[0]), b.w[1]};
        return int32_t(a.w[0]);
    }

    [[nodiscard]] FLEX_DEVICE bool is_suspicious(int32_t piece) const {
        wait(done_barrier(shared, piece), uint32_t(piece >> 1 & 1));
        return load_shared(record_address(shared, piece) + kSuspiciousAt) != 0;
    }
    /// The piece of work after this one.
    [[nodiscard]] FLEX_DEVICE int32_t take(int32_t work) const {
        const int32_t grid = __nvvm_read_ptx_sreg_nctaid_x();
        if (tensors->next_work == 0) return work + grid;
        uint32_t taken = 0;
        if (thread == 0) asm volatile("atom.global.add.u32 %0, [%1], 1;" : "=r"(taken) : "l"(tensors->next_work) : "memory");
        return __nvvm_shfl_sync_idx_i32(kAllLanes, int32_t(taken), 0, 31) + grid;
    }
    /// Of the first warp: produces as long as it can do so alone. Then what all are to do.
    FLEX_DEVICE int32_t lead(int32_t* work) {
        for (;;) {
            int32_t again = -1;  // the number of a record whose piece is to be done again
            if (number >= 2 && is_suspicious(number - 2)) again = number - 2;
            if (again < 0 && *work >= tensors->work) {
                if (number >= 1 && is_suspicious(number - 1)) again = number - 1;
                if (again < 0) return kStop;
            }
            const uint32_t record = record_address(shared, number);
            const Piece piece = again >= 0 ? Piece::load(record_address(shared, again)) : Piece::numbered(launch, *work);
            warp_barrier();  // all have read
            if (thread == 0) {
                if (again >= 0) store_shared(record_address(shared, again) + kSuspiciousAt, 0u);
                piece.store(record);
                store_shared(record + kSuspiciousAt, 0u);
                clear_note(record + kNoteOfRecordAt);
            }
            warp_barrier();
            if (again >= 0) return kProduceCarefully;
            *work = take(*work);
            if (tensors->is_mapped == 0) return kProduce;
            produce<true>(false);
        }
    }

    FLEX_DEVICE void run() {
        int32_t work = block_x();
        for (;;) {
            if (thread < 32) call(lead(&work));
            producer_barrier();
            const int32_t what = called();
            if (what == kStop) break;
            produce<false>(what == kProduceCarefully);
            producer_barrier();
        }
        if (thread < 32) load_q<true>(kEnd);
    }
};

}  // namespace flexgpu
