// .npz: a zip archive of .npy members. Written stored, as numpy.savez does: attention outputs do not compress.
#include <unistd.h>
#include <zip.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "tools/io/atomic_file.h"
#include "tools/io/convert.h"
#include "tools/io/formats.h"

namespace flexc::io {
namespace {

constexpr zip_uint64_t kMaxMembers = 1 << 16;
// Deflate cannot expand further than about 1032 : 1; a member that claims more is damaged or hostile.
constexpr zip_uint64_t kMaxExpansion = 1040;

struct ArchiveCloser {
    void operator()(zip_t* archive) const { zip_discard(archive); }
};
using ArchivePtr = std::unique_ptr<zip_t, ArchiveCloser>;

flex::Status invalid(std::string text) {
    return {flex::Code::InvalidArgument, std::move(text)};
}

std::string zip_error(int code) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    std::string text = zip_error_strerror(&error);
    zip_error_fini(&error);
    return text;
}

flex::Status read_member(zip_t* archive, zip_uint64_t index, const zip_stat_t& info, std::vector<std::byte>* out) {
    const std::string name = info.name;
    constexpr zip_uint64_t kNeeded = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((info.valid & kNeeded) != kNeeded) return invalid("member `" + name + "` has no size");
    if (info.encryption_method != ZIP_EM_NONE) return invalid("member `" + name + "` is encrypted");
    if (info.comp_method != ZIP_CM_STORE && info.comp_method != ZIP_CM_DEFLATE)
        return invalid("member `" + name + "` is compressed by a method other than deflate");
    if (info.size / kMaxExpansion > info.comp_size)
        return invalid("member `" + name + "` claims a size that its compressed bytes cannot have");
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(zip_fopen_index(archive, index, 0), zip_fclose);
    if (!file) return invalid("member `" + name + "`: " + zip_strerror(archive));
    // Grown as data really arrives, so that a false size in the directory costs no memory.
    out->clear();
    while (out->size() < info.size) {
        const size_t chunk = std::min<size_t>(info.size - out->size(), size_t{16} << 20);
        const size_t have = out->size();
        out->resize(have + chunk);
        const zip_int64_t got = zip_fread(file.get(), out->data() + have, chunk);
        if (got <= 0) {
            const std::string reason = got < 0 ? zip_file_strerror(file.get()) : "the data is cut off";
            return invalid("member `" + name + "`: " + reason);
        }
        out->resize(have + static_cast<size_t>(got));
    }
    // The checksum is only compared when the end is read.
    std::byte extra;
    if (zip_fread(file.get(), &extra, 1) != 0) return invalid("member `" + name + "`: " + zip_file_strerror(file.get()));
    return {};
}

}  // namespace

flex::Status read_npz(const std::filesystem::path& path, Arrays* out, Unreadable* unreadable) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) return invalid("it is a directory");
    // A device has no end and a pipe may have no writer.
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) return invalid("it is no regular file");
    if (access(path.c_str(), R_OK) != 0) return invalid(std::strerror(errno));  // in the words of the other readers
    int code = 0;
    const ArchivePtr archive(zip_open(path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
    if (!archive) return invalid(zip_error(code));
    const zip_int64_t members = zip_get_num_entries(archive.get(), 0);
    if (members < 0 || static_cast<zip_uint64_t>(members) > kMaxMembers) return invalid("the archive has too many members");
    for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(members); ++i) {
        zip_stat_t info;
        if (zip_stat_index(archive.get(), i, 0, &info) != 0 || !(info.valid & ZIP_STAT_NAME))
            return invalid("the archive's directory is damaged");
        std::string name = info.name;
        if (!name.ends_with(".npy")) continue;
        std::vector<std::byte> bytes;
        if (flex::Status status = read_member(archive.get(), i, info, &bytes); !status.ok()) return status;
        name.resize(name.size() - 4);
        if (out->contains(name)) return invalid("two members are named `" + name + "`");
        Array array;
        const NpyResult result = parse_npy(bytes, &array);
        if (result.error.empty())
            (*out)[name] = std::move(array);
        else if (result.unsupported_type && unreadable)
            (*unreadable)[name] = result.error;
        else
            return invalid("array `" + name + "`: " + result.error);
    }
    return {};
}

flex::Status write_npz(const std::filesystem::path& path, const Arrays& arrays) {
    // libzip's own file writer picks its own temporary name, which an interrupt would leave behind: it writes to memory instead.
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* sink = zip_source_buffer_create(nullptr, 0, 0, &error);
    if (!sink) return {flex::Code::OutOfMemory, zip_error_strerror(&error)};
    zip_source_keep(sink);
    const std::unique_ptr<zip_source_t, void (*)(zip_source_t*)> keep(sink, zip_source_free);
    ArchivePtr archive(zip_open_from_source(sink, ZIP_CREATE | ZIP_TRUNCATE, &error));
    if (!archive) {
        zip_source_free(sink);
        return {flex::Code::OutOfMemory, zip_error_strerror(&error)};
    }
    std::vector<std::vector<std::byte>> members;  // must outlive zip_close
    members.reserve(arrays.size());
    for (const auto& [name, array] : arrays) {
        members.push_back(format_npy(array.type == FileType::BF16 ? widen_bf16(array) : array));
        zip_source_t* source = zip_source_buffer(archive.get(), members.back().data(), members.back().size(), 0);
        const zip_int64_t index = source ? zip_file_add(archive.get(), (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8) : -1;
        if (index < 0) {
            if (source) zip_source_free(source);
            return invalid("array `" + name + "`: " + zip_strerror(archive.get()));
        }
        // A fixed time (1980-01-01, the format's zero) makes equal outputs equal files.
        if (zip_set_file_compression(archive.get(), static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0) != 0 ||
            zip_file_set_dostime(archive.get(), static_cast<zip_uint64_t>(index), 0, 0x21, 0) != 0)
            return invalid("array `" + name + "`: " + zip_strerror(archive.get()));
    }
    if (zip_close(archive.get()) != 0) return {flex::Code::OutOfMemory, zip_strerror(archive.get())};
    (void)archive.release();

    AtomicFile file(path);
    if (flex::Status status = file.open(); !status.ok()) return status;
    if (zip_source_open(sink) != 0) return {flex::Code::OutOfMemory, "the archive could not be read back"};
    std::vector<std::byte> chunk(size_t{1} << 20);
    zip_int64_t got = 0;
    while ((got = zip_source_read(sink, chunk.data(), chunk.size())) > 0) {
        if (flex::Status status = file.write({chunk.data(), static_cast<size_t>(got)}); !status.ok()) {
            zip_source_close(sink);
            return status;
        }
    }
    zip_source_close(sink);
    if (got < 0) return {flex::Code::OutOfMemory, "the archive could not be read back"};
    return file.commit();
}

}  // namespace flexc::io
