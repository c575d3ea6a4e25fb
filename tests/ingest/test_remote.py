"""Folders behind an address: listed, taken in, brought up to date and forgotten like folders of this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ingest.__main__ import main
from ingest.remote import RemoteError, fetched, is_remote, listing, plain
from tests.ingest.making import new_store
from tests.ingest.running import InProcessParsers, counts, run

ROOT = "memory://shelf"


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    files = fsspec.filesystem("memory")
    for name, content in {
        "a.md": b"# Tortoises\n\nThe tortoise lives in the garden.\n",
        "sub/b.txt": b"Part R123-78 costs 4.50.\n",
        "sub/.hidden.md": b"hidden",
        "node_modules/c.md": b"a library",
        "picture.xyz": b"x",
    }.items():
        files.pipe(f"/shelf/{name}", content)
    yield files
    files.rm("/shelf", recursive=True)


def test_a_remote_folder_is_kept_up_to_date(shelf: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    with new_store(tmp_path / ".lorebase") as store:
        assert counts(run(store, ROOT)) == {"added": 2, "skipped": 1}
        assert store.text("memory://shelf/sub/b.txt") == "Part R123-78 costs 4.50.\n"
        again = run(store, ROOT + "/")
        assert counts(again) == {"unchanged": 2, "skipped": 1} and again.parsed == 0
        shelf.pipe("/shelf/a.md", b"# Turtles\n")
        shelf.rm("/shelf/sub/b.txt")
        assert counts(run(store, ROOT, sync=True)) == {"updated": 1, "forgotten": 1, "skipped": 1}
        assert counts(run(store, "memory://shelf/a.md")) == {"unchanged": 1}
        assert {d.path for d in store.documents()} == {"memory://shelf/a.md"}
        # Nothing is forgotten of what could not be seen.
        gone = run(store, "memory://nowhere", sync=True, allow_empty=True)
        assert counts(gone) == {"failed": 1} and "nothing at this address" in gone.files[0].reason
        assert len(store.documents()) == 1


def test_what_is_too_large_is_not_fetched(
    shelf: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.ingest.running import SETTINGS

    shelf.pipe("/shelf/large.txt", b"x" * (1 << 20) + b"y")
    monkeypatch.setattr("ingest.pipeline.ahead.fetched", None)
    with new_store(tmp_path / ".lorebase") as store:
        settings = SETTINGS.model_copy(update={"max_file_mb": 1})
        (large,) = run(store, "memory://shelf/large.txt", settings=settings).files
        assert large.status == "failed" and "max_file_mb" in large.reason


def test_what_tells_no_size_is_fetched_no_further_than_the_limit(
    shelf: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.ingest.running import SETTINGS

    shelf.pipe("/shelf/large.txt", b"x" * (8 << 20))
    shelf.pipe("/shelf/just.txt", b"word " * ((1 << 20) // 5))
    listed = shelf.find

    def untold(_: object, *args: object, **named: object) -> dict[str, dict[str, object]]:
        return {name: told | {"size": None} for name, told in listed(*args, **named).items()}

    fetched_bytes: list[int] = []
    real = Path.open

    def counting(self: Path, *args: object, **named: object) -> object:
        file = real(self, *args, **named)  # type: ignore[call-overload]
        if self.name == "file" and args == ("wb",):
            write = file.write
            file.write = lambda piece: fetched_bytes.append(len(piece)) or write(piece)
        return file

    with monkeypatch.context() as patch, new_store(tmp_path / ".lorebase") as store:
        patch.setattr(Path, "open", counting)
        patch.setattr(type(shelf), "find", untold)
        settings = SETTINGS.model_copy(update={"max_file_mb": 1})
        (large,) = run(store, "memory://shelf/large.txt", settings=settings).files
        assert large.status == "failed" and "max_file_mb" in large.reason
        assert sum(fetched_bytes) <= 2 << 20
        assert counts(run(store, "memory://shelf/just.txt", settings=settings)) == {"added": 1}


def test_addresses(shelf: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    assert [is_remote(p) for p in ("s3://b/x", "memory://x", "docs", "file:///x", "https://x", "ftp://x")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert plain("file:///a%20b/c.md") == "/a b/c.md" and plain("a%20b") == "a%20b"
    assert [f.below for f in listing(ROOT + "/sub")] == [".hidden.md", "b.txt"]
    with fetched(ROOT + "/sub/b.txt", 1 << 20) as file:
        assert file.read_bytes() == b"Part R123-78 costs 4.50.\n"
    assert not file.exists()
    with (
        pytest.raises(RemoteError, match=r"memory://shelf/none\.md cannot be read"),
        fetched(ROOT + "/none.md", 1 << 20),
    ):
        pass


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_missing_package_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path / "home"), "s3://bucket/docs"]) == 2
    assert "pip install s3fs" in capsys.readouterr().err
