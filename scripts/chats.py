#!/usr/bin/env python3
"""Makes three labelled sets of real conversations for `make eval` out of the chat corpus.

    scripts/chats.py             writes target/chats/choose, held-out and unseen

The questions are engram-bench/chats/questions.tsv; its README says how they were made. The
messages are those of chitchat.py: PyPI's chitchat-dataset 0.9.0 (MIT), pinned by its SHA-256 there,
and they stay under target/.

Fourteen spaces of 16 conversations each, some 600 messages. Taken are conversations of two people, of
20 to 60 messages that are 40 characters long on average, in an order shuffled by a seed; nobody in
them has a name, so each gets one. Spaces 0 to 3 are for choosing by, 4 to 7 were held out until the
fusion was chosen, 8 to 13 were made after that.
"""

import argparse
import csv
import json
import pathlib
import random
import sys
import zipfile

import chitchat

QUESTIONS = chitchat.ROOT / "engram-bench" / "chats" / "questions.tsv"
SEED = 2019
SPACES, CONVERSATIONS = 14, 16
PARTS = {"choose": range(0, 4), "held-out": range(4, 8), "unseen": range(8, 14)}
# Thirty-two people to a space.
NAMES = """Alice Ben Clara David Emma Frank Grace Henry Iris Jack Karen Leo Maria Nathan Olivia Peter
Quinn Rosa Samuel Tina Ulrich Vera Walter Xenia Yusuf Zoe Amir Bianca Carlos Diana Erik Fiona"""


def is_fit(messages: list[dict]) -> bool:
    """Whether a conversation says enough to be asked about."""
    senders = {message["who"][0] for message in messages}
    letters = sum(len(message["what"]) for message in messages)
    return (20 <= len(messages) <= 60 and len(senders) == 2
            and letters >= 40 * len(messages))


def spaces(dataset: dict) -> list[list[list[dict]]]:
    """The conversations of each space."""
    found: dict[str, list[dict]] = {}
    for message in filter(None, chitchat.episodes(dataset, "")):
        found.setdefault(message["metadata"]["conversation"], []).append(message)
    fit = [messages for messages in found.values() if is_fit(messages)]
    random.Random(SEED).shuffle(fit)
    return [fit[at:at + CONVERSATIONS]
            for at in range(0, SPACES * CONVERSATIONS, CONVERSATIONS)]


def people(conversations: list[list[dict]]) -> list[list[str]]:
    """The names of the two of each conversation, who speaks first before the other."""
    names = iter(NAMES.split())
    return [[next(names), next(names)] for _ in conversations]


def episode(space: str, number: int, message: dict, name: str) -> dict:
    """A message as a line of episodes.jsonl."""
    running = int(message["id"].rsplit("-", 1)[1])
    return {"space": space, "id": f"{number}.{running}", "what": message["what"],
            "when": message["when"], "who": [name]}


def episodes(space: str, conversations: list[list[dict]]):
    """All messages of a space."""
    for number, (messages, pair) in enumerate(zip(conversations, people(conversations))):
        senders = list(dict.fromkeys(message["who"][0] for message in messages))
        for message in messages:
            yield episode(space, number, message, pair[senders.index(message["who"][0])])


def questions(space: int, conversations: list[list[dict]]):
    """The questions of a space, with the names of those whom they are about."""
    with QUESTIONS.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if int(row["space"]) == space]
    pairs = people(conversations)
    for row in rows:
        answers = row["answers"].split()
        first, second = pairs[int(answers[0].split(".")[0])]
        yield {"space": str(space), "text": row["question"].format(A=first, B=second),
               "answers": answers}


def write(path: pathlib.Path, lines) -> int:
    """Writes JSON lines, and says how many."""
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    """Parses the command line, converts, and says what it did."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=pathlib.Path, default=chitchat.ROOT / "target" / "chats")
    output = parser.parse_args().output
    wheel = chitchat.fetch(chitchat.ROOT / "target" / "chitchat")
    with zipfile.ZipFile(wheel) as archive:
        dataset = json.loads(archive.read(chitchat.MEMBER))
    all_spaces = spaces(dataset)
    for part, numbers in PARTS.items():
        told = [line for space in numbers for line in episodes(str(space), all_spaces[space])]
        asked = [line for space in numbers for line in questions(space, all_spaces[space])]
        known = {(line["space"], line["id"]) for line in told}
        lost = [line for line in asked
                if any((line["space"], answer) not in known for answer in line["answers"])]
        if lost:
            sys.exit(f"these name answers that are no messages: {lost}")
        folder = output / part
        print(f"{folder}: {write(folder / 'episodes.jsonl', told)} messages, "
              f"{write(folder / 'questions.jsonl', asked)} questions")


if __name__ == "__main__":
    main()
