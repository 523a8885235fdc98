#include "tools/report.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tools/cli.h"
#include "tools/report_words.h"

namespace flexc::tools {
namespace {

bool colour_on_stderr() {
    const char* no_color = std::getenv("NO_COLOR");
    return isatty(STDERR_FILENO) == 1 && !(no_color && *no_color);
}

std::string (*g_translate)(std::string) = nullptr;

void print_diagnostics(const Session& session) {
    std::string text = diag::render_all(session.sources, session.sink, colour_on_stderr());
    if (g_translate) text = g_translate(std::move(text));
    std::fwrite(text.data(), 1, text.size(), stderr);
}

bool machine_cannot(diag::Kind kind) {
    using diag::Kind;
    return kind == Kind::no_device || kind == Kind::no_emit || kind == Kind::no_assembler || kind == Kind::cannot_launch ||
           kind == Kind::out_of_memory;
}

}  // namespace

std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void translate_diagnostics(std::string (*translate)(std::string)) {
    g_translate = translate;
}

Json diagnostics_json(const Session& session) {
    Json out = Json::array();
    for (const diag::Diagnostic& diagnostic : session.sink.all()) {
        const diag::KindInfo& info = diag::info(diagnostic.kind);
        Json entry = {{"code", info.code},
                      {"level", diagnostic.level == diag::Level::Error ? "error" : "warning"},
                      {"name", info.name},
                      {"message", diagnostic.message}};
        if (diagnostic.span) {
            const diag::SourceFile& file = session.sources.file(diagnostic.span->file);
            const diag::LineColumn begin = file.position(diagnostic.span->begin), end = file.position(diagnostic.span->end);
            entry["file"] = file.shown(begin.line).name;
            entry["line"] = file.shown(begin.line).number;
            entry["col"] = begin.column;
            entry["end_line"] = file.shown(end.line).number;
            entry["end_col"] = end.column;
        }
        for (const diag::Note& note : diagnostic.notes) entry[note.is_help ? "help" : "notes"].push_back(note.text);
        out.push_back(std::move(entry));
    }
    return out;
}

int exit_code(const diag::Sink& sink) {
    if (!sink.has_errors()) return kOk;
    for (const diag::Diagnostic& diagnostic : sink.all())
        if (diagnostic.level == diag::Level::Error && !machine_cannot(diagnostic.kind)) return kInputWrong;
    return kMachineCannot;
}

int fail(const Session& session, bool json) {
    const int code = exit_code(session.sink);
    if (json)
        print_out(dump({{"ok", false}, {"diagnostics", diagnostics_json(session)}}));
    else
        print_diagnostics(session);
    return code;
}

int succeed(const Session& session, bool json, Json result) {
    if (!json) {
        print_diagnostics(session);
        return kOk;
    }
    Json whole = {{"ok", true}};
    whole.update(result);
    whole["diagnostics"] = diagnostics_json(session);
    return print_out(dump(whole)) ? kOk : kInputWrong;
}

bool print_out(const std::string& text) {
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (written || errno == EPIPE) return true;
    const std::string reason = std::strerror(errno);
    diag::Sink sink;
    sink.report(diag::Kind::cannot_write, {}, std::string("standard output"), reason);
    const std::string message = diag::render_all({}, sink, colour_on_stderr());
    std::fwrite(message.data(), 1, message.size(), stderr);
    return false;
}

Json phases_json(const Phases& phases) {
    const auto rounded = [](double ms) { return static_cast<double>(static_cast<int64_t>(ms * 1000 + 0.5)) / 1000; };
    return {{"parse", rounded(phases.parse)},       {"check", rounded(phases.check)},     {"lower", rounded(phases.lower)},
            {"optimise", rounded(phases.optimise)}, {"codegen", rounded(phases.codegen)}, {"load", rounded(phases.load)}};
}

}  // namespace flexc::tools
