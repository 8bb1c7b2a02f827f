"""Indexes side by side: for each the least breadth that finds enough, then all of them in turn."""

import numpy as np

import engines

# What must be found of the true ten nearest.
RECALL = 0.98
BREADTHS = [10, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448,
            512, 640, 768, 1024]
# Answers that are as near as the tenth up to rounding are as right as the tenth.
TIE = 1e-6
ROWS = 100_000


def tenth(base: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The cosine of each query's tenth nearest, by comparing all in full precision."""
    best = np.full((len(queries), engines.NEAREST), -2, dtype=np.float32)
    for begin in range(0, len(base), ROWS):
        scores = queries @ base[begin:begin + ROWS].T
        best = np.concatenate([best, np.partition(scores, -engines.NEAREST, axis=1)[
            :, -engines.NEAREST:]], axis=1)
        best = np.partition(best, -engines.NEAREST, axis=1)[:, -engines.NEAREST:]
    return best.min(axis=1)


def recall(base: np.ndarray, queries: np.ndarray, bars: np.ndarray, answers) -> float:
    """How many of the ten are as near as the true ten, on average."""
    found = 0
    for query, bar, answer in zip(queries, bars, answers):
        slots = list(dict.fromkeys(answer))[:engines.NEAREST]
        found += int((base[slots] @ query >= bar - TIE).sum())
    return found / (engines.NEAREST * len(queries))


def calibrate(engine, base, queries, bars):
    """The least breadth that finds enough, and what it finds; the widest when none does."""
    for breadth in (b for b in BREADTHS if b >= engine.least):
        _, answers = engine.ask(breadth, 0, len(queries))
        found = recall(base, queries, bars, answers)
        if found >= RECALL:
            break
    return breadth, found


def compare(everyone: list, base, queries, rounds: int, say) -> list[dict]:
    """Calibrates and then asks all in turn, `rounds` times over; a row for each."""
    bars = tenth(base, queries)
    rows = []
    for engine in everyone:
        breadth, found = calibrate(engine, base, queries, bars)
        rows.append({"name": engine.name, "breadth": breadth, "recall": found, **engine.about})
        say(f"  {engine.name}: breadth {breadth} finds {found:.4f}")
    times = [[] for _ in everyone]
    slice_ = len(queries) // rounds
    for turn in range(rounds):
        # Every slice asks each the same queries; who begins changes.
        for place in range(len(everyone)):
            at = (place + turn) % len(everyone)
            took, _ = everyone[at].ask(rows[at]["breadth"], turn * slice_, (turn + 1) * slice_)
            times[at].append(took)
    ours = np.array([np.median(took) for took in times[0]])
    for row, took in zip(rows, times):
        every = np.concatenate(took) * 1e6
        medians = np.array([np.median(one) for one in took])
        row["p50_us"], row["p99_us"] = (float(np.percentile(every, p)) for p in (50, 99))
        row["times_ours"] = float(np.median(medians / ours))
    return rows
