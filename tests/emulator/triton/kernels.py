"""Triton kernels whose PTX the emulator is tested on. compile_kernels.py compiles them; tests/emulator/cases_triton.cpp launches them."""

import triton
import triton.language as tl


@triton.jit
def softmax(out, inp, stride, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    kept = at < columns
    x = tl.load(inp + row * stride + at, mask=kept, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(out + row * stride + at, e / tl.sum(e, axis=0), mask=kept)


@triton.jit
def matmul(a, b, c, M, N, K, stride_am, stride_bk, stride_cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    tile_m = tl.program_id(0)
    tile_n = tl.program_id(1)
    rows = (tile_m * BM + tl.arange(0, BM)) % M
    columns = (tile_n * BN + tl.arange(0, BN)) % N
    inner = tl.arange(0, BK)
    at_a = a + rows[:, None] * stride_am + inner[None, :]
    at_b = b + inner[:, None] * stride_bk + columns[None, :]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        x = tl.load(at_a, mask=inner[None, :] < K - k * BK, other=0.0)
        y = tl.load(at_b, mask=inner[:, None] < K - k * BK, other=0.0)
        total = tl.dot(x, y, total)
        at_a += BK
        at_b += BK * stride_bk
    rows = tile_m * BM + tl.arange(0, BM)
    columns = tile_n * BN + tl.arange(0, BN)
    kept = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(c + rows[:, None] * stride_cm + columns[None, :], total.to(c.dtype.element_ty), mask=kept)


@triton.jit
def attention(q, k, v, o, lse, scale, Q, K, stride_q, stride_k, stride_o, CAUSAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    """One head a program of axis 1: [heads, Q or K, D], rows of D contiguous elements; stride_* are of heads."""
    head = tl.program_id(1)
    first = tl.program_id(0) * BM
    rows = first + tl.arange(0, BM)
    inner = tl.arange(0, D)
    at = q + head * stride_q + rows[:, None] * D + inner[None, :]
    tile_q = tl.load(at, mask=rows[:, None] < Q, other=0.0)
    largest = tl.full([BM], -float("inf"), dtype=tl.float32)
    total = tl.zeros([BM], dtype=tl.float32)
    result = tl.zeros([BM, D], dtype=tl.float32)
    scale2 = scale * 1.4426950408889634
    end = tl.minimum(K, first + BM) if CAUSAL else K
    for start in range(0, end, BN):
        keys = start + tl.arange(0, BN)
        tile_k = tl.load(k + head * stride_k + keys[None, :] * D + inner[:, None], mask=keys[None, :] < K, other=0.0)
        score = tl.dot(tile_q, tile_k) * scale2
        kept = keys[None, :] < K
        if CAUSAL:
            kept = kept & (keys[None, :] <= rows[:, None])
        score = tl.where(kept, score, -float("inf"))
        now = tl.maximum(largest, tl.max(score, axis=1))
        weight = tl.exp2(score - now[:, None])
        rescale = tl.exp2(largest - now)
        total = total * rescale + tl.sum(weight, axis=1)
        tile_v = tl.load(v + head * stride_k + keys[:, None] * D + inner[None, :], mask=keys[:, None] < K, other=0.0)
        result = result * rescale[:, None]
        result = tl.dot(weight.to(tile_v.dtype), tile_v, result)
        largest = now
    result = result / total[:, None]
    tl.store(o + head * stride_o + rows[:, None] * D + inner[None, :], result.to(o.dtype.element_ty), mask=rows[:, None] < Q)
    tl.store(lse + head * Q + rows, (largest + tl.log2(total)) * 0.6931471805599453, mask=rows < Q)


@triton.jit
def matmul_described(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """a, b, c: tensor maps that the host makes."""
    tile_m = tl.program_id(0)
    tile_n = tl.program_id(1)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        total = tl.dot(a.load([tile_m * BM, k * BK]), b.load([k * BK, tile_n * BN]), total)
    c.store([tile_m * BM, tile_n * BN], total.to(c.dtype))


@triton.jit
def matmul_describing(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """The same with tensor maps that the kernel makes, in the global scratch memory of its blocks."""
    map_a = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    map_b = tl.make_tensor_descriptor(b, shape=[K, N], strides=[N, 1], block_shape=[BK, BN])
    map_c = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    tile_m = tl.program_id(0)
    tile_n = tl.program_id(1)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        total = tl.dot(map_a.load([tile_m * BM, k * BK]), map_b.load([k * BK, tile_n * BN]), total)
    map_c.store([tile_m * BM, tile_n * BN], total.to(c.dtype.element_ty))


@triton.jit
def attention_described(q, k, v, o, scale, K, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    """One head: [Q or K, D] by tensor maps that the host makes."""
    first = tl.program_id(0) * BM
    tile_q = q.load([first, 0])
    largest = tl.full([BM], -float("inf"), dtype=tl.float32)
    total = tl.zeros([BM], dtype=tl.float32)
    result = tl.zeros([BM, D], dtype=tl.float32)
    for start in range(0, K, BN):
        score = tl.dot(tile_q, k.load([start, 0]).T) * (scale * 1.4426950408889634)
        score = tl.where((start + tl.arange(0, BN) < K)[None, :], score, -float("inf"))
        now = tl.maximum(largest, tl.max(score, axis=1))
        weight = tl.exp2(score - now[:, None])
        rescale = tl.exp2(largest - now)
        total = total * rescale + tl.sum(weight, axis=1)
        result = tl.dot(weight.to(v.dtype), v.load([start, 0]), result * rescale[:, None])
        largest = now
    o.store([first, 0], (result / total[:, None]).to(o.dtype))


@triton.jit
def layer_norm(out, inp, weight, bias, columns, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    mean = 0.0
    square = 0.0
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(inp + row * columns + at, mask=at < columns, other=0.0).to(tl.float32)
        mean += tl.sum(x, axis=0)
        square += tl.sum(x * x, axis=0)
    mean = mean / columns
    scale = tl.rsqrt(square / columns - mean * mean + epsilon)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(inp + row * columns + at, mask=at < columns, other=0.0).to(tl.float32)
        w = tl.load(weight + at, mask=at < columns, other=0.0)
        b = tl.load(bias + at, mask=at < columns, other=0.0)
        tl.store(out + row * columns + at, (x - mean) * scale * w + b, mask=at < columns)


@triton.jit
def scan(out, inp, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(inp + row * columns + at, mask=at < columns, other=0)
    tl.store(out + row * columns + at, tl.cumsum(x, axis=0), mask=at < columns)


# name of the PTX file: kernel, signature of its arguments, constants, warps, stages, architecture
VARIANTS = {
    "softmax": (softmax, ["*fp32", "*fp32", "i32", "i32"], {"BLOCK": 1024}, 4, 1, 80),
    "layer_norm": (layer_norm, ["*fp32", "*fp16", "*fp32", "*fp32", "i32", "fp32"], {"BLOCK": 256}, 4, 1, 80),
    "scan": (scan, ["*i32", "*i32", "i32"], {"BLOCK": 512}, 4, 1, 80),
    "matmul_f16": (matmul, ["*fp16", "*fp16", "*fp16"] + ["i32"] * 6, {"BM": 64, "BN": 64, "BK": 32}, 4, 3, 80),
    "matmul_bf16_sm90": (matmul, ["*bf16", "*bf16", "*fp32"] + ["i32"] * 6, {"BM": 32, "BN": 64, "BK": 32}, 4, 2, 90),
    "matmul_tf32": (matmul, ["*fp32", "*fp32", "*fp32"] + ["i32"] * 6, {"BM": 32, "BN": 32, "BK": 32}, 4, 3, 80),
    "attention_f16": (attention, ["*fp16"] * 4 + ["*fp32", "fp32"] + ["i32"] * 5, {"CAUSAL": False, "BM": 64, "BN": 32, "D": 64}, 4, 3, 80),
    "attention_bf16_causal": (attention, ["*bf16"] * 4 + ["*fp32", "fp32"] + ["i32"] * 5, {"CAUSAL": True, "BM": 64, "BN": 64, "D": 64}, 4, 2, 80),
    "matmul_bf16_wgmma": (matmul, ["*bf16", "*bf16", "*fp32"] + ["i32"] * 6, {"BM": 64, "BN": 128, "BK": 64}, 4, 3, 90),
    "attention_bf16_wgmma": (attention, ["*bf16"] * 4 + ["*fp32", "fp32"] + ["i32"] * 5, {"CAUSAL": True, "BM": 64, "BN": 64, "D": 64}, 4, 2, 90),
    "matmul_bf16_described": (matmul_described, ["tensordesc<bf16[64, 64]>"] * 3 + ["i32"] * 3, {"BM": 64, "BN": 64, "BK": 64}, 4, 3, 90),
    "matmul_bf16_describing": (matmul_describing, ["*bf16"] * 3 + ["i32"] * 3, {"BM": 64, "BN": 64, "BK": 64}, 4, 2, 90),
    "attention_bf16_described": (attention_described, ["tensordesc<bf16[64, 64]>"] * 4 + ["fp32", "i32"], {"BM": 64, "BN": 64, "D": 64}, 4, 2, 90),
}
