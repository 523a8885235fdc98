#include "tools/io/atomic_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace flexc::io {
namespace {

constexpr size_t kSlots = 8;
constexpr size_t kMaxPath = 4096;

/// A slot's name is valid while `used` is 2; 1 means that it is being written.
struct Slot {
    std::atomic<int> used{0};
    char name[kMaxPath] = {};
};
std::array<Slot, kSlots> slots;

flex::Status system_error() {
    return {flex::Code::InvalidArgument, std::strerror(errno)};
}

int take_slot(const std::string& name) {
    if (name.size() >= kMaxPath) return -1;
    for (size_t i = 0; i < kSlots; ++i) {
        int expected = 0;
        if (!slots[i].used.compare_exchange_strong(expected, 1)) continue;
        std::memcpy(slots[i].name, name.c_str(), name.size() + 1);
        slots[i].used = 2;
        return static_cast<int>(i);
    }
    return -1;
}

}  // namespace

void remove_temporaries() {
    for (Slot& slot : slots)
        if (slot.used == 2) unlink(slot.name);
}

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {}

AtomicFile::~AtomicFile() {
    abandon();
}

flex::Status AtomicFile::open() {
    struct stat existing{};
    const bool exists = stat(target_.c_str(), &existing) == 0;
    if (exists) {
        if (S_ISDIR(existing.st_mode)) return {flex::Code::InvalidArgument, "it is a directory"};
        // rename() would replace what must not be replaced: a file without write permission, or a device such as /dev/stdout.
        if (access(target_.c_str(), W_OK) != 0) return system_error();
        if (!S_ISREG(existing.st_mode)) {
            file_ = std::fopen(target_.c_str(), "wb");
            return file_ ? flex::Status() : system_error();
        }
    }
    temporary_ = target_.string() + ".tmpXXXXXX";
    // The name is taken and registered before the file exists, so no moment is left in which an interrupt would leave it behind.
    for (int attempt = 0;; ++attempt) {
        std::snprintf(temporary_.data() + temporary_.size() - 6, 7, "%06x",
                      static_cast<unsigned>((static_cast<unsigned>(getpid()) + static_cast<unsigned>(attempt) * 7919U) & 0xffffffU));
        slot_ = take_slot(temporary_);
        if (slot_ < 0) return {flex::Code::InvalidArgument, "too many files are being written at once, or the name is too long"};
        file_ = std::fopen(temporary_.c_str(), "wbx");
        if (file_) {
            if (exists) (void)fchmod(fileno(file_), existing.st_mode & 07777);  // who may use the file stays as it was
            return {};
        }
        const int error = errno;
        slots[static_cast<size_t>(slot_)].used = 0;
        slot_ = -1;
        errno = error;
        if (error != EEXIST || attempt == 100) return system_error();
    }
}

flex::Status AtomicFile::write(std::span<const std::byte> bytes) {
    if (bytes.empty() || std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size()) return {};
    flex::Status status = system_error();
    abandon();
    return status;
}

flex::Status AtomicFile::commit() {
    if (!file_) return {flex::Code::InvalidArgument, "the file was not opened"};
    const bool flushed = std::fflush(file_) == 0 && std::ferror(file_) == 0;
    if (!flushed) {
        flex::Status status = system_error();
        abandon();
        return status;
    }
    std::FILE* file = std::exchange(file_, nullptr);
    const bool closed = std::fclose(file) == 0;
    if (slot_ < 0) return closed ? flex::Status() : system_error();
    if (!closed || std::rename(temporary_.c_str(), target_.c_str()) != 0) {
        flex::Status status = system_error();
        abandon();
        return status;
    }
    slots[static_cast<size_t>(slot_)].used = 0;
    slot_ = -1;
    return {};
}

void AtomicFile::abandon() {
    if (file_) std::fclose(std::exchange(file_, nullptr));
    if (slot_ < 0) return;
    unlink(temporary_.c_str());
    slots[static_cast<size_t>(slot_)].used = 0;
    slot_ = -1;
}

flex::Status write_file(const std::filesystem::path& target, std::span<const std::byte> bytes) {
    AtomicFile file(target);
    if (flex::Status status = file.open(); !status.ok()) return status;
    if (flex::Status status = file.write(bytes); !status.ok()) return status;
    return file.commit();
}

}  // namespace flexc::io
