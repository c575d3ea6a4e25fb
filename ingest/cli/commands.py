"""What each command does; returns the exit status.

Only `add`, `search` and `rebuild` ever load an embedder.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from pathlib import Path

from ingest.cli import moving, terminal
from ingest.cli.adding import add
from ingest.cli.opening import FindEmbedder, embedder_of, open_store
from ingest.collections import list_collections
from ingest.embed.lazy import LazyEmbedder
from ingest.errors import IngestError, UnknownDocument
from ingest.filters import Filter
from ingest.filters.text import parse
from ingest.settings import IngestSettings
from ingest.types import StoredDocument
from ingest.walk import below, identity, matches

#: What makes a glob of a name.
_WILD = re.compile(r"[*?\[]")


def run(
    arguments: argparse.Namespace, home: Path, settings: IngestSettings, find_embedder: FindEmbedder
) -> int:
    """Run the command that the arguments name."""
    named = [*getattr(arguments, "paths", []), *([arguments.path] if hasattr(arguments, "path") else [])]
    if any(not path.strip() for path in named):  # perhaps of a variable that is not set
        raise IngestError("an empty path names no file and no folder; for the folder that you are in, say .")
    commands = {
        "list": _list,
        "show": _show,
        "forget": _forget,
        "status": _status,
        "verify": _verify,
        "collections": _collections,
        "export": moving.export,
        "backup": moving.backup,
        "import": moving.import_,
    }
    if arguments.command in commands:
        return commands[arguments.command](arguments, home, settings)
    return {"add": add, "search": _search, "rebuild": _rebuild}[arguments.command](
        arguments, home, settings, find_embedder
    )


def _search(arguments: argparse.Namespace, home: Path, settings: IngestSettings, find: FindEmbedder) -> int:
    from ingest.rerank import Reranked, find_reranker
    from ingest.search import Searcher

    k = settings.search_k if arguments.k is None else arguments.k
    if not 1 <= k <= 1000:
        raise IngestError(f"-k must be between 1 and 1000, got {k}.")
    where = _filter(arguments)
    reranker = find_reranker(arguments.rerank, home) if arguments.rerank else None
    with open_store(arguments, home, settings) as store:
        searcher = Searcher(store, embedder_of(store, None, settings, find))
        search = Reranked(searcher, reranker) if reranker else searcher
        result = search.search(" ".join(arguments.words), k, arguments.mode, where)
    terminal.show_hits(result.hits, arguments.json)
    if arguments.json:
        terminal.json_line(
            {"hits": len(result.hits), "generation": result.generation, "search_ms": result.search_ms}
        )
    return 0


def _rebuild(arguments: argparse.Namespace, home: Path, settings: IngestSettings, find: FindEmbedder) -> int:
    from ingest.pipeline import rebuild

    with open_store(arguments, home, settings) as store, terminal.ProgressDisplay(arguments.json) as display:
        name = arguments.embedder or store.status().embedder_name or settings.embedder
        report = rebuild(
            store, LazyEmbedder(lambda: find(name)), settings, chunking=arguments.chunking, progress=display
        )
    terminal.show_report(report, arguments.json)
    return 0


def _filter(arguments: argparse.Namespace) -> Filter | None:
    return None if arguments.filter is None else parse(arguments.filter)


def _list(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with open_store(arguments, home, settings) as store:
        terminal.show_documents(store.documents(_filter(arguments)), arguments.json)
    return 0


def _show(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with open_store(arguments, home, settings) as store:
        try:
            stored = store.document(arguments.path)
        except UnknownDocument:
            stored = store.document(_identity(arguments.path, home))
        document = store.parsed(stored.document_id)
        terminal.show_document(stored, document, store.chunks(stored.document_id), arguments.json)
    return 0


def _forget(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    status = 0
    with open_store(arguments, home, settings) as store, store.writing("forget"):
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
    if wanted in (document.path, document.document_id):
        return True
    if _WILD.search(wanted) and matches(document.path, [wanted]):
        return True  # a plain name is that document's, and not that of all others that are called so
    return below(document.path, _identity(wanted, home)) and _identity(wanted, home) != "."


def _identity(path: str, home: Path) -> str:
    return identity(Path(path).expanduser().resolve(), home.parent)


def _status(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with open_store(arguments, home, settings) as store:
        terminal.show_status(store.status(), arguments.json)
    return 0


def _verify(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    with open_store(arguments, home, settings) as store:
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


def _collections(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    names = list_collections(home, settings.store)
    for name in names:
        if arguments.json:
            terminal.json_line({"name": name})
        else:
            print(name)
    if not names and not arguments.json:
        print("No collections yet. `python -m ingest ./docs` makes the first one.")
    return 0
