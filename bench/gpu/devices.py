"""Where arrays live while kernels are timed: PyTorch's device with PyTorch beside us as a peer, or any driver alone, such as the emulated one."""
import os
import statistics
import subprocess
import time

import numpy as np

import cases
from kernels import DTYPE, Array


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class TorchDevice:
    """Arrays are PyTorch tensors."""

    def __init__(self):
        import torch
        if not torch.cuda.is_available():
            raise SystemExit("PyTorch finds no GPU here; --dry runs on the emulated device")
        torch.cuda.init()
        self.torch = torch
        self.stream = torch.cuda.current_stream().cuda_stream
        self.capability = torch.cuda.get_device_capability()

    def facts(self):
        driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
        return {"device": self.torch.cuda.get_device_name(), "driver": driver.stdout.strip() or "unknown", "torch": self.torch.__version__}

    def random(self, shape, seed):
        generator = self.torch.Generator("cuda").manual_seed(seed)
        return self.torch.randn(shape, device="cuda", dtype=self.torch.bfloat16, generator=generator)

    def empty(self, shape, dtype="bfloat16"):
        return self.torch.empty(shape, device="cuda", dtype=getattr(self.torch, dtype))

    def upload(self, host):
        return self.torch.from_numpy(host).to("cuda")

    def array(self, name, memory):
        kinds = {getattr(self.torch, dtype): number for dtype, number in DTYPE.items()}
        return Array.make(name, memory.data_ptr(), kinds[memory.dtype], tuple(memory.shape), tuple(memory.stride()))

    def address(self, memory):
        return memory.data_ptr()

    def floats(self, memory):
        return memory.float()

    def difference(self, a, b):
        """(largest difference, largest value)"""
        return float((self.floats(a) - self.floats(b)).abs().max()), float(self.floats(b).abs().max())

    def synchronise(self):
        self.torch.cuda.synchronize()

    def time_ms(self, call, repeat):
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeat):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / repeat

    def clear(self):
        self.torch.cuda.empty_cache()

    def ceiling(self):
        """TFLOP/s of the 8192^3 product of bf16 matrices."""
        a, b = self.random((8192, 8192), 1), self.random((8192, 8192), 2)
        self.torch.matmul(a, b)
        return 2 * 8192**3 / statistics.median(self.time_ms(lambda: self.torch.matmul(a, b), 20) for _ in range(5)) / 1e9

    def peers(self, case, q, k, v, autotune):
        """{name: call that gives o}"""
        return cases.torch_peers(self.torch, case, q, k, v, autotune)

    def gradient_call(self, out, inputs, d_o):
        return lambda: self.torch.autograd.grad(out, inputs, d_o, retain_graph=True)

    def with_gradients(self, *memories):
        return [memory.requires_grad_(True) for memory in memories]

    def plain(self, memory):
        return memory.detach()


class PlainMemory:
    def __init__(self, at, shape, dtype):
        self.at, self.shape, self.dtype = at, shape, dtype
        self.host = np.empty(shape, {"bfloat16": np.uint16}.get(dtype, dtype))


class PlainDevice:
    """Arrays are allocations of the driver. No peers; times are of the wall, and mean nothing on the emulated device."""

    def __init__(self, kernel):
        self.kernel, self.name, self.stream, self.memories = kernel, kernel.open(), None, []
        capability = int(self.name.rsplit(" ", 1)[1].strip(")"))
        self.capability = divmod(capability, 10)

    def facts(self):
        return {"device": self.name, "driver": os.environ.get("FLEX_CUDA_DRIVER", "libcuda.so.1"), "torch": "absent"}

    def empty(self, shape, dtype="bfloat16"):
        memory = PlainMemory(None, tuple(shape) if isinstance(shape, (tuple, list)) else (shape,), dtype)
        memory.at = self.kernel.allocate(memory.host.nbytes)
        self.memories.append(memory.at)
        return memory

    def upload(self, host):
        memory = self.empty(host.shape, host.dtype.name)
        memory.host[...] = host
        self.kernel.to_device(memory.at, memory.host)
        return memory

    def random(self, shape, seed):
        memory = self.empty(shape)
        memory.host[...] = to_bf16(np.random.default_rng(seed).standard_normal(shape))
        self.kernel.to_device(memory.at, memory.host)
        return memory

    def array(self, name, memory):
        strides = tuple(x // memory.host.itemsize for x in memory.host.strides)
        return Array.make(name, memory.at, DTYPE[memory.dtype], memory.shape, strides)

    def address(self, memory):
        return memory.at

    def floats(self, memory):
        self.kernel.to_host(memory.host, memory.at)
        return from_bf16(memory.host) if memory.dtype == "bfloat16" else memory.host

    def difference(self, a, b):
        x, y = self.floats(a), self.floats(b)
        return float(np.abs(x - y).max()), float(np.abs(y).max())

    def synchronise(self):
        pass  # to_host waits

    def time_ms(self, call, repeat):
        begin = time.perf_counter()
        for _ in range(repeat):
            call()
        return (time.perf_counter() - begin) * 1e3 / repeat

    def clear(self):
        for memory in self.memories:
            self.kernel.free(memory)
        self.memories = []

    def ceiling(self):
        return None

    def peers(self, *_):
        return {}

    def with_gradients(self, *memories):
        return list(memories)

    def plain(self, memory):
        return memory
