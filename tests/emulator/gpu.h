// What the tests need of a GPU, on two ways to have one: the emulated device itself (fast, the seed free for each launch), and the CUDA Driver API of a
// library, as a program sees it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace emulator_test {

using Dim = std::array<uint32_t, 3>;

/// What a tensor map describes, as cuTensorMapEncodeTiled takes it: dimension 0 is innermost, strides are bytes of dimensions 1 and up.
struct TensorView {
    int type = 0;  // CUtensorMapDataType
    uint64_t address = 0;
    std::vector<uint64_t> dims, strides;
    std::vector<uint32_t> box;
    int swizzle = 0;  // CUtensorMapSwizzle
};
struct alignas(64) TensorMapBytes {
    std::array<uint8_t, 128> bytes{};
};

/// A kernel's argument, by value.
struct Argument {
    std::array<uint8_t, 128> bytes{};
    Argument(const TensorMapBytes& map) : bytes(map.bytes) {}  // NOLINT
    template <typename T>
    Argument(T value) {  // NOLINT: made from numbers in argument lists
        static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8);
        std::memcpy(bytes.data(), &value, sizeof value);
    }
};

class Gpu {
public:
    virtual ~Gpu() = default;
    virtual bool load(const std::string& ptx, std::string* error) = 0;
    virtual uint64_t allocate(size_t bytes) = 0;
    virtual bool write(uint64_t to, const void* from, size_t bytes) = 0;
    virtual bool read(void* to, uint64_t from, size_t bytes) = 0;
    /// Address of a variable of the module, 0 if there is none.
    virtual uint64_t variable(const std::string& name) = 0;
    /// A map that is all zeros if the driver refuses.
    virtual TensorMapBytes tensor_map(const TensorView& view) = 0;
    /// Runs to the end. "" or what went wrong.
    virtual std::string launch(const std::string& kernel, Dim grid, Dim block, uint32_t shared_bytes,
                               const std::vector<Argument>& arguments) = 0;

    template <typename T>
    uint64_t upload(const std::vector<T>& values) {
        uint64_t address = allocate(std::max(values.size(), size_t{1}) * sizeof(T));
        write(address, values.data(), values.size() * sizeof(T));
        return address;
    }
    template <typename T>
    std::vector<T> download(uint64_t from, size_t count) {
        std::vector<T> values(count);
        read(values.data(), from, count * sizeof(T));
        return values;
    }
};

/// The emulated device without a driver.
std::unique_ptr<Gpu> make_device_gpu(int compute_capability, uint64_t seed);
/// Through the driver API of a library; null with a message if it cannot be. The compute capability is the library's business.
std::unique_ptr<Gpu> make_driver_gpu(const std::string& library, uint64_t seed, std::string* error);

}  // namespace emulator_test
