#include "driver/cache.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace flexc {

namespace {

constexpr std::string_view kMagic = "FLEXOBJ1";
constexpr size_t kHeader = 8 + sizeof(uint64_t);

struct Segment {
    const void* address;
    std::string id;
};

/// Finds the linker's build id of the loaded object that holds `address`.
int visit_object(dl_phdr_info* object, size_t, void* data) {
    auto* wanted = static_cast<Segment*>(data);
    const auto address = reinterpret_cast<uintptr_t>(wanted->address);
    bool holds = false;
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const auto& header = object->dlpi_phdr[i];
        const uintptr_t begin = object->dlpi_addr + header.p_vaddr;
        if (header.p_type == PT_LOAD && address >= begin && address < begin + header.p_memsz) holds = true;
    }
    if (!holds) return 0;
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const auto& header = object->dlpi_phdr[i];
        if (header.p_type != PT_NOTE) continue;
        const char* at = reinterpret_cast<const char*>(object->dlpi_addr + header.p_vaddr);
        const char* end = at + header.p_memsz;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            std::memcpy(&note, at, sizeof note);
            const char* name = at + sizeof note;
            const char* bytes = name + ((note.n_namesz + 3U) & ~3U);
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0) {
                wanted->id.assign(bytes, note.n_descsz);
                return 1;
            }
            at = bytes + ((note.n_descsz + 3U) & ~3U);
        }
    }
    return 1;
}

/// Identity of the code that this function was linked into: its build id, or failing that the executable's size and time.
const std::string& code_identity() {
    static const std::string identity = [] {
        Segment segment{reinterpret_cast<const void*>(&visit_object), {}};
        dl_iterate_phdr(visit_object, &segment);
        if (!segment.id.empty()) return segment.id;
        struct stat info{};
        if (stat("/proc/self/exe", &info) != 0) return std::string("unknown");
        return fmt::format("{}-{}-{}.{}", info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    }();
    return identity;
}

uint64_t checksum(const char* data, size_t size) {
    return XXH3_64bits(data, size);
}

/// Removes the oldest half of the entries once there are too many.
void prune(const std::filesystem::path& dir) {
    namespace fs = std::filesystem;
    std::error_code error;
    std::vector<std::pair<fs::file_time_type, fs::path>> entries;
    for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
        std::error_code ignored;
        entries.emplace_back(it->last_write_time(ignored), it->path());
    }
    if (entries.size() <= kMaxCacheEntries) return;
    std::sort(entries.begin(), entries.end());
    for (size_t i = 0; i < entries.size() / 2; ++i) fs::remove(entries[i].second, error);
}

}  // namespace

std::filesystem::path default_cache_dir() {
    const auto from = [](const char* variable) {
        const char* value = std::getenv(variable);
        return std::filesystem::path(value ? value : "");
    };
    if (auto dir = from("FLEXC_CACHE_DIR"); !dir.empty()) return dir;
    if (auto dir = from("XDG_CACHE_HOME"); !dir.empty()) return dir / "flexc";
    if (auto dir = from("HOME"); !dir.empty()) return dir / ".cache" / "flexc";
    return {};
}

std::string cache_key(std::string_view content) {
    std::string all = code_identity();
    all.push_back('\0');
    all.append(content);
    const XXH128_hash_t hash = XXH3_128bits(all.data(), all.size());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::optional<std::vector<char>> cache_read(const std::filesystem::path& dir, const std::string& key) {
    if (dir.empty()) return {};
    std::ifstream file(dir / key, std::ios::binary | std::ios::ate);
    if (!file) return {};
    const auto size = static_cast<size_t>(file.tellg());
    if (size < kHeader || size > (size_t{1} << 28)) return {};
    std::vector<char> bytes(size);
    file.seekg(0);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) return {};
    uint64_t stored = 0;
    std::memcpy(&stored, bytes.data() + kMagic.size(), sizeof stored);
    const bool sound =
        std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0 && stored == checksum(bytes.data() + kHeader, size - kHeader);
    if (!sound) {
        std::error_code ignored;
        std::filesystem::remove(dir / key, ignored);
        return {};
    }
    bytes.erase(bytes.begin(), bytes.begin() + kHeader);
    return bytes;
}

void cache_write(const std::filesystem::path& dir, const std::string& key, const std::vector<char>& object) {
    if (dir.empty()) return;
    std::error_code error;
    if (std::filesystem::create_directories(dir, error); error) return;
    static std::atomic<unsigned> counter{0};
    const auto temporary = dir / fmt::format("{}.{}.{}.tmp", key, getpid(), counter++);
    const uint64_t sum = checksum(object.data(), object.size());
    std::ofstream file(temporary, std::ios::binary);
    file.write(kMagic.data(), static_cast<std::streamsize>(kMagic.size()));
    file.write(reinterpret_cast<const char*>(&sum), sizeof sum);
    file.write(object.data(), static_cast<std::streamsize>(object.size()));
    file.close();
    if (file) std::filesystem::rename(temporary, dir / key, error);
    if (!file || error) std::filesystem::remove(temporary, error);
    prune(dir);
}

}  // namespace flexc
