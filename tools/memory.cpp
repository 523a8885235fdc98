#include "tools/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <optional>

namespace flexc::tools {
namespace {

std::optional<uint64_t> number_in(const char* file) {
    std::ifstream in(file);
    uint64_t value = 0;
    return in >> value ? std::optional(value) : std::nullopt;
}

}  // namespace

uint64_t available_memory() {
    uint64_t out = UINT64_MAX;
    std::ifstream info("/proc/meminfo");
    for (std::string line; std::getline(info, line);) {
        constexpr std::string_view kName = "MemAvailable:";
        if (!line.starts_with(kName)) continue;
        out = std::strtoull(line.c_str() + kName.size(), nullptr, 10) * 1024;
        break;
    }
    // Of a container: "max" is no number.
    const auto limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
    if (limit && used) out = std::min(out, *limit - std::min(*limit, *used));
    return out;
}

std::string bytes_text(double bytes) {
    constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
        bytes /= 1024;
        ++unit;
    }
    return fmt::format("{:.3g} {}", bytes, kUnits[unit]);
}

}  // namespace flexc::tools
