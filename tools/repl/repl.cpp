// flexc repl: the loop around a session, for a terminal and for scripts.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "tools/picture/picture.h"
#include "tools/repl/assist.h"
#include "tools/repl/scan.h"
#include "tools/repl/session.h"
#include "tools/report.h"

namespace flexc::repl {
namespace {

struct Options {
    std::vector<std::string> files, shape, sets;
    std::string in, script;
    bool echo = false, no_history = false, no_time = false;
};

/// The files and settings of the command line. kOk, or the exit code.
int prepare(ReplSession& session, const Options& options) {
    for (const std::string& file : options.files)
        if (const int code = session.load(file); code != tools::kOk) return code;
    if (!options.in.empty() && !session.set_in(options.in)) return tools::kInputWrong;
    if (!options.shape.empty()) {
        std::vector<std::string> parts;
        for (const std::string& each : options.shape) {
            std::stringstream stream(each);
            for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
        }
        if (!session.set_shape(parts)) return tools::kInputWrong;
    }
    for (const std::string& set : options.sets)
        if (!session.set_value(set)) return tools::kInputWrong;
    return tools::kOk;
}

int interactive(const Options& options) {
    const bool capable = capable_terminal();
    const bool colour = picture::terminal().colour != picture::TerminalColour::None;
    ReplSession session(options.no_time ? ReplSession::Times::None : capable ? ReplSession::Times::Later : ReplSession::Times::Wait, 16);
    EditorHooks hooks = assist(session);
    const std::unique_ptr<LineEditor> editor = capable
                                                   ? make_line_editor(std::move(hooks), options.no_history ? "" : history_file(), colour)
                                                   : make_plain_reader(std::move(hooks));
    std::fputs("flexc, an attention workbench. `:help` lists the commands, Ctrl-D ends.\n", stdout);
    (void)prepare(session, options);
    uint32_t number = 0;
    while (!session.done()) {
        if (session.background.fd() >= 0)
            editor->watch(session.background.fd(), [&session](std::string* text) { return !session.background.read(text); });
        std::string text;
        std::fflush(stdout);
        const Read read = editor->read(&text);
        editor->watch(-1, {});
        if (read == Read::End) break;
        if (read == Read::Cancelled || trim(text).empty()) continue;
        editor->remember(text);
        session.input(text, "input " + std::to_string(++number), 1);
    }
    return tools::kOk;
}

/// Inputs one after the other, to the end or to the first that fails.
int script(const Options& options, std::istream& in, const std::string& name) {
    Signals::take();
    ReplSession session(ReplSession::Times::None, 16);
    if (const int code = prepare(session, options); code != tools::kOk) return code;
    std::string text, line;
    uint32_t number = 0, first = 1;
    const auto evaluate = [&] {
        while (text.starts_with('\n')) {
            text.erase(0, 1);
            ++first;
        }
        if (options.echo && !trim(text).empty()) (void)tools::print_out("flex> " + text + (text.ends_with('\n') ? "" : "\n"));
        const int code = is_blank(text) ? tools::kOk : session.input(text, name, first);
        if (code != tools::kOk) std::fprintf(stderr, "%s:%u: stopped here\n", name.c_str(), first);
        text.clear();
        return code;
    };
    while (!session.done() && std::getline(in, line)) {
        ++number;
        if (line.ends_with('\r')) line.pop_back();
        // A command is a line of its own, wherever it stands: what was left open before it is judged first.
        if (is_command(line) && !is_blank(text))
            if (const int code = evaluate(); code != tools::kOk) return code;
        if (trim(text).empty() || (is_command(line) && is_blank(text))) {
            text.clear();
            first = number;
        }
        text += line;
        const bool comment = is_blank(text) && !is_command(text);
        if (!comment && is_complete(text)) {
            if (const int code = evaluate(); code != tools::kOk) return code;
        } else {
            text += '\n';
        }
        if (Signals::next() != 0) return tools::kInterrupted;
    }
    return session.done() || is_blank(text) ? tools::kOk : evaluate();
}

int repl(const Options& options) {
    if (!options.script.empty()) {
        std::ifstream file(options.script);
        if (!file) {
            std::fprintf(stderr, "flexc repl: cannot read `%s`\n", options.script.c_str());
            return tools::kInputWrong;
        }
        return script(options, file, options.script);
    }
    if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) return interactive(options);
    return script(options, std::cin, "<stdin>");
}

}  // namespace
}  // namespace flexc::repl

namespace flexc::tools {

Command add_repl(CLI::App& root) {
    auto options = std::make_shared<repl::Options>();
    CLI::App* app = root.add_subcommand("repl", "A session: type declarations and see what they mean, draw, compare and time them");
    app->add_option("FILE", options->files, ".flex files to begin with");
    app->add_option("--shape", options->shape, "extents, as `:shape` takes them")->type_name("Q=1024,...")->allow_extra_args(false);
    app->add_option("--set", options->sets, "value of a parameter, as `:set` takes it")
        ->type_name("NAME=VALUE|FILE")
        ->allow_extra_args(false);
    app->add_option("--in", options->in, "arrays, as `:in` takes them")->type_name("FILE");
    app->add_option("--script", options->script, "inputs from a file; its end, or the first that fails, ends the session")
        ->type_name("FILE");
    app->add_flag("--echo", options->echo, "of a script: print each input before its answer");
    app->add_flag("--no-history", options->no_history, "neither read nor write the history of inputs");
    app->add_flag("--no-time", options->no_time, "do not time new definitions");
    app->footer(
        "Examples:\n"
        "  flexc repl\n"
        "  flexc repl alibi.flex --shape H=4,Q=64\n"
        "  printf 'attention a() { mask = causal(); }\\n:save a.flex\\n' | flexc repl\n"
        "`:help` in it lists the commands.");
    return {app, [options] { return repl::repl(*options); }};
}

}  // namespace flexc::tools
