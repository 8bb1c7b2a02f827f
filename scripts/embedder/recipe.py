"""From the model's vectors to the table: weights, reduction, bytes.

Every step is a function of its arguments, so that measure.py can try others.
"""

import random
import struct
import zlib

import numpy as np

DIMENSION = 256
# SIF's a, and the share that the Zipf prior has in the probabilities.
SIF_A = 3e-3
PRIOR_SHARE = 0.1
# How strongly the map to the model's vectors is held small.
RIDGE = 1.0
# What the map is learnt from: so many messages drawn, those of a fitting length kept.
LESSON_SEED, LESSON_DRAWN = 7, 12_000
LESSON_PIECES_MIN, LESSON_PIECES_MAX = 5, 60

# In the vocabulary of BERT, special and unused entries come first, then single characters by their
# code, then pieces by how frequent they were.
FIRST_CHARACTER, FIRST_RANKED = 999, 1996
# A character nobody counted is taken to be as frequent as a piece of this rank.
CHARACTER_RANK = 5_000

MAGIC, VERSION = b"ENGRMEMB", 1


def counts(texts, encode, pieces: int) -> np.ndarray:
    """How often each piece occurs in the texts."""
    found = np.zeros(pieces, dtype=np.int64)
    for text in texts:
        for piece in encode(text):
            found[piece] += 1
    return found


def probabilities(seen: np.ndarray, prior_share: float = PRIOR_SHARE) -> np.ndarray:
    """Each piece's share of all text: what was counted, smoothed by a Zipf prior.

    The prior keeps pieces that the corpus happens to lack at what their rank suggests.
    """
    rank = np.arange(len(seen), dtype=np.float64) - (FIRST_RANKED - 1)
    rank[:FIRST_RANKED] = CHARACTER_RANK
    prior = 1 / rank
    prior[:FIRST_CHARACTER] = 0
    return (1 - prior_share) * seen / seen.sum() + prior_share * prior / prior.sum()


def weights(share: np.ndarray, a: float = SIF_A) -> np.ndarray:
    """Smooth inverse frequency; special and unused entries say nothing."""
    weight = a / (a + share)
    weight[:FIRST_CHARACTER] = 0
    return weight


def centred(vectors: np.ndarray, share: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Vectors without what the average text is made of, weighted."""
    part = (share * weight)[:, None]
    vectors = vectors.astype(np.float64)
    return (vectors - (vectors * part).sum(0) / part.sum()) * weight[:, None]


def principal(vectors: np.ndarray, dimension: int = DIMENSION) -> np.ndarray:
    """The leading axes of vectors, as columns. An axis' sign is fixed, so that every run gives
    the same."""
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    axes = axes[:, ::-1][:, :dimension]
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    return axes * np.sign(largest)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each row brought to length 1; one of nothing stays so."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def embed(rows: np.ndarray, texts: list[list[int]]) -> np.ndarray:
    """The vectors of texts: the sums of their pieces' rows, of length 1."""
    return unit(np.array([rows[pieces].sum(0) for pieces in texts]))


def lesson(messages: list[str], encode) -> list[list[int]]:
    """The texts that the map is learnt from, each once."""
    chosen: dict[tuple[int, ...], None] = {}
    for message in random.Random(LESSON_SEED).sample(messages, LESSON_DRAWN):
        pieces = tuple(encode(message))
        if LESSON_PIECES_MIN <= len(pieces) <= LESSON_PIECES_MAX:
            chosen[pieces] = None
    return [list(pieces) for pieces in chosen]


def learn(rows: np.ndarray, texts: list[list[int]], wanted: np.ndarray,
          dimension: int = DIMENSION, ridge: float = RIDGE) -> np.ndarray:
    """The linear map that brings sums of rows nearest to what the model says of whole texts, and
    the principal axes of what comes out, as one matrix."""
    sums = embed(rows, texts)
    wanted = wanted.astype(np.float64) - wanted.mean(0, dtype=np.float64)
    square = sums.T @ sums + ridge * np.eye(sums.shape[1])
    mapping = np.linalg.solve(square, sums.T @ wanted)
    return mapping @ principal(sums @ mapping, dimension)


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scale for each row, and its numbers as signed bytes."""
    scales = (np.abs(rows).max(1) / 127).astype(np.float32)
    divisor = np.where(scales > 0, scales, 1).astype(np.float64)[:, None]
    return scales, np.clip(np.rint(rows / divisor), -127, 127).astype(np.int8)


def table(scales: np.ndarray, rows: np.ndarray, vocabulary: list[str]) -> bytes:
    """The bytes that engram-embed/src/table.rs reads."""
    words = "".join(piece + "\n" for piece in vocabulary).encode()
    head = MAGIC + struct.pack("<IIII", VERSION, *rows.shape, len(words))
    body = head + scales.astype("<f4").tobytes() + rows.tobytes() + words
    return body + struct.pack("<I", zlib.crc32(body))
