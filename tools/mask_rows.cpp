#include "tools/mask_rows.h"

#include <sched.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "ir/variance.h"

namespace flexc::tools {

ir::Attention mask_and_score(const ir::Attention& attention) {
    ir::Attention out = attention;
    out.normalize = ir::Normalize::Softmax;
    out.sink = out.output = out.query = out.key = {};
    out.emits.clear();
    return out;
}

std::unique_ptr<MaskRows> MaskRows::make(Session& session, const ir::Attention& attention, const Launch& launch,
                                         const KernelOptions& options) {
    auto kernel = session.compile_cpu(attention, options);
    if (!kernel) return nullptr;
    auto rows = make(session, attention, launch, *kernel);
    if (rows) rows->owned_ = std::move(kernel);
    return rows;
}

std::unique_ptr<MaskRows> MaskRows::make(Session& session, const ir::Attention& attention, const Launch& launch, const CpuKernel& kernel) {
    auto rows = std::make_unique<MaskRows>();
    rows->kernel_ = &kernel;
    if (const flex::Status status = flex::pack(kernel.desc, {launch.extents}, launch.args, &rows->packed_); !status.ok()) {
        report_status(session, status);
        return nullptr;
    }
    const ir::Variance variance = attention.mask.valid() ? ir::variance(attention.graph)[attention.mask.value] : ir::Variance{};
    rows->varies_b_ = (variance & ir::kVariesB) != 0;
    rows->varies_h_ = (variance & ir::kVariesH) != 0;
    return rows;
}

void MaskRows::mask(int64_t b, int64_t h, int64_t q, int64_t k, int64_t n, uint8_t* out) const {
    kernel_->code->table().mask_row(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q),
                                    static_cast<int32_t>(k), static_cast<int32_t>(n), out);
}

void MaskRows::score(int64_t b, int64_t h, int64_t q, int64_t k, int64_t n, float* values) const {
    kernel_->code->table().score_row(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q),
                                     static_cast<int32_t>(k), static_cast<int32_t>(n), values);
}

float MaskRows::scale(int64_t b, int64_t h, int64_t q) const {
    return kernel_->code->table().scale(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q));
}

bool MaskRows::prepare_tiles(Session& session, int threads) {
    const flex::Status status = flex::prepare(kernel_->code->table(), threads, &packed_);
    if (!status.ok()) report_status(session, status);
    return status.ok();
}

int32_t MaskRows::tile_state(int64_t b, int64_t h, int64_t q0, int64_t q1, int64_t k0, int64_t k1) const {
    return kernel_->code->table().tile_state(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q0),
                                             static_cast<int32_t>(q1), static_cast<int32_t>(k0), static_cast<int32_t>(k1));
}

std::pair<int64_t, int64_t> MaskRows::kv_range(int64_t b, int64_t h, int64_t q0, int64_t q1) const {
    int32_t range[2] = {};
    kernel_->code->table().kv_range(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q0),
                                    static_cast<int32_t>(q1), range);
    return {range[0], range[1]};
}

int thread_count(int asked) {
    if (asked > 0) return asked;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(int64_t n, int threads, const std::function<void(int64_t)>& fn) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t i = next++; i < n; i = next++) fn(i);
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < std::min<int64_t>(n, thread_count(threads)); ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
}

namespace {

/// The (b, h) pairs whose masks can differ, and how many pairs each stands for.
struct Heads {
    int64_t b = 0, h = 0;
    int64_t copies = 0;

    Heads(const MaskRows& rows, const Launch& launch) {
        const int64_t all_b = launch.extent(ir::ExtentVar::B), all_h = launch.extent(ir::ExtentVar::H);
        b = rows.varies_b() ? all_b : std::min<int64_t>(all_b, 1);
        h = rows.varies_h() ? all_h : std::min<int64_t>(all_h, 1);
        copies = b * h == 0 ? 0 : (all_b / b) * (all_h / h);
    }
};

/// By the mask of each element, as a flex_tile_state_value. `row` has room for n.
int32_t exact_state(const MaskRows& rows, int64_t b, int64_t h, int64_t q0, int64_t q1, int64_t k0, int64_t n, std::vector<uint8_t>& row) {
    bool kept = false, masked = false;
    for (int64_t q = q0; q < q1; ++q) {
        rows.mask(b, h, q, k0, n, row.data());
        const int64_t sum = std::accumulate(row.begin(), row.begin() + n, int64_t{0});
        kept = kept || sum != 0;
        masked = masked || sum != n;
        if (kept && masked) return FLEX_TILE_PARTIAL;
    }
    return kept ? FLEX_TILE_FULL : FLEX_TILE_SKIP;
}

}  // namespace

TileCounts count_tiles(const MaskRows& rows, const Launch& launch, int64_t tile_q, int64_t tile_k, CountBy by, int threads) {
    const int64_t queries = launch.extent(ir::ExtentVar::Q), keys = launch.extent(ir::ExtentVar::K);
    const Heads heads(rows, launch);
    const int64_t strips = (queries + tile_q - 1) / tile_q, columns = (keys + tile_k - 1) / tile_k;
    if (strips * columns == 0) return {};
    std::atomic<int64_t> full{0}, partial{0};
    parallel_for(heads.b * heads.h * strips, threads, [&](int64_t i) {
        const int64_t strip = i % strips, h = i / strips % heads.h, b = i / strips / heads.h;
        const int64_t q0 = strip * tile_q, q1 = std::min(queries, q0 + tile_q);
        std::vector<uint8_t> row(by != CountBy::Analysis ? static_cast<size_t>(std::min(tile_k, keys)) : 0);
        const auto [from, to] = by == CountBy::Elements ? std::pair<int64_t, int64_t>(0, keys) : rows.kv_range(b, h, q0, q1);
        int64_t here[3] = {};
        for (int64_t k0 = from / tile_k * tile_k; k0 < to; k0 += tile_k) {
            const int64_t k1 = std::min(keys, k0 + tile_k);
            int32_t state = by == CountBy::Elements ? int32_t{FLEX_TILE_PARTIAL} : rows.tile_state(b, h, q0, q1, k0, k1);
            if (by != CountBy::Analysis && state == FLEX_TILE_PARTIAL) state = exact_state(rows, b, h, q0, q1, k0, k1 - k0, row);
            ++here[state];
        }
        full += here[FLEX_TILE_FULL];
        partial += here[FLEX_TILE_PARTIAL];
    });
    const int64_t all = heads.b * heads.h * strips * columns;
    return {full * heads.copies, partial * heads.copies, (all - full - partial) * heads.copies};
}

int64_t count_kept(const MaskRows& rows, const Launch& launch, int threads) {
    const int64_t queries = launch.extent(ir::ExtentVar::Q), keys = launch.extent(ir::ExtentVar::K);
    const Heads heads(rows, launch);
    constexpr int64_t kTile = 128;
    const int64_t strips = (queries + kTile - 1) / kTile;
    if (strips * keys == 0) return 0;
    std::atomic<int64_t> kept{0};
    parallel_for(heads.b * heads.h * strips, threads, [&](int64_t i) {
        const int64_t strip = i % strips, h = i / strips % heads.h, b = i / strips / heads.h;
        const int64_t q0 = strip * kTile, q1 = std::min(queries, q0 + kTile);
        std::vector<uint8_t> row(kTile);
        const auto [from, to] = rows.kv_range(b, h, q0, q1);
        int64_t here = 0;
        for (int64_t k0 = from / kTile * kTile; k0 < to; k0 += kTile) {
            const int64_t n = std::min(keys, k0 + kTile) - k0;
            const int32_t state = rows.tile_state(b, h, q0, q1, k0, k0 + n);
            if (state == FLEX_TILE_FULL) here += (q1 - q0) * n;
            if (state != FLEX_TILE_PARTIAL) continue;
            for (int64_t q = q0; q < q1; ++q) {
                rows.mask(b, h, q, k0, n, row.data());
                here += std::accumulate(row.begin(), row.begin() + n, int64_t{0});
            }
        }
        kept += here;
    });
    return kept * heads.copies;
}

double mask_work(const MaskRows& rows, const Launch& launch) {
    const Heads heads(rows, launch);
    return static_cast<double>(heads.b) * static_cast<double>(heads.h) * static_cast<double>(launch.extent(ir::ExtentVar::Q)) *
           static_cast<double>(launch.extent(ir::ExtentVar::K));
}

}  // namespace flexc::tools
