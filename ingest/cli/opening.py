"""What several commands open: the collection that is meant, and the embedder it was made with."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.collections import open_collection
from ingest.embed import Embedder
from ingest.embed.lazy import LazyEmbedder
from ingest.errors import IndexMismatch
from ingest.settings import IngestSettings
from ingest.store import Store

#: Finds an embedder by name, fetching it where it is not installed.
FindEmbedder = Callable[[str], Embedder]


@contextmanager
def open_store(
    arguments: argparse.Namespace, home: Path, settings: IngestSettings, create: bool = False
) -> Iterator[Store]:
    """The collection that arguments and settings name."""
    with open_collection(
        home,
        settings.collection,
        create,
        wait_s=arguments.wait,
        approximate_from=settings.approximate_from,
        at=settings.store,
    ) as store:
        yield store


def embedder_of(
    store: Store, named: str | None, settings: IngestSettings, find: FindEmbedder
) -> LazyEmbedder:
    """The collection's own embedder; for a new collection the one that was named or set.

    Raises:
        IndexMismatch: another one was named than the collection was made with.
    """
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
