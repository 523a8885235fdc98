// The life of a diagnostic: a kind is declared once in diagnostics.def with its code, level, kebab-case
// name and message; `Sink::report(Kind::type_mismatch, span, args...)` formats it (the number of arguments is
// checked at compile time against the message); notes and a fix are chained on the returned builder; `render` prints it:
//
//   alibi.flex:3:13: error[E2003]: expected `f32`, found `i32`
//     3 |     score = score + slope[h] * (k - q);
//       |                                ^^^^^^^
//       = help: write `f32(k - q)`
//
// Bands: 0 driver and tools, 1 syntax, 2 names and types, 3 analysis, 4 backend and runtime. Codes are never reused.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "diag/source.h"

namespace flexc::diag {

enum class Level : uint8_t { Error, Warning };

enum class Kind : uint16_t {
#define FLEX_DIAG(code, level, ident, name, message) ident,
#include "diag/diagnostics.def"
#undef FLEX_DIAG
};

struct KindInfo {
    std::string_view code;  // "E2003"
    Level level;
    std::string_view name;     // "type-mismatch"
    std::string_view message;  // fmt format string, all arguments strings
};

namespace detail {
inline constexpr KindInfo kKinds[] = {
#define FLEX_DIAG(code, level, ident, name, message) {code, Level::level, name, message},
#include "diag/diagnostics.def"
#undef FLEX_DIAG
};

constexpr size_t placeholders(std::string_view message) {
    size_t count = 0;
    for (size_t i = 0; i + 1 < message.size(); ++i)
        if (message[i] == '{') {
            if (message[i + 1] == '}') ++count;
            ++i;  // past `{}` or the escape `{{`
        }
    return count;
}

/// A Kind whose message takes N arguments; a wrong count does not compile.
template <size_t N>
struct CheckedKind {
    consteval CheckedKind(Kind k) : kind(k) {
        if (placeholders(kKinds[static_cast<size_t>(k)].message) != N) throw "wrong number of arguments for this diagnostic";
    }
    Kind kind;
};
}  // namespace detail

[[nodiscard]] const KindInfo& info(Kind kind);
[[nodiscard]] const std::vector<KindInfo>& all_kinds();

struct Note {
    std::string text;          // "`window` is declared here", or a suggestion
    std::optional<Span> span;  // shown with its own source line if present
    bool is_help = false;      // rendered `help:` instead of `note:`
};

/// A replacement of text that mends the fault; editors offer it.
struct Fix {
    Span span;
    std::string replacement;
};

struct Diagnostic {
    Kind kind;
    Level level;
    std::optional<Span> span;  // absent for faults that have no place in a file (command line, arrays)
    std::string message;
    std::vector<Note> notes;
    std::vector<Fix> fixes;

    Diagnostic& note(std::string text, std::optional<Span> at = {});
    Diagnostic& help(std::string text);
    /// A `help:` line and the machine-applicable replacement in one.
    Diagnostic& fix(Span at, std::string replacement, std::string text);
};

/// Collects diagnostics. At most kMaxErrors errors are kept; then one `too-many-errors` closes the list.
/// The same kind at the same span is reported once.
class Sink {
public:
    static constexpr size_t kMaxErrors = 50;
    static constexpr size_t kMaxWarnings = 100;  // more are dropped

    template <class... Args>
    Diagnostic& report(detail::CheckedKind<sizeof...(Args)> kind, std::optional<Span> span, const Args&... args) {
        return add(kind.kind, span, fmt::vformat(info(kind.kind).message, fmt::make_format_args(args...)));
    }

    [[nodiscard]] bool has_errors() const { return errors_ != 0; }
    /// `too-many-errors` stands in the list: looking for more is of no use.
    [[nodiscard]] bool full() const { return errors_ > kMaxErrors; }
    [[nodiscard]] const std::deque<Diagnostic>& all() const { return list_; }
    void clear();

private:
    Diagnostic& add(Kind kind, std::optional<Span> span, std::string message);

    std::deque<Diagnostic> list_;  // a deque: the returned references stay valid
    Diagnostic discarded_{};       // what reports past the limit are written to
    size_t errors_ = 0;
    size_t warnings_ = 0;
};

/// Renders as in the head of this file, ending in a newline. Colour by ANSI escapes if asked.
/// Diagnostics are ordered by file and position, the ones without a span first.
[[nodiscard]] std::string render(const SourceManager& sources, const Diagnostic& diagnostic, bool colour);
[[nodiscard]] std::string render_all(const SourceManager& sources, const Sink& sink, bool colour);

/// The candidate nearest to `name` by edit distance, for `did you mean`; empty if none is near.
[[nodiscard]] std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace flexc::diag
