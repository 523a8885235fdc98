#include "tests/emulator/driver_api.h"

namespace emulator_test {

const char kKernels[] = R"(
.version 7.0
.target sm_80
.address_size 64
.visible .global .align 4 .u32 setting = 42;
.visible .entry affine(.param .u64 values, .param .u32 factor, .param .u32 amount, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %d<4>;
    mov.u32 %r0, %ctaid.x;
    mov.u32 %r1, %ntid.x;
    mov.u32 %r2, %tid.x;
    mad.lo.s32 %r0, %r0, %r1, %r2;
    ld.param.u32 %r3, [n];
    setp.ge.u32 %p, %r0, %r3;
    @%p ret;
    ld.param.u64 %d0, [values];
    ld.param.u32 %r4, [factor];
    ld.param.u32 %r5, [amount];
    mul.wide.u32 %d1, %r0, 4;
    add.s64 %d0, %d0, %d1;
    ld.global.u32 %r6, [%d0];
    mad.lo.u32 %r6, %r6, %r4, %r5;
    st.global.u32 [%d0], %r6;
    ret;
}
.visible .entry get_setting(.param .u64 out)
{
    .reg .b32 %r;
    .reg .b64 %d;
    ld.param.u64 %d, [out];
    ld.global.u32 %r, [setting];
    st.global.u32 [%d], %r;
    ret;
}
.visible .entry store(.param .u64 to)
{
    .reg .b64 %d;
    ld.param.u64 %d, [to];
    st.global.u32 [%d], 7;
    ret;
}
.visible .entry limited()
.maxntid 64, 1, 1
{
    .shared .align 4 .b8 room[1024];
    ret;
}
.extern .shared .align 16 .b8 dynamic[];
.visible .entry shared_bytes(.param .u64 out)
{
    .reg .b32 %r;
    .reg .b64 %d;
    ld.param.u64 %d, [out];
    mov.u32 %r, %dynamic_smem_size;
    st.global.u32 [%d], %r;
    ret;
}
)";

Session::Session() {
    CUdevice device = 0;
    REQUIRE_CU(CU(cuInit)(0));
    REQUIRE_CU(CU(cuDeviceGet)(&device, 0));
    REQUIRE_CU(CU(cuCtxCreate_v2)(&context, 0, device));
    REQUIRE_CU(CU(cuModuleLoadData)(&module, kKernels));
}

Session::~Session() {
    CU(cuCtxDestroy_v2)(context);
}

CUfunction Session::function(const char* name) const {
    CUfunction found = nullptr;
    REQUIRE_CU(CU(cuModuleGetFunction)(&found, module, name));
    return found;
}

CUdeviceptr Session::allocate(size_t bytes) const {
    CUdeviceptr address = 0;
    REQUIRE_CU(CU(cuMemAlloc_v2)(&address, bytes));
    return address;
}

CUresult Session::add(CUdeviceptr counts, unsigned amount, unsigned n, CUstream stream) const {
    return affine(counts, 1, amount, n, stream);
}

CUresult Session::affine(CUdeviceptr values, unsigned factor, unsigned amount, unsigned n, CUstream stream) const {
    void* parameters[] = {&values, &factor, &amount, &n};
    return CU(cuLaunchKernel)(function("affine"), (n + 63) / 64, 1, 1, 64, 1, 1, 0, stream, parameters, nullptr);
}

std::vector<unsigned> Session::read(CUdeviceptr from, size_t count) const {
    std::vector<unsigned> values(count);
    REQUIRE_CU(CU(cuMemcpyDtoH_v2)(values.data(), from, count * 4));
    return values;
}

}  // namespace emulator_test
