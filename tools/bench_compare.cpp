// A comparison: at each point of the sweep all contenders are launched in turn, round after round, and each round begins with another one. Clocks and neighbours change
// within seconds; within a round all see the same, so quotients are taken round by round and their median is told.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <map>

#include "tools/bench.h"
#include "tools/bench_table.h"
#include "tools/bench_variants.h"
#include "tools/io/atomic_file.h"
#include "tools/picture/plot.h"
#include "tools/progress.h"

namespace flexc::tools {
namespace {

struct Entrant {
    const Variant* variant = nullptr;
    std::unique_ptr<Contender> contender = std::make_unique<Contender>();
    double once = 0;  // ms of a launch when warm
    int row = 1;      // launches of a round
    std::vector<double> rounds;
};

/// Launches too short to time are launched several times a round.
constexpr double kRowMs = 2;
constexpr double kSecondsEach = 0.5;  // for an entrant at one point, where its launches are not longer
constexpr int kFewest = 5, kMost = 200;
constexpr double kLongMs = 4000;  // rounds that take longer are fewer
constexpr int kFewestLong = 3;

/// All rounds at one point. Null, or the contender that failed.
Contender* measure(std::vector<Entrant>& entrants, int repeat, Progress& progress, double weight) {
    double round_ms = 0;
    for (Entrant& each : entrants) {
        const auto step = progress.step(each.variant->label + ", first launch");
        auto ms = each.contender->warm_up();
        if (ms && *ms < 500) ms = each.contender->launch(1);
        if (!ms) return each.contender.get();
        each.once = *ms;
        each.row = static_cast<int>(std::clamp(std::ceil(kRowMs / std::max(*ms, 1e-3)), 1.0, 1000.0));
        round_ms += each.once * each.row;
    }
    const double fitting = kSecondsEach * 1e3 * static_cast<double>(entrants.size()) / std::max(round_ms, 1e-3);
    const int fewest = round_ms > kLongMs ? kFewestLong : kFewest;
    const int rounds = repeat > 0 ? repeat : std::clamp(static_cast<int>(fitting), fewest, kMost);
    const double launches = static_cast<double>(rounds) * static_cast<double>(entrants.size());
    std::atomic<int> finished{0};
    const auto step = progress.step("", weight, [&finished, launches] { return finished / launches; });
    for (int round = 0; round < rounds; ++round) {
        if (round % std::max(rounds / 3, 1) == 0) entrants.front().contender->measure_peak();
        for (size_t i = 0; i < entrants.size(); ++i) {
            Entrant& each = entrants[(i + static_cast<size_t>(round)) % entrants.size()];
            const auto ms = each.contender->launch(each.row);
            if (!ms) return each.contender.get();
            each.rounds.push_back(*ms);
            ++finished;
        }
    }
    return nullptr;
}

std::vector<double> sorted(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values;
}

std::map<std::string, double> quotients(const Entrant& of, const std::vector<Entrant>& entrants) {
    std::map<std::string, double> out;
    for (const Entrant& base : entrants) {
        if (!base.variant->is_baseline || &base == &of) continue;
        if (of.contender->is_emulated()) {
            out[base.variant->label] = static_cast<double>(of.contender->instructions()) /
                                       static_cast<double>(std::max<uint64_t>(base.contender->instructions(), 1));
            continue;
        }
        std::vector<double> each;
        for (size_t r = 0; r < of.rounds.size(); ++r) each.push_back(of.rounds[r] / base.rounds[r]);
        out[base.variant->label] = median(sorted(each));
    }
    return out;
}

ComparedRow row_of(const Entrant& entrant, const std::vector<Entrant>& entrants, double peak, const std::optional<Sweep>& sweep,
                   size_t point) {
    const Contender& contender = *entrant.contender;
    ComparedRow out;
    out.label = entrant.variant->label;
    out.is_baseline = entrant.variant->is_baseline;
    out.against = quotients(entrant, entrants);
    const std::vector<double> times = sorted(entrant.rounds);
    out.instructions = contender.instructions();
    if (!times.empty()) {
        out.ms = median(times);
        out.gflops = contender.gflops(out.ms);
    }
    out.rounds = times.size();
    out.report = {{"ok", true}, {"variant", out.label}, {"baseline", out.is_baseline}};
    Json at = Json::object();
    if (sweep)
        for (const std::string& name : sweep->names) at[name] = sweep->values[point];
    out.report["sweep"] = at;
    out.report.update(contender.report(times, times.size() * static_cast<size_t>(entrant.row)));
    // Measured once for all that were launched in turn.
    if (!contender.gpu()) {
        out.report["fma_peak_gflops"] = peak;
        out.report["peak_fraction"] = peak > 0 ? out.gflops / peak : 0.0;
    }
    out.report["rounds"] = out.rounds;
    out.report["against"] = out.against;
    out.report["diagnostics"] = diagnostics_json(contender.prepared().session);
    return out;
}

std::string processor() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (const size_t colon = line.find(": "); line.starts_with("model name") && colon != std::string::npos)
            return line.substr(colon + 2);
    return "CPU";
}

std::string machine_text(const Contender& contender, const ExecuteOptions& execute) {
    if (contender.gpu()) return gpu_text(*contender.prepared().gpu, *contender.gpu());
    const int threads = thread_count(execute.threads);
    return fmt::format("{}, {}, {} thread{}", processor(), flex::name(contender.prepared().compile.level), threads,
                       threads == 1 ? "" : "s");
}

/// How long a point will take beside others: seconds, roughly.
double weight_of(const Variant& variant, const BenchOptions& options, size_t point, size_t entrants) {
    double work = options.backward ? 10 : 4;
    const InputOptions input = input_at(variant, options.sweep, point);
    const auto extent = [&](const char* name, double absent) {
        const auto found = input.shape.find(name);
        return found == input.shape.end() ? absent : static_cast<double>(found->second);
    };
    const double q = extent("Q", 1024);
    work *= extent("B", 1) * extent("H", 1) * q * extent("K", q) * extent("D", 64);
    constexpr double kRate = 5e10;  // of a second
    return static_cast<double>(entrants) * std::max(kSecondsEach, kFewest * work / kRate);
}

/// Extents that every point has in common: "B 1, H 8, D 64".
std::string fixed_extents(const Comparison& all) {
    static constexpr const char* kNames[] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
    const auto& first = all.points.front().extents;
    const auto& last = all.points.back().extents;
    std::string out;
    for (size_t i = 0; i < std::size(kNames); ++i) {
        if (first[i] != last[i] || (i == 2 && first[2] == first[1]) || (i == 6 && first[6] == first[5])) continue;
        out += fmt::format("{}{} {}", out.empty() ? "" : ", ", kNames[i], first[i]);
    }
    return out;
}

picture::Plot plot_of(const Comparison& all, const BenchOptions& options) {
    picture::Plot plot;
    std::string names;
    size_t variants = 0;
    for (const ComparedRow& row : all.points.front().rows) {
        constexpr size_t kNamed = 4;
        if (row.is_baseline) continue;
        if (++variants <= kNamed) names += (names.empty() ? "" : ", ") + row.label;
        if (variants == kNamed + 1) names += ", ...";
    }
    plot.title = names + (options.backward ? ", backward pass" : "");
    plot.subtitle = all.dtype + ", " + all.fixed;
    plot.footer = all.machine;
    plot.x_label = all.axis;
    const bool gflops = options.metric == "gflops" && !all.is_emulated;
    plot.y_label = all.is_emulated ? "warp instructions of a launch" : gflops ? "GFLOP/s of the elements kept" : "ms a launch, median";
    double low = 0, high = 0;
    for (const ComparedRow& row : all.points.front().rows) plot.series.push_back({row.label, {}, row.is_baseline});
    for (const ComparedPoint& point : all.points) {
        plot.x.push_back(static_cast<double>(point.value));
        for (size_t i = 0; i < point.rows.size(); ++i) {
            const ComparedRow& row = point.rows[i];
            const double y = all.is_emulated ? static_cast<double>(row.instructions) : gflops ? row.gflops : row.ms;
            plot.series[i].y.push_back(y);
            if (y <= 0) continue;
            low = low == 0 ? y : std::min(low, y);
            high = std::max(high, y);
        }
    }
    constexpr double kSpan = 8;
    plot.log_y = !gflops && high > kSpan * low;
    return plot;
}

/// Compiles, launches and counts. Null, or the session that has the report of what failed.
Session* run(const BenchOptions& options, Progress& progress, Session& own, std::vector<Variant>& variants, std::vector<Variant>& plain,
             std::vector<Entrant>& entrants, Comparison* out) {
    {
        const auto step = progress.step("reading");
        if (!find_variants(own, options, &variants) || !check_points(own, options, variants)) return &own;
    }
    const size_t points = options.sweep ? options.sweep->values.size() : 1;
    std::vector<double> weights;
    double total = 0;
    for (size_t point = 0; point < points; ++point) {
        weights.push_back(weight_of(variants.front(), options, point, variants.size() + 1));
        total += weights.back();
    }
    progress.expect(total);
    out->axis = options.sweep ? options.sweep->label() : "";
    for (size_t point = 0; point < points; ++point) {
        const std::string where = options.sweep ? fmt::format("{} = {}, ", out->axis, options.sweep->values[point]) : "";
        entrants.clear();
        const auto open = [&](const Variant& variant, const InputOptions& input) {
            Entrant& entrant = entrants.emplace_back();
            entrant.variant = &variant;
            const auto step = progress.step(where + variant.label);
            return entrant.contender->open(input, options.execute, options.backward) && entrant.contender->count();
        };
        const auto failed = [&] { return &entrants.back().contender->session(); };
        for (const Variant& each : variants)
            if (!open(each, input_at(each, options.sweep, point))) return failed();
        const Launch& launch = entrants.front().contender->prepared().launch;
        if (point == 0) {
            std::vector<int64_t> kept;
            for (const Entrant& each : entrants) kept.push_back(each.contender->kept().value_or(0));
            plain = baselines(options, kept, launch);
        }
        for (const Variant& each : plain)
            if (!open(each, plain_input(each, launch))) return failed();

        ComparedPoint& compared = out->points.emplace_back();
        compared.value = options.sweep ? options.sweep->values[point] : 1;
        compared.extents = entrants.front().contender->prepared().launch.builtin;
        out->is_emulated = entrants.front().contender->is_emulated();
        if (out->is_emulated) {
            for (Entrant& each : entrants) {
                const auto step = progress.step(where + each.variant->label, weights[point] / static_cast<double>(entrants.size()),
                                                each.contender->gpu()->share(options.backward));
                if (!each.contender->warm_up()) return &each.contender->session();
            }
        } else if (Contender* failure = measure(entrants, options.repeat, progress, weights[point])) {
            return &failure->session();
        }
        const Contender& first = *entrants.front().contender;
        for (const Entrant& each : entrants) compared.rows.push_back(row_of(each, entrants, first.peak_gflops(), options.sweep, point));
        out->machine = machine_text(first, options.execute);
        out->dtype = flex::name(first.prepared().launch.dtype);
    }
    out->fixed = fixed_extents(*out);
    return nullptr;
}

}  // namespace

bool is_comparison(const BenchOptions& options) {
    return options.files.size() > 1 || options.names.size() > 1 || options.sweep || !options.plot.empty() || !options.against.empty();
}

int compare(const BenchOptions& options) {
    const bool json = options.input.json;
    Session own;
    std::vector<Variant> variants, plain;
    std::vector<Entrant> entrants;
    Comparison all;
    const auto give_up = [&](const std::string& reason) {
        own.sink.report(diag::Kind::cannot_write, {}, options.plot.string(), reason);
        return fail(own, json);
    };
    if (!options.plot.empty())
        if (const flex::Status status = io::AtomicFile(options.plot).open(); !status.ok()) return give_up(status.text());
    Session* failed = nullptr;
    {
        Progress progress("flexc bench", json);
        failed = run(options, progress, own, variants, plain, entrants, &all);
    }
    if (failed) {
        const int code = fail(*failed, json);
        if (!json && options.sweep && !all.points.empty())
            fmt::print(stderr, "the sweep ended at {} = {}\n", all.axis,
                       options.sweep->values[std::min(all.points.size(), options.sweep->values.size() - 1)]);
        return code;
    }
    all.pass = pass_name(options.backward);
    if (!options.plot.empty())
        if (const flex::Status status = picture::write_plot(options.plot, plot_of(all, options)); !status.ok())
            return give_up(status.text());
    if (json) {
        Json list = Json::array();
        for (const ComparedPoint& point : all.points)
            for (const ComparedRow& row : point.rows) list.push_back(row.report);
        return print_out(list.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n") ? kOk : kInputWrong;
    }
    for (const Entrant& each : entrants)
        if (!each.variant->is_baseline && (variants.size() == 1 || options.input.in.empty()))
            (void)succeed(each.contender->session(), false);
    std::string text = table_text(all, picture::terminal());
    if (!options.plot.empty()) text += "wrote " + options.plot.string() + "\n";
    return print_out(text) ? kOk : kInputWrong;
}

}  // namespace flexc::tools
