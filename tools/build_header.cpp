#include "tools/build_header.h"

#include <span>

#include "tools/io/atomic_file.h"
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

/// A rule by which `outputs` depend on every file that the session has read; `std` is part of flexc.
bool write_depfile(Session& session, const fs::path& file, const OutputNames& outputs) {
    std::string text = escaped(outputs.header) + " " + escaped(outputs.object) + ":";
    for (const std::string& source : session.program().files()) {
        std::error_code error;
        const fs::path absolute = fs::absolute(source, error);
        text += " \\\n  " + escaped(error ? fs::path(source) : absolute.lexically_normal());
    }
    text += "\n";
    const flex::Status status = io::write_file(file, std::as_bytes(std::span(text)));
    if (!status.ok()) session.sink.report(diag::Kind::cannot_write, {}, file.string(), status.text());
    return status.ok();
}

flex::Status write_both(const OutputNames& names, const Linkable& linkable, fs::path* at) {
    io::AtomicFile header(names.header), object(names.object);
    const std::pair<io::AtomicFile*, std::span<const std::byte>> files[] = {
        {&object, std::as_bytes(std::span(linkable.object))},
        {&header, std::as_bytes(std::span(linkable.header))},
    };
    for (const auto& [file, bytes] : files) {
        *at = file == &header ? names.header : names.object;
        if (flex::Status status = file->open(); !status.ok()) return status;
        if (flex::Status status = file->write(bytes); !status.ok()) return status;
    }
    *at = names.object;
    if (flex::Status status = object.commit(); !status.ok()) return status;
    *at = names.header;
    flex::Status status = header.commit();
    std::error_code ignored;
    if (!status.ok()) fs::remove(names.object, ignored);
    return status;
}

}  // namespace

int build_header(Session& session, const ir::Attention& attention, const HeaderOptions& options) {
    if (options.out == "-") {
        session.sink.report(diag::Kind::cannot_write, {}, std::string("-"), std::string("a header and an object are two files"));
        return fail(session, options.json);
    }
    const OutputNames names = output_names(options.out, attention.name);
    const auto linkable = make_linkable(session, attention, options.link, fs::path(session.program().files().front()).filename().string(),
                                        names.object.filename().string());
    if (!linkable) return fail(session, options.json);
    fs::path at;
    if (const flex::Status status = write_both(names, *linkable, &at); !status.ok()) {
        session.sink.report(diag::Kind::cannot_write, {}, at.string(), status.text());
        return fail(session, options.json);
    }
    if (!options.depfile.empty() && !write_depfile(session, options.depfile, names)) return fail(session, options.json);
    return succeed(session, options.json,
                   {{"emit", "header"},
                    {"out", names.header.string()},
                    {"object", names.object.string()},
                    {"bytes", linkable->object.size()},
                    {"phases", phases_json(session.phases)}});
}

}  // namespace flexc::tools
