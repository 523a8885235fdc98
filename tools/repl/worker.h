// Work in a child process. The session itself only edits text and keeps it; whatever compiles, draws or runs does so in a fork. So Ctrl-C stops
// that work and nothing else, and neither a crash nor a lack of memory takes the session with it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

namespace flexc::repl {

struct Outcome {
    int code = 0;              // the exit code of the work
    bool interrupted = false;  // by Ctrl-C
    int signal = 0;            // it ended by another signal, or crashed (-1)
    std::string notes;         // what it wrote to `notes`: for the session, not for the user
};

/// Runs `work(notes)` in a child and waits; `notes` is a file descriptor. Its standard output and error are ours.
Outcome run_apart(const std::function<int(int notes)>& work);

/// Work whose standard output is collected while the session goes on.
class Background {
public:
    ~Background() { cancel(); }
    void start(const std::function<int()>& work);
    /// What to poll; -1 if nothing runs.
    [[nodiscard]] int fd() const { return fd_; }
    /// After fd() has become readable: reads; true once the end was reached, with everything written in *text.
    bool read(std::string* text);
    /// Waits for the end. What was written.
    std::string finish();
    void cancel();

private:
    pid_t child_ = -1;
    int fd_ = -1;
    std::string collected_;
};

}  // namespace flexc::repl
