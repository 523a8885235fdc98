// One attention, mask or score of a session, opened and bound under the session's settings: what answers are about. And texts of it: facts, pictures,
// differences, times. All of this runs in a child process (worker.h).
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tools/drawing.h"
#include "tools/repl/state.h"

namespace flexc::repl {

/// Diagnostics as the session words them: `:set` in place of `--set`.
[[nodiscard]] std::string diagnostics_text(const Session& session);
/// The errors in one line each, for what is merely not possible now: "`n` has no value; `:set n=VALUE`".
[[nodiscard]] std::string reasons(const diag::Sink& sink);
/// Replaces options by the commands that do the same.
[[nodiscard]] std::string with_commands(std::string text);

/// Opens the source of a state. `extra` is added to its end; its lines are shown as lines from `line` on of `origin`.
bool open_state(Session& session, const State& state, const std::string& extra = {}, const std::string& origin = {}, uint32_t line = 1);

/// A declaration as an attention that can be lowered: itself, or a wrapper around a mask or score.
struct Wrapped {
    Entry attention;    // what settings are chosen by
    std::string extra;  // to be added to the source
};
/// Nothing, and the reason, if it takes a mask or is no attention, mask or score.
[[nodiscard]] std::optional<Wrapped> wrap(const Entry& entry, std::string* why);

struct Subject {
    Entry entry;
    Wrapped wrapped;
    tools::Drawing drawing;  // with `whole` if lowering succeeded, with `rows` if everything has values
    std::string missing;     // why there are no rows
    bool scores = false;     // the score's parameters have values, too

    [[nodiscard]] bool drawn() const { return drawing.rows != nullptr; }
};
/// Null with a report printed, if the source or the lowering is at fault.
[[nodiscard]] std::unique_ptr<Subject> open_subject(const State& state, const Entry& entry, const std::string& what);

/// The derived facts, a line each, indented.
[[nodiscard]] std::string facts_text(const Subject& subject);
/// Full, partial and skipped tiles; empty without rows.
[[nodiscard]] std::string tiles_text(Subject& subject);
/// The picture, not wider than `width`, at most `lines` high; 0: the terminal's.
[[nodiscard]] std::string picture_text(const Subject& subject, int64_t b, int64_t h, int lines, int width = 0);

struct Change {
    std::string text;     // "  mask   +120 -33 elements ..."; empty if nothing changed
    std::string picture;  // of the mask's difference; empty if it did not change
};
[[nodiscard]] Change change_between(const Subject& before, const Subject& now, int lines, int width = 0);
/// Two blocks of text beside each other if `width` allows, else one below the other.
[[nodiscard]] std::string beside(const std::string& left, const std::string& right, int width);

/// An attention, mask or score of a state.
struct Named {
    const State* state = nullptr;
    const Entry* entry = nullptr;
};
/// Milliseconds of `now`, of plain causal attention and, if given, of `before`, launched in turn for about `seconds`. Ends in a newline.
[[nodiscard]] std::string time_text(const Named& now, const Named& before, double seconds);

}  // namespace flexc::repl
