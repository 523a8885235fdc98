#include "tools/mask_rows.h"

#include <sched.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "ir/variance.h"

namespace flexc::tools {

std::optional<ir::Attention> mask_and_score(Session& session, const ir::Attention& attention, const std::string& command) {
    if (attention.blocks) {
        session.sink.report(diag::Kind::unsupported_clause, {}, std::string("`blocks`"), attention.name, command);
        return std::nullopt;
    }
    ir::Attention out = attention;
    out.normalize = ir::Normalize::Softmax;
    out.sink = out.output = out.query = out.key = {};
    out.emits.clear();
    return out;
}

std::unique_ptr<MaskRows> MaskRows::make(Session& session, const ir::Attention& attention, const Launch& launch, const CompileOptions& options) {
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
    kernel_->code->table().mask_row(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q), static_cast<int32_t>(k),
                                    static_cast<int32_t>(n), out);
}

void MaskRows::score(int64_t b, int64_t h, int64_t q, int64_t k, int64_t n, float* values) const {
    kernel_->code->table().score_row(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q), static_cast<int32_t>(k),
                                     static_cast<int32_t>(n), values);
}

float MaskRows::scale(int64_t b, int64_t h, int64_t q) const {
    return kernel_->code->table().scale(&packed_.c, static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(q));
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

enum class State : uint8_t { Skip, Partial, Full };

State tile_state(const MaskRows& rows, int64_t b, int64_t h, int64_t q0, int64_t q1, int64_t k0, int64_t n, std::vector<uint8_t>& row) {
    bool kept = false, masked = false;
    for (int64_t q = q0; q < q1; ++q) {
        rows.mask(b, h, q, k0, n, row.data());
        const int64_t sum = std::accumulate(row.begin(), row.begin() + n, int64_t{0});
        kept = kept || sum != 0;
        masked = masked || sum != n;
        if (kept && masked) return State::Partial;
    }
    return kept ? State::Full : State::Skip;
}

}  // namespace

TileCounts count_tiles(const MaskRows& rows, const Launch& launch, int64_t tile_q, int64_t tile_k, int threads) {
    const int64_t queries = launch.extent(ir::ExtentVar::Q), keys = launch.extent(ir::ExtentVar::K);
    const Heads heads(rows, launch);
    const int64_t strips = (queries + tile_q - 1) / tile_q;
    std::atomic<int64_t> counts[3] = {};
    parallel_for(heads.b * heads.h * strips, threads, [&](int64_t i) {
        const int64_t strip = i % strips, h = i / strips % heads.h, b = i / strips / heads.h;
        std::vector<uint8_t> row(static_cast<size_t>(std::min(tile_k, keys)));
        int64_t here[3] = {};
        for (int64_t k0 = 0; k0 < keys; k0 += tile_k) {
            const State state = tile_state(rows, b, h, strip * tile_q, std::min(queries, (strip + 1) * tile_q), k0, std::min(tile_k, keys - k0), row);
            ++here[static_cast<size_t>(state)];
        }
        for (size_t s = 0; s < 3; ++s) counts[s] += here[s];
    });
    return {counts[static_cast<size_t>(State::Full)] * heads.copies, counts[static_cast<size_t>(State::Partial)] * heads.copies,
            counts[static_cast<size_t>(State::Skip)] * heads.copies};
}

int64_t count_kept(const MaskRows& rows, const Launch& launch, int threads) {
    const int64_t queries = launch.extent(ir::ExtentVar::Q), keys = launch.extent(ir::ExtentVar::K);
    const Heads heads(rows, launch);
    std::atomic<int64_t> kept{0};
    parallel_for(heads.b * heads.h * queries, threads, [&](int64_t i) {
        const int64_t q = i % queries, h = i / queries % heads.h, b = i / queries / heads.h;
        std::vector<uint8_t> row(static_cast<size_t>(keys));
        rows.mask(b, h, q, 0, keys, row.data());
        kept += std::accumulate(row.begin(), row.end(), int64_t{0});
    });
    return kept * heads.copies;
}

double mask_work(const MaskRows& rows, const Launch& launch) {
    const Heads heads(rows, launch);
    return static_cast<double>(heads.b) * static_cast<double>(heads.h) * static_cast<double>(launch.extent(ir::ExtentVar::Q)) *
           static_cast<double>(launch.extent(ir::ExtentVar::K));
}

}  // namespace flexc::tools
