// Arrays in files: .npz, .npy and .safetensors, read and written. An array owns its bytes, row-major.
// Writers go to a temporary name beside the target and rename, so no partial file is ever left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/status.h"
#include "runtime/tensor.h"

namespace flexc::io {

/// What files hold: more types than kernels take. `run` converts where LANGUAGE allows it (exact in range).
enum class FileType : uint8_t { F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool };
[[nodiscard]] const char* name(FileType type);
[[nodiscard]] size_t size_of(FileType type);

struct Array {
    FileType type = FileType::F32;
    std::vector<int64_t> shape;    // empty: 0-d
    std::vector<std::byte> bytes;  // row-major, little-endian

    [[nodiscard]] int64_t count() const;
};
/// "[2, 8, 64]"
[[nodiscard]] std::string shape_text(const std::vector<int64_t>& shape);

using Arrays = std::map<std::string, Array>;
/// Arrays that are in the file but whose element type is none of FileType, with the reason: an error only for who needs them.
using Unreadable = std::map<std::string, std::string>;

/// By the ending of the name: .npz (stored or deflated members), .npy (one array, under the name of the file's stem), .safetensors.
/// Errors name the member and what is wrong with it, not the file; sizes are checked against the file before memory is taken.
flex::Status read(const std::filesystem::path& path, Arrays* out, Unreadable* unreadable = nullptr);
/// .npz or .safetensors by the ending. bf16 is not a NumPy type: in .npz it is widened to f32, which is exact; .safetensors keeps it.
flex::Status write(const std::filesystem::path& path, const Arrays& arrays);
/// Whether `write` knows the ending: asked before a long run, not after it.
flex::Status writable_name(const std::filesystem::path& path);

}  // namespace flexc::io
