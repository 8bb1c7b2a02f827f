"""Stores end to end, each through its own client: texts with vectors in, durably, and the nearest
ten out, text included.

Engram runs as a server and is asked over HTTP; chromadb and lancedb run in this process, as their
clients do, which spares them the wire. Each is tuned as its documentation says, for the same
recall.
"""

import json
import pathlib
import shutil
import statistics
import time

import numpy as np

import engines
import indexes
import server

BATCH = 1_000
ALONE = 100
# lancedb ranks so many times the answers again in full precision, as we do.
REFINE = 4
BREADTHS = [32, 64, 96, 128, 192, 256, 384, 512, 768]


class Engram:
    name = "engram"

    def __init__(self, place: pathlib.Path, dimension: int, engram: pathlib.Path):
        self.server = server.Server(engram, place)
        self.path = "/v1/spaces/bench"

    def add(self, first: int, texts: list[str], vectors: np.ndarray) -> None:
        lines = (json.dumps({"id": str(first + at), "what": text, "embedding": server.packed(v)})
                 for at, (text, v) in enumerate(zip(texts, vectors)))
        answer = self.server.post(self.path + "/episodes/batch", "\n".join(lines).encode(),
                                  "application/x-ndjson")
        if answer["accepted"] != len(texts):
            raise RuntimeError(f"rejected: {answer['rejected'][:3]}")

    def finish(self) -> None:
        """The index is caught up by the first who recalls."""

    def breadths(self):
        return [None]

    def one(self, query: np.ndarray, breadth) -> list[tuple[int, str]]:
        answer = self.server.post(self.path + "/recall",
                                  {"embedding": server.packed(query), "limit": engines.NEAREST})
        return [(int(one["episode"]["id"]), one["episode"]["what"]) for one in answer["episodes"]]

    def close(self) -> None:
        self.server.stop()


class Chroma:
    name = "chromadb"

    def __init__(self, place: pathlib.Path, dimension: int, engram: pathlib.Path):
        self.place = place
        self.collection = self.client().create_collection("bench", embedding_function=None, configuration={
            "hnsw": {"space": "ip", "max_neighbors": engines.LINKS,
                     "ef_construction": engines.BREADTH_BUILDING, "ef_search": BREADTHS[0]}})

    def client(self):
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(path=str(self.place), settings=settings)

    def add(self, first: int, texts: list[str], vectors: np.ndarray) -> None:
        ids = [str(first + at) for at in range(len(texts))]
        self.collection.add(ids=ids, documents=texts, embeddings=vectors)

    def finish(self) -> None:
        """It indexes as it adds."""

    def breadths(self):
        from chromadb.api.shared_system_client import SharedSystemClient

        for breadth in BREADTHS:
            # Another breadth is obeyed only by an index that is opened anew.
            self.collection.modify(configuration={"hnsw": {"ef_search": breadth}})
            SharedSystemClient.clear_system_cache()
            self.collection = self.client().get_collection("bench", embedding_function=None)
            yield breadth

    def one(self, query: np.ndarray, breadth) -> list[tuple[int, str]]:
        found = self.collection.query(query_embeddings=[query], n_results=engines.NEAREST,
                                      include=["documents", "distances"])
        return [(int(id_), text) for id_, text in zip(found["ids"][0], found["documents"][0])]

    def close(self) -> None:
        pass


class Lance:
    name = "lancedb"

    def __init__(self, place: pathlib.Path, dimension: int, engram: pathlib.Path):
        import lancedb
        import pyarrow

        self.pyarrow = pyarrow
        self.schema = pyarrow.schema([("id", pyarrow.int64()), ("text", pyarrow.string()),
                                      ("vector", pyarrow.list_(pyarrow.float32(), dimension))])
        self.table = lancedb.connect(str(place)).create_table("bench", schema=self.schema)

    def add(self, first: int, texts: list[str], vectors: np.ndarray) -> None:
        flat = self.pyarrow.array(vectors.ravel(), type=self.pyarrow.float32())
        columns = [self.pyarrow.array(range(first, first + len(texts))), self.pyarrow.array(texts),
                   self.pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
        self.table.add(self.pyarrow.Table.from_arrays(columns, schema=self.schema))

    def finish(self) -> None:
        self.table.optimize()
        self.table.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1,
                                m=engines.LINKS, ef_construction=engines.BREADTH_BUILDING)

    def breadths(self):
        return [breadth for breadth in BREADTHS if breadth >= engines.NEAREST * REFINE]

    def one(self, query: np.ndarray, breadth) -> list[tuple[int, str]]:
        ask = self.table.search(query).distance_type("dot").select(["id", "text", "_distance"])
        found = ask.nprobes(1).ef(breadth).refine_factor(REFINE).limit(engines.NEAREST).to_arrow()
        return list(zip(found["id"].to_pylist(), found["text"].to_pylist()))

    def close(self) -> None:
        pass


def compare(place: pathlib.Path, engram: pathlib.Path, texts: list[str], base: np.ndarray,
            queries: np.ndarray, rounds: int, say) -> list[dict]:
    """Fills all in turn, batch by batch, and asks them in turn; a row for each."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    # The last texts are for writes alone.
    bulk = len(texts) - ALONE
    stores = [kind(place / kind.name, base.shape[1], engram) for kind in (Engram, Chroma, Lance)]
    bars = indexes.tenth(base, queries)
    try:
        added = in_turn(stores, range(0, bulk, BATCH), lambda store, first: store.add(
            first, texts[first:min(first + BATCH, bulk)], base[first:min(first + BATCH, bulk)]))
        say(f"  {bulk} added to each: {[round(sum(times), 1) for times in added]} s")
        alone = in_turn(stores, range(bulk, len(texts)), lambda store, at: store.add(
            at, texts[at:at + 1], base[at:at + 1]))
        finished = [timed(store.finish) for store in stores]
        chosen = []
        for store in stores:
            for breadth in store.breadths():
                answers = [store.one(query, breadth) for query in queries]
                slots = [[slot for slot, _ in answer] for answer in answers]
                found = indexes.recall(base, queries, bars, slots)
                if found >= indexes.RECALL:
                    break
            chosen.append((breadth, found))
            say(f"  {store.name}: breadth {breadth} finds {found:.4f}")
        breadth_of = {id(store): breadth for store, (breadth, _) in zip(stores, chosen)}
        asked = in_turn(stores, range(rounds * len(queries) // 10), lambda store, at: store.one(
            queries[at % len(queries)], breadth_of[id(store)]))
    finally:
        for store in stores:
            store.close()
    rows = []
    # All that was asked of each: batches and single writes, durable, what makes them quick to search, recalls.
    whole = [sum(added[at]) + sum(alone[at]) + finished[at] + sum(asked[at])
             for at in range(len(stores))]
    for at, store in enumerate(stores):
        write = sum(added[at]) + finished[at]
        rows.append({
            "name": store.name, "breadth": chosen[at][0], "recall": chosen[at][1],
            "write_per_second": bulk / write, "add_seconds": sum(added[at]),
            "finish_seconds": finished[at], "alone_p50_ms": 1e3 * statistics.median(alone[at]),
            "recall_p50_ms": 1e3 * statistics.median(asked[at]),
            "recall_p99_ms": 1e3 * float(np.percentile(asked[at], 99)),
            "write_times_ours": write / (sum(added[0]) + finished[0]),
            "alone_times_ours": median_ratio(alone[at], alone[0]),
            "recall_times_ours": median_ratio(asked[at], asked[0]),
            "whole_seconds": whole[at],
            "whole_times_ours": whole[at] / whole[0],
        })
    shutil.rmtree(place)
    return rows


def median_ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(theirs, ours))


def timed(do) -> float:
    begin = time.perf_counter()
    do()
    return time.perf_counter() - begin


def in_turn(stores: list, tasks, do) -> list[list[float]]:
    """Gives every task to each, another first each time; what each took."""
    times = [[] for _ in stores]
    for number, task in enumerate(tasks):
        for place in range(len(stores)):
            at = (place + number) % len(stores)
            times[at].append(timed(lambda: do(stores[at], task)))
    return times
