#include "safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "json.h"

namespace {

size_t element_size(const std::string& dtype) {
    if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
    if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
    if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
    return 1;
}

std::string text(const std::vector<size_t>& shape) {
    std::string out;
    for (const size_t extent : shape) out += (out.empty() ? "[" : ", ") + (extent ? std::to_string(extent) : "any");
    return (out.empty() ? "[" : out) + "]";
}

}  // namespace

SafeTensors::SafeTensors(const std::string& path) : path_(path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info{};
    if (file < 0 || fstat(file, &info) != 0) {
        const std::string reason = std::strerror(errno);
        if (file >= 0) close(file);
        throw std::runtime_error(path + ": " + reason);
    }
    bytes_ = static_cast<size_t>(info.st_size);
    memory_ = bytes_ ? mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    close(file);
    if (memory_ == MAP_FAILED) throw std::runtime_error(path + ": it is empty or cannot be mapped");

    try {
        const char* bytes = static_cast<const char*>(memory_);
        uint64_t header = 0;
        if (bytes_ < sizeof header) throw std::runtime_error("no header");
        std::memcpy(&header, bytes, sizeof header);
        if (header > bytes_ - sizeof header) throw std::runtime_error("the header is longer than the file");
        const char* data = bytes + sizeof header + header;
        const size_t size = bytes_ - sizeof header - header;
        for (const auto& [name, entry] : parse_json({bytes + sizeof header, header}).object) {
            if (name == "__metadata__") continue;
            Entry& array = arrays_[name];
            array.dtype = entry.at("dtype").string;
            size_t wanted = element_size(array.dtype);
            for (const Json& extent : entry.at("shape").array) {
                array.shape.push_back(extent.size());
                if (extent.size() && wanted > size / extent.size()) throw std::runtime_error("`" + name + "` is larger than the file");
                wanted *= extent.size();
            }
            const std::vector<Json>& offsets = entry.at("data_offsets").array;
            if (offsets.size() != 2 || offsets[1].size() > size || offsets[0].size() > offsets[1].size() ||
                offsets[1].size() - offsets[0].size() != wanted)
                throw std::runtime_error("`" + name + "` does not lie in the file as its shape says");
            array.data = data + offsets[0].size();
        }
    } catch (const std::runtime_error& error) {
        munmap(memory_, bytes_);
        throw std::runtime_error(path + ": " + error.what());
    }
}

SafeTensors::~SafeTensors() {
    munmap(memory_, bytes_);
}

SafeTensors::View SafeTensors::f32(const std::string& name, const std::vector<size_t>& shape) const {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) throw std::runtime_error(path_ + ": there is no `" + name + "`");
    const Entry& entry = found->second;
    bool fits = entry.dtype == "F32" && entry.shape.size() == shape.size() && reinterpret_cast<uintptr_t>(entry.data) % alignof(float) == 0;
    for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == 0 || shape[i] == entry.shape[i];
    if (!fits)
        throw std::runtime_error(path_ + ": `" + name + "` must be aligned F32 " + text(shape) + ", it is " + entry.dtype + " " +
                                 text(entry.shape));
    return {reinterpret_cast<const float*>(entry.data), entry.shape};
}
