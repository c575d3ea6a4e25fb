"""Web pages by their URL: fetched, then taken in like files that somebody sent.

A page is known by its URL, so that fetching it again replaces it where it has changed. `--sync` does not
forget it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest.embed import Embedder
from ingest.fetch import FetchError, Limits, fetch, normal
from ingest.pipeline.ahead import Item
from ingest.pipeline.run import Cancelled, OnProgress, Run
from ingest.settings import IngestSettings
from ingest.store import Store
from ingest.types import FileReport, IngestReport, Value


def limits(settings: IngestSettings) -> Limits:
    """What the settings allow one page."""
    most = min(settings.url_max_mb, settings.max_file_mb) * 1_000_000
    return Limits(most, settings.url_timeout_s, settings.url_private)


def ingest_pages(
    urls: Sequence[str],
    store: Store,
    embedder: Embedder,
    settings: IngestSettings,
    *,
    own: Mapping[str, Value | None] | None = None,
    password: str | None = None,
    progress: OnProgress | None = None,
    cancel: Cancelled | None = None,
    wait_s: float | None = None,
) -> IngestReport:
    """Take in web pages, in order; one that cannot be fetched is reported and keeps its last version.

    Raises:
        CollectionLocked, StorageFull, IndexDamaged, IndexMismatch, EmbedderError: what would stop every page.
    """
    run = Run(store, embedder, settings, password, progress, cancel)
    run.total = len(urls)
    items: dict[str, Item] = {}
    with tempfile.TemporaryDirectory(prefix="lorebase-pages-") as folder:
        for number, url in enumerate(urls):
            file = Path(folder, str(number))
            try:
                path = normal(url)
                page = fetch(url, file, limits(settings))
            except FetchError as error:
                run.done(FileReport(url, "failed", str(error)))
            else:
                items[path] = Item(path, file, page.size, 0, "upload", own, page.name)
            if run.is_cancelled():
                break
        with store.writing("ingest", wait_s):
            run.process(list(items.values()))
    return run.report()
