"""all-MiniLM-L6-v2 in plain numpy: enough of BERT to run it, and no more.

Texts of one length are computed together, so that no padding and no mask is needed.
"""

import json
import struct

import numpy as np

HEADS = 12
LAYERS = 6
EPSILON = np.float32(1e-12)
CLS, SEP = 101, 102
TOKENS_MAX = 128
# Tokens computed at once: the largest intermediate array stays near 50 MB.
BATCH_TOKENS = 8_192


def read_safetensors(raw: bytes) -> dict[str, np.ndarray]:
    """All float32 tensors of a safetensors file."""
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(raw[8 + length + begin:8 + length + end], dtype="<f4")
        found[name] = values.reshape(entry["shape"])
    return found


def erf(x: np.ndarray) -> np.ndarray:
    """Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (
        -1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - poly.astype(np.float32) * np.exp(-x * x))


class MiniLM:
    """The model's weights, and its forward pass."""

    def __init__(self, raw: bytes):
        self.weights = read_safetensors(raw)

    def linear(self, x, name):
        # One large product: numpy would multiply a stack of matrices one by one.
        flat = x.reshape(-1, x.shape[-1]) @ self.weights[name + ".weight"].T
        return (flat + self.weights[name + ".bias"]).reshape(*x.shape[:-1], -1)

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
        return centred / spread * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def inputs(self) -> np.ndarray:
        """What each piece is before the first layer, of length 1."""
        vectors = self.weights["embeddings.word_embeddings.weight"]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def forward(self, ids: np.ndarray) -> np.ndarray:
        """Mean-pooled output, (texts, 384), of texts of one length, (texts, tokens)."""
        texts, tokens = ids.shape
        x = self.weights["embeddings.word_embeddings.weight"][ids]
        x = x + self.weights["embeddings.position_embeddings.weight"][:tokens]
        x = x + self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        split = (texts, tokens, HEADS, x.shape[-1] // HEADS)
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            query, key, value = (
                self.linear(x, at + "attention.self." + part).reshape(split).transpose(0, 2, 1, 3)
                for part in ("query", "key", "value"))
            scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(split[-1]))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            seen = (scores @ value).transpose(0, 2, 1, 3).reshape(x.shape)
            seen = self.linear(seen, at + "attention.output.dense")
            x = self.norm(x + seen, at + "attention.output.LayerNorm")
            inner = self.linear(x, at + "intermediate.dense")
            inner = inner * np.float32(0.5) * (1 + erf(inner * np.float32(0.70710678)))
            inner = self.linear(inner, at + "output.dense")
            x = self.norm(x + inner, at + "output.LayerNorm")
        return x.mean(1)

    def encode(self, texts: list[list[int]]) -> np.ndarray:
        """The model's vectors, of length 1, of texts given as ids without [CLS] and [SEP]."""
        rows = [[CLS, *ids[:TOKENS_MAX - 2], SEP] for ids in texts]
        out = np.zeros((len(rows), 384), dtype=np.float32)
        by_length: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(number)
        for length, numbers in sorted(by_length.items()):
            step = max(1, BATCH_TOKENS // length)
            for start in range(0, len(numbers), step):
                part = numbers[start:start + step]
                out[part] = self.forward(np.array([rows[n] for n in part]))
        return out / np.linalg.norm(out, axis=1, keepdims=True)
