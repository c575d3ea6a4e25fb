"""`add`: take in files and folders, once or for as long as they are watched."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.cli import terminal
from ingest.cli.opening import FindEmbedder, embedder_of, open_store
from ingest.collections import exists
from ingest.embed import Embedder
from ingest.embed.finding import embedder_named
from ingest.errors import IngestError
from ingest.fetch import is_url
from ingest.fields import parse_settings
from ingest.remote import is_remote, plain, system
from ingest.settings import IngestSettings, chunked, chunking_of, find_home
from ingest.store import Store
from ingest.types import IngestReport, Value

if TYPE_CHECKING:
    from ingest.pipeline.crew import Crew


def add(arguments: argparse.Namespace, home: Path, settings: IngestSettings, find: FindEmbedder) -> int:
    """Take in the paths; with `--watch` follow them until Ctrl-C."""
    own = parse_settings(arguments.set)
    urls = [path for path in arguments.paths if is_url(path)]
    paths = [path for path in arguments.paths if not is_url(path)]
    if paths:
        _check_paths(paths, bool(urls) or exists(home, settings.collection, settings.store))
    elif arguments.watch:
        raise IngestError("--watch follows folders, and there is none among what was named.")
    if arguments.watch and (files := [path for path in paths if not Path(path).expanduser().is_dir()]):
        raise IngestError(f"--watch follows folders, and {files[0]} is none. Name the folder that it is in.")
    with open_store(arguments, home, settings, create=True) as store:
        if arguments.chunking:
            _fix_chunking(store, settings, arguments.chunking)
        embedder = embedder_of(store, arguments.embedder, settings, find)
        reports = [_add_pages(arguments, urls, store, settings, embedder, own)] if urls else []
        with _crew(settings, home, embedder) if paths else nullcontext() as crew:
            run = _runner(arguments, store, settings, embedder, own, crew)
            if paths:
                reports.append(run(paths, quiet=False))
            if arguments.watch:
                folders = [Path(path).expanduser().resolve() for path in paths]
                _watch(folders, home, run, reports[-1], arguments.json)
                return 0
    return 1 if any(map(terminal.failed, reports)) else 0


@contextmanager
def _crew(settings: IngestSettings, home: Path, embedder: Embedder) -> Iterator[Crew | None]:
    """The Ray workers that the settings ask for, not started yet; None where this machine does the work."""
    if settings.engine == "local":
        if settings.ray_address is not None:
            raise IngestError("--address names a Ray cluster: say --engine ray too, or leave it out.")
        yield None
        return
    try:
        from ingest.pipeline.crew import Crew
    except ImportError as error:
        raise IngestError(
            "--engine ray needs the package ray, which is not installed. "
            "Install it: pip install 'lorebase[ray]'."
        ) from error
    make = partial(_embedder_there, embedder.name, home, settings)
    with Crew(make, address=settings.ray_address, workers=settings.workers) as crew:
        yield crew


def _embedder_there(name: str, home: Path, settings: IngestSettings) -> Embedder:
    """The embedder on the machine of a worker, whose data folder may be another."""
    return embedder_named(name, home if (home / "models").is_dir() else find_home(), settings)


def _fix_chunking(store: Store, settings: IngestSettings, wanted: str) -> None:
    """Fix how a new collection is cut; refuse to change it by the way."""
    chunking = chunking_of(chunked(settings, wanted))
    status = store.status()
    if status.documents and chunking != (status.chunking or chunking_of(settings)):
        raise IngestError(
            f"Collection {status.collection!r} is cut as {status.chunking or chunking_of(settings)}, not as "
            f"{chunking}. Leave out --chunking, or run `python -m ingest rebuild --chunking {wanted} "
            f"--collection {status.collection}`."
        )
    if status.chunking != chunking:
        store.fix_chunking(chunking)


def _add_pages(  # noqa: PLR0917 - as the others
    arguments: argparse.Namespace,
    urls: list[str],
    store: Store,
    settings: IngestSettings,
    embedder: Embedder,
    own: Mapping[str, Value | None],
) -> IngestReport:
    from ingest.pipeline import ingest_pages

    with terminal.ProgressDisplay(arguments.json) as display:
        report = ingest_pages(
            urls,
            store,
            embedder,
            settings,
            own=own or None,
            password=arguments.password,
            progress=display,
        )
    terminal.show_report(report, arguments.json)
    return report


Runner = Callable[..., IngestReport]


def _runner(  # noqa: PLR0917 - as the others
    arguments: argparse.Namespace,
    store: Store,
    settings: IngestSettings,
    embedder: Embedder,
    own: Mapping[str, Value | None],
    crew: Crew | None,
) -> Runner:
    """A function that takes in paths as the arguments say and prints what became of them."""
    from ingest.pipeline import ingest_path

    def run(paths: list[str], *, quiet: bool) -> IngestReport:
        with terminal.ProgressDisplay(arguments.json, quiet=quiet) as display:
            try:
                report = ingest_path(
                    paths,
                    store,
                    embedder,
                    settings,
                    sync=arguments.sync or arguments.watch,
                    allow_empty=arguments.allow_empty,
                    own=own or None,
                    retry=arguments.retry and not quiet,
                    include=arguments.include,
                    exclude=arguments.exclude,
                    password=arguments.password,
                    progress=display,
                    crew=crew,
                )
            except (KeyboardInterrupt, IngestError):
                if not quiet:
                    terminal.note(
                        f"\nstopped; {display.written} files were written and stay. "
                        "The same command goes on from there."
                    )
                raise
        if not quiet:
            terminal.show_report(report, arguments.json)
        return report

    return run


def _watch(folders: list[Path], home: Path, run: Runner, first: IngestReport, as_json: bool) -> None:
    from ingest.pipeline.watch import follow

    told = {(f.path, f.reason) for f in first.files if f.status == "failed"}

    def look() -> None:
        nonlocal told
        report = run([str(folder) for folder in folders], quiet=True)
        failed = {(f.path, f.reason) for f in report.files if f.status == "failed"}
        if failed - told or any(file.status in ("added", "updated", "forgotten") for file in report.files):
            terminal.show_report(report, as_json)
        told = failed

    terminal.note("watching " + ", ".join(map(str, folders)) + "; Ctrl-C ends it")
    try:
        follow(folders, home, look, say=terminal.note)
    except KeyboardInterrupt:
        terminal.note("\nno longer watching; what was written stays")


def _check_paths(paths: list[str], known: bool) -> None:
    for path in paths:
        if is_remote(path):
            system(path)  # raises where nothing can reach it
            known = True
        elif "://" in path and not path.startswith("file://"):
            raise IngestError(
                f"{path}: only http and https pages and object stores (s3://BUCKET/FOLDER) are fetched; "
                "files are named by their path."
            )
    if not known and not any(Path(plain(path)).expanduser().exists() for path in paths):
        raise IngestError(
            f"There is no such file or folder: {', '.join(paths)}. "
            "Check the spelling and the folder you are in."
        )
