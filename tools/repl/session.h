// A session: takes inputs one by one, a declaration, an expression or a command each, and answers. It knows nothing of terminals but whether there is one.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tools/repl/answer.h"
#include "tools/repl/state.h"
#include "tools/repl/worker.h"

namespace flexc::repl {

class ReplSession;

/// A command: `:name arguments`.
struct CommandInfo {
    const char *name, *arguments, *what;  // "shape", "[NAME=EXTENT ...]", "one line of help"
    const char* more;                     // the rest of its help, lines; may be empty
    int (ReplSession::*action)(const std::vector<std::string>& words, const std::string& rest);
};
[[nodiscard]] const std::vector<CommandInfo>& commands();
/// The command of this name, or the only one that begins with it; else null, with the reason.
[[nodiscard]] const CommandInfo* find_command(const std::string& name, std::string* why);

class ReplSession {
public:
    enum class Times : uint8_t { None, Wait, Later };
    /// `times`: of new definitions, in the answer or in the background.
    ReplSession(Times times, int lines) : times_(times), lines_(lines) {}

    /// One input. kOk, or the exit code that a script ends with. What it prints ends in a newline.
    int input(const std::string& text, const std::string& origin, uint32_t line);
    int load(const std::string& file);
    bool set_shape(const std::vector<std::string>& words);
    bool set_value(const std::string& assignment);
    bool set_in(const std::string& file);

    [[nodiscard]] const State& state() const { return state_; }
    [[nodiscard]] bool done() const { return done_; }
    Background background;

private:
    friend const std::vector<CommandInfo>& commands();

    int declare(const std::string& text, const std::string& origin, uint32_t line);
    /// Answers to the declarations and, unless they are refused, takes `now` for the state.
    int adopt(State now, const std::vector<std::string>& names);
    int finish(const Outcome& outcome);
    /// Runs a command of flexc on an attention, with the session's settings.
    int tool(const std::vector<std::string>& before, const std::vector<std::string>& words);
    /// The entry that words name (then it is taken from them), or the current attention. Null after a message.
    const Entry* target(std::vector<std::string>* words);
    const Entry* named(const std::string& name);
    void remember();
    void time_later(const std::string& name);
    bool apply_saved(const std::vector<std::string>& saved);
    Context context() const;

    // The commands.
    int do_shape(const std::vector<std::string>& words, const std::string& rest);
    int do_set(const std::vector<std::string>& words, const std::string& rest);
    int do_unset(const std::vector<std::string>& words, const std::string& rest);
    int do_in(const std::vector<std::string>& words, const std::string& rest);
    int do_seed(const std::vector<std::string>& words, const std::string& rest);
    int do_load(const std::vector<std::string>& words, const std::string& rest);
    int do_save(const std::vector<std::string>& words, const std::string& rest);
    int do_list(const std::vector<std::string>& words, const std::string& rest);
    int do_use(const std::vector<std::string>& words, const std::string& rest);
    int do_drop(const std::vector<std::string>& words, const std::string& rest);
    int do_undo(const std::vector<std::string>& words, const std::string& rest);
    int do_reset(const std::vector<std::string>& words, const std::string& rest);
    int do_show(const std::vector<std::string>& words, const std::string& rest);
    int do_diff(const std::vector<std::string>& words, const std::string& rest);
    int do_time(const std::vector<std::string>& words, const std::string& rest);
    int do_grad(const std::vector<std::string>& words, const std::string& rest);
    int do_run(const std::vector<std::string>& words, const std::string& rest);
    int do_bench(const std::vector<std::string>& words, const std::string& rest);
    int do_explain(const std::vector<std::string>& words, const std::string& rest);
    int do_ir(const std::vector<std::string>& words, const std::string& rest);
    int do_asm(const std::vector<std::string>& words, const std::string& rest);
    int do_ptx(const std::vector<std::string>& words, const std::string& rest);
    int do_help(const std::vector<std::string>& words, const std::string& rest);
    int do_quit(const std::vector<std::string>& words, const std::string& rest);

    State state_ = State::fresh();
    std::vector<State> undo_;
    std::map<std::string, State> previous_;  // by name: the state in which its definition before the present one stood
    std::set<std::string> said_;
    std::string file_;  // of the last :load or :save
    Times times_;
    int lines_;
    bool done_ = false;
};

}  // namespace flexc::repl
