#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "tools/io/formats.h"

namespace flexc::io {

flex::Status read_bytes(const std::filesystem::path& path, std::vector<std::byte>* out) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) return {flex::Code::InvalidArgument, "it is a directory"};
    // A device has no end and a pipe may have no writer.
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
        return {flex::Code::InvalidArgument, "it is no regular file"};
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) return {flex::Code::InvalidArgument, std::strerror(errno)};
    // The size is only a hint; memory grows with what is really read.
    const auto size = std::filesystem::file_size(path, ignored);
    out->clear();
    if (!ignored) out->reserve(static_cast<size_t>(size));
    size_t got = 0;
    do {
        constexpr size_t kChunk = 1 << 20;
        const size_t have = out->size();
        out->resize(have + kChunk);
        got = std::fread(out->data() + have, 1, kChunk, file.get());
        out->resize(have + got);
    } while (got != 0);
    if (std::ferror(file.get())) return {flex::Code::InvalidArgument, std::strerror(errno)};
    return {};
}

}  // namespace flexc::io
