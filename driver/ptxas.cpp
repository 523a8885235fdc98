#include "driver/ptxas.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

#include "driver/cache.h"

extern char** environ;

namespace flexc {

namespace fs = std::filesystem;

namespace {

/// A file in memory, by a name that a child can open: nothing is left behind, however the process ends.
class MemoryFile {
public:
    explicit MemoryFile(std::string_view text = {}) : fd_(memfd_create("flexc", 0)) {
        while (fd_ >= 0 && !text.empty()) {
            const ssize_t written = write(fd_, text.data(), text.size());
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) {
                close(fd_);
                fd_ = -1;
                return;
            }
            text.remove_prefix(static_cast<size_t>(written));
        }
    }
    ~MemoryFile() {
        if (fd_ >= 0) close(fd_);
    }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] std::string name() const { return "/dev/fd/" + std::to_string(fd_); }
    [[nodiscard]] std::string text() const {
        std::string out;
        char buffer[1 << 16];
        for (ssize_t got; (got = pread(fd_, buffer, sizeof buffer, static_cast<off_t>(out.size()))) > 0;)
            out.append(buffer, static_cast<size_t>(got));
        return out;
    }

private:
    int fd_;
};

}  // namespace

fs::path find_ptxas() {
    if (const char* chosen = std::getenv("FLEXC_PTXAS"); chosen && *chosen)
        return std::string_view(chosen) == "none" ? fs::path() : fs::path(chosen);
    std::vector<fs::path> folders;
    if (const char* path = std::getenv("PATH")) {
        std::istringstream parts(path);
        for (std::string part; std::getline(parts, part, ':');)
            if (!part.empty()) folders.emplace_back(part);
    }
    if (const char* home = std::getenv("CUDA_HOME"); home && *home) folders.push_back(fs::path(home) / "bin");
    folders.emplace_back("/usr/local/cuda/bin");
    for (const fs::path& folder : folders)
        if (const fs::path candidate = folder / "ptxas"; access(candidate.c_str(), X_OK) == 0) return candidate;
    return {};
}

namespace {

/// Runs ptxas on `ptx`: its messages, and what it makes. False, with the reason in `error`, if it failed or took longer than `seconds` (0: for ever).
bool run(const fs::path& ptxas, std::string_view target, std::string_view ptx, bool verbose, double seconds, std::string* messages,
         std::string* made, std::string* error) {
    const MemoryFile input(ptx), output, said;
    if (input.fd() < 0 || output.fd() < 0 || said.fd() < 0) {
        *error = "no temporary file can be written";
        return false;
    }
    const std::string arch = "-arch=" + std::string(target), in = input.name(), out = output.name();
    const char* const arguments[] = {ptxas.c_str(), arch.c_str(), "-o", out.c_str(), in.c_str(), verbose ? "-v" : nullptr, nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, said.fd(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, said.fd(), STDERR_FILENO);
    pid_t child = 0;
    const int failure = posix_spawn(&child, ptxas.c_str(), &actions, nullptr, const_cast<char* const*>(arguments), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure) {
        *error = std::strerror(failure);
        return false;
    }
    const auto begin = std::chrono::steady_clock::now();
    int status = 0;
    for (;;) {
        const pid_t ended = waitpid(child, &status, seconds > 0 ? WNOHANG : 0);
        if (ended == child) break;
        if (ended < 0 && errno != EINTR) {
            *error = std::strerror(errno);
            return false;
        }
        if (seconds <= 0) continue;
        if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > seconds) {
            kill(child, SIGKILL);
            while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
            }
            *error = "it took longer than " + std::to_string(static_cast<int>(seconds)) + " s";
            return false;
        }
        usleep(5000);
    }
    *messages = said.text();
    *made = output.text();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    *error = *messages;
    while (!error->empty() && error->back() == '\n') error->pop_back();
    if (error->empty()) *error = "it failed without a word";
    return false;
}

}  // namespace

std::optional<std::string> assemble(const fs::path& ptxas, std::string_view target, std::string_view ptx, std::string* error) {
    std::string messages, cubin;
    if (!run(ptxas, target, ptx, false, 0, &messages, &cubin, error)) return std::nullopt;
    if (messages.find("(C75") != std::string::npos) {
        *error = std::string(kBadPipeline) + ":\n" + messages;
        return std::nullopt;
    }
    return cubin;
}

std::vector<KernelResources> parse_resources(std::string_view messages) {
    std::vector<KernelResources> out;
    bool of_kernel = false;  // the properties that follow are the kernel's own, not those of a function that it calls
    const auto number_before = [](std::string_view line, std::string_view words) {
        const size_t at = line.find(words);
        if (at == std::string_view::npos) return 0;
        size_t begin = at;
        while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
        return std::atoi(std::string(line.substr(begin, at - begin)).c_str());
    };
    const auto quoted = [](std::string_view line) {
        const size_t begin = line.find('\'') + 1;
        return std::string(line.substr(begin, line.find('\'', begin) - begin));
    };
    for (size_t at = 0; at < messages.size();) {
        const size_t end = std::min(messages.find('\n', at), messages.size());
        const std::string_view line = messages.substr(at, end - at);
        at = end + 1;
        constexpr std::string_view kProperties = "Function properties for ";
        if (line.find("Compiling entry function '") != std::string_view::npos) {
            out.emplace_back().kernel = quoted(line);
            of_kernel = true;
        } else if (out.empty()) {
            continue;
        } else if (const size_t name = line.find(kProperties); name != std::string_view::npos) {
            of_kernel = line.substr(name + kProperties.size()).starts_with(out.back().kernel);
        } else if (of_kernel && line.find(" bytes stack frame") != std::string_view::npos) {
            out.back().stack = number_before(line, " bytes stack frame");
            out.back().spill_stores = number_before(line, " bytes spill stores");
            out.back().spill_loads = number_before(line, " bytes spill loads");
        } else if (line.find("Used ") != std::string_view::npos && line.find(" registers") != std::string_view::npos) {
            out.back().registers = number_before(line, " registers");
            out.back().static_shared = number_before(line, " bytes smem");
        }
    }
    return out;
}

std::optional<std::vector<KernelResources>> kernel_resources(const fs::path& ptxas, std::string_view target, std::string_view ptx,
                                                             double seconds, const fs::path& cache_dir, std::string* error) {
    std::error_code ignored;
    const auto changed = fs::last_write_time(ptxas, ignored).time_since_epoch().count();
    const std::string key =
        cache_key("ptxas -v " + ptxas.string() + ' ' + std::to_string(changed) + ' ' + std::string(target) + '\n' + std::string(ptx));
    if (!cache_dir.empty())
        if (const auto kept = cache_read(cache_dir, key)) return parse_resources({kept->data(), kept->size()});
    std::string messages, cubin;
    if (!run(ptxas, target, ptx, true, seconds, &messages, &cubin, error)) return std::nullopt;
    if (!cache_dir.empty()) cache_write(cache_dir, key, {messages.begin(), messages.end()});
    return parse_resources(messages);
}

}  // namespace flexc
