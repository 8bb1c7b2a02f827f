"""Real text, and its vectors: a million windows of the chat corpus, kept in target/bench-recall.

A text is some consecutive messages of one conversation: every message alone, then with the next,
with the next two, and so on, until there are enough distinct ones. Every fortieth conversation is
held out, and its messages are the queries. The order is shuffled by a seed.
"""

import hashlib
import json
import pathlib
import random
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "embedder"))

import inputs  # noqa: E402
import minilm  # noqa: E402
import wordpiece  # noqa: E402

CACHE = ROOT / "target" / "bench-recall"
TEXTS = 1_000_000
QUERIES = 1_000
WINDOW_MAX = 8
CHARS_MAX = 2_000
HELD_OUT_EVERY = 40
SEED = 20_240_229
# Vectors of one file are of this many numbers.
BUILT_IN, MINILM = 256, 384


def conversations():
    """The messages of each conversation, a line each."""


    dataset = json.loads(inputs.wheel(inputs.CHITCHAT).read("chitchat_dataset/dataset.json"))
    for body in dataset.values():
        yield [" ".join(message["text"].split()) for turn in body["messages"]
               for message in turn if message["text"] and message["text"].strip()]


def texts() -> dict[str, pathlib.Path]:
    """Files of one text a line, made when they are not there: `messages` (distinct ones),
    `windows` (a million) and `queries`."""
    paths = {name: CACHE / f"{name}.txt" for name in ("messages", "windows", "queries")}
    if all(path.exists() for path in paths.values()):
        return paths
    CACHE.mkdir(parents=True, exist_ok=True)
    every = list(conversations())
    kept = [c for number, c in enumerate(every) if number % HELD_OUT_EVERY]
    found = dict.fromkeys(message for c in kept for message in c if len(message) <= CHARS_MAX)
    messages = list(found)
    for window in range(2, WINDOW_MAX + 1):
        for c in kept:
            joined = (" ".join(c[at:at + window]) for at in range(len(c) - window + 1))
            found.update(dict.fromkeys(text for text in joined if len(text) <= CHARS_MAX))
        if len(found) >= TEXTS:
            break
    windows = list(found)
    held = sorted({m for c in every[::HELD_OUT_EVERY] for m in c if m not in found})
    dice = random.Random(SEED)
    dice.shuffle(messages)
    dice.shuffle(windows)
    lines = {"messages": messages, "windows": windows[:TEXTS],
             "queries": dice.sample(held, QUERIES)}
    for name, path in paths.items():
        path.write_text("\n".join(lines[name]) + "\n", encoding="utf-8")
    return paths


def first_lines(path: pathlib.Path, count: int) -> list[str]:
    """The first so many lines."""
    with path.open(encoding="utf-8") as file:
        return [line.rstrip("\n") for line, _ in zip(file, range(count))]


def built_in(worker: pathlib.Path, lines: pathlib.Path) -> np.ndarray:
    """The built-in embedder's vectors of all lines of a file."""
    path = lines.with_suffix(f".{digest(worker)}.{BUILT_IN}.f32")
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run([worker, "embed", lines, part], check=True)
        part.replace(path)
    return np.fromfile(path, dtype="<f4").reshape(-1, BUILT_IN)


def whole_model(lines: pathlib.Path, count: int) -> np.ndarray:
    """MiniLM's vectors of the first so many lines of a file."""
    path = lines.with_suffix(f".{count}.{MINILM}.f32")
    if not path.exists():
        vocabulary = inputs.model_file("vocab.txt").decode().splitlines()
        pieces = wordpiece.WordPiece(vocabulary)
        model = minilm.MiniLM(inputs.model_file("model.safetensors"))
        ids = [pieces.encode(text) for text in first_lines(lines, count)]
        part = path.with_suffix(".part")
        model.encode(ids).astype("<f4").tofile(part)
        part.replace(path)
    return np.fromfile(path, dtype="<f4").reshape(-1, MINILM)


def digest(path: pathlib.Path) -> str:
    """A short name for what a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
