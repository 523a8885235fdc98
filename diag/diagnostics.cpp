// The table of kinds and the Sink. Rendering is in render.cpp.
#include <utility>

#include "diag/check.h"
#include "diag/diagnostic.h"

namespace flexc::diag {

const KindInfo& info(Kind kind) {
    return detail::kKinds[static_cast<size_t>(kind)];
}

const std::vector<KindInfo>& all_kinds() {
    static const std::vector<KindInfo> kinds(std::begin(detail::kKinds), std::end(detail::kKinds));
    return kinds;
}

namespace {

/// A name of a hundred thousand letters is quoted by its beginning.
std::string bounded(std::string text) {
    constexpr size_t kLongest = 1000;
    if (text.size() <= kLongest) return text;
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return text.substr(0, end) + "...";
}

}  // namespace

Diagnostic& Diagnostic::note(std::string text, std::optional<Span> at) {
    notes.push_back({std::move(text), at, false});
    return *this;
}

Diagnostic& Diagnostic::help(std::string text) {
    notes.push_back({bounded(std::move(text)), {}, true});
    return *this;
}

Diagnostic& Diagnostic::fix(Span at, std::string replacement, std::string text) {
    fixes.push_back({at, std::move(replacement)});
    return help(std::move(text));
}

namespace {

bool same_place(const std::optional<Span>& a, const std::optional<Span>& b) {
    if (!a || !b) return !a && !b;
    return a->file == b->file && a->begin == b->begin && a->end == b->end;
}

}  // namespace

Diagnostic& Sink::add(Kind kind, std::optional<Span> span, std::string message) {
    message = bounded(std::move(message));
    const Level level = info(kind).level;
    bool drop = level == Level::Error ? errors_ > kMaxErrors : warnings_ >= kMaxWarnings;
    for (const Diagnostic& other : list_)
        drop = drop || (other.kind == kind && same_place(other.span, span) && (span || other.message == message));
    if (drop) {
        discarded_ = Diagnostic{};
        return discarded_;
    }
    if (level == Level::Warning) {
        ++warnings_;
    } else if (++errors_ > kMaxErrors) {
        list_.push_back({Kind::too_many_errors, Level::Error, {}, std::string(info(Kind::too_many_errors).message), {}, {}});
        discarded_ = Diagnostic{};
        return discarded_;
    }
    return list_.emplace_back(Diagnostic{kind, level, span, std::move(message), {}, {}});
}

void Sink::clear() {
    list_.clear();
    errors_ = 0;
    warnings_ = 0;
}

}  // namespace flexc::diag
