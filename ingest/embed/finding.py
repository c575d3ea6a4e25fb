"""From a name to an embedder: what stands before the slash says where its weights are.

NAME, hub id or folder   weights on this machine, through sentence-transformers
onnx/NAME                the same weights as an int8 ONNX graph, converted here once
ollama/NAME              an embedding model of the Ollama server
openai/NAME              one of a server that speaks OpenAI's API
"""

from __future__ import annotations

from pathlib import Path

from ingest.embed import Embedder, find_embedder
from ingest.embed.server import Prefixes, prefixes_of
from ingest.errors import EmbedderError
from ingest.settings import IngestSettings

ONNX, OLLAMA, OPENAI = "onnx/", "ollama/", "openai/"


def is_local(name: str) -> bool:
    """Whether the embedder of that name is weights on this machine."""
    return not name.startswith((OLLAMA, OPENAI))


def embedder_named(name: str, home: Path, settings: IngestSettings) -> Embedder:
    """The embedder of that name. No server is asked, and no weights are read, before something is wanted.

    Args:
        name: see the head of this module.
        home: the data folder, whose `models` are looked through.
        settings: with where servers are, and what is put before texts for them.

    Raises:
        EmbedderError: not installed, no server is set for it, or the file with its key cannot be read.
    """
    if name.startswith(ONNX):
        from ingest.embed.onnx import OnnxEmbedder

        source = find_embedder(name.removeprefix(ONNX), home)
        return OnnxEmbedder.load(source.folder, name=name)
    if name.startswith(OLLAMA):
        from ingest.embed.ollama import OllamaEmbedder

        model = _checked(name, OLLAMA)
        return OllamaEmbedder(model, prefixes=_prefixes(model, settings))
    if name.startswith(OPENAI):
        from ingest.embed.openai import OpenAIEmbedder

        model = _checked(name, OPENAI)
        if not settings.openai_upstreams:
            raise EmbedderError(
                f"No server is set that could serve {name!r}. Name it: LOREBASE_INGEST_OPENAI_UPSTREAMS="
                "http://HOST:PORT/v1, or openai_upstreams in the table [ingest] or [service]."
            )
        return OpenAIEmbedder(model, settings.openai_upstreams, _key(settings), _prefixes(model, settings))
    return find_embedder(name, home)


def _checked(name: str, start: str) -> str:
    model = name.removeprefix(start)
    if not model.strip():
        raise EmbedderError(f"{name!r} names no model: write {start}MODEL.")
    return model


def _key(settings: IngestSettings) -> str | None:
    if settings.openai_key_file is None:
        return None
    try:
        return settings.openai_key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EmbedderError(f"The key file {settings.openai_key_file} cannot be read: {error}.") from error


def _prefixes(model: str, settings: IngestSettings) -> Prefixes:
    known = prefixes_of(model)
    query, passage = settings.server_query_prefix, settings.server_passage_prefix
    return Prefixes(known.query if query is None else query, known.passage if passage is None else passage)
