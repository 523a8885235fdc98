#include "tools/repl/assist.h"

#include <algorithm>
#include <filesystem>

#include "frontend/sema_names.h"
#include "tools/repl/scan.h"

namespace flexc::repl {
namespace {

enum Style : uint8_t { kPlain, kKeyword, kClause, kNumber, kComment, kText, kIndex, kFunction, kCommand, kWrong };

bool is_index(std::string_view word) {
    for (const char* each : {"b", "h", "q", "k", "hkv", "d", "B", "H", "HKV", "Q", "K", "D", "DV", "score"})
        if (word == each) return true;
    return false;
}

bool contains(const std::vector<std::string>& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

std::vector<uint8_t> colours(const State& state, std::string_view text) {
    std::vector<uint8_t> out(text.size(), kPlain);
    const auto paint = [&](size_t begin, size_t end, uint8_t style) {
        std::fill(out.begin() + static_cast<long>(begin), out.begin() + static_cast<long>(end), style);
    };
    if (is_command(text)) {
        const size_t begin = text.find(':'), end = std::min(text.find_first_of(" \t\n", begin), text.size());
        std::string why;
        paint(begin, end, find_command(std::string(text.substr(begin + 1, end - begin - 1)), &why) ? kCommand : kPlain);
        return out;
    }
    std::vector<size_t> open;
    for (const Piece& piece : scan(text)) {
        const std::string_view here = text.substr(piece.begin, piece.end - piece.begin);
        switch (piece.kind) {
            case PieceKind::Comment: paint(piece.begin, piece.end, kComment); break;
            case PieceKind::String: paint(piece.begin, piece.end, kText); break;
            case PieceKind::Number: paint(piece.begin, piece.end, kNumber); break;
            case PieceKind::Open: open.push_back(piece.begin); break;
            case PieceKind::Close:
                if (open.empty())
                    paint(piece.begin, piece.end, kWrong);
                else
                    open.pop_back();
                break;
            case PieceKind::Sign: break;
            case PieceKind::Word: {
                const size_t next = text.find_first_not_of(" \t", piece.end);
                const bool call = next != std::string_view::npos && text[next] == '(';
                if (here == "score" || here == "mask" || here == "scale")
                    paint(piece.begin, piece.end, kClause);
                else if (contains(declaration_words(), here) || contains(other_words(), here))
                    paint(piece.begin, piece.end, kKeyword);
                else if (call && (sema::builtin_named(here) || state.find(std::string(here)) ||
                                  std::any_of(library().begin(), library().end(), [&](const Entry& each) { return each.name == here; })))
                    paint(piece.begin, piece.end, kFunction);
                else if (is_index(here))
                    paint(piece.begin, piece.end, kIndex);
                break;
            }
        }
    }
    return out;
}

std::vector<std::string> files(const std::string& typed) {
    namespace fs = std::filesystem;
    const size_t slash = typed.rfind('/');
    const std::string folder = slash == std::string::npos ? "" : typed.substr(0, slash + 1), name = typed.substr(folder.size());
    std::vector<std::string> out;
    std::error_code error;
    for (fs::directory_iterator at(folder.empty() ? fs::path(".") : fs::path(folder), error), end; !error && at != end;
         at.increment(error)) {
        const std::string each = at->path().filename().string();
        if (!each.starts_with(name) || (name.empty() && each.starts_with("."))) continue;
        std::error_code ignored;
        out.push_back(folder + each + (at->is_directory(ignored) ? "/" : ""));
    }
    return out;
}

void add_params(const State& state, std::vector<std::string>* out, const char* tail) {
    for (const Entry& entry : state.entries)
        for (const ParamText& param : entry.params) out->push_back(param.name + tail);
}

/// What may stand as argument of a command.
std::vector<std::string> arguments_of(const State& state, const std::string& command, const std::string& typed) {
    std::vector<std::string> out;
    const auto add_entries = [&](bool drawable) {
        for (const Entry& entry : state.entries)
            if (!drawable || entry.kind == ast::DeclKind::Attention || entry.kind == ast::DeclKind::Mask ||
                entry.kind == ast::DeclKind::Score)
                out.push_back(entry.name);
    };
    if (command == "load" || command == "save" || command == "in") return files(typed);
    if (command == "shape") {
        out = {"B=", "H=", "HKV=", "Q=", "K=", "D=", "DV=", "default"};
        for (const Entry& entry : state.entries)
            for (const ParamText& param : entry.params)
                for (const std::string& extent : param.extents) out.push_back(extent + "=");
    } else if (command == "set") {
        if (const size_t equals = typed.find('='); equals != std::string::npos) {
            for (const std::string& file : files(typed.substr(equals + 1))) out.push_back(typed.substr(0, equals + 1) + file);
            return out;
        }
        add_params(state, &out, "=");
    } else if (command == "unset") {
        for (const auto& [name, value] : state.settings.sets) out.push_back(name);
    } else if (command == "help") {
        for (const CommandInfo& each : commands()) out.emplace_back(each.name);
    } else if (command == "list" || command == "drop") {
        add_entries(false);
    } else {
        if (command == "show") out = {"mask", "score"};
        add_entries(true);
    }
    return out;
}

Completions completions(const State& state, std::string_view text, size_t cursor) {
    Completions out;
    std::vector<std::string> words;
    const std::string_view before = text.substr(0, cursor);
    if (is_command(text)) {
        const size_t colon = before.find(':');
        if (colon == std::string_view::npos) return out;
        const size_t blank = before.find_first_of(" \t", colon);
        if (blank == std::string_view::npos) {
            out.begin = colon + 1;
            for (const CommandInfo& each : commands()) words.push_back(std::string(each.name) + (*each.arguments ? " " : ""));
        } else {
            out.begin = before.find_last_of(" \t") + 1;
            std::string why;
            const CommandInfo* command = find_command(std::string(before.substr(colon + 1, blank - colon - 1)), &why);
            if (!command) return out;
            words = arguments_of(state, command->name, std::string(before.substr(out.begin)));
        }
    } else {
        out.begin = word_begin(text, cursor);
        if (out.begin == cursor) return out;
        words = sema::language_names();
        words.insert(words.end(), declaration_words().begin(), declaration_words().end());
        words.insert(words.end(), other_words().begin(), other_words().end());
        for (const Entry& entry : state.entries)
            if (entry.kind != ast::DeclKind::Import) words.push_back(entry.name);
        if (state.find("std"))
            for (const Entry& entry : library()) words.push_back(entry.name);
        if (const Entry* current = state.current_attention())
            for (const ParamText& param : current->params) words.push_back(param.name);
        // Names in this very text: parameters and lets.
        for (const Piece& piece : scan(text))
            if (piece.kind == PieceKind::Word && piece.end != cursor && piece.end - piece.begin > 2)
                words.emplace_back(text.substr(piece.begin, piece.end - piece.begin));
    }
    const std::string_view typed = before.substr(out.begin);
    for (std::string& word : words)
        if (std::string_view(word).starts_with(typed)) out.words.push_back(std::move(word));
    std::sort(out.words.begin(), out.words.end());
    out.words.erase(std::unique(out.words.begin(), out.words.end()), out.words.end());
    return out;
}

std::string hint(const State& state, std::string_view text, size_t cursor) {
    if (text.empty()) return {};
    if (is_command(text)) {
        const std::vector<std::string> words = split_words(text.substr(text.find(':') + 1));
        std::string why;
        const CommandInfo* command = words.empty() ? nullptr : find_command(words[0], &why);
        if (!command || words.size() > 1) return {};
        return text.back() == ' ' ? command->arguments
                                  : std::string(command->arguments) + (*command->arguments ? "  " : "") + command->what;
    }
    const auto call = call_at(text, cursor);
    if (call) {
        const auto shown = [&](const std::string& signature) {
            const size_t open = signature.find('(');
            return open == std::string::npos ? std::string() : signature.substr(open + 1);
        };
        if (const Entry* entry = state.find(call->name)) return shown(entry->signature);
        if (state.find("std"))
            for (const Entry& entry : library())
                if (entry.name == call->name) return shown(entry.signature);
        if (const sema::Builtin* builtin = sema::builtin_named(call->name)) return shown(std::string(builtin->usage));
        return {};
    }
    if (cursor == text.size() && open_brackets(text) == 0 && is_declaration(text) && !is_complete(text) &&
        text.find('=') != std::string_view::npos && text.back() != '=')
        return "; ends it";
    return {};
}

}  // namespace

EditorHooks assist(const ReplSession& session) {
    EditorHooks hooks;
    hooks.complete = [](std::string_view text) { return is_complete(text); };
    hooks.completions = [&session](std::string_view text, size_t cursor) { return completions(session.state(), text, cursor); };
    hooks.hint = [&session](std::string_view text, size_t cursor) { return hint(session.state(), text, cursor); };
    hooks.colours = [&session](std::string_view text) { return colours(session.state(), text); };
    hooks.palette = {"", "1;35", "1;34", "32", "2", "32", "36", "34", "1;33", "1;31"};
    hooks.depth = [](std::string_view text) { return open_brackets(text); };
    return hooks;
}

}  // namespace flexc::repl
