// flexc lsp: the language server on stdin and stdout.
#include "lsp/server.h"

#include <unistd.h>

#include <memory>

#include "driver/cache.h"
#include "ir/passes.h"
#include "tools/cli.h"
#include "tools/explain.h"

namespace flexc::tools {
namespace {

/// What hovering over an attention says besides its signature: what the mask visits, as `flexc explain` derives it.
std::string attention_facts(const frontend::Program& program, const std::string& name) {
    for (const auto& each : program.attentions())
        if (each.name == name && !each.const_params.empty()) return {};  // without values there is no IR
    diag::Sink sink;
    std::optional<ir::Attention> attention = frontend::lower(program, name, {}, sink);
    if (!attention) return {};
    ir::optimise(*attention);
    const Explanation facts = explain(*attention);
    if (facts.everything) return "Each query sees every key.";
    if (facts.nothing) return "No query sees any key.";
    std::string text = "Mask: `" + facts.mask + "`";
    if (text.size() > 400) text = text.substr(0, 400) + "...`";
    if (!facts.keys.from.empty())
        text += "\n\nA tile of queries q0 to q1 visits k in [`" + facts.keys.from + "`, `" + facts.keys.to + "`].";
    for (const std::string& table : facts.tables) text += "\n\nBefore a launch: " + table + ".";
    for (const Loose& loose : facts.loose) text += "\n\n`" + loose.text + "` " + loose.reason + ".";
    return text;
}

}  // namespace

Command add_lsp(CLI::App& root) {
    CLI::App* app = root.add_subcommand("lsp", "Serves an editor: the language server protocol on stdin and stdout");
    auto stdio = std::make_shared<bool>();
    app->add_flag("--stdio", *stdio, "speak over stdin and stdout, as it always does; editors pass this");
    app->footer("An editor starts it; docs/editors.md says how to set up VS Code, Neovim, Helix and Emacs.");
    return {app, [stdio] {
                lsp::ServerOptions options;
                options.version = FLEXC_VERSION;
                const std::filesystem::path cache = default_cache_dir();
                if (!cache.empty()) options.library_folder = cache / "library";
                options.attention_facts = attention_facts;
                return lsp::serve(STDIN_FILENO, STDOUT_FILENO, options);
            }};
}

}  // namespace flexc::tools
