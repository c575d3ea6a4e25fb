"""The store beside simple models of it: brute force for its vectors, a dictionary for the whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest.store import Source
from ingest.store.vectors import VectorIndex
from tests.ingest.making import EMBEDDER, TEXT, make_chunks, new_store, put


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(data=st.data())
def test_nearest_is_brute_force_over_any_history(data: st.DataObject) -> None:
    """Vectors are few and coarse, so that ties are common; chunks come and go over many generations."""
    dimension = data.draw(st.integers(1, 4))
    number = st.integers(-2, 2)
    rows: dict[int, np.ndarray] = {}
    index = VectorIndex(-1, dimension)
    next_id = 1
    for generation in range(data.draw(st.integers(1, 6))):
        gone = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set()
        rows = {i: v for i, v in rows.items() if i not in gone}
        new: dict[int, np.ndarray] = {}
        for _ in range(data.draw(st.integers(0, 40))):
            vector = np.array(data.draw(st.lists(number, min_size=dimension, max_size=dimension)), np.float32)
            vector[0] += 3
            new[next_id] = vector / np.linalg.norm(vector)
            next_id += 1
        rows |= new
        matrix = np.array(list(new.values()), np.float32).reshape(len(new), dimension)
        living = np.array(sorted(rows), np.int64)
        block = (np.array(list(new), np.int64), matrix)
        index = index.advance(generation, np.array(sorted(gone), np.int64), [block])
        query = np.array(data.draw(st.lists(number, min_size=dimension, max_size=dimension)), np.float32)
        query[0] += 3
        query /= np.linalg.norm(query)
        k = data.draw(st.integers(1, 30))
        exact = [(i, float((v.astype(np.float64) * query.astype(np.float64)).sum())) for i, v in rows.items()]
        exact.sort(key=lambda pair: (-pair[1], pair[0]))
        assert index.nearest(query, k) == exact[:k]
        assert index.ids().tolist() == living.tolist()
        assert index.cosines(query, [i for i, _ in exact]) == [s for _, s in exact]
        with pytest.raises(KeyError):
            index.cosines(query, [next_id])


PATHS = st.sampled_from(["a.md", "b/c.md", "ü 中.txt", "x" * 200])

TEXTS = st.sampled_from([f"{n} {TEXT}" for n in range(4)] + ["short", TEXT * 2])


class StoreModel(RuleBasedStateMachine):
    """The store behaves like a dictionary from path to text, also over reopening, and two handles agree."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, str] = {}
        self.generation = 0

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.store = new_store(self.folder)
        self.reader = new_store(self.folder)

    @rule(path=PATHS, text=TEXTS)
    def put(self, path: str, text: str) -> None:
        put(self.store, path, text)
        self.model[path] = text
        self.generation += 1

    @rule(paths=st.lists(PATHS, max_size=3))
    def forget(self, paths: list[str]) -> None:
        gone = self.store.forget(paths)
        assert set(gone) == set(paths) & set(self.model)
        self.model = {p: t for p, t in self.model.items() if p not in paths}
        self.generation += bool(gone)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = new_store(self.folder)

    @rule()
    def touch(self) -> None:
        sources = self.store.sources()
        self.store.touch([Source(s.path, s.content_hash, s.recipe, s.size + 1, 77) for s in sources.values()])

    @precondition(lambda self: self.model)
    @rule()
    def verify(self) -> None:
        assert self.store.verify().problems == ()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        for store in (self.store, self.reader):
            assert {d.path: store.text(d.document_id) for d in store.documents()} == self.model
            assert store.generation() == self.generation
            expected = {(p, c.text) for p, t in self.model.items() for c in make_chunks(t)}
            query = EMBEDDER.encode_queries(["tortoise"])[0]
            with store.reading() as reader:
                hits = reader.hits([m.chunk_id for m in reader.nearest(query, 1000)]) if self.model else {}
            assert {(h.path, h.text) for h in hits.values()} == expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.reader.close()
            shutil.rmtree(self.folder)


StoreModel.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)

TestStoreModel = StoreModel.TestCase
