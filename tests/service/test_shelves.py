"""A collection whose store is slow holds up nobody else; what failed only because a server was away is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import IndexDamaged, StoreUnavailable, UnknownCollection
from ingest.settings import IngestSettings
from ingest.store import Store
from service import readiness, shelves
from service.errors import NotReady
from service.readiness import Readiness
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import until

SETTINGS = IngestSettings(workers=1, embedder="hash")


class SlowStore:
    """A store behind a server that keeps everybody waiting, once it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        self._wait()
        with self._store.reading() as reader:
            yield reader

    def close(self) -> None:
        self._wait()
        self._store.close()

    def _wait(self) -> None:
        self.asked.set()
        assert self.go_on.wait(30)


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shelves, SlowStore]]:
    """A library with the collections `slow` and `quick`, both open."""
    stores: list[SlowStore] = []
    real = shelves.open_collection

    def opened(home: Path, name: str, *args: Any, **named: Any) -> Any:
        store = real(home, name, *args, **named)
        if name != "slow" or named.get("create"):
            return store
        stores.append(SlowStore(store))
        return stores[-1]

    monkeypatch.setattr(shelves, "open_collection", opened)
    library = Shelves(tmp_path, "quick", SETTINGS, lambda _: HashEmbedder())
    for name in ("slow", "quick"):
        library.create(name)
    (store,) = stores
    yield library, store
    store.go_on.set()
    library.close()


@pytest.mark.parametrize("doing", ["asked", "closed"])
def test_a_slow_store_holds_up_nobody_else(slow: tuple[Shelves, SlowStore], doing: str) -> None:
    library, store = slow
    store.asked.clear()
    store.go_on.clear()
    stuck = beside(lambda: library.collection("slow") if doing == "asked" else library.delete("slow"))
    assert store.asked.wait(20)
    other = beside(lambda: (library.collection("quick"), library.create("new"), library.source("new")))
    other.join(20)
    assert not other.is_alive() and stuck.is_alive()
    store.go_on.set()
    stuck.join(20)
    assert not stuck.is_alive()


def test_who_had_a_collection_that_was_deleted_and_made_anew_is_told_so(tmp_path: Path) -> None:
    """Nothing inside has failed: not where it was closed under somebody's hands, nor where its folder is gone."""
    library = Shelves(tmp_path, "default", SETTINGS, lambda _: HashEmbedder())
    library.create("one")
    shelf = library._shelf("one")
    library.delete("one")
    for work in (shelf.store.status, lambda: shelf.store.forget(["a.md"])):
        with pytest.raises(UnknownCollection):
            work()
    library.create("one")
    for work in (shelf.store.status, lambda: shelf.store.forget(["a.md"])):
        with pytest.raises(UnknownCollection, match="meanwhile"):
            work()
    library._shelves["one"] = shelf  # as whoever looked a moment before it was closed still sees it
    assert library.collection("one").documents == 0
    library.close()


def test_who_comes_at_once_opens_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shelves(tmp_path, "default", SETTINGS, lambda _: HashEmbedder()).create("one")
    opened: list[str] = []
    loaded: list[str] = []
    real = shelves.open_collection

    def counted(home: Path, name: str, *args: Any, **named: Any) -> Any:
        opened.append(name)
        return real(home, name, *args, **named)

    def load(name: str) -> HashEmbedder:
        loaded.append(name)
        return HashEmbedder()

    monkeypatch.setattr(shelves, "open_collection", counted)
    library = Shelves(tmp_path, "default", SETTINGS, load)
    together = threading.Barrier(8)

    def look() -> None:
        together.wait()
        library.source("one")

    threads = [beside(look) for _ in range(8)]
    for thread in threads:
        thread.join(20)
    assert opened == ["one"] and len(loaded) == 1
    library.close()


def test_a_part_whose_server_was_away_is_loaded_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FIRST_PAUSE_S", 0.01)
    failures: dict[str, list[Exception]] = {
        "index": [StoreUnavailable("Milvus is away")] * 2,
        "generator": [IndexDamaged("damaged for good")] * 2,
    }
    back = threading.Event()

    def loader(part: str) -> Callable[[], None]:
        def load() -> None:
            if len(failures[part]) == 1:
                assert back.wait(20)
            if failures[part]:
                raise failures[part].pop()

        return load

    ready = Readiness({part: loader(part) for part in failures})
    ready.start()
    assert ready.wait(20) and ready.state == "failed" and ready.parts()["index"] == "Milvus is away"
    with pytest.raises(StoreUnavailable):
        ready.require("index")
    back.set()
    until(lambda: ready.parts()["index"] == "ready")
    ready.require("index")
    with pytest.raises(IndexDamaged):  # nothing that time mends
        ready.require("generator")
    assert len(failures["generator"]) == 1
    ready.close()


def test_parts_and_require_never_say_two_things_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe saying "failed" while a question hears "still being loaded" would send people the wrong way."""

    def broken() -> None:
        raise IndexDamaged("damaged for good")

    said: list[str] = []

    def look() -> None:  # runs in the loader's thread, after the failure and before it is done
        with pytest.raises(NotReady):
            ready.require("index")
        said.append(f"{ready.state}, {ready.parts()['index']}")

    monkeypatch.setattr(readiness, "give_back", look)
    ready = Readiness({"index": broken})
    ready.start()
    assert ready.wait(20)
    assert said == ["loading, loading"] and ready.state == "failed"
