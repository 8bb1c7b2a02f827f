#!/usr/bin/env python3
"""`make bench-recall`: recall beside the indexes and stores of PyPI, and under load.

    run.py --bin target/release [--quick] [--only embed,small,million,stores,load]

What is built is kept in target/bench-recall (some 5 GB; remove it to begin anew). Prints a table and
writes target/bench/recall.json.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

import numpy as np

import data
import engines
import indexes
import load
import stores

PARTS = ["embed", "small", "million", "stores", "load"]
PEERS = ["hnswlib", "usearch", "chromadb", "lancedb", "numpy"]
SHORT_TEXTS = 100_000


def machine() -> dict:
    """What must be known of where it ran."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines()
                  if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=data.ROOT,
                            capture_output=True, text=True, check=False).stdout.strip()
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory / 1e9, 1),
            "load_at_start": os.getloadavg()[0], "system": platform.platform(), "commit": commit,
            "python": platform.python_version(),
            "peers": {name: importlib.metadata.version(name) for name in PEERS},
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def say(line: str) -> None:
    print(line, flush=True)


def table(rows: list[dict], columns: list[tuple[str, str, str]]) -> None:
    """Rows for people: (title, key, format) for each column."""
    def text(row, key, form):
        value = row.get(key)
        return "-" if value is None else format(value, form)

    cells = [[title for title, _, _ in columns]]
    cells += [[text(row, key, form) for _, key, form in columns] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        say("  " + "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                             for at, (cell, width) in enumerate(zip(line, widths))).rstrip())


def embedding(bin_: pathlib.Path, paths: dict, quick: bool) -> dict:
    """Short texts a second, on one core."""
    short = data.CACHE / "short.txt"
    count = SHORT_TEXTS // (10 if quick else 1)
    short.write_text("\n".join(data.first_lines(paths["messages"], count)) + "\n", encoding="utf-8")
    best = []
    for _ in range(5):
        out = subprocess.run([worker(bin_), "embed", short, os.devnull], check=True,
                             capture_output=True, text=True)
        best.append(json.loads(out.stdout))
    rates = sorted(one["texts"] / one["seconds"] for one in best)
    row = {"texts": count, "bytes_a_text": best[0]["bytes"] / count, "per_second": rates[2],
           "lowest": rates[0], "highest": rates[-1]}
    say(f"  {row['per_second']:.0f} texts a second on one core ({row['lowest']:.0f} to "
        f"{row['highest']:.0f}), of {row['bytes_a_text']:.0f} bytes each")
    return row


def worker(bin_: pathlib.Path) -> pathlib.Path:
    return bin_ / "examples" / "vector_worker"


def side_by_side(bin_: pathlib.Path, name: str, base: np.ndarray, queries: np.ndarray, exact: bool):
    """All indexes over the same vectors."""
    dimension = base.shape[1]
    stem = f"{name}-{len(base)}x{dimension}"
    files = [data.CACHE / f"{stem}.f32", data.CACHE / f"{stem}.queries.f32"]
    for path, vectors in zip(files, (base, queries)):
        vectors.tofile(path)
    own = data.CACHE / f"engram-{data.digest(worker(bin_))}-{stem}.index"
    ours = engines.Engram(worker(bin_), files, dimension, own)
    everyone = [ours, engines.EngramAsIs(ours)]
    if exact:
        everyone += [engines.EngramScan(ours), engines.EngramExact(ours)]
    for kind in (engines.Hnswlib, engines.Usearch, engines.UsearchEightBits):
        everyone.append(kind(base, queries, data.CACHE / f"{kind.__name__.lower()}-{stem}.index"))
        say(f"  {kind.name} is there: {everyone[-1].about}")
    try:
        rows = indexes.compare(everyone, base, queries, 10, say)
    finally:
        for engine in everyone:
            engine.close()
        for path in files:
            path.unlink()
    table(rows, [("", "name", ""), ("breadth", "breadth", "d"), ("recall@10", "recall", ".4f"),
                 ("p50 us", "p50_us", ".0f"), ("p99 us", "p99_us", ".0f"),
                 ("times ours", "times_ours", ".2f"), ("bytes", "bytes", ",d"),
                 ("build s", "build_seconds", ".0f")])
    return rows


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where cargo's binaries are")
    parser.add_argument("--quick", action="store_true", help="20,000 vectors, shorter loads")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, of: " + " ".join(PARTS))
    args = parser.parse_args()
    bin_, quick, only = args.bin.resolve(), args.quick, args.only.split(",")
    small, million = (20_000, 50_000) if quick else (100_000, data.TEXTS)
    paths = data.texts()
    result = {"machine": machine(), "quick": quick}
    say(json.dumps(result["machine"]))

    def built_in(name: str, count: int) -> np.ndarray:
        return data.built_in(worker(bin_), paths[name])[:count]

    if "embed" in only:
        say("Embedding, built in:")
        result["embed"] = embedding(bin_, paths, quick)
    if "small" in only:
        base, asked = (built_in("messages", small), built_in("queries", 500)) if quick else (
            data.whole_model(paths["messages"], small),
            data.whole_model(paths["queries"], data.QUERIES))
        say(f"{len(base)} x {base.shape[1]} (messages):")
        result["small"] = side_by_side(bin_, "messages", base, asked, exact=True)
    if "million" in only:
        base, asked = built_in("windows", million), built_in("queries", data.QUERIES)
        say(f"{len(base)} x {base.shape[1]} (windows of messages):")
        result["million"] = side_by_side(bin_, "windows", base, asked, exact=False)
    if "stores" in only:
        base, asked = built_in("messages", small), built_in("queries", 200)
        say(f"Stores end to end, {len(base)} x {base.shape[1]}:")
        result["stores"] = stores.compare(data.CACHE / "stores", bin_ / "engram", data.first_lines(
            paths["messages"], small), base, asked, 20, say)
        table(result["stores"], [
            ("", "name", ""), ("breadth", "breadth", "d"), ("recall@10", "recall", ".4f"),
            ("written/s", "write_per_second", ".0f"), ("times ours", "write_times_ours", ".2f"),
            ("one alone ms", "alone_p50_ms", ".2f"), ("times ours", "alone_times_ours", ".2f"),
            ("recall p50 ms", "recall_p50_ms", ".2f"), ("p99 ms", "recall_p99_ms", ".2f"),
            ("times ours", "recall_times_ours", ".2f"), ("all of it s", "whole_seconds", ".1f"),
            ("times ours", "whole_times_ours", ".1f")])
    if "load" in only:
        say("Chat corpus, hybrid recall over HTTP:")
        result["load"] = load.measure(data.CACHE / "load", bin_ / "engram",
                                      bin_ / "examples" / "recall_load", 5 if quick else 20, say)
    out = data.ROOT / "target" / "bench" / "recall.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    say(f"written to {out}")


if __name__ == "__main__":
    main()
