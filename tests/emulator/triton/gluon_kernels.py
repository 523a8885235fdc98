"""Gluon kernels for sm_90a: warps with tasks of their own, tensor maps, mbarriers, products of warpgroups. compile_kernels.py compiles them."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma, warpgroup_mma, warpgroup_mma_wait


@gluon.jit
def bring(a, b, tiles_a, tiles_b, full, empty, m, n, K, STAGES: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    for i in range(gl.cdiv(K, BK)):
        s = i % STAGES
        mbarrier.wait(empty.index(s), ((i // STAGES) & 1) ^ 1)
        mbarrier.expect(full.index(s), a.block_type.nbytes + b.block_type.nbytes)
        tma.async_load(a, [m * BM, i * BK], full.index(s), tiles_a.index(s))
        tma.async_load(b, [i * BK, n * BN], full.index(s), tiles_b.index(s))


@gluon.jit
def multiply(a, b, c, tiles_a, tiles_b, full, empty, m, n, K, STAGES: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BN, 16])
    total = gl.zeros((BM, BN), gl.float32, layout)
    for i in range(gl.cdiv(K, BK)):
        s = i % STAGES
        mbarrier.wait(full.index(s), (i // STAGES) & 1)
        total = warpgroup_mma(tiles_a.index(s), tiles_b.index(s), total, is_async=True)
        total = warpgroup_mma_wait(0, deps=[total])
        mbarrier.arrive(empty.index(s), count=1)
    tile = gl.allocate_shared_memory(c.dtype, c.block_type.shape, c.layout)
    tile.store(total.to(c.dtype))
    fence_async_shared()
    tma.async_store(c, [m * BM, n * BN], tile)
    tma.store_wait(0)


@gluon.jit
def matmul_specialised(a, b, c, K, STAGES: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr):
    tiles_a = gl.allocate_shared_memory(a.dtype, [STAGES] + a.block_type.shape, a.layout)
    tiles_b = gl.allocate_shared_memory(b.dtype, [STAGES] + b.block_type.shape, b.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    m = gl.program_id(0)
    n = gl.program_id(1)
    gl.warp_specialize(
        [
            (multiply, (a, b, c, tiles_a, tiles_b, full, empty, m, n, K, STAGES, BM, BN, BK)),
            (bring, (a, b, tiles_a, tiles_b, full, empty, m, n, K, STAGES, BM, BN, BK)),
        ],
        [1],
        [24],
    )


SWIZZLED = repr(gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2))

# as in kernels.py
VARIANTS = {
    "matmul_specialised": (
        matmul_specialised,
        [f"tensordesc<bf16[64, 64],{SWIZZLED}>", f"tensordesc<bf16[64, 128],{SWIZZLED}>", f"tensordesc<bf16[64, 128],{SWIZZLED}>", "i32"],
        {"STAGES": 3, "BM": 64, "BN": 128, "BK": 64},
        4,
        3,
        90,
    ),
}
