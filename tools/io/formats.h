// The file formats behind array.h, one function a direction, and the byte-level helpers they share.
// All readers treat the file as hostile: every size is compared with the bytes that are there before memory is taken.
// A member whose element type has no counterpart here (strings, objects, complex) goes into Unreadable if the caller gives one.
#pragma once

#include <optional>
#include <span>

#include "tools/io/array.h"

namespace flexc::io {

/// The bytes an array of this shape needs, or nothing if an extent is negative or the product overflows.
[[nodiscard]] std::optional<uint64_t> checked_bytes(const std::vector<int64_t>& shape, size_t element_size);

flex::Status read_bytes(const std::filesystem::path& path, std::vector<std::byte>* out);

struct NpyResult {
    std::string error;              // empty: read
    bool unsupported_type = false;  // the file is well formed, but its element type is none of FileType
};
/// One .npy file, versions 1 to 3; big-endian and Fortran order are converted.
[[nodiscard]] NpyResult parse_npy(std::span<const std::byte> bytes, Array* out);
/// The same array as .npy version 1. BF16 must have been widened.
[[nodiscard]] std::vector<std::byte> format_npy(const Array& array);

flex::Status read_npz(const std::filesystem::path& path, Arrays* out, Unreadable* unreadable);
flex::Status write_npz(const std::filesystem::path& path, const Arrays& arrays);
flex::Status read_safetensors(const std::filesystem::path& path, Arrays* out, Unreadable* unreadable);
flex::Status write_safetensors(const std::filesystem::path& path, const Arrays& arrays);

}  // namespace flexc::io
