"""Readers during publishes, and writers at once: everybody sees one generation, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ingest.store import indexes
from tests.ingest import lives
from tests.ingest.lives import open_store, sound

ROOT = Path(__file__).resolve().parents[2]


def version(n: int) -> str:
    """Five to seven passages that all name the version."""
    return f"version {n:03} of this one passage".ljust(40) * (5 + n % 3)


def test_readers_see_one_generation_each_while_snapshots_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty publishes, an index snapshot with every fifth; a mixed read would show two versions."""
    monkeypatch.setattr(indexes, "_STALE", 0.0)
    made = lives.make_large(tmp_path)
    query = lives.EMBEDDER.encode_queries(["version of this one passage"])[0]
    wrong: list[object] = []
    seen: set[int] = set()
    kinds: set[int] = set()
    done = threading.Event()
    with open_store(tmp_path, large=True) as store, open_store(tmp_path, large=True) as writer:
        lives.put(writer, "doc", version(0))

        def read() -> None:
            while not done.is_set():
                try:
                    with store.reading() as reader:
                        near = [m.chunk_id for m in reader.nearest(query, 7)]
                        words = [m.chunk_id for m in reader.matching(["version"], 99)]
                        hits = reader.hits(list({*near, *words}))
                        found = [h for h in hits.values() if h.path == "doc"]
                        numbers = {int(h.text.split()[1]) for h in found}
                        expected = reader.chunk_count - 60 * len(made)
                        if len(numbers) != 1 or len(words) != expected or not {*words} <= {*near}:
                            wrong.append((reader.generation, numbers, len(words), len(near), expected))
                        seen.add(reader.generation)
                        snapshot = reader._vectors(reader).snapshot
                        kinds.add(snapshot.generation if snapshot else -1)
                except Exception as error:
                    wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for n in range(1, 51):
            lives.put(writer, "doc", version(n))
            if n % 5 == 0:
                assert writer.compact()
            time.sleep(0.002)
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    assert len(seen) > 3 and len(kinds) > 1
    sound(tmp_path, [(made | {"doc": version(50)}, lives.EMBEDDER.name)], large=True)


WRITER = """
import sys, pathlib
from tests.ingest import lives
from tests.ingest.making import new_store
store = new_store(pathlib.Path(sys.argv[1]), wait_s=60.0)
for n in range(12):
    lives.put(store, f"{n}.md", f"by {sys.argv[2]}: text {n} tortoise " * 5)
    if n % 4 == 3:
        store.forget([f"{n}.md"])
print("done")
"""


def test_two_writers_take_turns_and_the_result_is_one_of_theirs(tmp_path: Path) -> None:
    with open_store(tmp_path):
        pass
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    assert [w.communicate()[0].strip() for w in writers] == ["done", "done"]
    with open_store(tmp_path) as store:
        found = {d.path: store.text(d.path) for d in store.documents()}
        assert set(found) == {f"{n}.md" for n in range(12) if n % 4 != 3}
        for path, text in found.items():
            n = path.removesuffix(".md")
            assert text in {f"by {name}: text {n} tortoise " * 5 for name in ("one", "two")}
        assert (
            24 + 3 <= store.generation() <= 24 + 6
        )  # each text once a writer; a path is forgotten once or twice
        lives.agree_with_brute_force(store, found)
        assert store.verify().problems == ()
