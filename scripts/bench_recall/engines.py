"""The indexes in memory: ours and those from PyPI, each asked the same way.

An engine is built once, and kept in target/bench-recall. `ask(breadth, first, end)` gives what each
query took, in seconds, and its ten answers. All of them: 16 links a node, 128 candidates when
building, cosine, and one thread to ask with.
"""

import json
import pathlib
import subprocess
import time

import numpy as np

LINKS = 16
BREADTH_BUILDING = 128
NEAREST = 10
# Of so many candidates in eight bits the ten are chosen in full precision, by ours and by others.
CANDIDATES = 40
THREADS = 2


class Engram:
    """Our index, in a process of its own that answers by lines."""

    name = "engram"
    least = CANDIDATES

    def __init__(self, worker, files, dimension: int, saved: pathlib.Path, way: str = "walk"):
        self.way = way
        command = [worker, "index", *files, str(dimension), saved, str(THREADS)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.about = self.line()
        self.key = "rescored"

    def line(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"vector_worker ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, breadth: int, first: int, end: int):
        self.process.stdin.write(f"{self.way} {breadth} {first} {end}\n")
        self.process.stdin.flush()
        answer = self.line()
        return np.array(answer["nanos"]) / 1e9, answer[self.key]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class EngramAsIs(Engram):
    """The same without ranking again: what a space has whose vectors are the built-in ones.
    Only its answers differ; its times include the ranking that is not used."""

    name = "engram, eight bits alone"

    def __init__(self, engram: Engram):
        self.process, self.about, self.way = engram.process, engram.about, engram.way
        self.key = "ranked"


class EngramScan(EngramAsIs):
    """The same without the graph: what a space of up to 100,000 vectors does."""

    name = "engram, scan"

    def __init__(self, engram: Engram, way: str = "scan"):
        super().__init__(engram)
        self.way, self.key = way, "rescored"


class EngramExact(EngramScan):
    """The same comparing all."""

    name = "engram, exact"

    def __init__(self, engram: Engram):
        super().__init__(engram, "exact")


class Python:
    """What indexes with Python bindings share."""

    least = NEAREST

    def __init__(self, base: np.ndarray, queries: np.ndarray, saved: pathlib.Path):
        self.base, self.queries = base, queries
        self.about = {"vectors": len(base), "build_seconds": None}
        if saved.exists():
            self.load(saved)
        else:
            begin = time.perf_counter()
            self.build()
            self.about["build_seconds"] = time.perf_counter() - begin
            part = saved.with_name(saved.name + ".part")
            self.save(part)
            part.replace(saved)
        self.about["bytes"] = saved.stat().st_size

    def ask(self, breadth: int, first: int, end: int):
        self.breadth(breadth)
        took, answers = [], []
        for query in self.queries[first:end]:
            begin = time.perf_counter()
            answer = self.one(query)
            took.append(time.perf_counter() - begin)
            answers.append([int(slot) for slot in answer])
        return np.array(took), answers

    def close(self) -> None:
        self.index = None


class Hnswlib(Python):
    """float32, as it always is."""

    name = "hnswlib"

    def new(self):
        import hnswlib

        return hnswlib.Index(space="ip", dim=self.base.shape[1])

    def build(self) -> None:
        self.index = self.new()
        self.index.init_index(max_elements=len(self.base), M=LINKS,
                              ef_construction=BREADTH_BUILDING)
        self.index.set_num_threads(THREADS)
        self.index.add_items(self.base)
        self.index.set_num_threads(1)

    def load(self, path) -> None:
        self.index = self.new()
        self.index.load_index(str(path))
        self.index.set_num_threads(1)

    def save(self, path) -> None:
        self.index.save_index(str(path))

    def breadth(self, breadth: int) -> None:
        self.index.set_ef(breadth)

    def one(self, query):
        return self.index.knn_query(query, k=NEAREST)[0][0]


class Usearch(Python):
    """bfloat16, its choice on a machine that has it."""

    name = "usearch bf16"
    dtype = "bf16"
    count = NEAREST

    def build(self) -> None:
        from usearch.index import Index

        self.index = Index(ndim=self.base.shape[1], metric="ip", dtype=self.dtype,
                           connectivity=LINKS, expansion_add=BREADTH_BUILDING)
        self.index.add(np.arange(len(self.base)), self.base, threads=THREADS)

    def load(self, path) -> None:
        from usearch.index import Index

        self.index = Index.restore(str(path))

    def save(self, path) -> None:
        self.index.save(str(path))

    def breadth(self, breadth: int) -> None:
        self.index.expansion_search = breadth

    def one(self, query):
        return self.index.search(query, self.count, threads=1).keys


class UsearchEightBits(Usearch):
    """Eight bits, and of 40 candidates the ten in full precision, as ours."""

    name = "usearch i8, rescored"
    dtype = "i8"
    count = CANDIDATES
    least = CANDIDATES

    def one(self, query):
        slots = super().one(query)
        return slots[np.argsort(-(self.base[slots] @ query))[:NEAREST]]
