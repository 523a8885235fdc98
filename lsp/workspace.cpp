#include "lsp/workspace.h"

#include <unistd.h>

#include <fstream>

#include "diag/explanations.h"

namespace flexc::lsp {

const LineIndex& Analysis::lines(diag::FileId file) const {
    const auto found = lines_.find(file);
    return found != lines_.end() ? found->second : lines_.emplace(file, LineIndex(text(file))).first->second;
}

Document& Workspace::open(const std::string& uri, std::string text, Json version) {
    Document& d = documents_[uri];
    d.uri = uri;
    d.name = path_of(uri).value_or(uri);
    change(d, std::move(text), std::move(version));
    return d;
}

void Workspace::close(const std::string& uri) {
    documents_.erase(uri);
    forget_analyses();  // what imports it reads the file again
}

Document* Workspace::find(const std::string& uri) {
    const auto found = documents_.find(uri);
    return found == documents_.end() ? nullptr : &found->second;
}

void Workspace::change(Document& document, std::string text, Json version) {
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    document.text = std::move(text);
    document.version = std::move(version);
    document.lines = LineIndex(document.text);
    document.analysis.reset();
    document.unpublished = true;
    for (auto& [uri, other] : documents_)
        if (other.text.find("import \"") != std::string::npos) {
            other.analysis.reset();
            other.unpublished = true;
        }
}

void Workspace::forget_analyses() {
    for (auto& [uri, document] : documents_) {
        document.analysis.reset();
        document.unpublished = true;
    }
}

const Analysis& Workspace::analysis(Document& document) {
    if (!document.analysis) document.analysis = analyse(document.name, document.text);
    return *document.analysis;
}

std::shared_ptr<const Analysis> Workspace::analyse(const std::string& name, const std::string& text) const {
    auto result = std::make_shared<Analysis>();
    frontend::ImportResolver imports = frontend::default_imports();
    const auto from_disk = imports.read_file;
    imports.read_file = [this, from_disk](const std::filesystem::path& path) -> std::optional<std::string> {
        for (const auto& [uri, document] : documents_)
            if (document.name == path) return document.text;
        return from_disk(path);
    };
    result->main = result->sources.add(name, text);
    result->program = frontend::analyse(result->sources, result->main, imports, result->sink);
    result->names = std::make_unique<frontend::NameIndex>(*result->program);
    if (!result->sink.has_errors())
        for (const auto& attention : result->program->attentions())
            if (attention.const_params.empty()) (void)frontend::lower(*result->program, attention.name, {}, result->lowering);
    return result;
}

namespace {

/// Makes `path` hold `text`, under its name at once. The file's URI; empty if it cannot be written.
std::string written(const std::filesystem::path& path, std::string_view text) {
    std::error_code error;
    std::string there;
    if (std::ifstream in(path, std::ios::binary); in) there.assign(std::istreambuf_iterator<char>(in), {});
    if (there != text) {
        std::filesystem::create_directories(path.parent_path(), error);
        const std::filesystem::path temporary = path.string() + "." + std::to_string(getpid());
        std::ofstream out(temporary, std::ios::binary);
        out << text;
        out.close();
        if (out) std::filesystem::rename(temporary, path, error);
        if (!out || error) {
            std::filesystem::remove(temporary, error);
            return {};
        }
    }
    return uri_of(std::filesystem::absolute(path, error).string());
}

}  // namespace

std::string Workspace::explanation_uri(const diag::KindInfo& kind) {
    if (library_folder_.empty()) return {};
    const std::string code(kind.code);
    if (const auto known = explanations_.find(code); known != explanations_.end()) return known->second;
    const diag::Explanation explanation = diag::explanation(kind);
    std::string text = "# " + code + " " + std::string(kind.name) + "\n\n" + std::string(kind.message) + "\n";
    for (const std::string& paragraph : explanation.paragraphs) text += "\n" + paragraph + "\n";
    const auto show = [&](const char* title, const std::string& program) {
        if (!program.empty()) text += std::string("\n") + title + "\n\n```flex\n" + program + "```\n";
    };
    show("This gives it:", explanation.wrong);
    show("This does not:", explanation.right);
    return explanations_[code] = written(library_folder_ / "diagnostics" / (code + ".md"), text);
}

std::string Workspace::uri(const Analysis& analysis, diag::FileId file) const {
    const std::string& name = analysis.sources.file(file).name();
    for (const auto& [uri, document] : documents_)
        if (document.name == name) return uri;
    if (!name.starts_with("<")) {
        std::error_code error;
        return uri_of(std::filesystem::absolute(name, error).string());
    }
    // `<std>`: a copy that an editor can show.
    if (library_folder_.empty()) return {};
    return written(library_folder_ / (name.substr(1, name.size() - 2) + ".flex"), analysis.text(file));
}

Json Workspace::range(const Analysis& analysis, diag::Span span) const {
    const LineIndex& lines = analysis.lines(span.file);
    const std::string_view text = analysis.text(span.file);
    return {{"start", lines.position(text, span.begin, encoding)}, {"end", lines.position(text, std::max(span.begin, span.end), encoding)}};
}

Json Workspace::location(const Analysis& analysis, diag::Span span) const {
    const std::string where = uri(analysis, span.file);
    if (where.empty()) return nullptr;
    return {{"uri", where}, {"range", range(analysis, span)}};
}

}  // namespace flexc::lsp
