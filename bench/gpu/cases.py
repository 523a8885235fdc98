"""The cases of the GPU benchmark: variants, shapes, what they keep, and the same in PyTorch's words."""
import dataclasses

import numpy as np

VARIANTS = ("none", "causal", "alibi", "window", "documents", "softcap")
ATTENTION = {"none": "none", "causal": "causal_only", "alibi": "alibi_causal", "softcap": "softcap_causal", "window": "window",
             "documents": "documents"}  # of bench/variants.flex
WINDOW = 1024
DOCUMENTS = 8


@dataclasses.dataclass(frozen=True)
class Case:
    variant: str
    b: int
    h: int
    hkv: int
    s: int
    d: int
    dtype: str = "bf16"

    @property
    def label(self):
        heads = f"{self.h}" if self.h == self.hkv else f"{self.h}/{self.hkv}"
        return f"{self.variant} {self.dtype} B={self.b} H={heads} S={self.s} D={self.d}"

    def documents(self):
        """Index of the document of each position: DOCUMENTS runs of random lengths."""
        rng = np.random.default_rng(7)
        cuts = np.sort(rng.choice(np.arange(1, self.s), size=min(DOCUMENTS - 1, self.s - 1), replace=False))
        return np.searchsorted(cuts, np.arange(self.s), side="right").astype(np.int32)

    def kept(self):
        """Number of (q, k) pairs kept, over all b and h."""
        s = self.s
        if self.variant == "none":
            n = s * s
        elif self.variant == "window":
            w = min(WINDOW, s - 1)
            n = (w + 1) * (w + 2) // 2 + (s - w - 1) * (w + 1)
        elif self.variant == "documents":
            lengths = np.bincount(self.documents()).astype(np.int64)
            n = int((lengths * (lengths + 1) // 2).sum())
        else:
            n = s * (s + 1) // 2
        return n * self.b * self.h

    def flop(self, backward=False):
        return self.kept() * (10 if backward else 4) * self.d


def of_tokens(variant, s, d, hkv_of=1):
    """16384 tokens in sequences of s, a model of 2048 columns in heads of d: the shapes that FlashAttention's papers report."""
    return Case(variant, max(1, 16384 // s), 2048 // d, 2048 // d // hkv_of, s, d)


def suite(name):
    """Forward cases, the most telling first: a run may be cut short."""
    if name == "smoke":  # for the emulated device
        return [Case(v, 1, 2, hkv, 80, d) for v, hkv, d in (("causal", 1, 64), ("none", 2, 128), ("documents", 2, 64), ("softcap", 2, 64), ("alibi", 2, 64), ("window", 2, 64))]
    core = [of_tokens(v, s, d) for s, d in ((4096, 128), (16384, 128), (4096, 64), (16384, 64), (4096, 256), (16384, 256), (1024, 128)) for v in ("causal", "none")]
    core += [of_tokens(v, s, 128) for s in (4096, 16384) for v in ("alibi", "softcap", "documents", "window")]
    if name == "core":
        return core
    rest = [of_tokens(v, s, d) for d in (128, 64, 256) for s in (1024, 2048, 4096, 8192, 16384) for v in VARIANTS]
    rest += [of_tokens(v, s, 128, 4) for s in (4096, 16384) for v in ("causal", "none")]
    return core + [case for case in rest if case not in core]


def backward_suite(name):
    if name == "smoke":
        return [Case("causal", 1, 2, 1, 80, 64)]
    core = [of_tokens(v, s, d) for s, d in ((4096, 128), (16384, 128), (4096, 64)) for v in ("causal", "none")] + [of_tokens("alibi", 4096, 128)]
    if name == "core":
        return core
    rest = [of_tokens(v, s, d) for d in (128, 64, 256) for s in (1024, 4096, 16384) for v in VARIANTS]
    return core + [case for case in rest if case not in core]


def sweep_shapes():
    """(B, H, HKV, queries, keys) of launches that want different images, splits or heads that share a tile."""
    long = [(max(1, 16384 // s), 16, 16, s, s) for s in (512, 1024, 2048, 4096, 8192, 16384)]
    few = [(b, 32, hkv, q, 8192) for b in (1, 16) for hkv in (32, 8) for q in (1, 4, 16, 64)]
    return long + few


def weights(case, q, k):
    """(weights, derivative of the score by the product, score) in float64."""
    score = q @ k.swapaxes(-1, -2) / np.sqrt(case.d)
    slope = np.ones_like(score)
    i, j = np.arange(case.s)[:, None], np.arange(case.s)[None, :]
    if case.variant == "alibi":
        score = score + np.exp2(-8.0 * (np.arange(case.h) + 1) / case.h)[None, :, None, None] * (j - i)
    if case.variant == "softcap":
        score = 30.0 * np.tanh(score / 30.0)
        slope = 1 - (score / 30.0) ** 2
    keep = np.ones((case.s, case.s), bool) if case.variant == "none" else i >= j
    if case.variant == "window":
        keep = keep & (i - j <= WINDOW)
    if case.variant == "documents":
        doc = case.documents()
        keep = keep & (doc[:, None] == doc[None, :])
    score = np.where(keep, score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True), slope


def expected(case, q, k, v, d_o=None):
    """The attention in float64, for shapes where Q x K is affordable: o, and with d_o also dq, dk, dv."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = case.h // case.hkv
    wide_k, wide_v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    weight, slope = weights(case, q, wide_k)
    o = weight @ wide_v
    if d_o is None:
        return o
    d_o = d_o.astype(np.float64)
    d_weight = d_o @ wide_v.swapaxes(-1, -2)
    d_score = weight * (d_weight - (d_o * o).sum(-1, keepdims=True)) * slope / np.sqrt(case.d)
    together = lambda x: x.reshape(case.b, case.hkv, group, case.s, case.d).sum(2)
    return o, d_score @ wide_k, together(d_score.swapaxes(-1, -2) @ q), together(weight.swapaxes(-1, -2) @ d_o)


def torch_peers(torch, case, q, k, v, autotune):
    """The callables of PyTorch for a case, by name; each gives o."""
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    gqa = case.h != case.hkv
    doc = torch.from_numpy(case.documents()).to(q.device)
    causal = lambda b, h, i, j: i >= j
    masks = {
        "none": None,
        "window": lambda b, h, i, j: (i >= j) & (i - j <= WINDOW),
        "documents": lambda b, h, i, j: (i >= j) & (doc[i] == doc[j]),
    }
    mask = masks.get(case.variant, causal)
    heads = case.h
    score = {
        "alibi": lambda s, b, h, i, j: s + (j - i) * torch.exp2(-8.0 * (h + 1) / heads),
        "softcap": lambda s, b, h, i, j: 30.0 * torch.tanh(s / 30.0),
    }.get(case.variant)
    block = create_block_mask(mask, None, None, case.s, case.s, device=q.device) if mask else None
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, dynamic=False, mode="max-autotune-no-cudagraphs" if autotune else None)
    peers = {"flex_attention": lambda: compiled(q, k, v, score_mod=score, block_mask=block, enable_gqa=gqa)}
    if case.variant in ("none", "causal"):
        def backend(which):
            def call():
                with sdpa_kernel(which):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=case.variant == "causal", enable_gqa=gqa)
            return call
        peers["cuDNN"] = backend(SDPBackend.CUDNN_ATTENTION)
        peers["FlashAttention"] = backend(SDPBackend.FLASH_ATTENTION)
    return peers
