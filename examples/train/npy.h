// Arrays as NumPy's .npy files, little-endian as the machine.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

inline const char* npy_type(const std::vector<float>&) {
    return "<f4";
}
inline const char* npy_type(const std::vector<double>&) {
    return "<f8";
}
inline const char* npy_type(const std::vector<int32_t>&) {
    return "<i4";
}

/// False if the file could not be written in full.
template <class T>
bool write_npy(const std::string& path, const std::vector<int64_t>& shape, const std::vector<T>& values) {
    std::string header = std::string("{'descr': '") + npy_type(values) + "', 'fortran_order': False, 'shape': (";
    for (const int64_t extent : shape) header += std::to_string(extent) + ",";
    header += "), }";
    // Magic, version, length and text together fill blocks of 64 bytes.
    while ((10 + header.size() + 1) % 64 != 0) header += ' ';
    header += '\n';
    const unsigned char begin[] = {0x93,
                                   'N',
                                   'U',
                                   'M',
                                   'P',
                                   'Y',
                                   1,
                                   0,
                                   static_cast<unsigned char>(header.size() & 0xff),
                                   static_cast<unsigned char>(header.size() >> 8)};
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (!file) return false;
    const bool written = std::fwrite(begin, 1, sizeof begin, file) == sizeof begin &&
                         std::fwrite(header.data(), 1, header.size(), file) == header.size() &&
                         std::fwrite(values.data(), sizeof(T), values.size(), file) == values.size();
    return (std::fclose(file) == 0) && written;
}
