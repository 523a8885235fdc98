#include "tools/repl/answer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "frontend/imports.h"
#include "frontend/sema_names.h"
#include "ir/passes.h"
#include "tools/repl/scan.h"
#include "tools/repl/subject.h"

namespace flexc::repl {
namespace {

using ast::DeclKind;

/// Whether a text names one of `names`.
bool mentions(const std::string& text, const std::set<std::string>& names) {
    const auto pieces = scan(text);
    return std::any_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
        return piece.kind == PieceKind::Word && names.contains(text.substr(piece.begin, piece.end - piece.begin));
    });
}

/// Entries that use one of `names`, directly or through others.
std::vector<const Entry*> users(const State& state, std::set<std::string> names) {
    std::vector<const Entry*> out;
    for (bool grown = true; grown;) {
        grown = false;
        for (const Entry& entry : state.entries) {
            if (names.contains(entry.name) || !mentions(entry.text, names)) continue;
            names.insert(entry.name);
            out.push_back(&entry);
            grown = true;
        }
    }
    return out;
}

std::string warnings_text(const Session& session, const std::set<std::string>& origins) {
    std::string out;
    for (const diag::Diagnostic& each : session.sink.all()) {
        if (each.level != diag::Level::Warning) continue;
        if (each.span) {
            const diag::SourceFile& file = session.sources.file(each.span->file);
            if (!origins.contains(std::string(file.shown(file.position(each.span->begin).line).name))) continue;
        }
        out += diag::render(session.sources, each, picture::terminal().colour != picture::TerminalColour::None);
    }
    return with_commands(out);
}

/// The random parameters of a picture that were not mentioned before.
std::string made_up_text(const Subject& subject, const Context& context) {
    std::string names;
    for (const std::string& name : subject.drawing.launch.made_up) {
        if (context.said.contains(name)) continue;
        names += (names.empty() ? "`" : ", `") + name + "`";
        context.note("made " + name);
    }
    if (names.empty()) return {};
    return fmt::format("  {:<6} {}: random numbers until `:set` or `:in` gives others\n", "made", names);
}

/// One line about an attention that changed because of what it uses.
std::string brief(const State& before, const State& now, const Entry& entry) {
    const Entry* old = before.find(entry.name);
    if (!old) return {};
    const auto was = open_subject(before, *old, "both"), is = open_subject(now, entry, "both");
    if (!was || !is) return {};
    if (!was->drawing.whole || !is->drawing.whole || ir::print(*was->drawing.whole) == ir::print(*is->drawing.whole)) return {};
    std::string text = change_between(*was, *is, 16).text;
    return entry.name + ", which uses it, changes\n" + text;
}

/// Facts, picture and difference of one attention, mask or score.
std::optional<std::string> whole_answer(const State& before, const State& now, const Entry& entry, const Context& context) {
    const auto subject = open_subject(now, entry, "both");
    if (!subject) return std::nullopt;
    std::string out = facts_text(*subject);
    if (!subject->drawn()) {
        if (!subject->missing.empty()) out += fmt::format("  {:<6} none: {}\n", "image", subject->missing);
        return out;
    }
    out += tiles_text(*subject) + made_up_text(*subject, context);
    const int width = picture::terminal().width, half = (width - 3) / 2;
    Change change;
    std::string why;
    if (const Entry* old = before.find(entry.name); old && wrap(*old, &why)) {
        if (const auto was = open_subject(before, *old, "both")) {
            change = change_between(*was, *subject, context.lines, half >= 36 ? half : width);
            if (change.text.empty() && was->drawn()) out += fmt::format("  {:<6} none that shows at this shape\n", "change");
        }
    }
    out += change.text;
    const std::string picture = picture_text(*subject, 0, 0, context.lines, !change.picture.empty() && half >= 36 ? half : width);
    out += beside(picture, change.picture, width);
    context.note("subject " + entry.name);
    return out;
}

}  // namespace

void Context::note(const std::string& line) const {
    if (notes < 0) return;
    const std::string text = line + "\n";
    [[maybe_unused]] const auto written = ::write(notes, text.data(), text.size());
}

const std::vector<Entry>& library() {
    static const std::vector<Entry> entries = [] {
        diag::SourceManager sources;
        diag::Sink sink;
        const auto text = sema::embedded_library("std");
        return text ? read_entries(std::string(*text), "<std>", 1, {}, sources, sink).value_or(std::vector<Entry>()) : std::vector<Entry>();
    }();
    return entries;
}

std::string result_text(const Entry& entry) {
    switch (entry.kind) {
        case DeclKind::Attention: return entry.signature + "\n  gives  o [B, H, Q, DV] of q's type, lse f32[B, H, Q]";
        case DeclKind::Mask: return entry.signature + "\n  gives  bool, for b h q k";
        case DeclKind::Score: return entry.signature + "\n  gives  f32, for a score and b h q k";
        default: return entry.signature;
    }
}

int answer_declarations(const State& before, State now, const std::vector<std::string>& names, const Context& context) {
    Session session;
    if (!open_state(session, now)) {
        // A session imports `std` unasked; who declares its names means their own.
        State without = now;
        std::erase_if(without.entries, [](const Entry& entry) { return entry.implicit; });
        Session again;
        if (without.entries.size() == now.entries.size() || !open_state(again, without)) {
            std::fputs(diagnostics_text(session).c_str(), stderr);
            const std::set<std::string> changed(names.begin(), names.end());
            std::string list;
            for (const Entry* user : users(now, changed))
                if (before.find(user->name)) list += (list.empty() ? "`" : ", `") + user->name + "`";
            if (!list.empty() && std::any_of(names.begin(), names.end(), [&](const std::string& name) { return before.find(name); }))
                std::fprintf(stderr, "nothing has changed. Used by %s: enter declarations that must change together as one input\n",
                             list.c_str());
            return tools::kInputWrong;
        }
        now = std::move(without);
        context.note("nostd");
        std::fputs("`import std` is left out, since its names are declared here\n", stdout);
    }
    std::set<std::string> origins;
    for (const std::string& name : names)
        if (const Entry* entry = now.find(name)) origins.insert(entry->origin);
    std::fputs(warnings_text(session, origins).c_str(), stderr);

    std::string out;
    const Entry* subject = nullptr;
    constexpr size_t kFew = 12;
    for (const std::string& name : names) {
        const Entry* entry = now.find(name);
        if (!entry || entry->kind == DeclKind::Import) continue;
        if (entry->kind == DeclKind::Attention || entry->kind == DeclKind::Mask || entry->kind == DeclKind::Score) {
            std::string why;
            const bool better = !subject || entry->kind == DeclKind::Attention || subject->kind != DeclKind::Attention;
            if (better && wrap(*entry, &why)) subject = entry;
        }
    }
    if (names.size() > kFew) out += fmt::format("{} declarations; `:list` shows them\n", names.size());
    for (const std::string& name : names) {
        const Entry* entry = now.find(name);
        if (!entry || entry == subject) continue;
        if (names.size() <= kFew) out += result_text(*entry) + "\n";
        // Lowering finds what checking does not; a fault refuses the declaration.
        if (names.size() <= kFew && entry->kind == DeclKind::Attention && !open_subject(now, *entry, "mask")) return tools::kInputWrong;
    }
    // What uses the new definitions: the current attention as a whole, others in a line.
    std::vector<const Entry*> affected;
    const bool only_attentions = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
        const Entry* entry = now.find(name);
        return entry && entry->kind == DeclKind::Attention;
    });
    if (!only_attentions && names.size() <= kFew)
        for (const Entry* user : users(now, {names.begin(), names.end()}))
            if (user->kind == DeclKind::Attention && before.find(user->name)) affected.push_back(user);
    const bool redefined = std::any_of(names.begin(), names.end(), [&](const std::string& name) { return before.find(name); });
    if (redefined && (!subject || subject->kind != DeclKind::Attention)) {
        for (const Entry* user : affected) {
            if (user->name != now.current) continue;
            if (subject) out += result_text(*subject) + "\n";
            subject = user;
        }
    }
    if (subject) {
        const auto text = whole_answer(before, now, *subject, context);
        if (!text) return tools::kInputWrong;
        out += result_text(*subject) + "\n" + *text;
    }
    for (const Entry* user : affected)
        if (user != subject) out += brief(before, now, *user);
    return tools::print_out(out) ? tools::kOk : tools::kInputWrong;
}

std::string describe_name(const State& state, const std::string& name) {
    const auto of_entry = [](const Entry& entry) {
        std::string out;
        for (size_t at = 0; at < entry.doc.size();) {
            const size_t end = std::min(entry.doc.find('\n', at), entry.doc.size());
            out += "## " + entry.doc.substr(at, end - at) + "\n";
            at = end + 1;
        }
        return out + result_text(entry) + "\n";
    };
    if (const Entry* entry = state.find(name); entry && entry->kind != DeclKind::Import) return of_entry(*entry);
    if (state.find("std"))
        for (const Entry& entry : library())
            if (entry.name == name) return of_entry(entry);
    if (const sema::Builtin* builtin = sema::builtin_named(name)) {
        const char* types = "";
        switch (builtin->shape) {
            case sema::Shape::Float: types = "f32 -> f32"; break;
            case sema::Shape::Float2: types = "f32, f32 -> f32"; break;
            case sema::Shape::Numeric: types = "T -> T, T one of f32 and i32"; break;
            case sema::Shape::Numeric2: types = "T, T -> T, T one of f32 and i32"; break;
            case sema::Shape::Clamp: types = "T, T, T -> T, T one of f32 and i32"; break;
            case sema::Shape::SelectShape: types = "bool, T, T -> T"; break;
            case sema::Shape::ToF32: types = "i32, bool -> f32"; break;
            case sema::Shape::ToI32: types = "f32, bool -> i32"; break;
            case sema::Shape::Dot: types = "two slices of tensors -> f32, or i32"; break;
        }
        return fmt::format("{}: {}\n", builtin->usage, types);
    }
    return {};
}

}  // namespace flexc::repl
