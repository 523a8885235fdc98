#include "tools/build_header.h"

#include <atomic>
#include <deque>
#include <span>

#include "tools/io/atomic_file.h"
#include "tools/progress.h"
#include "tools/report.h"

namespace flexc::tools {
namespace {

namespace fs = std::filesystem;

struct OutputNames {
    fs::path header, object;
};

OutputNames output_names(const fs::path& out, const std::string& attention) {
    std::error_code error;
    fs::path stem = out.empty() ? fs::path(attention) : out;
    if (!out.empty() && (!out.has_filename() || fs::is_directory(out, error)))
        stem = out / attention;
    else if (stem.extension() == ".h" || stem.extension() == ".o")
        stem.replace_extension();
    return {fs::path(stem.string() + ".h"), fs::path(stem.string() + ".o")};
}

/// As make and ninja read it.
std::string escaped(const fs::path& path) {
    std::string out;
    for (const char c : path.string()) {
        if (c == ' ' || c == '#') out += '\\';
        if (c == '$') out += '$';
        out += c;
    }
    return out;
}

/// A rule by which the outputs depend on every file that the session has read; `std` is part of flexc.
std::string dependencies(const Session& session, const OutputNames& outputs) {
    std::string text = escaped(outputs.header) + " " + escaped(outputs.object) + ":";
    for (const std::string& source : session.program().files()) {
        std::error_code error;
        const fs::path absolute = fs::absolute(source, error);
        text += " \\\n  " + escaped(error ? fs::path(source) : absolute.lexically_normal());
    }
    return text + "\n";
}

struct Output {
    fs::path path;
    std::span<const std::byte> bytes;
};

/// All of them or none; then `at` is the one that could not be written.
flex::Status write_all(const std::vector<Output>& outputs, fs::path* at) {
    std::deque<io::AtomicFile> files;
    for (const Output& output : outputs) {
        *at = output.path;
        io::AtomicFile& file = files.emplace_back(output.path);
        if (flex::Status status = file.open(); !status.ok()) return status;
        if (flex::Status status = file.write(output.bytes); !status.ok()) return status;
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
        *at = outputs[i].path;
        flex::Status status = files[i].commit();
        if (status.ok()) continue;
        std::error_code ignored;
        for (size_t j = 0; j < i; ++j) fs::remove(outputs[j].path, ignored);
        return status;
    }
    return {};
}

}  // namespace

int build_header(Session& session, const ir::Attention& attention, const HeaderOptions& options) {
    if (options.out == "-") {
        session.sink.report(diag::Kind::cannot_write, {}, std::string("-"), std::string("a header and an object are two files"));
        return fail(session, options.json);
    }
    const OutputNames names = output_names(options.out, attention.name);
    const auto linkable = [&] {
        std::atomic<int> finished{0};
        LinkOptions link = options.link;
        link.finished = &finished;
        const auto count = static_cast<double>(link.targets.size());
        Progress progress("flexc build", options.json);
        progress.expect(count);
        const auto step = progress.step(attention.name, count, [&finished, count] { return finished / count; });
        return make_linkable(session, attention, link, fs::path(session.program().files().front()).filename().string(),
                             names.object.filename().string());
    }();
    if (!linkable) return fail(session, options.json);
    const std::string rule = dependencies(session, names);
    std::vector<Output> outputs = {{names.object, std::as_bytes(std::span(linkable->object))},
                                   {names.header, std::as_bytes(std::span(linkable->header))}};
    if (!options.depfile.empty()) outputs.push_back({options.depfile, std::as_bytes(std::span(rule))});
    fs::path at;
    if (const flex::Status status = write_all(outputs, &at); !status.ok()) {
        session.sink.report(diag::Kind::cannot_write, {}, at.string(), status.text());
        return fail(session, options.json);
    }
    return succeed(session, options.json,
                   {{"emit", "header"},
                    {"out", names.header.string()},
                    {"object", names.object.string()},
                    {"bytes", linkable->object.size()},
                    {"phases", phases_json(session.phases)}});
}

}  // namespace flexc::tools
