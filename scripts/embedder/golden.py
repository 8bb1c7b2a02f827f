#!/usr/bin/env python3
"""Makes engram-embed/tests/golden.jsonl: texts, and the ids that Hugging Face's tokenizer gives.

    pip install tokenizers==0.22.1 && scripts/embedder/golden.py

One line a text: {"text", "ids"}, without [CLS] and [SEP].
"""

import json
import pathlib
import random

import tokenizers

import inputs

TEXTS = pathlib.Path(__file__).with_name("golden_texts.txt")
OUTPUT = inputs.ROOT / "engram-embed" / "tests" / "golden.jsonl"


def texts():
    """Kept texts with \\-escapes, then messages of the chat corpus, then made-up noise."""
    for line in TEXTS.read_text(encoding="utf-8").splitlines():
        yield json.loads(f'"{line}"')
    rng = random.Random(16)
    yield from rng.sample(inputs.messages(), 80)
    letters = "aB9 .,'#-_éÜñçøłßжЯдבأहिนไ東京ひカ한—“¿…\u0301\u0308\u200d\u00a0\u00ad\n\t"
    for _ in range(40):
        yield "".join(rng.choice(letters) for _ in range(rng.randrange(1, 40)))


def main():
    tokenizer = tokenizers.Tokenizer.from_str(inputs.model_file("tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    with OUTPUT.open("w", encoding="utf-8") as out:
        for text in texts():
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            out.write(json.dumps({"text": text, "ids": ids}) + "\n")


if __name__ == "__main__":
    main()
