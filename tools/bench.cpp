// flexc bench: the speed of one attention. On the CPU beside the multiply-add rate that the machine sustains in the same minute; on a GPU by itself; on the
// emulated GPU, whose time means nothing, the number of instructions.
#include "tools/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <memory>

#include "tools/picture/plot.h"
#include "tools/progress.h"

namespace flexc::tools {
namespace {

/// Launches in a few groups with a measurement of the peak before each: clocks and neighbours change, and both shall see the same.
bool measure(Contender& contender, int repeat, Progress& progress, std::vector<double>* times) {
    constexpr int kGroups = 4;
    constexpr double kSeconds = 1.0, kRowMs = 10;
    constexpr int kMostRows = 50;
    std::optional<double> warm;
    {
        flex::CpuProgress done;
        const auto step = progress.step("first launch", 1, share_of(done));
        warm = contender.warm_up(progress.counted(done));
    }
    const bool gpu = contender.gpu() != nullptr;
    if (warm && gpu) warm = contender.launch(1);
    if (!warm) return false;
    // On a GPU rows of launches are long enough that starting one costs nothing beside them.
    const int row = gpu && repeat == 0 ? static_cast<int>(std::clamp(kRowMs / std::max(*warm, 1e-3), 1.0, 1000.0)) : 1;
    const double most = gpu ? kMostRows : 1000.0;
    const int fitting = static_cast<int>(std::clamp(kSeconds * 1e3 / (std::max(*warm, 1e-3) * row), 5.0, most));
    const int rows = repeat > 0 ? repeat : fitting;
    progress.expect(1 + rows);
    std::atomic<int> finished{0};
    flex::CpuProgress done;
    const auto step = progress.step("", rows, [&, inner = share_of(done)] {
        // `done` counts the launches up to now together, of the total of those that have begun.
        return (gpu ? static_cast<double>(finished) : inner() * (finished + 1)) / rows;
    });
    for (int group = 0; group < kGroups; ++group) {
        contender.measure_peak();
        for (int i = rows * group / kGroups; i < rows * (group + 1) / kGroups; ++i) {
            const auto ms = contender.launch(row, progress.counted(done));
            if (!ms) return false;
            times->push_back(*ms);
            ++finished;
        }
    }
    std::sort(times->begin(), times->end());
    return true;
}

std::string gpu_page(const Contender& contender, const std::vector<double>& times) {
    const Prepared& prepared = contender.prepared();
    std::string text = fmt::format("{}{}  on {} ({})  {}\n", prepared.attention->name, prepared.backward ? ", backward" : "",
                                   contender.is_emulated() ? "emulated" : "cuda", gpu_text(*prepared.gpu, *contender.gpu()),
                                   flex::name(prepared.launch.dtype));
    const int64_t kept = contender.kept().value_or(0);
    if (times.empty()) {
        const auto instructions = static_cast<double>(contender.instructions());
        text += fmt::format("{} warp instructions, {:.3g} of a thread for each element kept; the time of an emulation says nothing\n",
                            contender.instructions(), kept > 0 ? 32.0 * instructions / static_cast<double>(kept) : 0);
    } else {
        const double ms = median(times);
        text += fmt::format("median {:.4g} ms of {} ({:.4g} to {:.4g}), {:.4g} TFLOP/s\n", ms, times.size(), times.front(), times.back(),
                            contender.gflops(ms) / 1e3);
    }
    return text + fmt::format("{} elements kept, {} bytes of workspace, compiled in {:.1f} ms\n", kept, contender.workspace_bytes(),
                              prepared.session.phases.total());
}

std::string cpu_page(const Contender& contender, const std::vector<double>& times, int threads) {
    const Prepared& prepared = contender.prepared();
    const double ms = median(times), gflops = contender.gflops(ms), peak = contender.peak_gflops();
    return fmt::format(
        "{}{}  on cpu ({}, {} thread{})  {}\n"
        "median {:.4g} ms of {} launches ({:.4g} to {:.4g})\n"
        "{:.4g} GFLOP/s, {:.1f} % of the {:.4g} that this machine's multiply-adds reach\n"
        "{} elements kept, {} bytes of workspace, compiled in {:.1f} ms\n",
        prepared.attention->name, prepared.backward ? ", backward" : "", flex::name(prepared.compile.level), threads,
        threads == 1 ? "" : "s", flex::name(prepared.launch.dtype), ms, times.size(), times.front(), times.back(), gflops,
        peak > 0 ? 100 * gflops / peak : 0, peak, contender.kept().value_or(0), contender.workspace_bytes(),
        prepared.session.phases.total());
}

/// Everything that takes long. False after a report.
bool work(Contender& contender, const BenchOptions& options, std::vector<double>* times) {
    Progress progress("flexc bench", options.input.json);
    {
        const auto step = progress.step("compiling");
        if (!contender.open(options.input, options.execute, options.backward)) return false;
    }
    if (contender.is_emulated()) {
        progress.expect(1);
        const auto step = progress.step("emulating", 1, contender.gpu()->share(options.backward));
        if (!contender.warm_up()) return false;
    } else if (!measure(contender, options.repeat, progress, times)) {
        return false;
    }
    const auto step = progress.step("counting what is kept");
    return contender.count();
}

int bench(BenchOptions options) {
    Contender contender;
    Session& session = contender.session();
    const bool json = options.input.json;
    if (options.execute.device == "interp") {
        session.sink.report(diag::Kind::no_device, {}, std::string("interp"))
            .help("the interpreter is an oracle and has no speed worth a number: `flexc run` times it");
        return fail(session, json);
    }
    if (is_comparison(options)) return compare(options);
    options.input.file = options.files.front();
    if (!options.names.empty()) options.input.name = options.names.front();
    std::vector<double> times;
    if (!work(contender, options, &times)) return fail(session, json);
    if (json) return succeed(session, true, contender.report(times, times.size()));
    const int code = succeed(session, false);
    const std::string text =
        contender.gpu() ? gpu_page(contender, times) : cpu_page(contender, times, thread_count(options.execute.threads));
    return print_out(text) ? code : kInputWrong;
}

}  // namespace

std::string Sweep::label() const {
    return fmt::format("{}", fmt::join(names, " = "));
}

std::optional<Sweep> parse_sweep(const std::string& text, std::string* fault) {
    Sweep out;
    const size_t last = text.rfind('=');
    if (last == std::string::npos || last == 0) {
        *fault = "expected a name and its values, such as `Q=K=512,1024,2048`, found `" + text + "`";
        return std::nullopt;
    }
    for (size_t at = 0; at <= last;) {
        const size_t end = text.find('=', at);
        const std::string name = text.substr(at, end - at);
        if (name.empty()) {
            *fault = "a name is missing in `" + text.substr(0, last) + "`";
            return std::nullopt;
        }
        if (std::find(out.names.begin(), out.names.end(), name) != out.names.end()) {
            *fault = "`" + name + "` stands there twice";
            return std::nullopt;
        }
        out.names.push_back(name);
        at = end + 1;
    }
    const std::string list = text.substr(last + 1);
    if (list.empty()) {
        *fault = "`" + out.label() + "` has no values: write them behind `=`, with commas";
        return std::nullopt;
    }
    for (size_t at = 0; at <= list.size();) {
        const size_t end = std::min(list.find(',', at), list.size());
        const std::string each = list.substr(at, end - at);
        int64_t value = 0;
        const auto [stop, error] = std::from_chars(each.data(), each.data() + each.size(), value);
        if (each.empty()) {
            *fault = "a value is missing in `" + list + "`";
            return std::nullopt;
        }
        if (error != std::errc() || stop != each.data() + each.size() || value < 1 || value > INT32_MAX) {
            *fault = "`" + each + "` is no whole number from 1 to 2147483647";
            return std::nullopt;
        }
        if (!out.values.empty() && value <= out.values.back()) {
            *fault = fmt::format("the values must rise, and {} comes after {}", value, out.values.back());
            return std::nullopt;
        }
        out.values.push_back(value);
        at = end + 1;
    }
    return out;
}

Command add_bench(CLI::App& root) {
    auto options = std::make_shared<BenchOptions>();
    options->execute.no_cache = true;  // compile_ms is the time of a compilation
    CLI::App* app = root.add_subcommand("bench", "Times an attention, or several side by side, on random or given arrays");
    add_files_options(*app, options->files, options->names, options->input);
    add_value_options(*app, options->input);
    add_execute_options(*app, options->execute);
    app->add_flag(
        "--backward", options->backward,
        "time the backward pass alone, for a random `do` unless --in has one; its gflops count 2 (D + DV) x 2.5 for each element kept");
    app->add_option("--repeat", options->repeat, "launches that count (of a comparison: rounds); as many as fit into a second if absent")
        ->check(CLI::Range(1, 1000000));
    app->add_option_function<std::string>(
           "--sweep",
           [options](const std::string& text) {
               std::string fault;
               options->sweep = parse_sweep(text, &fault);
               if (!options->sweep) throw CLI::ValidationError("--sweep", fault);
           },
           "extents, or parameters, that take several values in turn; those joined by `=` take the same")
        ->type_name("NAME=...=N,N,...");
    app->add_option("--against", options->against,
                    "what is timed beside them: plain causal attention, attention without a mask (full), both or none; auto: what keeps "
                    "about as much")
        ->check(CLI::IsMember({"auto", "causal", "full", "both", "none"}));
    app->add_option_function<std::string>(
           "--plot",
           [options](const std::string& text) {
               if (!picture::is_plot_name(text)) throw CLI::ValidationError("--plot", "`" + text + "` is neither a .svg nor a .png");
               options->plot = text;
           },
           "draw the comparison into a file: .svg or .png")
        ->type_name("FILE");
    app->add_option("--metric", options->metric, "what is drawn: milliseconds, or GFLOP/s of the elements kept")
        ->check(CLI::IsMember({"ms", "gflops"}))
        ->capture_default_str();
    app->add_flag("--json", options->input.json,
                  "one JSON object on stdout; of a comparison an array of such, one for each point and attention");
    app->footer(
        "Examples:\n"
        "  flexc bench causal.flex --shape H=8,Q=4096,D=64 --dtype f32 --threads 1 --json\n"
        "  flexc bench causal.flex --shape H=8,Q=4096,D=64 --backward\n"
        "  flexc bench alibi.flex window.flex --shape H=8,D=64 --sweep Q=K=512,1024,2048,4096 --plot speed.svg\n"
        "  flexc bench window.flex --shape H=8,Q=4096 --sweep window=64,256,1024\n"
        "Several files, several names, --sweep, --against or --plot make a comparison: at each point all are launched in turn, round "
        "after\n"
        "round, so that each sees the same machine; times are medians, and `x` is the median of a round's quotients.");
    return {app, [options] { return bench(*options); }};
}

}  // namespace flexc::tools
