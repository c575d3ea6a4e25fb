"""What each command does; returns the exit status.

Only `add`, `search` and `rebuild` ever load an embedder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ingest.cli import terminal
from ingest.collections import collection_folder, list_collections, open_collection
from ingest.embed import Embedder, LazyEmbedder
from ingest.errors import IndexMismatch, IngestError, UnknownDocument
from ingest.settings import IngestSettings
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import StoredDocument
from ingest.walk import below, identity, matches

#: Finds an embedder by name, fetching it where it is not installed.
FindEmbedder = Callable[[str], Embedder]


def run(
    arguments: argparse.Namespace, home: Path, settings: IngestSettings, find_embedder: FindEmbedder
) -> int:
    """Run the command that the arguments name."""
    commands = {
        "list": _list,
        "show": _show,
        "forget": _forget,
        "status": _status,
        "verify": _verify,
        "collections": _collections,
    }
    if arguments.command in commands:
        return commands[arguments.command](arguments, home, settings)
    return {"add": _add, "search": _search, "rebuild": _rebuild}[arguments.command](
        arguments, home, settings, find_embedder
    )


@contextmanager
def _store(
    arguments: argparse.Namespace, home: Path, settings: IngestSettings, create: bool = False
) -> Iterator[SqliteFaissStore]:
    with open_collection(home, settings.collection, create, wait_s=arguments.wait) as store:
        yield store


def _add(arguments: argparse.Namespace, home: Path, settings: IngestSettings, find: FindEmbedder) -> int:
    from ingest.pipeline import ingest_path

    _check_paths(arguments.paths, collection_folder(home, settings.collection).exists())
    with (
        _store(arguments, home, settings, create=True) as store,
        terminal.ProgressDisplay(arguments.json) as display,
    ):
        try:
            report = ingest_path(
                arguments.paths,
                store,
                _embedder(store, arguments.embedder, settings, find),
                settings,
                sync=arguments.sync,
                include=arguments.include,
                exclude=arguments.exclude,
                password=arguments.password,
                progress=display,
            )
        except (KeyboardInterrupt, IngestError):
            terminal.note(
                f"\nstopped; {display.written} files were written and stay. "
                "The same command goes on from there."
            )
            raise
    terminal.show_report(report, arguments.json)
    return 1 if terminal.failed(report) else 0


def _check_paths(paths: list[str], known: bool) -> None:
    if pages := [path for path in paths if "://" in path]:
        raise IngestError(f"{pages[0]}: web pages are not read yet. Save the page as a file and ingest that.")
    if not known and not any(Path(path).expanduser().exists() for path in paths):
        raise IngestError(
            f"There is no such file or folder: {', '.join(paths)}. "
            "Check the spelling and the folder you are in."
        )


def _embedder(
    store: SqliteFaissStore, named: str | None, settings: IngestSettings, find: FindEmbedder
) -> LazyEmbedder:
    """The collection's own embedder; for a new collection the one that was named or set."""
    status = store.status()
    if (
        named
        and status.embedder_id
        and named != status.embedder_name
        and find(named).id != status.embedder_id
    ):
        raise IndexMismatch(
            f"Collection {status.collection!r} was made with embedder {status.embedder_name!r}, "
            f"not {named!r}. Leave out --embedder, or run "
            f"`python -m ingest rebuild --embedder {named} --collection {status.collection}`."
        )
    name = status.embedder_name or named or settings.embedder
    return LazyEmbedder(lambda: find(name))


def _search(arguments: argparse.Namespace, home: Path, settings: IngestSettings, find: FindEmbedder) -> int:
    from ingest.search import Searcher

    k = settings.search_k if arguments.k is None else arguments.k
    if not 1 <= k <= 1000:
        raise IngestError(f"-k must be between 1 and 1000, got {k}.")
    with _store(arguments, home, settings) as store:
        result = Searcher(store, _embedder(store, None, settings, find)).search(
            " ".join(arguments.words), k, arguments.mode
        )
    terminal.show_hits(result.hits, arguments.json)
    if arguments.json:
        terminal.json_line(
            {"hits": len(result.hits), "generation": result.generation, "search_ms": result.search_ms}
        )
    return 0


def _rebuild(arguments: argparse.Namespace, home: Path, settings: IngestSettings, find: FindEmbedder) -> int:
    from ingest.pipeline import rebuild

    with _store(arguments, home, settings) as store, terminal.ProgressDisplay(arguments.json) as display:
        name = arguments.embedder or store.status().embedder_name or settings.embedder
        report = rebuild(store, LazyEmbedder(lambda: find(name)), settings, progress=display)
    terminal.show_report(report, arguments.json)
    return 0


def _list(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with _store(arguments, home, settings) as store:
        terminal.show_documents(store.documents(), arguments.json)
    return 0


def _show(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with _store(arguments, home, settings) as store:
        try:
            stored = store.document(arguments.path)
        except UnknownDocument:
            stored = store.document(_identity(arguments.path, home))
        document = store.parsed(stored.document_id)
        terminal.show_document(stored, document, store.chunks(stored.document_id), arguments.json)
    return 0


def _forget(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    status = 0
    with _store(arguments, home, settings) as store, store.writing("forget"):
        documents = store.documents()
        for wanted in arguments.paths:
            gone = store.forget(d.path for d in documents if _is_meant(d, wanted, home))
            for path in gone:
                if arguments.json:
                    terminal.json_line({"path": path, "status": "forgotten"})
                else:
                    print(f"forgotten {terminal.printable(path)}")
            if not gone:
                status = 1
                terminal.note(f"no document fits {wanted!r}; `python -m ingest list` shows their paths")
    return status


def _is_meant(document: StoredDocument, wanted: str, home: Path) -> bool:
    """Whether a document is named by its path or id, lies in the folder, or fits the glob."""
    if wanted in (document.path, document.document_id) or matches(document.path, [wanted]):
        return True
    return below(document.path, _identity(wanted, home)) and _identity(wanted, home) != "."


def _identity(path: str, home: Path) -> str:
    return identity(Path(path).expanduser().resolve(), home.parent)


def _status(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with _store(arguments, home, settings) as store:
        terminal.show_status(store.status(), arguments.json)
    return 0


def _verify(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with _store(arguments, home, settings) as store:
        found = store.verify()
    if arguments.json:
        terminal.json_line(asdict(found))
    else:
        for problem in found.problems:
            print(f"problem  {terminal.printable(problem)}")
        print(
            f"{found.documents} documents, {found.chunks} passages, {found.vectors} vectors: "
            + (f"{len(found.problems)} problems" if found.problems else "every hash and count agrees")
        )
    return 1 if found.problems else 0


def _collections(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:  # noqa: ARG001
    names = list_collections(home)
    for name in names:
        if arguments.json:
            terminal.json_line({"name": name})
        else:
            print(name)
    if not names and not arguments.json:
        print("No collections yet. `python -m ingest ./docs` makes the first one.")
    return 0
