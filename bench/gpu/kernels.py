"""Compiled variants as libraries that Python calls: the runtime and bridge.cpp by a C++ compiler alone, the kernels as `run.py prepare` left them."""
import ctypes
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DTYPE = {"float32": 0, "float16": 1, "bfloat16": 2, "int32": 3}  # flex::DType


def compiler():
    return os.environ.get("CXX") or next((name for name in ("g++", "c++", "clang++-19") if shutil.which(name)), "g++")


def compile_runtime(work):
    """Object files of what launches on a GPU need of the runtime."""
    out = work / "runtime"
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted([*(ROOT / "runtime" / "cuda").glob("*.cpp"), ROOT / "runtime" / "bind.cpp", ROOT / "runtime" / "tensor.cpp"])
    newest = max(header.stat().st_mtime for header in (ROOT / "runtime").rglob("*.h"))
    objects, running = [], []
    for source in sources:
        target = out / f"{source.parent.name}_{source.stem}.o"
        objects.append(str(target))
        if target.exists() and target.stat().st_mtime > max(source.stat().st_mtime, newest):
            continue
        command = [compiler(), "-std=c++17", "-O1", "-fPIC", "-I", str(ROOT), "-c", str(source), "-o", str(target)]
        running.append((command, subprocess.Popen(command)))
        if len(running) >= (os.cpu_count() or 1):
            wait(running.pop(0))
    for each in running:
        wait(each)
    return objects


def wait(running):
    command, process = running
    if process.wait() != 0:
        raise SystemExit("this failed: " + " ".join(command))


class Array(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("shape", ctypes.c_int64 * 8), ("stride", ctypes.c_int64 * 8)]

    @staticmethod
    def make(name, address, dtype, shape, stride):
        array = Array(name.encode(), address, dtype, len(shape))
        for i, (extent, step) in enumerate(zip(shape, stride)):
            array.shape[i], array.stride[i] = extent, step
        return array


ABSENT = ("", 0, 0, (), ())


def array_list(entries):
    return (Array * len(entries))(*entries)


class Report(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char_p), ("size", ctypes.c_uint64)]


class Options(ctypes.Structure):
    _fields_ = [("stream", ctypes.c_void_p), ("workspace", ctypes.c_void_p), ("workspace_bytes", ctypes.c_uint64), ("image", ctypes.c_int32),
                ("splits", ctypes.c_int32), ("pack", ctypes.c_int32)]

    @staticmethod
    def make(stream=None, image=-1, splits=0, pack=0):
        return Options(stream, None, 0, image, splits, pack)


class Image:
    def __init__(self, text, facts):
        self.text = text
        self.capability, self.d, self.dv, self.tile_q, self.tile_k, self.maps = facts


class Kernel:
    """One attention for one head dimension. Arrays are made by array_list: q, k, v, o, lse, max_score, then the arguments."""

    def __init__(self, folder, name, objects):
        if not (folder / "variant.o").exists():
            raise SystemExit(f"{folder} is missing: run `bench/gpu/run.py prepare` where flexc is built")
        library = folder / "variant.so"
        if not library.exists():
            subprocess.run([compiler(), "-std=c++17", "-O1", "-fPIC", "-shared", "-Wl,--no-undefined", "-I", str(ROOT), "-include", str(folder / "variant.h"), f"-DVARIANT={name}",
                            f"-DVARIANT_LINKED=flex_linked_{name}", str(ROOT / "bench" / "gpu" / "bridge.cpp"), str(folder / "variant.o"),
                            *objects, "-ldl", "-lpthread", "-o", str(library)], check=True)
        self.library = ctypes.CDLL(str(library), mode=os.RTLD_LOCAL | os.RTLD_NOW)
        self.buffer = ctypes.create_string_buffer(4096)
        self.error = Report(ctypes.cast(self.buffer, ctypes.c_char_p), len(self.buffer))
        self.images = [self._image(i) for i in range(self.library.flexbench_images())]

    def _image(self, which):
        text, facts = ctypes.create_string_buffer(256), (ctypes.c_int32 * 6)()
        self.library.flexbench_image(which, Report(ctypes.cast(text, ctypes.c_char_p), len(text)), facts)
        return Image(text.value.decode(), list(facts))

    def call(self, name, *args):
        if getattr(self.library, "flexbench_" + name)(*args, self.error):
            raise RuntimeError(self.buffer.value.decode())

    def plan(self, arrays, options):
        """(index of the image, splits, pack, workspace bytes)"""
        image, splits, pack, size = ctypes.c_int32(), ctypes.c_int32(), ctypes.c_int32(), ctypes.c_uint64()
        self.call("plan", arrays, len(arrays), ctypes.byref(options), *(ctypes.byref(x) for x in (image, splits, pack, size)))
        return image.value, splits.value, pack.value, size.value

    def forward(self, arrays, options):
        self.call("forward", arrays, len(arrays), ctypes.byref(options))

    def plan_backward(self, arrays, gradients, options):
        size = ctypes.c_uint64()
        self.call("plan_backward", arrays, len(arrays), gradients, len(gradients), ctypes.byref(options), ctypes.byref(size))
        return size.value

    def backward(self, arrays, gradients, options):
        self.call("backward", arrays, len(arrays), gradients, len(gradients), ctypes.byref(options))

    # For callers without PyTorch.

    def open(self):
        text = ctypes.create_string_buffer(256)
        self.call("open", 0, Report(ctypes.cast(text, ctypes.c_char_p), len(text)))
        return text.value.decode()

    def allocate(self, size):
        out = ctypes.c_void_p()
        self.call("allocate", ctypes.c_uint64(size), ctypes.byref(out))
        return out.value

    def free(self, memory):
        self.call("free", ctypes.c_void_p(memory))

    def to_device(self, to, host):
        self.call("to_device", ctypes.c_void_p(to), ctypes.c_void_p(host.ctypes.data), ctypes.c_uint64(host.nbytes))

    def to_host(self, host, memory):
        self.call("to_host", ctypes.c_void_p(host.ctypes.data), ctypes.c_void_p(memory), ctypes.c_uint64(host.nbytes))
