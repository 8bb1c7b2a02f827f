#!/usr/bin/env python3
"""What the built-in embedder is worth on engram-bench/eval, beside the whole model and BM25.

    scripts/embedder/measure.py [--distractors 5000]

Prints hit@1, hit@10 and MRR of each method. Vectors of the whole model are kept in
target/embedder; the first run takes some minutes. The distractors are written there too, so that
`cargo run --release -p engram-embed --example find target/embedder/distractors.jsonl` can measure
the table alone, in Rust.
"""

import argparse
import collections
import hashlib
import json
import math
import random
import re

import numpy as np

import build_table
import inputs
import minilm
import recipe
import wordpiece

EVAL = inputs.ROOT / "engram-bench" / "eval"
K1, B = 1.2, 0.75
FUSION_K = 60
COMMON = 0.01


class Model:
    """The whole model, with its answers kept on disk."""

    def __init__(self):
        self.model = None

    def load(self) -> minilm.MiniLM:
        self.model = self.model or minilm.MiniLM(inputs.model_file("model.safetensors"))
        return self.model

    def encode(self, texts: list[list[int]]) -> np.ndarray:
        name = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
        path = inputs.CACHE / f"model-{name}.npy"
        if not path.exists():
            np.save(path, self.load().encode(texts))
        return np.load(path)


def common_words(messages: list[str]) -> set[str]:
    """Words that stand in more than one of a hundred messages."""
    found = collections.Counter(
        word for message in messages for word in set(re.findall(r"\w+", message.lower())))
    return {word for word, count in found.items() if count > COMMON * len(messages)}


def bm25(questions: list[str], texts: list[str], ignored: set[str]) -> np.ndarray:
    """Scores of every question with every text; words are runs of letters and digits."""
    split = [re.findall(r"\w+", text.lower()) for text in texts]
    mean = sum(map(len, split)) / len(split)
    postings = collections.defaultdict(list)
    for number, words in enumerate(split):
        for word, count in collections.Counter(words).items():
            norm = count + K1 * (1 - B + B * len(words) / mean)
            postings[word].append((number, count * (K1 + 1) / norm))
    scores = np.zeros((len(questions), len(texts)))
    for row, question in zip(scores, questions):
        for word in re.findall(r"\w+", question.lower()):
            if word in ignored:
                continue
            found = postings.get(word, [])
            rarity = math.log(1 + (len(texts) - len(found) + 0.5) / (len(found) + 0.5))
            for number, worth in found:
                row[number] += rarity * worth
    return scores


def ranks(scores: np.ndarray) -> np.ndarray:
    """The rank of every text for every question, from 1; equal scores in the texts' order."""
    order = np.argsort(-scores, axis=1, kind="stable")
    out = np.empty_like(order)
    np.put_along_axis(out, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return out


def fuse(*many: np.ndarray) -> np.ndarray:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009). A score of 0 is no find."""
    return sum(np.where(scores > 0, 1 / (FUSION_K + ranks(scores)), 0) for scores in many)


def report(name: str, scores: np.ndarray, answers: list[list[int]]):
    """One line of the table."""
    place = ranks(scores)
    best = np.array([min(row[right]) for row, right in zip(place, answers)])
    print(f"| {name} | {100 * (best == 1).mean():.1f} | {100 * (best <= 10).mean():.1f} "
          f"| {(1 / best).mean():.3f} |", flush=True)


def read(name: str) -> list[dict]:
    with (EVAL / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--distractors", type=int, default=5000)
    count = parser.parse_args().distractors

    vocabulary = inputs.model_file("vocab.txt").decode().splitlines()
    encode = wordpiece.WordPiece(vocabulary).encode
    messages = inputs.messages()
    model = Model()
    share = recipe.probabilities(recipe.counts(messages, encode, len(vocabulary)))
    alone = model.encode([[piece] for piece in range(len(vocabulary))])
    both = np.concatenate([alone, model.load().inputs()], axis=1)
    lesson = recipe.lesson(messages, encode)
    wanted = model.encode(lesson)

    weight = recipe.weights(share)
    mean = alone[recipe.FIRST_CHARACTER:].mean(0)
    plain = (alone - mean) * (weight > 0)[:, None]
    classic = recipe.weights(share, 1e-3)
    rows = recipe.centred(alone, share, weight)
    more = recipe.centred(both, share, weight)
    scales, numbers = build_table.finish(both, share, lesson, wanted)
    tables = {
        "mean of the pieces' outputs, 384": plain,
        "SIF a = 1e-3, PCA to 256": plain * classic[:, None] @ recipe.principal(plain),
        "SIF a = 1e-3, centred on the average text, 384": recipe.centred(alone, share, classic),
        "SIF a = 3e-3, centred on the average text, 384": rows,
        "the same, mapped, 256": rows @ recipe.learn(rows, lesson, wanted),
        "outputs and inputs, mapped, 384": more @ recipe.learn(more, lesson, wanted, 384),
        "outputs and inputs, mapped, 256": more @ recipe.learn(more, lesson, wanted),
        "the same in int8 (built in)": numbers * scales[:, None].astype(np.float64),
    }

    episodes, questions = read("episodes.jsonl"), read("questions.jsonl")
    place = {episode["id"]: number for number, episode in enumerate(episodes)}
    answers = [[place[answer] for answer in question["answers"]] for question in questions]
    asked = [question["text"] for question in questions]
    ignored = common_words(messages)
    noise = random.Random(16).sample(messages, count)
    lines = "".join(json.dumps({"what": text}) + "\n" for text in noise)
    (inputs.CACHE / "distractors.jsonl").write_text(lines, encoding="utf-8")
    for told in (False, True):
        texts = [what(episode, told) for episode in episodes] + noise
        asked_pieces, pieces = [encode(t) for t in asked], [encode(t) for t in texts]
        print(f"\n{len(texts)} texts{', with who and where' if told else ''}\n")
        print("| method | hit@1 | hit@10 | MRR |\n| --- | --- | --- | --- |")
        plain_lexical = bm25(asked, texts, set())
        report("BM25", plain_lexical, answers)
        lexical = bm25(asked, texts, ignored)
        report("BM25 without common words", lexical, answers)
        split = len(episodes)
        full = np.concatenate([model.encode(pieces[:split]), model.encode(pieces[split:])]
                              if count else [model.encode(pieces)])
        full = model.encode(asked_pieces) @ full.T
        report("the whole model", full, answers)
        for name, rows_ in tables.items():
            static = recipe.embed(rows_, asked_pieces) @ recipe.embed(rows_, pieces).T
            report(name, static, answers)
        report("BM25 and built in, fused", fuse(plain_lexical, static), answers)
        report("BM25 without common words and built in, fused", fuse(lexical, static), answers)
        report("BM25 without common words and the whole model, fused", fuse(lexical, full), answers)


def what(episode: dict, told: bool) -> str:
    """An episode's text, or who said it and where before it."""
    if not told:
        return episode["what"]
    told_by = episode["who"] + ([episode["where"]] if "where" in episode else [])
    return f"{', '.join(told_by)}: {episode['what']}"


if __name__ == "__main__":
    main()
