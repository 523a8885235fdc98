#include "driver/ptxas.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

extern char** environ;

namespace flexc {

namespace fs = std::filesystem;

namespace {

/// A folder of its own for the files that ptxas reads and writes; removed with them.
class Workshop {
public:
    Workshop() {
        std::error_code error;
        std::string pattern = (fs::temp_directory_path(error) / "flexc-XXXXXX").string();
        if (!error && mkdtemp(pattern.data())) path_ = pattern;
    }
    ~Workshop() {
        std::error_code ignored;
        if (!path_.empty()) fs::remove_all(path_, ignored);
    }
    Workshop(const Workshop&) = delete;
    Workshop& operator=(const Workshop&) = delete;
    [[nodiscard]] const fs::path& path() const { return path_; }

private:
    fs::path path_;
};

std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

fs::path find_ptxas() {
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

std::optional<std::string> assemble(const fs::path& ptxas, std::string_view target, std::string_view ptx, std::string* error) {
    const Workshop workshop;
    const fs::path input = workshop.path() / "kernel.ptx", output = workshop.path() / "kernel.cubin",
                   messages = workshop.path() / "messages";
    std::ofstream(input, std::ios::binary) << ptx;
    if (workshop.path().empty() || !fs::exists(input)) {
        *error = "no temporary file can be written";
        return std::nullopt;
    }
    const std::string arch = "-arch=" + std::string(target);
    const char* const arguments[] = {ptxas.c_str(), arch.c_str(), "-o", output.c_str(), input.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, messages.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    pid_t child = 0;
    const int failure = posix_spawn(&child, ptxas.c_str(), &actions, nullptr, const_cast<char* const*>(arguments), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure) {
        *error = std::strerror(failure);
        return std::nullopt;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        *error = read(messages);
        while (!error->empty() && error->back() == '\n') error->pop_back();
        if (error->empty()) *error = "it failed without a word";
        return std::nullopt;
    }
    if (const std::string said = read(messages); said.find("(C75") != std::string::npos) {
        *error = std::string(kBadPipeline) + ":\n" + said;
        return std::nullopt;
    }
    return read(output);
}

}  // namespace flexc
