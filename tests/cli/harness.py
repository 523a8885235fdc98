"""What the end-to-end tests share: running flexc, a naive float64 attention in NumPy, and .safetensors files.

The attention here is an oracle of its own: it shares no code with the compiler, its interpreter or the C++ tests.
"""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

import numpy as np

FLEXC = os.environ["FLEXC"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
GALLERY = ROOT / "examples" / "gallery"

# Largest error of o against float64 on inputs already rounded to the type. f32: products and sums of 64 elements in f32;
# f16 and bf16: o is rounded to the type (half a unit in the last place of values below 4), and the weights may be.
TOLERANCE = {"f32": 2e-5, "f16": 4e-3, "bf16": 3e-2}


class FlexcTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="flexc_cli_")
        self.folder = pathlib.Path(self._folder.name)
        self.environment = {**os.environ, "FLEXC_CACHE_DIR": str(self.folder / "cache"), "NO_COLOR": "1", "FLEXC_PTXAS": "none"}

    def tearDown(self):
        self._folder.cleanup()

    def path(self, name):
        return str(self.folder / name)

    def source(self, text, name="x.flex"):
        (self.folder / name).write_text(text)
        return self.path(name)

    def flexc(self, *arguments, code=0, **options):
        """Runs flexc and demands its exit code."""
        result = subprocess.run([FLEXC, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=self.environment, **options)
        self.assertEqual(result.returncode, code, f"flexc {' '.join(map(str, arguments))}\n{result.stdout}{result.stderr}")
        return result

    def flexc_json(self, *arguments, code=0):
        return json.loads(self.flexc(*arguments, "--json", code=code).stdout)

    def fails(self, *arguments, code=1):
        """The one error of a command, as its JSON diagnostic; the text form must say the same."""
        report = self.flexc_json(*arguments, code=code)
        self.assertFalse(report["ok"])
        errors = [each for each in report["diagnostics"] if each["level"] == "error"]
        self.assertEqual(len(errors), 1, errors)
        text = self.flexc(*arguments, code=code).stderr
        self.assertIn(f"error[{errors[0]['code']}]: {errors[0]['message']}", text)
        return errors[0]


def tensors(rng, B=1, H=2, HKV=None, Q=33, K=47, D=16, DV=None, kv_batch=None):
    HKV, DV, kv_batch = HKV or H, DV or D, kv_batch or B
    return {"q": rng.standard_normal((B, H, Q, D)).astype(np.float32), "k": rng.standard_normal((kv_batch, HKV, K, D)).astype(np.float32),
            "v": rng.standard_normal((kv_batch, HKV, K, DV)).astype(np.float32)}


def attention(arrays, mask=None, score=None, scale=None):
    """o and lse in float64. mask(b, h, q, k) and score(s, b, h, q, k) take broadcast index arrays."""
    q, k, v = (arrays[name].astype(np.float64) for name in "qkv")
    B, H, Q, D = q.shape
    group = H // k.shape[1]
    k = np.broadcast_to(np.repeat(k, group, axis=1), (B, H) + k.shape[2:])
    v = np.broadcast_to(np.repeat(v, group, axis=1), (B, H) + v.shape[2:])
    index = np.ix_(np.arange(B), np.arange(H), np.arange(Q), np.arange(k.shape[2]))
    s = np.einsum("bhqd,bhkd->bhqk", q, k) * (1 / np.sqrt(D) if scale is None else scale)
    if score is not None:
        s = score(s, *index)
    if mask is not None:
        s = np.where(mask(*index), s, -np.inf)
    top = np.max(s, axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(s - np.where(np.isinf(top), 0, top))
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        o = np.where(total > 0, np.einsum("bhqk,bhkd->bhqd", weights, v) / total, 0)
        lse = np.where(total > 0, np.log(total) + top, -np.inf)[..., 0]
    return o, lse


def to_bf16(x):
    """Rounded to bfloat16, to nearest even; still float32."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def save_safetensors(path, arrays, bf16=()):
    header, data = {}, b""
    for name, array in arrays.items():
        if name in bf16:
            dtype, raw = "BF16", (to_bf16(array).view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            dtype = next(key for key, value in SAFETENSORS.items() if np.dtype(value) == array.dtype)
            raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def load_safetensors(path):
    """Arrays by name; bf16 as float32. And the type names."""
    raw = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8:8 + length]), raw[8 + length:]
    arrays, types = {}, {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        types[name] = entry["dtype"]
        if entry["dtype"] == "BF16":
            array = (np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            array = np.frombuffer(data[begin:end], SAFETENSORS[entry["dtype"]])
        arrays[name] = array.reshape(entry["shape"])
    return arrays, types
