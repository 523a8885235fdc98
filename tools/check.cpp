// flexc check: parses and checks files, and says what they declare.
#include <memory>

#include "tools/cli.h"
#include "tools/report.h"
#include "tools/sarif.h"

namespace flexc::tools {
namespace {

struct Options {
    std::vector<std::filesystem::path> files;
    bool json = false, sarif = false;
};

int check(const Options& options) {
    Json files = Json::array();
    Json diagnostics = Json::array();
    int code = kOk;
    for (const std::filesystem::path& path : options.files) {
        Session session;
        const bool ok = session.open(path);
        std::vector<std::string> names;
        // Lowering finds more than checking does: masks that are always true, expressions that grow too large. A `const` without a
        // default has no value here, so attentions that have such a parameter are not lowered.
        if (ok) {
            for (const auto& attention : session.program().attentions()) {
                names.push_back(attention.name);
                if (attention.const_params.empty()) (void)session.lower(attention.name, {});
            }
        }
        if (const int here = exit_code(session.sink); here != kOk) code = code == kOk ? here : std::min(code, here);
        if (options.sarif) {
            for (Json& each : sarif_results(session, path.string())) diagnostics.push_back(std::move(each));
            continue;
        }
        if (options.json) {
            files.push_back({{"file", path.string()}, {"ok", !session.sink.has_errors()}, {"attentions", names}});
            for (Json& each : diagnostics_json(session)) diagnostics.push_back(std::move(each));
            continue;
        }
        if (session.sink.has_errors()) {
            (void)fail(session, false);
            continue;
        }
        (void)succeed(session, false);
        std::string list;
        for (const std::string& name : names) list += (list.empty() ? ": " : ", ") + name;
        const std::string count = std::to_string(names.size()) + (names.size() == 1 ? " attention" : " attentions");
        const std::string prefix = options.files.size() > 1 ? path.string() + ": " : "";
        if (!print_out(prefix + "ok: " + count + list + "\n")) return kInputWrong;
    }
    if (options.sarif && !print_out(dump(sarif_log(std::move(diagnostics))))) return kInputWrong;
    if (options.json && !print_out(dump({{"ok", code == kOk}, {"files", files}, {"diagnostics", diagnostics}}))) return kInputWrong;
    return code;
}

}  // namespace

Command add_check(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("check", "Checks files and reports their errors");
    app->add_option("FILE", options->files, "the .flex files")->required();
    CLI::Option* json = app->add_flag("--json", options->json, "one JSON object on stdout");
    app->add_flag("--sarif", options->sarif, "a SARIF 2.1.0 log on stdout, for editors and code review")->excludes(json);
    app->footer("Example:\n  flexc check examples/gallery/alibi.flex");
    return {app, [options] { return check(*options); }};
}

}  // namespace flexc::tools
