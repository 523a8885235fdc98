// Images of kernels: what programs hand to cuModuleLoadData. PTX text is taken as it is; of a fatbin, the container that nvcc embeds in programs, the PTX
// for the newest architecture that the device can run. Machine code (a cubin, which is an ELF file) cannot run here.
//
// A fatbin is a header {u32 magic, u16 version, u16 header bytes, u64 bytes of entries} and entries, each with a header of its own (FatbinEntry below)
// whose length it gives. PTX in it is stored plainly, as an LZ4 block or as a zstd frame.
#include <cstring>

#include "emulator/driver/call.h"
#ifdef FLEXEMU_ZSTD
#include <zstd.h>
#endif

namespace flexemu::driver {

namespace {

constexpr uint32_t kFatbinMagic = 0xBA55ED50, kWrapperMagic = 0x466243B1, kElfMagic = 0x464C457F;
struct FatbinHeader {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
};
struct FatbinEntry {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
    uint32_t compressed_bytes, options;
    uint16_t minor, major;
    uint32_t arch, name_at, name_bytes;
    uint64_t flags, reserved, plain_bytes;
};
static_assert(sizeof(FatbinEntry) == 64);
constexpr uint16_t kKindPtx = 1;
constexpr uint64_t kFlagLz4 = 0x2000, kFlagZstd = 0x8000;
struct Wrapper {
    uint32_t magic, version;
    const void* fatbin;
    const void* names;
};

/// An LZ4 block: tokens of literals and matches. False if it is broken or does not give just `bytes`.
bool lz4(const uint8_t* in, size_t in_bytes, size_t bytes, std::string* out) {
    const uint8_t* end = in + in_bytes;
    auto length = [&](size_t start, size_t* total) {
        *total = start;
        if (start != 15) return true;
        for (;;) {
            if (in == end) return false;
            uint8_t more = *in++;
            *total += more;
            if (more != 255) return true;
        }
    };
    while (in < end) {
        uint8_t token = *in++;
        size_t literals = 0, match = 0;
        if (!length(token >> 4, &literals) || literals > static_cast<size_t>(end - in) || out->size() + literals > bytes) return false;
        out->append(reinterpret_cast<const char*>(in), literals);
        in += literals;
        if (in == end || out->size() == bytes) break;  // the last sequence has no match
        if (end - in < 2) return false;
        size_t back = in[0] | static_cast<size_t>(in[1]) << 8;
        in += 2;
        if (!length(token & 15, &match)) return false;
        match += 4;
        if (back == 0 || back > out->size() || out->size() + match > bytes) return false;
        for (size_t i = 0; i < match; ++i) out->push_back((*out)[out->size() - back]);
    }
    return out->size() == bytes;
}

CUresult unpack(const FatbinEntry& entry, const uint8_t* data, std::string* ptx, std::string* error) {
    bool fine = false;
    if (entry.flags & kFlagZstd) {
#ifdef FLEXEMU_ZSTD
        ptx->resize(entry.plain_bytes);
        fine = ZSTD_decompress(ptx->data(), ptx->size(), data, entry.compressed_bytes) == entry.plain_bytes;
#else
        *error = "the PTX of this fatbin is compressed with zstd, which the emulated driver was built without; nvcc -no-compress helps";
        return CUDA_ERROR_INVALID_IMAGE;
#endif
    } else if (entry.flags & kFlagLz4) {
        fine = lz4(data, entry.compressed_bytes, entry.plain_bytes, ptx);
    } else {
        ptx->assign(reinterpret_cast<const char*>(data), entry.bytes);
        fine = true;
    }
    if (size_t end = ptx->find('\0'); end != std::string::npos) ptx->resize(end);
    if (!fine) *error = "the PTX of this fatbin does not unpack";
    return fine ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

CUresult extract_fatbin(const uint8_t* image, int capability, std::string* ptx, std::string* error) {
    FatbinHeader header;
    std::memcpy(&header, image, sizeof header);
    const uint8_t* best = nullptr;
    uint32_t best_arch = 0;
    size_t others = 0;
    uint64_t at = header.header_bytes, end = header.header_bytes + header.bytes;
    while (at + sizeof(FatbinEntry) <= end) {
        FatbinEntry entry;
        std::memcpy(&entry, image + at, sizeof entry);
        if (entry.header_bytes < sizeof entry || entry.bytes > end - at) {
            *error = "a broken fatbin";
            return CUDA_ERROR_INVALID_IMAGE;
        }
        if (entry.kind != kKindPtx) {
            ++others;
        } else if (entry.arch <= static_cast<uint32_t>(capability) && entry.arch >= best_arch) {
            best = image + at;
            best_arch = entry.arch;
        }
        at += entry.header_bytes + entry.bytes;
    }
    if (!best) {
        *error = others ? "only PTX is executed here, and the fatbin has only machine code that fits; build with PTX (nvcc -gencode "
                          "arch=compute_80,code=compute_80)"
                        : "the fatbin has no PTX that this device can run";
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    FatbinEntry entry;
    std::memcpy(&entry, best, sizeof entry);
    return unpack(entry, best + entry.header_bytes, ptx, error);
}

}  // namespace

CUresult extract_ptx(const void* image, int capability, std::string* ptx, std::string* error) {
    // No magic number has a zero byte: text shorter than one ends before it.
    const auto* bytes = static_cast<const char*>(image);
    uint32_t magic = 0;
    if (strnlen(bytes, sizeof magic) == sizeof magic) std::memcpy(&magic, bytes, sizeof magic);
    if (magic == kWrapperMagic) {
        Wrapper wrapper;
        std::memcpy(&wrapper, image, sizeof wrapper);
        return wrapper.fatbin ? extract_ptx(wrapper.fatbin, capability, ptx, error) : CUDA_ERROR_INVALID_IMAGE;
    }
    if (magic == kFatbinMagic) return extract_fatbin(static_cast<const uint8_t*>(image), capability, ptx, error);
    if (magic == kElfMagic) {
        *error = "this image is machine code (a cubin); only PTX is executed here";
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    *ptx = bytes;
    if (ptx->find(".version") == std::string::npos) {
        *error = "this image is neither PTX nor a fatbin";
        return CUDA_ERROR_INVALID_IMAGE;
    }
    return CUDA_SUCCESS;
}

}  // namespace flexemu::driver
