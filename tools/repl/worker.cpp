#include "tools/repl/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "diag/diagnostic.h"
#include "tools/cli.h"
#include "tools/repl/line_editor.h"
#include "tools/report.h"

namespace flexc::repl {
namespace {

/// In the child: runs the work, never returns.
[[noreturn]] void run_and_exit(const std::function<int()>& work) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    Signals::give_back();
    int code = tools::kBug;
    try {
        code = work();
    } catch (const std::bad_alloc&) {
        Session session;
        session.sink.report(diag::Kind::out_of_memory, {});
        code = tools::fail(session, false);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "internal compiler error: %s\n", error.what());
    }
    std::fflush(stdout);
    std::fflush(stderr);
    _exit(code);
}

bool make_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC) == 0;
}

}  // namespace

Outcome run_apart(const std::function<int(int)>& work) {
    Outcome out;
    std::fflush(stdout);
    std::fflush(stderr);
    int ends[2];
    if (!make_pipe(ends)) {
        out.code = tools::kMachineCannot;
        return out;
    }
    const pid_t child = fork();
    if (child < 0) {
        std::perror("flexc: no process can be started");
        close(ends[0]);
        close(ends[1]);
        out.code = tools::kMachineCannot;
        return out;
    }
    if (child == 0) {
        close(ends[0]);
        run_and_exit([&] { return work(ends[1]); });
    }
    close(ends[1]);
    const int signals = Signals::take();
    int asked = 0;
    bool open = true;
    // A terminal sends Ctrl-C to the child as well; where it comes from elsewhere, it is passed on.
    while (open) {
        pollfd fds[2] = {{ends[0], POLLIN, 0}, {signals, POLLIN, 0}};
        if (::poll(fds, 2, -1) < 0 && errno != EINTR) break;
        if (fds[1].revents) {
            const char signal = Signals::next();
            if (signal == 'i') {
                out.interrupted = true;
                kill(child, ++asked > 1 ? SIGKILL : SIGINT);
            }
            if (signal == 't') kill(child, SIGTERM);
        }
        if (fds[0].revents) {
            char buffer[4096];
            const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
            if (got > 0)
                out.notes.append(buffer, static_cast<size_t>(got));
            else if (got == 0 || errno != EINTR)
                open = false;
        }
    }
    close(ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) {
        out.code = WEXITSTATUS(status);
        if (out.code == tools::kInterrupted) out.interrupted = true;
        if (out.code == tools::kBug) out.signal = -1;
    } else {
        out.code = tools::kBug;
        if (!out.interrupted) out.signal = WTERMSIG(status);
    }
    return out;
}

void Background::start(const std::function<int()>& work) {
    cancel();
    std::fflush(stdout);
    int ends[2];
    if (!make_pipe(ends)) return;
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        // In a group of its own: Ctrl-C at the prompt clears a line and is not meant for it.
        setpgid(0, 0);
        dup2(ends[1], STDOUT_FILENO);
        const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(nothing, STDERR_FILENO);
        dup2(nothing, STDIN_FILENO);
        run_and_exit(work);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return;
    }
    child_ = child;
    fd_ = ends[0];
    collected_.clear();
}

bool Background::read(std::string* text) {
    char buffer[4096];
    const ssize_t got = ::read(fd_, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) return false;
    if (got > 0) {
        collected_.append(buffer, static_cast<size_t>(got));
        return false;
    }
    *text = collected_;
    cancel();
    return true;
}

std::string Background::finish() {
    std::string text;
    while (fd_ >= 0 && !read(&text)) {
    }
    return text;
}

void Background::cancel() {
    if (child_ < 0) return;
    kill(child_, SIGKILL);
    while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
    }
    close(fd_);
    child_ = -1;
    fd_ = -1;
}

}  // namespace flexc::repl
