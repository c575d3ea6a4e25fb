"""A collection cut and embedded anew from its stored text; the original files are not read.

This is how a collection moves to another embedder or to other chunk settings, and how a damaged keyword index
is made whole. New vectors are kept as they come, beside the old ones, which go on serving; one transaction at
the end exchanges all passages. So vectors of two embedders are never mixed, and a rebuild that was killed
goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ingest.embed import Embedder
from ingest.pipeline.ahead import compose_recipe
from ingest.pipeline.run import OnProgress, Progress, cut
from ingest.settings import IngestSettings, chunked, chunking_of
from ingest.store import Store
from ingest.store.rows import embedding_key
from ingest.types import Chunk, FileReport, IngestReport

_BATCH_TEXTS = 256


def rebuild(
    store: Store,
    embedder: Embedder,
    settings: IngestSettings,
    *,
    chunking: str | None = None,
    progress: OnProgress | None = None,
    cancel: Callable[[], bool] | None = None,
    wait_s: float | None = None,
) -> IngestReport:
    """Cut and embed every document anew; until the end, searches are answered by what was there before.

    With `chunking` (see `ingest.settings.chunked`), the collection is cut this way from now on.

    Raises:
        SettingsError: `chunking` is no way of cutting.
        CollectionLocked, StorageFull, IndexDamaged, EmbedderError: nothing has changed then.
    """
    started = time.monotonic()
    embedded = 0
    reports: list[FileReport] = []
    cancelled = False
    with store.writing("rebuild", wait_s):
        settings = chunked(settings, store.status().chunking if chunking is None else chunking)
        documents = store.documents()
        waiting: dict[bytes, str] = {}  # texts without vectors, of several documents
        ready: list[FileReport] = []  # the documents that they are of
        last = len(documents) - 1
        for number, document in enumerate(documents):
            chunks = cut(store.parsed(document.document_id), embedder, settings)
            texts = {embedding_key(c, document.title): c.embedding_text(document.title) for c in chunks}
            known = store.cached_vectors(embedder.id, texts)
            waiting |= {key: text for key, text in texts.items() if key not in known}
            ready.append(FileReport(document.path, "updated", "", len(chunks), document.pages))
            if len(waiting) < _BATCH_TEXTS and number < last:
                continue
            in_order = sorted(waiting, key=lambda key: len(waiting[key]))
            for start in range(0, len(in_order), _BATCH_TEXTS):
                if cancelled := cancelled or (cancel is not None and cancel()):
                    break
                part = in_order[start : start + _BATCH_TEXTS]
                vectors = embedder.encode_passages([waiting[key] for key in part])
                store.cache_vectors(
                    embedder.id, embedder.name, embedder.dimension, dict(zip(part, vectors, strict=True))
                )
                embedded += len(part)
                if progress is not None:
                    progress(Progress(len(reports), len(documents), embedded))
            if cancelled:
                break
            waiting.clear()
            for report in ready:
                reports.append(report)
                if progress is not None:
                    progress(Progress(len(reports), len(documents), embedded, report))
            ready.clear()

        def pieces() -> Iterator[tuple[str, str, list[Chunk]]]:
            for document in documents:
                parser = document.recipe.split("|", 1)[0]
                recipe = compose_recipe(parser, settings, embedder.id)
                yield (
                    document.document_id,
                    recipe,
                    cut(store.parsed(document.document_id), embedder, settings),
                )

        if not cancelled:
            if chunking is not None:
                store.fix_chunking(chunking_of(settings))
            store.recut(embedder.id, embedder.name, embedder.dimension, pieces())
            store.compact()
        return IngestReport(
            files=() if cancelled else tuple(reports),
            parsed=0,
            embedded=embedded,
            pages=0,
            seconds=time.monotonic() - started,
            collection=store.collection,
            generation=store.generation(),
            cancelled=cancelled,
        )
