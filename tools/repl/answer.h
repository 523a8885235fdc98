// What the session says to an input, printed to standard output by a child process: to declarations, and to an expression alone.
//
// Notes, a line each, tell the session what to keep in mind: "subject NAME" (what the time is measured of), "made NAME" (a parameter that got random
// numbers, which is said once), "nostd" (the names of `std` are declared anew, so it is not imported).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "tools/repl/state.h"

namespace flexc::repl {

struct Context {
    int notes = -1;
    std::set<std::string> said;  // parameters whose random numbers were mentioned
    int lines = 16;              // of a picture

    void note(const std::string& line) const;
};

/// `names` have been declared, in `now` and not or otherwise in `before`. An exit code: kOk, or the declarations are to be refused.
int answer_declarations(const State& before, State now, const std::vector<std::string>& names, const Context& context);

/// The type and value of an expression, in the scope of the current attention if there is one.
int answer_expression(const State& state, const std::string& text, const std::string& origin, uint32_t line, const Context& context);

/// What a name is: its declaration with its comment, or how a builtin is used. Empty if nothing has that name.
[[nodiscard]] std::string describe_name(const State& state, const std::string& name);

/// The declarations of the standard library, by name.
[[nodiscard]] const std::vector<Entry>& library();

/// "attention a(window: i32 = 4)", and on a line of its own what it gives.
[[nodiscard]] std::string result_text(const Entry& entry);

}  // namespace flexc::repl
