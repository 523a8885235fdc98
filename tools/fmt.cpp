// flexc fmt: rewrites files in the canonical layout (frontend/format.h), or says which are not in it.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>

#include "frontend/format.h"
#include "tools/cli.h"
#include "tools/io/atomic_file.h"
#include "tools/line_diff.h"
#include "tools/report.h"

namespace flexc::tools {
namespace {

struct Options {
    std::vector<std::filesystem::path> files;
    bool check = false;
};

/// Folders stand for the .flex files below them, in the order of their names.
std::vector<std::filesystem::path> expand(const std::vector<std::filesystem::path>& given, Session& session) {
    std::vector<std::filesystem::path> files;
    for (const std::filesystem::path& path : given) {
        std::error_code error;
        if (!std::filesystem::is_directory(path, error)) {
            files.push_back(path);
            continue;
        }
        std::vector<std::filesystem::path> found;
        std::filesystem::recursive_directory_iterator walk(path, error), end;
        for (; !error && walk != end; walk.increment(error)) {
            if (walk->is_regular_file(error) && walk->path().extension() == ".flex") found.push_back(walk->path());
        }
        if (error) session.sink.report(diag::Kind::cannot_read, {}, path.string(), error.message());
        std::sort(found.begin(), found.end());
        files.insert(files.end(), found.begin(), found.end());
    }
    return files;
}

/// One file or, as `-`, stdin to stdout. Adds to `changed` if its layout is not the canonical one.
int format_one(const std::filesystem::path& path, bool check, size_t& changed) {
    Session session;
    const bool is_stdin = path == "-";
    std::string text;
    if (is_stdin) {
        text.assign(std::istreambuf_iterator<char>(std::cin), {});
    } else {
        std::optional<std::string> read = frontend::default_imports().read_file(path);
        if (!read) {
            std::error_code error;
            const bool exists = std::filesystem::exists(path, error);
            session.sink.report(diag::Kind::cannot_read, {}, path.string(),
                                std::string(exists ? "it is no readable file" : "No such file or directory"));
            return fail(session, false);
        }
        text = std::move(*read);
    }
    const diag::FileId id = session.sources.add(is_stdin ? "<stdin>" : path.string(), text);
    const std::optional<frontend::Formatted> formatted = frontend::format(session.sources, id, session.sink);
    if (!formatted) return fail(session, false);
    if (!formatted->faithful) {
        std::fprintf(stderr,
                     "internal compiler error: the layout of `%s` would change its meaning; it is left as it is\n"
                     "this is a bug in flexc, not in your program; please report it with the input\n",
                     path.c_str());
        return kBug;
    }
    const bool differs = formatted->text != text;
    changed += differs;
    if (check) {
        if (!differs) return kOk;
        const std::string name = is_stdin ? "<stdin>" : path.string();
        if (!print_out(name + ": not in the canonical layout\n" + line_diff(text, formatted->text, 20))) return kInputWrong;
        return kInputWrong;
    }
    if (is_stdin) return print_out(formatted->text) ? kOk : kInputWrong;
    if (!differs) return kOk;
    // A link stays a link: the file that it leads to is replaced.
    std::error_code error;
    const std::filesystem::path target = std::filesystem::canonical(path, error);
    const flex::Status written = io::write_file(error ? path : target, std::as_bytes(std::span(formatted->text)));
    if (!written.ok()) {
        session.sink.report(diag::Kind::cannot_write, {}, path.string(), written.text());
        return fail(session, false);
    }
    return kOk;
}

int fmt_command(const Options& options) {
    Session session;
    const std::vector<std::filesystem::path> files = expand(options.files, session);
    int code = session.sink.has_errors() ? fail(session, false) : kOk;
    size_t changed = 0;
    for (const std::filesystem::path& path : files) {
        const int here = format_one(path, options.check, changed);
        code = std::max(code, here);
    }
    if (options.check && changed > 0)
        std::fprintf(stderr, "%zu of %zu files would change; `flexc fmt` without --check rewrites them\n", changed, files.size());
    return code;
}

}  // namespace

Command add_fmt(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("fmt", "Rewrites files in the canonical layout");
    app->add_option("FILE", options->files, "the .flex files; a folder stands for all below it, `-` for stdin, which is written to stdout")
        ->required();
    app->add_flag("--check", options->check, "write nothing; exit code 1, with the differences, if a file is not in that layout");
    app->footer("A file with a syntax error stays as it is.\nExamples:\n  flexc fmt my_variant.flex\n  flexc fmt --check examples/gallery");
    return {app, [options] { return fmt_command(*options); }};
}

}  // namespace flexc::tools
