"""What the commands print: text for people, or one JSON object a line; progress goes to stderr."""

from __future__ import annotations

import io
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ingest.fields import plain
from ingest.store import StoreStatus
from ingest.types import Chunk, Document, FileReport, Hit, IngestReport, StoredDocument, Value

if TYPE_CHECKING:  # at run time only `add` and `rebuild` need the pipeline and what it imports
    from ingest.pipeline import Progress

_PLAIN_EVERY_S = 5.0


def printable(text: str) -> str:
    """The text with control characters shown, so that a file's name or content cannot drive the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def counted(count: int, noun: str) -> str:
    """A number and what it counts: 1 file, 2 files."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def json_line(value: Any) -> None:
    """One JSON object, one line; in ASCII where the reader's encoding has not every character."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(value, ensure_ascii=not is_unicode), flush=True)


def speak_any_name() -> None:
    """Let stdout spell what its encoding has not, as stderr does: a name must not end a run."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def note(text: str) -> None:
    """A line for people, on stderr: never part of what another program reads."""
    print(text, file=sys.stderr, flush=True)


class ProgressDisplay:
    """A bar on a terminal, a plain line now and then elsewhere; with `--json`, a line a file on stdout."""

    def __init__(self, as_json: bool, *, quiet: bool = False) -> None:
        self._as_json = as_json
        self._quiet = quiet  # no bar, and no word of what did not change
        self._bar: Any = None
        self._started = self._told = time.monotonic()
        self.written = 0  #: files that were added or updated so far

    def __call__(self, progress: Progress) -> None:
        """Show where the run stands."""
        file = progress.file
        if file is not None:
            self.written += file.status in ("added", "updated")
            if self._as_json and not (self._quiet and file.status in ("unchanged", "skipped")):
                json_line(asdict(file))
        if self._quiet:
            return
        now = time.monotonic()
        rate = progress.embedded / max(now - self._started, 1e-6)
        speed = f"{counted(progress.embedded, 'passage')} embedded ({rate:.1f}/s)"
        if sys.stderr.isatty():
            self._draw(progress, speed)
        elif now - self._told > _PLAIN_EVERY_S:
            self._told = now
            note(f"{progress.files_done} of {progress.files_total} files, {speed}")

    def _draw(self, progress: Progress, speed: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=progress.files_total, unit="file", file=sys.stderr, leave=False, dynamic_ncols=True
            )
        self._bar.total = max(progress.files_total, progress.files_done)
        self._bar.n = progress.files_done
        self._bar.set_postfix_str(speed, refresh=False)
        self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def show_report(report: IngestReport, as_json: bool) -> None:
    """The figures of a run; failures and remarks with their reasons."""
    statuses = ("added", "updated", "unchanged", "forgotten", "skipped", "failed")
    counts = {status: report.count(status) for status in statuses}  # type: ignore[arg-type]
    rest = {
        name: getattr(report, name)
        for name in ("parsed", "embedded", "pages", "collection", "generation", "cancelled")
    }
    if as_json:
        json_line(counts | {"seconds": round(report.seconds, 3)} | rest)
        return
    for file in report.files:
        if file.status == "failed":
            print(f"failed   {printable(file.path)}: {printable(_without_path(file))}")
        elif file.reason and file.status != "skipped":
            print(f"note     {printable(file.path)}: {printable(_without_path(file))}")
    skipped = Counter(file.reason for file in report.files if file.status == "skipped")
    for reason, count in skipped.most_common():
        names = [printable(file.path) for file in report.files if file.reason == reason]
        print(f"skipped  {names[0] if count == 1 else f'{count} files'}: {reason}")
    shown = ", ".join(
        f"{count} {status}" for status, count in counts.items() if count or status in ("added", "failed")
    )
    print(f"{shown}{' (stopped before the end)' if report.cancelled else ''}")
    print(
        f"{counted(report.parsed, 'file')} parsed, {counted(report.pages, 'page')}, "
        f"{counted(report.embedded, 'passage')} embedded, "
        f"{report.seconds:.1f} s; "
        f"collection {report.collection}, generation {report.generation}"
    )


def show_hits(hits: tuple[Hit, ...], as_json: bool) -> None:
    """Passages, best first."""
    for rank, hit in enumerate(hits, start=1):
        if as_json:
            json_line({"rank": rank} | asdict(hit))
            continue
        place = f", page {_pages(hit)}" if hit.page_first is not None else ""
        arms = [
            f"{n} {v:.3f}"
            for n, v in (("cosine", hit.dense_score), ("bm25", hit.keyword_score))
            if v is not None
        ]
        print(f"{rank}. {hit.score:.3f}  {printable(hit.path)}{place}  [{', '.join(arms)}]")
        if hit.heading_path:
            print(f"   {printable(' > '.join(hit.heading_path))}")
        print(f"   {_excerpt(hit.text)}\n")
    if not hits and not as_json:
        print("Nothing found.")


def _pages(place: Hit | Chunk) -> str:
    return (
        str(place.page_first)
        if place.page_first == place.page_last
        else f"{place.page_first}-{place.page_last}"
    )


def _excerpt(text: str, length: int = 300) -> str:
    line = printable(" ".join(text.split()))
    if len(line) <= length:
        return line
    head = line[:length].rsplit(" ", 1)[0]  # Chinese has no spaces to end at
    return (head if len(head) > length // 2 else line[:length]) + " …"


def show_documents(documents: list[StoredDocument], as_json: bool) -> None:
    """One line a document."""
    for document in documents:
        if as_json:
            json_line(asdict(document))
        else:
            pages = f"{document.pages:>5} p" if document.pages else "       "
            print(
                f"{document.chunks:>6} passages {pages}  {printable(document.path)}  "
                f"{printable(document.title)}"
            )
    if not as_json:
        print(counted(len(documents), "document"))


def show_document(
    stored: StoredDocument, document: Document, chunks: tuple[Chunk, ...], as_json: bool
) -> None:
    """One document: what is known of it, then its passages as they are stored."""
    if as_json:
        passages = [asdict(chunk) for chunk in chunks]
        json_line(asdict(stored) | {"parser": document.parser, "text": document.text, "passages": passages})
        return
    facts = {
        "path": stored.path,
        "title": stored.title,
        "id": stored.document_id,
        "content": stored.content_hash,
        "recipe": stored.recipe,
        "ingested": stored.ingested_at,
        "characters": str(stored.characters),
        "pages": str(stored.pages or "-"),
        **stored.metadata,
        **{f"{key} *": plain_value(value) for key, value in stored.own.items()},
    }
    for name, value in facts.items():
        print(f"{name:<12} {printable(value)}")
    for warning in stored.warnings:
        print(f"{'warning':<12} {printable(warning)}")
    for chunk in chunks:
        page = f", page {_pages(chunk)}" if chunk.page_first is not None else ""
        headings = f", {printable(' > '.join(chunk.heading_path))}" if chunk.heading_path else ""
        print(
            f"\n-- passage {chunk.position + 1}, {chunk.tokens} tokens, {chunk.char_start} to "
            f"{chunk.char_end}{page}{headings}"
        )
        print("\n".join(printable(line) for line in chunk.text.splitlines()))


def plain_value(value: Value) -> str:
    """A field that the user set, as `--set` would take it."""
    return f"[{', '.join(map(plain, value))}]" if isinstance(value, tuple) else plain(value)


def show_status(status: StoreStatus, as_json: bool) -> None:
    """The collection in figures."""
    if as_json:
        json_line(asdict(status))
        return
    facts = {
        "collection": status.collection,
        "documents": str(status.documents),
        "passages": str(status.chunks),
        "characters": str(status.characters),
        "embedder": f"{status.embedder_name} ({status.embedder_id}), {status.dimension} dimensions"
        if status.embedder_id
        else "none yet",
        "passages of": f"{status.chunking} tokens" if status.chunking else "as the settings say",
        "generation": str(status.generation),
        "on disk": f"{status.bytes_on_disk / 1e6:.1f} MB, schema {status.schema}",
        "made": status.created_at,
        "writing now": status.writer or "nobody",
    }
    for name, value in facts.items():
        print(f"{name:<12} {printable(value)}")


def _without_path(file: FileReport) -> str:
    """The reason, which as an error names the file too, behind a path that has been printed already."""
    before, colon, rest = file.reason.partition(": ")
    return rest if colon and before.endswith(PurePath(file.path).name) else file.reason


def failed(report: IngestReport) -> bool:
    """Whether a file failed: then the exit status is 1."""
    return any(file.status == "failed" for file in report.files)
