// flexc explain: in words, what a mask visits, what is prepared for it, what is not tight, and where values are computed.
#include "tools/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "tools/explain_advice.h"
#include "tools/explain_code.h"
#include "tools/explain_gpu.h"
#include "tools/explain_gradients.h"
#include "tools/explain_risks.h"
#include "tools/mask_rows.h"
#include "tools/report.h"

namespace flexc::tools {
namespace {

constexpr double kExactWork = 1 << 26;  // elements; up to there the exact count is given beside

struct Options {
    InputOptions input;
    TileSize tile{128, 128};
    std::optional<flex::DType> dtype;
    std::filesystem::path ptxas;
};

/// The counts at one shape, or why there are none.
struct Counts {
    std::string absent;
    std::string extents;
    TileCounts analysis;
    std::optional<TileCounts> exact;
    int64_t table_bytes = 0;
};

bool has_value(const InputOptions& input, const ir::Param& param) {
    return param.default_bits || !input.in.empty() ||
           std::any_of(input.sets.begin(), input.sets.end(), [&](const Assignment& set) { return set.name == param.name; });
}

/// False after a report.
bool count(Session& session, const ir::Attention& attention, Inputs& inputs, const Options& options, const frontend::ConstValues& consts,
           Counts* out) {
    const ir::Attention stripped = mask_and_score(attention);
    const Reach reached = reach(stripped, {stripped.mask});
    std::string missing;
    for (const uint32_t param : reached.params)
        if (!has_value(options.input, attention.params[param]))
            missing += (missing.empty() ? "`" : ", `") + attention.params[param].name + "`";
    const InputOptions& input = options.input;
    const bool has_queries = input.shape.contains("Q") || input.shape.contains("K") || !input.sets.empty();
    if (!missing.empty() || (!has_queries && default_shape(input).empty() && input.in.empty())) {
        out->absent = missing.empty() ? "give a shape: `--shape Q=4096`" : "give " + missing + ": `--in FILE.npz`";
        return true;
    }
    Launch launch;
    if (!inputs.bind(cpu::describe(stripped), Need::Pictures, reached, std::nullopt, &launch)) return false;
    KernelOptions compile;
    compile.consts = consts;
    const auto rows = MaskRows::make(session, stripped, launch, compile);
    if (!rows || !rows->prepare_tiles(session, 0)) return false;
    using enum ir::ExtentVar;
    out->extents = fmt::format("B = {}, H = {}, Q = {}, K = {}", launch.extent(B), launch.extent(H), launch.extent(Q), launch.extent(K));
    out->table_bytes = rows->mask_bytes();
    out->analysis = count_tiles(*rows, launch, options.tile.q, options.tile.k, CountBy::Analysis, 0);
    if (mask_work(*rows, launch) <= kExactWork) out->exact = count_tiles(*rows, launch, options.tile.q, options.tile.k, CountBy::Both, 0);
    return true;
}

/// All extents of a launch, for what depends on shapes alone; nothing if one is not given.
std::optional<std::vector<int32_t>> known_extents(const ir::Attention& attention, const InputOptions& input) {
    if (input.shape.empty() && input.in.empty()) return std::nullopt;
    const flex::KernelDesc desc = cpu::describe(attention);
    for (uint32_t id = 0; id < desc.extents.size(); ++id) {
        const auto binds = [&](const ir::Param& param) {
            return has_value(input, param) && std::any_of(param.dims.begin(), param.dims.end(), [&](const ir::Dim& dim) {
                       return dim.extent_id == static_cast<int32_t>(ir::kBuiltinExtents + id);
                   });
        };
        if (!input.shape.contains(desc.extents[id]) && std::none_of(attention.params.begin(), attention.params.end(), binds))
            return std::nullopt;
    }
    Session scratch;  // what is wrong with the input is another's to say
    Inputs inputs(scratch, input);
    Launch launch;
    if (!inputs.load() || !inputs.bind(desc, Need::Pictures, {}, std::nullopt, &launch)) return std::nullopt;
    return launch.extents;
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : std::string(separator)) + part;
    return all;
}

/// "least off[doc[q]] of the rows": what a bound holds of rows one by one.
std::string rows_text(const std::vector<std::string>& rows, std::string_view which) {
    return rows.empty()
               ? ""
               : fmt::format("    where {} {} the {} over the tile\n", joined(rows, " and "), rows.size() == 1 ? "is" : "are", which);
}

std::string tiles_text(const Counts& counts, const TileSize& tile) {
    if (!counts.absent.empty()) return fmt::format("  Tiles: not counted; {}\n", counts.absent);
    const TileCounts& c = counts.analysis;
    const double all = static_cast<double>(std::max<int64_t>(c.full + c.partial + c.skip, 1));
    const auto share = [&](int64_t n) { return 100 * static_cast<double>(n) / all; };
    std::string text = fmt::format("  Tiles of {}x{} at {}: {:.1f} % full, {:.1f} % partial, {:.1f} % skipped ({}, {} and {})\n", tile.q,
                                   tile.k, counts.extents, share(c.full), share(c.partial), share(c.skip), c.full, c.partial, c.skip);
    if (!counts.exact) return text;
    const TileCounts& e = *counts.exact;
    if (e.full == c.full && e.skip == c.skip) return text + "    the same as an exact count\n";
    return text + fmt::format("    an exact count finds {} full, {} partial, {} skipped: {} tiles are visited in vain\n", e.full, e.partial,
                              e.skip, e.skip - c.skip);
}

std::string visits_text(const Visits& visits, const char* who, const char* index) {
    std::string text = fmt::format("  {} in [{}, {}].\n", who, visits.from, visits.to);
    text += rows_text(visits.least_of, "least") + rows_text(visits.greatest_of, "greatest");
    for (const std::string& part : visits.unsolved)
        text += fmt::format("    {}: decided tile by tile, it gives no bound of {}\n", part, index);
    return text;
}

Json visits_json(const Visits& visits) {
    return {{"from", visits.from}, {"to", visits.to}, {"least_of", visits.least_of}, {"greatest_of", visits.greatest_of}};
}

std::string page(const ir::Attention& attention, const Explanation& facts, const Counts& counts, const TileSize& tile,
                 const GradientExplanation& gradients, const GpuExplanation& gpu, const std::vector<std::string>& unsupported) {
    std::string text = attention.name + "\n";
    text += fmt::format("\nMask: {}\n", facts.mask.empty() ? "true" : facts.mask);
    if (facts.everything) {
        text += "  Every key is kept: nothing is skipped, and no mask is evaluated.\n";
    } else if (facts.nothing) {
        text += "  No key is kept: every tile is skipped.\n";
    } else {
        text += visits_text(facts.keys, "A tile of queries q0 to q1 (inclusive) visits k", "k");
        text += visits_text(facts.queries, "A tile of keys k0 to k1 is visited by q", "q");
        text += tiles_text(counts, tile);
        if (facts.tables.empty())
            text += "  Before a launch: 0 tables built.\n";
        else
            text += fmt::format("  Before a launch: {} table{} built{}\n", facts.tables.size(), facts.tables.size() == 1 ? "" : "s",
                                counts.table_bytes ? fmt::format(", {} bytes", counts.table_bytes) : "");
        for (const std::string& table : facts.tables) text += "    " + table + "\n";
        text += facts.loose.empty() ? "  Each condition of the mask, by itself, is decided exactly on a tile.\n"
                                    : "  May be called partial without being it, because\n";
        for (const Loose& loose : facts.loose) text += fmt::format("    {} {}\n", loose.text, loose.reason);
    }
    if (!facts.loads.empty()) text += "\nLoads\n";
    for (const LoadFact& load : facts.loads) {
        const std::string guard = load.guards.empty() ? "in range, no guard" : "guard: " + joined(load.guards, ", ");
        text += fmt::format("  {}: {}  {}; {}\n", load.clause, load.text, load.access, guard);
    }
    std::string evaluation;
    for (const ClauseFact& clause : facts.clauses) {
        const bool is_mask = clause.clause == "mask";
        if ((is_mask && (facts.everything || facts.nothing)) || clause.text == clause.clause) continue;  // a score as it is
        evaluation += fmt::format("  {}{}\n    {} operation{} an element{}\n", clause.clause, is_mask ? "" : ": " + clause.text,
                                  clause.per_element, clause.per_element == 1 ? "" : "s", is_mask ? ", in partial tiles only" : "");
        for (const auto& [name, values] : {std::pair{"once a row", &clause.per_row}, std::pair{"for a batch and head", &clause.per_head},
                                           std::pair{"the same for the whole launch", &clause.once}})
            if (!values->empty()) evaluation += fmt::format("    {}: {}\n", name, joined(*values, "; "));
    }
    if (!evaluation.empty()) text += "\nEvaluation\n" + evaluation;
    text += cost_text(attention, facts) + risks_text(attention);
    text += gradients_text(gradients);
    text += unsupported.empty() ? "\nThe target cpu has all of its clauses.\n"
                                : fmt::format("\nNot on the target cpu: {}; `--device interp` has them.\n", joined(unsupported, ", "));
    return text + gpu_page(gpu);
}

Json tiles_json(const TileCounts& counts) {
    return {{"full", counts.full}, {"partial", counts.partial}, {"skip", counts.skip}};
}

Json cost_json(const ir::Attention& attention, const Explanation& facts) {
    const ScoreCost score = score_cost(attention);
    return {{"tile_operations", facts.tile_operations},
            {"tile_lookups", facts.tile_lookups},
            {"element_operations", score.operations},
            {"element_functions", score.functions},
            {"advice", advice(attention, facts)}};
}

Json json_of(const ir::Attention& attention, const Explanation& facts, const Counts& counts, const TileSize& tile,
             const GradientExplanation& gradients, const GpuExplanation& gpu, const std::vector<std::string>& unsupported) {
    Json mask = {{"text", facts.mask}, {"everything", facts.everything}, {"nothing", facts.nothing}};
    if (!facts.everything && !facts.nothing) {
        mask["visits"] = visits_json(facts.keys);
        mask["visited_by"] = visits_json(facts.queries);
        mask["unsolved"] = facts.keys.unsolved;
        mask["tables"] = facts.tables;
        mask["not_tight"] = Json::array();
        for (const Loose& loose : facts.loose) mask["not_tight"].push_back({{"text", loose.text}, {"why", loose.reason}});
        if (counts.absent.empty()) {
            mask["tile"] = {tile.q, tile.k};
            mask["tiles"] = tiles_json(counts.analysis);
            if (counts.exact) mask["exact"] = tiles_json(*counts.exact);
            mask["table_bytes"] = counts.table_bytes;
        }
    }
    Json loads = Json::array(), clauses = Json::array();
    for (const LoadFact& load : facts.loads)
        loads.push_back({{"clause", load.clause}, {"text", load.text}, {"access", load.access}, {"guards", load.guards}});
    for (const ClauseFact& clause : facts.clauses)
        clauses.push_back({{"clause", clause.clause},
                           {"text", clause.text},
                           {"per_element", clause.per_element},
                           {"per_row", clause.per_row},
                           {"per_head", clause.per_head},
                           {"per_launch", clause.once}});
    return {{"attention", attention.name},
            {"mask", mask},
            {"loads", loads},
            {"clauses", clauses},
            {"cost", cost_json(attention, facts)},
            {"risks", risks_json(attention)},
            {"gradients", gradients_json(gradients)},
            {"unsupported", unsupported},
            {"gpu", gpu_page_json(gpu)}};
}

int explain_command(const Options& options) {
    Session session;
    const InputOptions& input = options.input;
    const bool json = input.json;
    if (const auto kind = diagnostic_of(input.file)) {
        if (json) return succeed(session, true, code_json(*kind));
        return print_out(code_page(*kind)) ? kOk : kInputWrong;
    }
    if (is_unknown_code(input.file)) {
        session.sink.report(diag::Kind::cannot_read, {}, input.file.string(), "neither a file nor the code of a diagnostic")
            .help("docs/diagnostics.md lists the codes");
        return fail(session, json);
    }
    if (!open_source(session, input.file)) return fail(session, json);
    const auto name = session.choose(input.name);
    if (!name) return fail(session, json);
    const auto& attentions = session.program().attentions();
    const auto info = std::find_if(attentions.begin(), attentions.end(), [&](const auto& each) { return each.name == *name; });
    Inputs inputs(session, input);
    if (!inputs.load()) return fail(session, json);
    const auto consts = inputs.consts(*info);
    if (!consts) return fail(session, json);
    const auto attention = session.lower(*name, *consts);
    if (!attention) return fail(session, json);
    const Explanation facts = explain(*attention);
    Counts counts;
    if (!count(session, *attention, inputs, options, *consts, &counts)) return fail(session, json);
    const auto unsupported = cpu::unsupported_clauses(*attention);
    const auto extents = known_extents(*attention, input);
    const GradientExplanation gradients = explain_gradients(*attention, extents, options.dtype.value_or(flex::DType::BF16));
    const GpuExplanation gpu = explain_gpu(*attention, input, options.dtype, extents, gradients.lacking.empty(), options.ptxas);
    if (json) return succeed(session, true, json_of(*attention, facts, counts, options.tile, gradients, gpu, unsupported));
    (void)succeed(session, false);
    return print_out(page(*attention, facts, counts, options.tile, gradients, gpu, unsupported)) ? kOk : kInputWrong;
}

}  // namespace

Command add_explain(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("explain", "Says what the compiler derives of an attention");
    add_file_options(*app, options->input);
    add_value_options(*app, options->input);
    app->add_option_function<std::string>(
           "--tiles",
           [options](const std::string& text) {
               const auto tile = parse_tile(text);
               if (!tile) throw CLI::ValidationError("--tiles", "expected a tile such as `128x128`, found `" + text + "`");
               options->tile = *tile;
           },
           "the tiles that are counted; 128x128 if absent")
        ->type_name("QxK");
    add_dtype_option(*app, options->dtype);
    app->get_option("--dtype")->description("the element type for which the kernels of GPUs are named; bf16 if absent");
    app->add_option("--ptxas", options->ptxas,
                    "the assembler that knows the registers of GPU kernels; looked for in $FLEXC_PTXAS, $PATH and the CUDA toolkit if "
                    "absent; none: do "
                    "not ask")
        ->type_name("FILE");
    app->add_flag("--json", options->input.json, "one JSON object on stdout");
    app->footer(
        "Examples:\n"
        "  flexc explain window.flex --shape Q=4096\n"
        "  flexc explain document.flex --in x.npz\n"
        "  flexc explain E2003");
    return {app, [options] { return explain_command(*options); }};
}

}  // namespace flexc::tools
