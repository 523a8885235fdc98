// A .safetensors file: named arrays, read where they lie. The format: 8 bytes length, a JSON header {name: {dtype, shape, data_offsets}}, data.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

class SafeTensors {
public:
    /// Throws std::runtime_error if the file cannot be read or does not hold together.
    explicit SafeTensors(const std::string& path);
    ~SafeTensors();
    SafeTensors(const SafeTensors&) = delete;
    SafeTensors& operator=(const SafeTensors&) = delete;

    struct View {
        const float* data = nullptr;
        std::vector<size_t> shape;
    };
    /// An f32 array, which lives as long as the file; throws if there is none of this name and shape. A 0 in `shape` stands for any extent.
    [[nodiscard]] View f32(const std::string& name, const std::vector<size_t>& shape) const;
    [[nodiscard]] bool has(const std::string& name) const { return arrays_.count(name) != 0; }

private:
    struct Entry {
        std::string dtype;
        std::vector<size_t> shape;
        const char* data = nullptr;
    };
    std::string path_;
    void* memory_ = nullptr;
    size_t bytes_ = 0;
    std::map<std::string, Entry> arrays_;
};
