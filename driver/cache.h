// The on-disk cache of compiled objects: key -> bytes. Entries are written to a temporary name and renamed, carry a
// checksum, and are dropped when damaged; two processes may use one folder at once. Any fault of the file system makes
// the cache behave as empty: it never fails a compilation.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexc {

/// $FLEXC_CACHE_DIR, else $XDG_CACHE_HOME/flexc, else ~/.cache/flexc; empty if none of them is set.
[[nodiscard]] std::filesystem::path default_cache_dir();

/// A 32-digit hexadecimal key of everything that decides the object: `content` (IR, level, options) and the identity of this
/// compiler's own code, so that a rebuilt compiler never reads what an older one wrote.
[[nodiscard]] std::string cache_key(std::string_view content);

[[nodiscard]] std::optional<std::vector<char>> cache_read(const std::filesystem::path& dir, const std::string& key);

/// Keeps the folder below kMaxCacheEntries by removing the least recently written entries.
void cache_write(const std::filesystem::path& dir, const std::string& key, const std::vector<char>& object);

inline constexpr size_t kMaxCacheEntries = 1024;

}  // namespace flexc
