// How long an attention takes beside plain causal attention of the same shape: launched in turn, so that both see the same machine.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "tools/execute.h"
#include "tools/progress.h"
#include "tools/repl/scan.h"
#include "tools/repl/subject.h"

namespace flexc::repl {
namespace {

constexpr int kMostRounds = 50;

struct Contender {
    tools::Prepared prepared;
    tools::Outputs outputs;
    double best = 0;

    bool launch() {
        const auto ms = tools::launch_once(prepared.session, *prepared.kernel, prepared.launch, outputs, 0, nullptr);
        if (ms) best = best == 0 ? *ms : std::min(best, *ms);
        return ms.has_value();
    }
};

/// Null if it cannot be launched; then `why` says so.
std::unique_ptr<Contender> contender(const std::string& file, State::Source source, tools::InputOptions options, flex::DType* dtype,
                                     std::string* why) {
    auto out = std::make_unique<Contender>();
    tools::hold_text(file, std::move(source.text), std::move(source.parts));
    options.file = file;
    tools::ExecuteOptions execute;
    if (dtype) execute.dtype = *dtype;
    if (tools::open_attention(options, execute, &out->prepared) && tools::prepare(execute, false, &out->prepared) &&
        tools::allocate_outputs(out->prepared.session, out->prepared.launch, &out->outputs))
        return out;
    *why = reasons(out->prepared.session.sink);
    return nullptr;
}

State::Source source_with(const State& state, const std::string& extra) {
    State::Source source = state.source();
    source.text += extra;
    return source;
}

double work(const tools::Launch& launch) {
    using enum ir::ExtentVar;
    return 4.0 * static_cast<double>(launch.extent(B)) * static_cast<double>(launch.extent(H)) * static_cast<double>(launch.extent(Q)) *
           static_cast<double>(launch.extent(K)) * static_cast<double>(std::max(launch.extent(D), launch.extent(DV)));
}

std::string milliseconds(double ms) {
    return ms < 100 ? fmt::format("{:.3g} ms", ms) : fmt::format("{:.0f} ms", ms);
}

}  // namespace

std::string time_text(const Named& now, const Named& before, double seconds) {
    std::string why;
    const auto open = [&](const Named& named, const char* file) -> std::unique_ptr<Contender> {
        const auto wrapped = named.entry ? wrap(*named.entry, &why) : std::nullopt;
        if (!wrapped) return nullptr;
        return contender(file, source_with(*named.state, wrapped->extra), named.state->input(wrapped->attention), nullptr, &why);
    };
    const auto main = open(now, "now");
    if (!main) return fmt::format("  {:<6} none: {}\n", "time", why);
    const tools::Launch& launch = main->prepared.launch;
    // One launch must not take longer than a user waits for an answer that was not asked for.
    constexpr double kSlowest = 2e10;  // operations a second that any machine has
    if (const double least = work(launch) / kSlowest; least > 20 * seconds)
        return fmt::format("  {:<6} not measured: a launch of this shape is long; `:bench` does it\n", "time");

    std::vector<Contender*> all = {main.get()};
    tools::InputOptions plain;
    static constexpr const char* kNames[] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
    for (size_t i = 0; i < std::size(kNames); ++i) plain.shape[kNames[i]] = launch.builtin[i];
    flex::DType dtype = launch.dtype;
    const auto causal = contender("causal", {"attention causal() { mask = q >= k; }\n", {}}, plain, &dtype, &why);
    if (causal) all.push_back(causal.get());
    const auto previous = open(before, "before");
    if (previous) all.push_back(previous.get());
    for (Contender* each : all) {
        if (!each->launch()) return "";
        each->best = 0;  // code, caches and pages are warm after one launch, which does not count
    }
    const auto begin = std::chrono::steady_clock::now();
    const auto elapsed = [begin] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
    tools::Progress progress("time");
    progress.expect(1);
    const auto step = progress.step("", 1, [elapsed, seconds] { return elapsed() / seconds; });
    int rounds = 0;
    do {
        for (Contender* each : all)
            if (!each->launch()) return "";
        ++rounds;
    } while (rounds < kMostRounds && elapsed() < seconds);

    std::string out = fmt::format("  {:<6} {}", "time", milliseconds(main->best));
    if (causal) out += fmt::format(", {:.2f} x plain causal ({})", main->best / causal->best, milliseconds(causal->best));
    if (previous) out += fmt::format("; before {}", milliseconds(previous->best));
    return out + "\n";
}

}  // namespace flexc::repl
