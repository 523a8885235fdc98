// Reads one input at a time from a terminal, with libedit: several lines in one buffer, history, completion, colours, hints.
//
// libedit does the editing and draws plain text. Before each key is read, the same text is painted over with colours, and a hint behind it;
// libedit's idea of the screen stays true, because no character changes. Without a capable terminal there is a plain reader instead.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::repl {

struct Completions {
    size_t begin = 0;  // of the word to be replaced, a byte of the text
    std::vector<std::string> words;
};

struct EditorHooks {
    std::function<bool(std::string_view text)> complete;  // whether Enter ends the input
    std::function<Completions(std::string_view text, size_t cursor)> completions;
    std::function<std::string(std::string_view text, size_t cursor)> hint;  // shown behind the text
    /// Escape codes ("1;34", empty: none) one a byte, as indices into `palette`.
    std::function<std::vector<uint8_t>(std::string_view text)> colours;
    std::vector<std::string> palette;
    std::function<int(std::string_view text)> depth;  // brackets open at the end
};

enum class Read : uint8_t { Line, Cancelled, End };

class LineEditor {
public:
    virtual ~LineEditor() = default;
    /// One input, without its line end. Cancelled: Ctrl-C.
    virtual Read read(std::string* out) = 0;
    virtual void remember(const std::string& input) = 0;
    /// While a key is awaited: when `fd` has something to read or is closed, `ready` gives a text to print above the prompt and whether to go on watching.
    virtual void watch(int fd, std::function<bool(std::string* text)> ready) = 0;
};

/// The terminal on standard input and output. `history`: a file, or empty. `colour`: whether to use any.
[[nodiscard]] std::unique_ptr<LineEditor> make_line_editor(EditorHooks hooks, const std::string& history, bool colour);
/// Whether standard input and output are a terminal that can move its cursor.
[[nodiscard]] bool capable_terminal();
/// Prompts, and takes lines as the terminal gives them: for TERM=dumb.
[[nodiscard]] std::unique_ptr<LineEditor> make_plain_reader(EditorHooks hooks);

/// $XDG_STATE_HOME/flexc/history, else ~/.local/state/flexc/history; empty if neither is set. Its folder is made.
[[nodiscard]] std::string history_file();

/// Signals as bytes of a pipe, so that a wait for a key sees them: 'i' SIGINT, 'w' SIGWINCH, 't' SIGTERM or SIGHUP, 'z' SIGTSTP.
class Signals {
public:
    /// Takes the signals over, once, for the rest of the process. The reading end of the pipe.
    static int take();
    /// The oldest signal that was not looked at; 0 if there is none.
    static char next();
    /// In a child process: Ctrl-C and the others end it, as they do every command.
    static void give_back();
};

}  // namespace flexc::repl
