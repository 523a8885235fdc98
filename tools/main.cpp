// flexc: the command line. Parses arguments, calls one subcommand, and turns what escapes into an exit code.
#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "diag/diagnostic.h"
#include "tools/cli.h"
#include "tools/interrupt.h"
#include "tools/report.h"
#include "tools/usage.h"

namespace {

using namespace flexc;
using namespace flexc::tools;

int usage_error(const std::string& text) {
    std::fprintf(stderr, "flexc: %s\n", text.c_str());
    return kUsage;
}

int run_main(int argc, const char* const* argv) {
    // `flexc help run` is `flexc run --help`.
    const char* const asked[] = {argv[0], argc > 2 ? argv[2] : "--help", "--help"};
    if (argc > 1 && std::string_view(argv[1]) == "help") {
        argc = argc > 2 ? 3 : 2;
        argv = asked;
    }
    CLI::App app("A compiler for attention variants: a few lines of .flex in, a fused attention kernel out.", "flexc");
    app.set_version_flag("--version", std::string("flexc ") + FLEXC_VERSION);
    app.require_subcommand(1);
    app.footer(
        "Examples:\n  flexc check causal.flex\n  flexc run causal.flex --in x.npz --out y.npz\n`flexc COMMAND --help` tells more about "
        "each.");
    const std::vector<Command> commands = {add_check(app),      add_run(app),   add_show(app), add_explain(app),
                                           add_build(app),      add_bench(app), add_fmt(app),  add_lsp(app),
                                           add_completion(app), add_repl(app),  add_watch(app)};

    if (argc > 1 && argv[1][0] != '-') {
        std::vector<std::string> names;
        for (const Command& command : commands) names.push_back(command.app->get_name());
        const std::string given = argv[1];
        if (given.ends_with(".flex"))
            return usage_error("there is no command `" + given + "`; a command comes first: `flexc run " + given + "`, `flexc show " +
                               given + "`");
        if (std::find(names.begin(), names.end(), given) == names.end()) {
            const std::string near = diag::nearest(given, names);
            return usage_error("there is no command `" + given + "`" +
                               (near.empty() ? "; `flexc --help` lists them" : "; did you mean `" + near + "`?"));
        }
    }
    if (argc == 1) {
        std::fputs(app.help().c_str(), stderr);
        return kUsage;
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() != 0) {
            std::string command = "flexc";
            for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
            return usage_error(usage_fault(app, error) + "\n`" + command + " --help` shows the options");
        }
        return app.exit(error);
    }
    for (const Command& command : commands)
        if (*command.app) return command.action();
    return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
    install_signal_handlers();
    try {
        return run_main(argc, argv);
    } catch (const std::bad_alloc&) {
        Session session;
        session.sink.report(diag::Kind::out_of_memory, {});
        return fail(session, std::any_of(argv, argv + argc, [](const char* argument) { return std::string_view(argument) == "--json"; }));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "internal compiler error: %s\nthis is a bug in flexc, not in your program; please report it with the input\n",
                     error.what());
        return kBug;
    }
}
