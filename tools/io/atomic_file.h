// A file that appears under its name only when complete: written beside the target under a temporary name, then renamed.
// Abandoned (destroyed without commit) or interrupted, it leaves nothing: the temporary names in use are kept in a
// table that remove_temporaries(), which is async-signal-safe, walks from a signal handler.
#pragma once

#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "runtime/status.h"

namespace flexc::io {

class AtomicFile {
public:
    explicit AtomicFile(std::filesystem::path target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    /// Creates the temporary file. Errors are the system's words ("Permission denied").
    flex::Status open();
    flex::Status write(std::span<const std::byte> bytes);
    /// For libraries that print to a stream themselves.
    [[nodiscard]] std::FILE* stream() const { return file_; }
    /// Flushes, closes and renames.
    flex::Status commit();

private:
    void abandon();

    std::filesystem::path target_;
    std::string temporary_;
    std::FILE* file_ = nullptr;
    int slot_ = -1;
};

/// Unlinks every temporary file in use. Only for the moment before the process ends.
void remove_temporaries();

/// A whole text or byte string as one atomic file.
flex::Status write_file(const std::filesystem::path& target, std::span<const std::byte> bytes);

}  // namespace flexc::io
