"""examples/minilm, built outside of the project: its vectors against the model computed here in NumPy, in float64, from the same file.

The model is not in the repository. FLEXC_MINILM names its folder; build/minilm/model is looked at, too; FLEXC_MINILM=download fetches it.
Without it this test says so and is skipped.
"""

import json
import os
import pathlib
import subprocess
import sys
import unicodedata
import unittest

import numpy as np
from harness import ROOT, load_safetensors
from installed import InstalledTest

EXAMPLE = ROOT / "examples" / "minilm"
SKIPPED = 77
# Promised: each number of a unit vector of 384, so 0.05 in size, to 1e-4. f32 sums of 1536 products over 6 layers
# leave about 1e-6.
TOLERANCE = 1e-4
TEXTS = ["A man is eating food.", "Someone is having a meal, isn't he?", "Crème brûlée à la carte: 3.50 €!", "unaffable internationalisation of tokenisers", "x",
         "日本 (Japan) — naïve zürich", " ".join(["attention is all you need"] * 70)]


def find_model():
    """The model's folder, or None after a word."""
    wanted = os.environ.get("FLEXC_MINILM", "")
    folder = pathlib.Path(wanted) if wanted not in ("", "download") else ROOT / "build" / "minilm" / "model"
    if wanted == "download" and subprocess.run([sys.executable, str(EXAMPLE / "get_model.py"), str(folder)], check=False).returncode != 0:
        sys.exit("the model could not be fetched")
    if (folder / "model.safetensors").is_file():
        return folder
    print(f"the model is not in {folder}: run examples/minilm/get_model.py, or set FLEXC_MINILM to its folder or to `download`")
    return None


MODEL = find_model()


def tokenise(text, vocabulary, limit=256):
    """BERT's word pieces, from their definition."""
    words = [""]
    for c in unicodedata.normalize("NFD", text):
        category = unicodedata.category(c)
        if category == "Mn":
            continue
        if c.isspace():
            words.append("")
        elif category[0] == "P" or (c.isascii() and not c.isalnum()) or 0x4E00 <= ord(c) <= 0x9FFF:
            words += [c, ""]
        else:
            words[-1] += c.lower()
    out = []
    for word in filter(None, words):
        pieces, begin = [], 0
        while begin < len(word):
            end = next((e for e in range(len(word), begin, -1) if ("##" if begin else "") + word[begin:e] in vocabulary), None)
            if end is None:
                pieces = [vocabulary["[UNK]"]]
                break
            pieces.append(vocabulary[("##" if begin else "") + word[begin:end]])
            begin = end
        out += pieces
    return [vocabulary["[CLS]"], *out[:limit - 2], vocabulary["[SEP]"]]


def erf(x):
    """Abramowitz and Stegun 7.1.5 (a series) for small x, 7.1.14 (a continued fraction) for large; to 1e-12."""
    a = np.abs(x)
    series, term = a.copy(), a.copy()
    small = np.minimum(a, 3)
    series = term = small.copy()
    for n in range(1, 60):
        term = term * -(small**2) / n
        series = series + term / (2 * n + 1)
    large, fraction = np.maximum(a, 3), np.zeros_like(a)
    for n in range(60, 0, -1):
        fraction = n / 2 / (large + fraction)
    tail = 1 - np.exp(-(large**2)) / np.sqrt(np.pi) / (large + fraction)
    return np.sign(x) * np.where(a < 3, 2 / np.sqrt(np.pi) * series, tail)


def reference(weights, config, pieces):
    """The unit vector of one sentence: BERT, then the mean over its tokens."""
    get = lambda name: weights[name].astype(np.float64)

    def linear(x, name):
        return x @ get(name + ".weight").T + get(name + ".bias")

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return centred / scale * get(name + ".weight") + get(name + ".bias")

    heads = config["num_attention_heads"]
    x = get("embeddings.word_embeddings.weight")[pieces] + get("embeddings.position_embeddings.weight")[:len(pieces)]
    x = norm(x + get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{name}attention.self.{part}").reshape(len(pieces), heads, -1).transpose(1, 0, 2) for part in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        w = np.exp(s - s.max(-1, keepdims=True))
        o = (w / w.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(x.shape)
        x = norm(x + linear(o, name + "attention.output.dense"), name + "attention.output.LayerNorm")
        up = linear(x, name + "intermediate.dense")
        x = norm(x + linear(up * 0.5 * (1 + erf(up / np.sqrt(2))), name + "output.dense"), name + "output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


class MiniLm(InstalledTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.weights = load_safetensors(MODEL / "model.safetensors")[0]
        cls.config = json.loads((MODEL / "config.json").read_text())
        cls.vocabulary = {piece: i for i, piece in enumerate((MODEL / "vocab.txt").read_text(encoding="utf-8").splitlines())}

    def compare(self, program, device, texts, environment):
        (self.folder / "texts").write_text("\n".join(texts) + "\n", encoding="utf-8")
        lines = self.step(program, MODEL, self.path("texts"), "--json", "--device", device, env=environment).splitlines()
        self.assertEqual(len(lines), len(texts))
        worst = 0.0
        for text, line in zip(texts, lines):
            found = json.loads(line)
            self.assertEqual(found["pieces"], tokenise(text, self.vocabulary), text)
            error = np.abs(np.array(found["vector"]) - reference(self.weights, self.config, found["pieces"])).max()
            self.assertLess(error, TOLERANCE, text)
            worst = max(worst, error)
        print(f"{device}: {len(texts)} sentences, largest difference of a number from float64: {worst:.1e}")

    def test_vectors_are_the_models(self):
        self.assertLess(np.abs(erf(np.array([0.0, 0.5, -1.0, 2.9, 3.1, 5.0])) - [0, 0.5204998778130465, -0.8427007929497149, 0.9999589021219005,
                                                                                 0.9999883513426328, 0.9999999999984626]).max(), 1e-12)
        build = self.configure(EXAMPLE, "build")
        self.step("cmake", "--build", build)
        program = build / "minilm"
        self.demand_no_compiler_in(program)
        self.compare(program, "cpu", TEXTS, self.without_gpu())
        self.compare(program, "emulated", TEXTS[:6], self.environment)

        out = self.step(program, MODEL, EXAMPLE / "sentences.txt", env=self.without_gpu())
        self.assertRegex(out, r"A man is eating food\.\n +0\.\d+  Someone is having a meal\.")
        out = self.step(program, MODEL, EXAMPLE / "sentences.txt", "--query", "How is the weather?", env=self.without_gpu())
        self.assertRegex(out.splitlines()[1], "thunderstorm|rained")
        self.assertIn("usage", self.step(program, code=2))
        self.assertIn("cannot be loaded", self.step(program, MODEL, EXAMPLE / "sentences.txt", "--device", "cuda", code=3, env=self.without_gpu()))
        self.assertIn("none/vocab.txt", self.step(program, "none", EXAMPLE / "sentences.txt", code=1))


if __name__ == "__main__":
    if MODEL is None:
        sys.exit(SKIPPED)
    unittest.main()
