// Initialisation, errors, finding functions, and what a device says of itself.
#include <cstdio>
#include <cstring>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

constexpr int kVersion = 13000;

struct ResultText {
    CUresult number;
    const char *name, *text;
};
constexpr ResultText kResults[] = {
#define FLEXEMU_RESULT(name, number, text) {number, "CUDA_" #name, text},
#include "emulator/driver/results.def"
#undef FLEXEMU_RESULT
};
const ResultText* result(CUresult number) {
    for (const ResultText& each : kResults)
        if (each.number == number) return &each;
    return nullptr;
}

struct Entry {
    const char* name;
    int since;
    void *function, *per_thread;
};
template <typename F>
void* address(F* function) {
    return reinterpret_cast<void*>(function);
}
const Entry kEntries[] = {
#define FLEXEMU_FUNCTION(base, suffix, since, parameters) {#base, since, address(base##suffix), nullptr},
#define FLEXEMU_STREAM_FUNCTION(base, suffix, since, parameters, arguments) \
    {#base, since, address(base##suffix), address(base##suffix##_ptsz)},
#define FLEXEMU_SYNC_FUNCTION(base, suffix, since, parameters, arguments) \
    {#base, since, address(base##suffix), address(base##suffix##_ptds)},
#include "emulator/driver/functions.def"
#undef FLEXEMU_FUNCTION
#undef FLEXEMU_STREAM_FUNCTION
#undef FLEXEMU_SYNC_FUNCTION
    // From 12.0 on the header's cuGraphInstantiate is this one.
    {"cuGraphInstantiate", 12000, address(cuGraphInstantiateWithFlags), nullptr},
};

bool valid(Call& call, CUdevice device, CUresult* error) {
    *error = call.error() != CUDA_SUCCESS ? call.error() : device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
    return *error == CUDA_SUCCESS;
}

/// Values of the models that are the same for all, by number of the attribute; the others are computed below.
struct Fixed {
    int attribute, value;
};
constexpr Fixed kFixed[] = {
    {2, 1024},      {3, 1024},   {4, 64},         {5, 2147483647}, {6, 65535},   {7, 65535},    {9, 65536},  {11, 2147483647}, {12, 65536},
    {13, 1755000},  {14, 512},   {15, 1},         {19, 1},         {21, 131072}, {22, 131072},  {23, 65536}, {24, 16384},      {25, 16384},
    {26, 16384},    {27, 32768}, {28, 32768},     {29, 2048},      {30, 512},    {31, 1},       {33, 1},     {36, 2619000},    {37, 5120},
    {38, 50 << 20}, {40, 3},     {41, 1},         {42, 32768},     {43, 2048},   {44, 1},       {45, 32768}, {46, 32768},      {47, 8192},
    {48, 8192},     {49, 32768}, {51, 32},        {52, 32768},     {53, 32768},  {54, 2046},    {55, 32768}, {56, 131072},     {57, 65536},
    {58, 16384},    {59, 16384}, {60, 16384},     {61, 32768},     {62, 2048},   {63, 32768},   {64, 32768}, {65, 2048},       {66, 32768},
    {67, 32768},    {68, 2046},  {69, 268435456}, {70, 131072},    {71, 65000},  {72, 2097120}, {73, 32768}, {74, 32768},      {77, 32768},
    {78, 1},        {79, 1},     {80, 1},         {82, 65536},     {83, 1},      {87, 2},       {91, 1},     {95, 1},          {99, 1},
    {111, 1024},    {115, 1},    {126, 1},
};

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) {
    FLEXEMU_CALL(Nothing);
    return flags ? CUDA_ERROR_INVALID_VALUE : driver.initialise();
}

CUresult cuDriverGetVersion(int* version) {
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    *version = kVersion;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
    if (!text) return CUDA_ERROR_INVALID_VALUE;
    const ResultText* found = result(error);
    *text = found ? found->text : nullptr;
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    const ResultText* found = result(error);
    *name = found ? found->name : nullptr;
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, CUdriverProcAddressQueryResult* status) {
    constexpr uint64_t kBoth = CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (!symbol || !function || (flags & ~kBoth) || (flags & kBoth) == kBoth) return CUDA_ERROR_INVALID_VALUE;
    *function = nullptr;
    const Entry* best = nullptr;
    bool exists = false;
    for (const Entry& entry : kEntries) {
        if (std::strcmp(entry.name, symbol) != 0) continue;
        exists = true;
        if (entry.since <= version && (!best || entry.since >= best->since)) best = &entry;
    }
    if (best) *function = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) && best->per_thread ? best->per_thread : best->function;
    if (status)
        *status = best     ? CU_GET_PROC_ADDRESS_SUCCESS
                  : exists ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                           : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return best ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char* symbol, void** function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

// Tables that NVIDIA's own libraries share with its driver; there are none here.
CUresult cuGetExportTable(const void** table, const CUuuid* id) {
    if (!table || !id) return CUDA_ERROR_INVALID_VALUE;
    *table = nullptr;
    return CUDA_ERROR_NOT_FOUND;
}

CUresult cuProfilerStart() {
    FLEXEMU_CALL(Context);
    return CUDA_SUCCESS;
}

CUresult cuProfilerStop() {
    FLEXEMU_CALL(Context);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    FLEXEMU_CALL(Driver);
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    FLEXEMU_CALL(Driver);
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    Call call(Call::Needs::Driver);
    CUresult error;
    if (!valid(call, device, &error)) return error;
    if (!name || length < 1) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(name, static_cast<size_t>(length), "%s", call.driver().device->properties().name.c_str());
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
    Call call(Call::Needs::Driver);
    CUresult error;
    if (!valid(call, device, &error)) return error;
    if (!uuid) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(uuid->bytes, "flexc emulated 0", sizeof uuid->bytes);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    return cuDeviceGetUuid(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    Call call(Call::Needs::Driver);
    CUresult error;
    if (!valid(call, device, &error)) return error;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    *bytes = call.driver().device->properties().memory_bytes;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    Call call(Call::Needs::Driver);
    CUresult error;
    if (!valid(call, device, &error)) return error;
    if (!value || attribute < 1 || attribute > CU_DEVICE_ATTRIBUTE_LAST) return CUDA_ERROR_INVALID_VALUE;
    const flexemu::DeviceProperties& properties = call.driver().device->properties();
    int capability = properties.compute_capability;
    bool big = capability == 80 || capability == 87 || capability == 90 || capability == 100;
    switch (static_cast<int>(attribute)) {
        case 1: *value = properties.max_threads_per_block; return CUDA_SUCCESS;
        case 8: *value = 48 * 1024; return CUDA_SUCCESS;
        case 10: *value = properties.warp_size; return CUDA_SUCCESS;
        case 16: *value = properties.multiprocessors; return CUDA_SUCCESS;
        case 39: *value = big ? 2048 : 1536; return CUDA_SUCCESS;
        case 75: *value = capability / 10; return CUDA_SUCCESS;
        case 76: *value = capability % 10; return CUDA_SUCCESS;
        case 81: *value = properties.max_shared_per_block + 1024; return CUDA_SUCCESS;
        case 97: *value = properties.max_shared_per_block; return CUDA_SUCCESS;
        case 106: *value = big ? 32 : 24; return CUDA_SUCCESS;
        case 120:
        case 127: *value = capability >= 90; return CUDA_SUCCESS;
        case 130:
        case 131:
        case 134: *value = -1; return CUDA_SUCCESS;  // no NUMA node
        default: break;
    }
    *value = 0;
    for (const Fixed& each : kFixed)
        if (each.attribute == attribute) *value = each.value;
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
    Call call(Call::Needs::Driver);
    CUresult error;
    if (!valid(call, device, &error)) return error;
    if (!major || !minor) return CUDA_ERROR_INVALID_VALUE;
    *major = call.driver().device->properties().compute_capability / 10;
    *minor = call.driver().device->properties().compute_capability % 10;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char* text, int length, CUdevice device) {
    Call call(Call::Needs::Driver);
    CUresult error;
    if (!valid(call, device, &error)) return error;
    if (!text || length < 1) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(text, static_cast<size_t>(length), "0000:01:00.0");
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice* device, const char* text) {
    FLEXEMU_CALL(Driver);
    if (!device || !text) return CUDA_ERROR_INVALID_VALUE;
    unsigned domain = 0, bus = 0, slot = 0, function = 0;
    bool full = std::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) == 4;
    if (!full && (domain = 0, std::sscanf(text, "%x:%x", &bus, &slot) != 2)) return CUDA_ERROR_INVALID_VALUE;
    if (domain != 0 || bus != 1 || slot != 0 || function != 0) return CUDA_ERROR_INVALID_DEVICE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
    FLEXEMU_CALL(Driver);
    if (!can) return CUDA_ERROR_INVALID_VALUE;
    if (device != 0 || peer != 0) return CUDA_ERROR_INVALID_DEVICE;
    *can = 0;
    return CUDA_SUCCESS;
}
}
