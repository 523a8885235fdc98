#include "tools/io/array.h"

#include "tools/io/formats.h"

namespace flexc::io {

const char* name(FileType type) {
    switch (type) {
        case FileType::F64: return "f64";
        case FileType::F32: return "f32";
        case FileType::F16: return "f16";
        case FileType::BF16: return "bf16";
        case FileType::I64: return "i64";
        case FileType::I32: return "i32";
        case FileType::I16: return "i16";
        case FileType::I8: return "i8";
        case FileType::U64: return "u64";
        case FileType::U32: return "u32";
        case FileType::U16: return "u16";
        case FileType::U8: return "u8";
        case FileType::Bool: return "bool";
    }
    return "?";
}

size_t size_of(FileType type) {
    switch (type) {
        case FileType::F64:
        case FileType::I64:
        case FileType::U64: return 8;
        case FileType::F32:
        case FileType::I32:
        case FileType::U32: return 4;
        case FileType::F16:
        case FileType::BF16:
        case FileType::I16:
        case FileType::U16: return 2;
        case FileType::I8:
        case FileType::U8:
        case FileType::Bool: return 1;
    }
    return 0;
}

int64_t Array::count() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
}

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

std::optional<uint64_t> checked_bytes(const std::vector<int64_t>& shape, size_t element_size) {
    // An extent of 0 makes the array empty whatever the others are, but a product of the others must still be representable for strides.
    uint64_t product = element_size;
    bool empty = false;
    for (int64_t extent : shape) {
        if (extent < 0) return std::nullopt;
        if (extent == 0) {
            empty = true;
            continue;
        }
        if (__builtin_mul_overflow(product, static_cast<uint64_t>(extent), &product) || product > INT64_MAX) return std::nullopt;
    }
    return empty ? 0 : product;
}

flex::Status read(const std::filesystem::path& path, Arrays* out, Unreadable* unreadable) {
    out->clear();
    if (unreadable) unreadable->clear();
    const std::string ending = path.extension().string();
    if (ending == ".npz") return read_npz(path, out, unreadable);
    if (ending == ".safetensors") return read_safetensors(path, out, unreadable);
    if (ending != ".npy") return {flex::Code::InvalidArgument, "the name must end in .npz, .npy or .safetensors"};
    std::vector<std::byte> bytes;
    if (flex::Status status = read_bytes(path, &bytes); !status.ok()) return status;
    Array array;
    NpyResult result = parse_npy(bytes, &array);
    const std::string stem = path.stem().string();
    if (!result.error.empty() && result.unsupported_type && unreadable)
        (*unreadable)[stem] = result.error;
    else if (!result.error.empty())
        return {flex::Code::InvalidArgument, result.error};
    else
        (*out)[stem] = std::move(array);
    return {};
}

flex::Status write(const std::filesystem::path& path, const Arrays& arrays) {
    if (flex::Status status = writable_name(path); !status.ok()) return status;
    return path.extension() == ".npz" ? write_npz(path, arrays) : write_safetensors(path, arrays);
}

flex::Status writable_name(const std::filesystem::path& path) {
    const std::string ending = path.extension().string();
    if (ending == ".npz" || ending == ".safetensors") return {};
    return {flex::Code::InvalidArgument, "the name must end in .npz or .safetensors"};
}

}  // namespace flexc::io
