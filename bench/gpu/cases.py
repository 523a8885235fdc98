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

    def flop(self):
        return self.kept() * 4 * self.d


def suite(name):
    if name == "quick":
        return [Case(v, 4, 16, 16, s, d) for d in (64, 128) for s in (4096, 16384) for v in VARIANTS]
    if name == "smoke":  # for the emulated device
        return [Case(v, 1, 4, hkv, 80, 64) for hkv in (4, 2) for v in VARIANTS]
    return [Case(v, 4, 16, hkv, s, d) for d in (64, 128) for hkv in (16, 4) for s in (2048, 4096, 8192, 16384, 32768) for v in VARIANTS]


def expected(case, q, k, v):
    """The attention in float64, for shapes where Q x K is affordable."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = case.h // case.hkv
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    score = q @ k.swapaxes(-1, -2) / np.sqrt(case.d)
    i, j = np.arange(case.s)[:, None], np.arange(case.s)[None, :]
    if case.variant == "alibi":
        score = score + np.exp2(-8.0 * (np.arange(case.h) + 1) / case.h)[None, :, None, None] * (j - i)
    if case.variant == "softcap":
        score = 30.0 * np.tanh(score / 30.0)
    keep = np.ones((case.s, case.s), bool) if case.variant == "none" else i >= j
    if case.variant == "window":
        keep = keep & (i - j <= WINDOW)
    if case.variant == "documents":
        doc = case.documents()
        keep = keep & (doc[:, None] == doc[None, :])
    score = np.where(keep, score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    return (weight / weight.sum(-1, keepdims=True)) @ v


def torch_peers(torch, case, q, k, v, max_autotune):
    """The callables of PyTorch for a case, by name."""
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
    compiled = torch.compile(flex_attention, dynamic=False)
    peers = {"flex": lambda: compiled(q, k, v, score_mod=score, block_mask=block, enable_gqa=gqa)}
    if max_autotune:
        tuned = torch.compile(flex_attention, dynamic=False, mode="max-autotune-no-cudagraphs")
        peers["flex tuned"] = lambda: tuned(q, k, v, score_mod=score, block_mask=block, enable_gqa=gqa)
    if case.variant in ("none", "causal"):
        def backend(which):
            def call():
                with sdpa_kernel(which):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=case.variant == "causal", enable_gqa=gqa)
            return call
        peers["cuDNN"] = backend(SDPBackend.CUDNN_ATTENTION)
        peers["FlashAttention"] = backend(SDPBackend.FLASH_ATTENTION)
    return peers
