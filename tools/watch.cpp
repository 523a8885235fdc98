// flexc watch: runs check, show, bench or another command on a file, and again whenever the file, or one that it imports, is saved.
//
// Folders are watched, not files: editors write another file and rename it, and for a moment there may be none. Events come in bursts; a run begins
// when there has been none for a moment. A save during a run stops the run. Each run is a process of its own.
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "driver/compiler.h"
#include "tools/cli.h"
#include "tools/interrupt.h"
#include "tools/repl/line_editor.h"
#include "tools/report.h"

namespace flexc::tools {
namespace {

namespace fs = std::filesystem;
using repl::Signals;

constexpr int kQuietMs = 40;       // without an event: the save is over
constexpr int kMostQuietMs = 500;  // of waiting for that
constexpr uint32_t kEvents =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

struct Options {
    fs::path file;
    std::vector<std::string> command = {"check"};
    bool keep = false;
};

fs::path full_path(const fs::path& path) {
    std::error_code ignored;
    return fs::absolute(path, ignored).lexically_normal();
}

/// The folders of the files of interest, and whether an event is about one of these files.
class Watcher {
public:
    Watcher() : fd_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {}
    ~Watcher() {
        if (fd_ >= 0) close(fd_);
    }
    [[nodiscard]] int fd() const { return fd_; }

    void follow(const std::set<fs::path>& files) {
        files_ = files;
        for (const fs::path& file : files) {
            add(file.parent_path());
            // A link is saved where it points to.
            std::error_code error;
            const fs::path target = fs::canonical(file, error);
            if (error || target == file) continue;
            files_.insert(target);
            add(target.parent_path());
        }
    }

    /// Reads what is there; whether a file of interest was touched.
    bool read() {
        alignas(inotify_event) char buffer[16 * (sizeof(inotify_event) + NAME_MAX + 1)];
        bool touched = false;
        while (true) {
            const ssize_t got = ::read(fd_, buffer, sizeof buffer);
            if (got <= 0) return touched;
            for (ssize_t at = 0; at < got;) {
                const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
                at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
                if (event->mask & IN_Q_OVERFLOW) touched = true;
                const auto folder = folders_.find(event->wd);
                if (folder == folders_.end()) continue;
                if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
                    // The folder itself went: it may come back.
                    if (event->mask & IN_IGNORED) folders_.erase(folder);
                    touched = true;
                } else if (event->len > 0 && files_.contains(folder->second / event->name)) {
                    touched = true;
                }
            }
        }
    }

    /// Watches folders that were gone once they are back; whether one is.
    bool retry() {
        bool back = false;
        for (const fs::path& file : files_) {
            const fs::path folder = file.parent_path();
            const bool known = std::any_of(folders_.begin(), folders_.end(), [&](const auto& each) { return each.second == folder; });
            if (!known && add(folder)) back = true;
        }
        return back;
    }

private:
    bool add(const fs::path& folder) {
        const int id = inotify_add_watch(fd_, folder.c_str(), kEvents);
        if (id < 0) return false;
        folders_[id] = folder;
        return true;
    }

    int fd_;
    std::set<fs::path> files_;
    std::map<int, fs::path> folders_;
};

/// The file, what it imports now, and arrays that options name. `before` stays where the file cannot be read.
std::set<fs::path> files_of(const Options& options, const std::set<fs::path>& before) {
    std::set<fs::path> out = {full_path(options.file)};
    Session session;
    if (session.open(options.file)) {
        for (const std::string& file : session.program().files()) out.insert(full_path(file));
    } else {
        // Imports of a file with faults: those that were read, and those of before.
        for (size_t i = 0; i < session.sources.size(); ++i)
            if (const std::string& name = session.sources.file(static_cast<diag::FileId>(i)).name(); !name.starts_with("<"))
                out.insert(full_path(name));
        out.insert(before.begin(), before.end());
    }
    for (size_t i = 0; i + 1 < options.command.size(); ++i)
        if (options.command[i] == "--in") out.insert(full_path(options.command[i + 1]));
    return out;
}

pid_t start(const Options& options) {
    std::vector<std::string> words = {"flexc", options.command.front(), options.file.string()};
    words.insert(words.end(), options.command.begin() + 1, options.command.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    std::fflush(stdout);
    const pid_t child = fork();
    if (child != 0) return child;
    Signals::give_back();
    execv("/proc/self/exe", arguments.data());
    std::perror("flexc watch: cannot start flexc");
    _exit(kMachineCannot);
}

void heading(const Options& options, bool first) {
    char clock[16] = "";
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    std::strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&now, &local));
    std::string command;
    for (const std::string& word : options.command) command += " " + word;
    const bool terminal = isatty(STDOUT_FILENO) == 1 && !options.keep;
    print_out(fmt::format("{}-- {} {}{}\n", terminal ? "\x1b[H\x1b[2J\x1b[3J" : first ? "" : "\n", clock, options.file.string(), command));
}

void ending(int status, double seconds) {
    const std::string how = WIFSIGNALED(status)          ? fmt::format("ended by signal {}", WTERMSIG(status))
                            : WEXITSTATUS(status) == kOk ? std::string("ok")
                                                         : fmt::format("exit {}", WEXITSTATUS(status));
    print_out(fmt::format("-- {}, {:.0f} ms\n", how, seconds * 1e3));
}

/// Waits until events have been quiet for a moment. False on a signal to end.
bool settle(Watcher& watcher, int signals) {
    const auto begin = std::chrono::steady_clock::now();
    while (true) {
        pollfd fds[2] = {{watcher.fd(), POLLIN, 0}, {signals, POLLIN, 0}};
        const int ready = ::poll(fds, 2, kQuietMs);
        if (ready == 0) return true;
        if (fds[1].revents)
            if (const char signal = Signals::next(); signal == 'i' || signal == 't') return false;
        (void)watcher.read();
        if (std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(kMostQuietMs)) return true;
    }
}

int watch(const Options& options) {
    if (std::error_code error; !fs::exists(full_path(options.file).parent_path(), error)) {
        Session session;
        session.sink.report(diag::Kind::cannot_read, {}, options.file.string(), std::strerror(ENOENT));
        return fail(session, false);
    }
    const int signals = Signals::take();
    Watcher watcher;
    if (watcher.fd() < 0) {
        std::perror("flexc watch: this system cannot watch files");
        return kMachineCannot;
    }
    std::set<fs::path> files;
    for (bool first = true;; first = false) {
        files = files_of(options, files);
        watcher.follow(files);
        heading(options, first);
        const auto begin = std::chrono::steady_clock::now();
        pid_t child = start(options);
        if (child < 0) {
            std::perror("flexc watch: cannot start flexc");
            return kMachineCannot;
        }
        bool again = false;
        while (!again) {
            // While a run goes on its end is looked for; else only saves and, if a folder is gone, its return.
            pollfd fds[2] = {{watcher.fd(), POLLIN, 0}, {signals, POLLIN, 0}};
            (void)::poll(fds, 2, child > 0 ? 10 : 500);
            if (fds[1].revents) {
                const char signal = Signals::next();
                if (signal == 'z') std::raise(SIGSTOP);
                if (signal == 'i' || signal == 't') {
                    if (child > 0) {
                        kill(child, SIGINT);
                        waitpid(child, nullptr, 0);
                    }
                    return kInterrupted;
                }
            }
            if (int status = 0; child > 0 && waitpid(child, &status, WNOHANG) == child) {
                child = -1;
                ending(status, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
            }
            again = watcher.read() || watcher.retry();
        }
        if (child > 0) {
            kill(child, SIGINT);
            waitpid(child, nullptr, 0);
        }
        if (!settle(watcher, signals)) return kInterrupted;
        // An editor that removes the file before it writes anew: what matters is the new one.
        std::error_code error;
        for (int i = 0; i < 10 && !fs::exists(options.file, error); ++i)
            if (!settle(watcher, signals)) return kInterrupted;
    }
}

}  // namespace

Command add_watch(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("watch", "Runs a command on a file again whenever it is saved");
    app->add_option("FILE", options->file, "the .flex file; what it imports is watched as well, and the file of --in")->required();
    app->add_flag("--keep", options->keep, "on a terminal: do not clear it before each run; comes before FILE");
    app->prefix_command();
    app->footer(
        "After FILE comes what to run: check (if absent), show, bench, run, explain or build, with its options.\n"
        "Examples:\n"
        "  flexc watch alibi.flex\n"
        "  flexc watch alibi.flex show --shape Q=64\n"
        "  flexc watch alibi.flex bench --shape H=8,Q=4096\n"
        "Ctrl-C ends it.");
    return {app, [options, app] {
                // From the first word on that is no option of its own, everything is the command's.
                if (const std::vector<std::string> rest = app->remaining(); !rest.empty()) options->command = rest;
                static const std::vector<std::string> known = {"check", "show", "bench", "run", "explain", "build"};
                const std::string& name = options->command.front();
                if (std::find(known.begin(), known.end(), name) == known.end()) {
                    const std::string near = diag::nearest(name, known);
                    std::fprintf(stderr, "flexc watch: there is no command `%s` to repeat%s\n", name.c_str(),
                                 near.empty() ? "; it repeats check, show, bench, run, explain and build"
                                              : ("; did you mean `" + near + "`?").c_str());
                    return static_cast<int>(kUsage);
                }
                return watch(*options);
            }};
}

}  // namespace flexc::tools
