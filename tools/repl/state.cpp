#include "tools/repl/state.h"

#include <algorithm>

#include "frontend/parse.h"
#include "tools/repl/scan.h"

namespace flexc::repl {
namespace {

constexpr std::string_view kSavedPrefix = "# :";

std::string one_line(std::string_view text) {
    std::string out;
    for (const Piece& piece : scan(text)) {
        if (piece.kind == PieceKind::Comment) continue;
        const std::string_view here = text.substr(piece.begin, piece.end - piece.begin);
        // Blanks as the user left them, but for line ends and runs of them.
        const bool gap = piece.begin > 0 && std::string_view(" \t\r\n").find(text[piece.begin - 1]) != std::string_view::npos;
        if (gap && !out.empty() && out.back() != '(' && out.back() != ' ' && here != ")") out += ' ';
        out += here;
    }
    return out;
}

/// Where the head of a declaration ends: before its `=` or `{`.
size_t head_end(std::string_view text, size_t begin) {
    int depth = 0;
    for (const Piece& piece : scan(text.substr(begin))) {
        const char first = text[begin + piece.begin];
        if (depth == 0 && (first == '{' || (first == '=' && piece.end - piece.begin == 1) || first == ';')) return begin + piece.begin;
        depth += piece.kind == PieceKind::Open;
        depth -= piece.kind == PieceKind::Close;
    }
    return text.size();
}

void names_in(const ast::Expr& expr, std::vector<std::string>* out) {
    if (expr.kind == ast::ExprKind::Name) out->push_back(expr.text);
    for (const ast::Expr* arg : expr.args) names_in(*arg, out);
}

Entry entry_of(const ast::Decl& decl, std::string_view text, size_t begin) {
    const auto slice = [&](diag::Span from, diag::Span to) { return std::string(text.substr(from.begin, to.end - from.begin)); };
    Entry entry;
    entry.name = decl.name.text;
    entry.kind = decl.kind;
    entry.doc = decl.doc;
    entry.text = std::string(text.substr(begin, decl.span.end - begin));
    entry.signature = one_line(text.substr(decl.span.begin, head_end(text, decl.span.begin) - decl.span.begin));
    while (entry.signature.ends_with(' ')) entry.signature.pop_back();
    if (!decl.params.empty()) entry.params_text = slice(decl.params.front().span, decl.params.back().span);
    for (const ast::ParamDecl& param : decl.params) {
        ParamText one;
        one.name = param.name.text;
        one.type = (param.is_grad ? "grad " : "") + one_line(slice(param.type.span, param.type.span));
        one.base = param.type.name.text;
        one.is_tensor = param.type.is_tensor;
        one.is_const = param.is_const;
        one.has_default = param.default_value != nullptr;
        for (const ast::Expr* dim : param.type.dims) names_in(*dim, &one.extents);
        entry.params.push_back(std::move(one));
    }
    for (const ast::Let& let : decl.lets) entry.lets += slice(let.span, let.span) + (slice(let.span, let.span).ends_with(';') ? " " : "; ");
    return entry;
}

std::string quoted_import(const std::filesystem::path& path) {
    return "import \"" + path.generic_string() + "\";";
}

std::string joined(const std::map<std::string, int64_t>& shape, char separator) {
    std::string out;
    for (const auto& [name, value] : shape) out += (out.empty() ? "" : std::string(1, separator)) + name + "=" + std::to_string(value);
    return out;
}

}  // namespace

const std::map<std::string, int64_t>& default_shape() {
    static const std::map<std::string, int64_t> shape = {{"B", 1}, {"H", 8}, {"Q", 1024}, {"D", 64}};
    return shape;
}

std::optional<std::vector<Entry>> read_entries(const std::string& text, const std::string& origin, uint32_t line,
                                               const std::filesystem::path& folder, diag::SourceManager& sources, diag::Sink& sink) {
    const diag::FileId id = sources.add(origin, text, {{1, origin, line}});
    const std::string_view kept = sources.file(id).text();  // without a byte-order mark, as spans count
    const auto file = frontend::parse(sources, id, sink);
    if (sink.has_errors()) return std::nullopt;
    std::vector<Entry> out;
    size_t at = 0;
    for (const ast::Decl* decl : file->decls) {
        // Comments belong to what follows them; blank lines to nothing.
        while (at < decl->span.begin) {
            const size_t end = kept.find('\n', at);
            if (end == std::string_view::npos || end >= decl->span.begin || !trim(kept.substr(at, end - at)).empty()) break;
            at = end + 1;
        }
        Entry entry = entry_of(*decl, kept, at);
        entry.origin = origin;
        entry.line = line + sources.file(id).position(static_cast<uint32_t>(at)).line - 1;
        if (decl->kind == ast::DeclKind::Import && decl->import_is_path) {
            entry.imported = (folder / decl->name.text).lexically_normal();
            entry.name = entry.imported.generic_string();
            entry.text = quoted_import(entry.imported);
        }
        out.push_back(std::move(entry));
        at = decl->span.end;
    }
    return out;
}

State State::fresh() {
    State state;
    Entry std;
    std.name = "std";
    std.kind = ast::DeclKind::Import;
    std.text = "import std;";
    std.signature = "import std";
    std.origin = kSessionFile;
    std.implicit = true;
    state.entries.push_back(std::move(std));
    return state;
}

const Entry* State::find(const std::string& name) const {
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.name == name; });
    return found == entries.end() ? nullptr : &*found;
}

const Entry* State::current_attention() const {
    const Entry* entry = find(current);
    return entry && entry->kind == ast::DeclKind::Attention ? entry : nullptr;
}

void State::merge(std::vector<Entry> added) {
    std::vector<std::string> replaced;
    for (Entry& entry : added) {
        const auto old = std::find_if(entries.begin(), entries.end(), [&](const Entry& each) { return each.name == entry.name; });
        const bool twice = std::find(replaced.begin(), replaced.end(), entry.name) != replaced.end();
        if (entry.kind == ast::DeclKind::Attention) current = entry.name;
        if (old == entries.end() || (twice && entry.kind != ast::DeclKind::Import)) {
            // Twice in one input: both stay, and the check says so.
            replaced.push_back(entry.name);
            if (entry.kind == ast::DeclKind::Import)
                entries.insert(
                    std::find_if(entries.begin(), entries.end(), [](const Entry& each) { return each.kind != ast::DeclKind::Import; }),
                    std::move(entry));
            else
                entries.push_back(std::move(entry));
            continue;
        }
        replaced.push_back(entry.name);
        *old = std::move(entry);
    }
    if (!current_attention()) current.clear();
}

void State::drop(const std::string& name) {
    std::erase_if(entries, [&](const Entry& entry) { return entry.name == name; });
    if (current != name) return;
    current.clear();
    for (const Entry& entry : entries)
        if (entry.kind == ast::DeclKind::Attention) current = entry.name;
}

State::Source State::source() const {
    Source out;
    uint32_t line = 1;
    for (const Entry& entry : entries) {
        out.parts.push_back({line, entry.origin, entry.line});
        out.text += entry.text + "\n";
        line += static_cast<uint32_t>(std::count(entry.text.begin(), entry.text.end(), '\n')) + 1;
    }
    return out;
}

std::string State::saved(const std::filesystem::path& folder) const {
    std::string out;
    const auto setting = [&](const std::string& text) { out += std::string(kSavedPrefix) + text + "\n"; };
    if (!settings.shape.empty()) setting("shape " + joined(settings.shape, ' '));
    if (!settings.in.empty()) setting("in \"" + settings.in.string() + "\"");
    for (const auto& [name, value] : settings.sets)
        setting("set " + name + "=" + (value.find(' ') == std::string::npos ? value : "\"" + value + "\""));
    if (settings.seed != 0) setting("seed " + std::to_string(settings.seed));
    if (current_attention()) setting("use " + current);
    if (!out.empty()) out += "\n";
    bool imports = true;
    for (const Entry& entry : entries) {
        const bool import = entry.kind == ast::DeclKind::Import;
        if (!import) out += imports && out.empty() ? "" : "\n";
        imports = import;
        std::error_code ignored;
        const std::filesystem::path moved =
            entry.imported.empty() ? std::filesystem::path() : std::filesystem::proximate(entry.imported, folder, ignored);
        out += (moved.empty() ? entry.text : quoted_import(moved)) + "\n";
    }
    return out;
}

std::vector<std::string> saved_commands(std::string_view text) {
    std::vector<std::string> out;
    while (text.starts_with(kSavedPrefix)) {
        const size_t end = std::min(text.find('\n'), text.size());
        out.emplace_back(trim(text.substr(kSavedPrefix.size() - 1, end - kSavedPrefix.size() + 1)));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

tools::InputOptions State::input(const Entry& attention) const {
    tools::InputOptions options;
    options.file = kSessionFile;
    options.name = attention.name;
    options.in = settings.in;
    options.seed = settings.seed;
    options.default_shape = default_shape();
    options.random_params = true;
    std::vector<std::string> extents = {"B", "H", "HKV", "Q", "K", "D", "DV"};
    for (const ParamText& param : attention.params) {
        extents.insert(extents.end(), param.extents.begin(), param.extents.end());
        if (const auto set = settings.sets.find(param.name); set != settings.sets.end()) options.sets.push_back({set->first, set->second});
    }
    for (const char* array : {"q", "k", "v"})
        if (const auto set = settings.sets.find(array); set != settings.sets.end()) options.sets.push_back({set->first, set->second});
    for (const auto& [name, value] : settings.shape)
        if (std::find(extents.begin(), extents.end(), name) != extents.end()) options.shape[name] = value;
    return options;
}

std::vector<std::string> State::arguments(const Entry& attention) const {
    const tools::InputOptions options = input(attention);
    std::vector<std::string> out = {kSessionFile, "--name", options.name};
    const auto add = [&](const char* flag, const std::string& value) { out.insert(out.end(), {flag, value}); };
    if (!options.in.empty()) add("--in", options.in.string());
    if (!options.shape.empty()) add("--shape", joined(options.shape, ','));
    if (options.seed != 0) add("--seed", std::to_string(options.seed));
    for (const auto& [name, value] : options.sets) add("--set", name + "=" + value);
    return out;
}

}  // namespace flexc::repl
