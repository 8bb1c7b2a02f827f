"""The chat corpus in a server: recalls under load, a restart, and what is answered straight after."""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import data
import server

SPACE = "chitchat"
CUES = 200
LIMIT = 10


def corpus() -> pathlib.Path:
    """The import file that `make chitchat` makes."""
    path = data.ROOT / "target" / "chitchat" / "chitchat.jsonl"
    if not path.exists():
        subprocess.run([sys.executable, data.ROOT / "scripts" / "chitchat.py"], check=True)
    return path


def cues(path: pathlib.Path) -> list[str]:
    """Some questions of the corpus, as `recall_load` asks them."""
    with path.open(encoding="utf-8") as lines:
        texts = (json.loads(line)["what"] for line in lines)
        found = [text for text in texts if text.endswith("?") and 6 <= len(text.split()) <= 12]
    return found[::max(1, len(found) // CUES)][:CUES]


def answers(running: server.Server, texts: list[str]) -> list[dict]:
    """What each cue gives: ids in their order, how the vectors were searched, and what lacked."""
    found = []
    for text in texts:
        answer = running.post(f"/v1/spaces/{SPACE}/recall",
                              {"text": text, "limit": LIMIT, "explain": True})
        found.append({"ids": [one["episode"]["id"] for one in answer["episodes"]],
                      "pending": answer.get("pending", 0), "way": answer["explain"]["vectors"]})
    return found


def same(some: list[dict], others: list[dict]) -> int:
    """How many cues have the same ids in the same order."""
    return sum(a["ids"] == b["ids"] for a, b in zip(some, others))


def measure(place: pathlib.Path, engram: pathlib.Path, recall_load: pathlib.Path, seconds: int,
            say) -> dict:
    """Import, load at 1 and at 16 clients, a clean restart, and a kill; what came of it."""
    shutil.rmtree(place, ignore_errors=True)
    file = corpus()
    running = server.Server(engram, place)
    try:
        begin = time.perf_counter()
        subprocess.run([engram, "import", file, "--server", f"http://{running.address}"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        row = {"import_seconds": time.perf_counter() - begin}
        row["settle_seconds"] = running.settle()
        say(f"  imported in {row['import_seconds']:.1f} s, settled after {row['settle_seconds']:.0f}")
        for clients in (1, 16):
            out = subprocess.run([recall_load, running.address, SPACE, file, str(clients),
                                  str(seconds)], check=True, capture_output=True, text=True)
            row[f"clients_{clients}"] = out.stdout.strip()
            say("  " + out.stdout.strip())
        texts = cues(file)
        before = answers(running, texts)
        for end in ("stop", "kill"):
            getattr(running, end)()
            running = server.Server(engram, place)
            begin = time.perf_counter()
            straight = answers(running, texts[:1])
            first = time.perf_counter() - begin
            straight += answers(running, texts[1:])
            running.settle()
            settled = answers(running, texts)
            row[f"after_{end}"] = {
                "ready_seconds": running.ready_seconds, "first_recall_seconds": first,
                "cues": len(texts), "as_before": same(before, straight),
                "as_settled": same(settled, straight),
                "pending": sum(one["pending"] for one in straight),
                "ways": sorted({one["way"] for one in straight}),
            }
            say(f"  after {end}: {row[f'after_{end}']}")
    finally:
        running.stop()
    shutil.rmtree(place)
    return row
