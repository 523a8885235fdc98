// flexc show: a mask or a score as a picture in the terminal, PNG or SVG; and counts of full, partial and skipped tiles.
#include <fmt/format.h>

#include <memory>

#include "tools/drawing.h"
#include "tools/report.h"

namespace flexc::tools {
namespace {

struct Options {
    InputOptions input;
    int64_t b = 0;
    std::vector<int64_t> heads = {0};
    std::string what;  // mask, score, or empty: what says more
    std::filesystem::path png, svg;
    std::optional<TileSize> tiles;
    bool exact = false;
    bool analysis = false;
    ElementRange range;
};

const char* what_is_drawn(const Drawing& shown) {
    return shown.is_weights ? "weights" : shown.is_score ? "score" : "mask";
}

bool inside(Session& session, const std::string& option, int64_t value, int64_t extent, const std::string& name) {
    if (value < extent) return true;
    session.sink.report(diag::Kind::outside_extent, {}, option, std::to_string(value), std::to_string(extent))
        .help("`--shape " + name + "=...` gives the extent where no array does");
    return false;
}

std::optional<std::vector<picture::Picture>> pictures(Drawing& shown, const Options& options) {
    using enum ir::ExtentVar;
    const Launch& launch = shown.launch;
    Session& session = shown.session;
    const int64_t q0 = options.range.q_begin.value_or(0), q1 = std::min(options.range.q_end.value_or(launch.extent(Q)), launch.extent(Q));
    const int64_t k0 = options.range.k_begin.value_or(0), k1 = std::min(options.range.k_end.value_or(launch.extent(K)), launch.extent(K));
    if (q0 >= q1 || k0 >= k1) {
        session.sink.report(
            diag::Kind::empty_picture, {},
            fmt::format("queries [{}, {}) of {} and keys [{}, {}) of {}", q0, q1, launch.extent(Q), k0, k1, launch.extent(K)));
        return std::nullopt;
    }
    if (!inside(session, "--b", options.b, launch.extent(B), "B")) return std::nullopt;
    for (int64_t head : options.heads)
        if (!inside(session, "--head", head, launch.extent(H), "H")) return std::nullopt;

    std::vector<picture::Picture> panels;
    for (int64_t head : options.heads) {
        picture::Picture p = draw(shown, options.b, head, picture::Picture::sized(q0, q1, k0, k1, kMaxCells));
        double kept = 0, total = 0;
        for (size_t i = 0; i < p.kept.size(); ++i) {
            kept += p.kept[i];
            total += p.total[i];
        }
        p.title = shown.attention.name + ": " + what_is_drawn(shown);
        p.subtitle = fmt::format("b {}, h {}, {:.4g} % kept", options.b, head, 100 * kept / total);
        if (options.tiles) {
            p.tile_q = options.tiles->q;
            p.tile_k = options.tiles->k;
        }
        panels.push_back(std::move(p));
    }
    return panels;
}

int show(const Options& options) {
    Drawing shown;
    Session& session = shown.session;
    const bool json = options.input.json;
    const bool count_only = options.tiles && json;
    if (!prepare_drawing(options.input, count_only ? "mask" : options.what, &shown)) return fail(session, json);
    std::string tiles_text;
    if (options.tiles) {
        if (!options.exact && !shown.rows->prepare_tiles(session, 0)) return fail(session, json);
        const CountBy by = options.exact ? CountBy::Elements : options.analysis ? CountBy::Analysis : CountBy::Both;
        const TileCounts counts = count_tiles(*shown.rows, shown.launch, options.tiles->q, options.tiles->k, by, 0);
        if (json) {
            // Exactly these keys, for scripts; warnings go to stderr.
            const Json out = {
                {"tile", {options.tiles->q, options.tiles->k}}, {"full", counts.full}, {"partial", counts.partial}, {"skip", counts.skip}};
            (void)succeed(session, false);
            return print_out(out.dump() + "\n") ? kOk : kInputWrong;
        }
        tiles_text = fmt::format("tiles {}x{} over all b and h: {} full, {} partial, {} skipped ({})\n", options.tiles->q, options.tiles->k,
                                 counts.full, counts.partial, counts.skip,
                                 by == CountBy::Analysis ? "by analysis alone, as a launch sees them" : "exact");
    }
    const auto panels = pictures(shown, options);
    if (!panels) return fail(session, json);
    Json files = Json::array();
    std::string text;
    using Writer = flex::Status (*)(const std::filesystem::path&, const std::vector<picture::Picture>&);
    for (const auto& [path, write] :
         {std::pair<std::filesystem::path, Writer>{options.png, picture::write_png}, {options.svg, picture::write_svg}}) {
        if (path.empty()) continue;
        if (const flex::Status status = write(path, *panels); !status.ok()) {
            session.sink.report(diag::Kind::cannot_write, {}, path.string(), status.text());
            return fail(session, json);
        }
        files.push_back(path.string());
        text += "wrote " + path.string() + "\n";
    }
    if (json) {
        Json list = Json::array();
        for (size_t i = 0; i < panels->size(); ++i) {
            const picture::Picture& p = (*panels)[i];
            double kept = 0;
            for (double each : p.kept) kept += each;
            list.push_back({{"b", options.b},
                            {"h", options.heads[i]},
                            {"q", {p.q_begin, p.q_end}},
                            {"k", {p.k_begin, p.k_end}},
                            {"kept", static_cast<int64_t>(kept)}});
            // Of the cells, each of which is the mean of what is kept of it.
            if (p.is_score) list.back()["values"] = {picture::value_range({p}).low, picture::value_range({p}).high};
        }
        return succeed(session, true,
                       {{"attention", shown.attention.name}, {"what", what_is_drawn(shown)}, {"pictures", list}, {"files", files}});
    }
    (void)succeed(session, false);
    if (text.empty()) text = picture::to_terminal(*panels, picture::terminal());
    return print_out(text + tiles_text) ? kOk : kInputWrong;
}

}  // namespace

Command add_show(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("show", "Draws the mask or the score of an attention");
    add_file_options(*app, options->input);
    add_value_options(*app, options->input);
    app->add_option("--b", options->b, "which batch element")->check(CLI::NonNegativeNumber);
    CLI::Option* head = app->add_option("--head", options->heads, "which head")->expected(1)->check(CLI::NonNegativeNumber);
    app->add_option("--heads", options->heads, "several heads, side by side: 0,1,2")
        ->delimiter(',')
        ->check(CLI::NonNegativeNumber)
        ->excludes(head);
    app->add_option("--what", options->what, "what to draw; if absent, the mask unless everything is kept")
        ->check(CLI::IsMember({"mask", "score", "weights"}));
    app->add_flag_callback(
        "--weights", [options] { options->what = "weights"; }, "the same as --what weights: the softmax of the scores, row by row");
    app->add_option("--png", options->png, "draw into a PNG file")->type_name("FILE");
    app->add_option("--svg", options->svg, "draw into an SVG file")->type_name("FILE");
    CLI::Option* tiles = app->add_option_function<std::string>(
        "--tiles",
        [options](const std::string& text) {
            options->tiles = parse_tile(text);
            if (!options->tiles) throw CLI::ValidationError("--tiles", "expected a tile such as `128x128`, found `" + text + "`");
        },
        "count full, partial and skipped tiles, by the analysis of the mask and, where it does not decide, by elements; draw their "
        "borders");
    tiles->type_name("QxK");
    CLI::Option* exact =
        app->add_flag("--exact", options->exact, "with --tiles: count by evaluating every element, which takes Q x K steps")->needs(tiles);
    app->add_flag("--analysis", options->analysis, "with --tiles: count what the analysis alone knows, as a launch sees the tiles")
        ->needs(tiles)
        ->excludes(exact);
    app->add_option_function<std::string>(
           "--range",
           [options](const std::string& text) {
               const auto range = parse_range(text);
               if (!range) throw CLI::ValidationError("--range", "expected `q0:q1,k0:k1`, found `" + text + "`");
               options->range = *range;
           },
           "a part of the picture")
        ->type_name("Q0:Q1,K0:K1");
    app->add_flag("--json", options->input.json, "one JSON object on stdout; with --tiles: {\"tile\", \"full\", \"partial\", \"skip\"}");
    app->footer(
        "Examples:\n"
        "  flexc show window.flex --shape Q=64 --set window=16\n"
        "  flexc show document.flex --in x.npz --tiles 128x128 --json\n"
        "  flexc show alibi.flex --shape H=4,Q=64 --heads 0,1,2,3 --png alibi.png\n"
        "  flexc show alibi.flex --weights --in x.npz --png weights.png\n"
        "Scores and weights are drawn for q and k of --in, and for a dot product of 0 without them.");
    return {app, [options] { return show(*options); }};
}

}  // namespace flexc::tools
