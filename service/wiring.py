"""The composition root's hands: how real collections and real weights are opened.

Heavy imports (torch, sentence-transformers, FAISS) happen inside the loaders, in the threads that load.
"""

from __future__ import annotations

from pathlib import Path

from ingest.settings import IngestSettings, read_table
from model.errors import UnknownModel
from service.errors import WeightsMissing
from service.generators import Generator
from service.library import Library
from service.models import Models
from service.settings import ServiceSettings, ollama_host


def library(settings: ServiceSettings, home: Path) -> Library:
    """The collections of `home`."""
    from ingest.embed import find_embedder
    from service.shelves import Shelves

    ingest_settings = read_table("ingest", IngestSettings)
    return Shelves(home, settings.collection, ingest_settings, lambda name: find_embedder(name, home))


def models(settings: ServiceSettings, home: Path, generator: Generator | None) -> Models:
    """The generators of `home`, and Ollama's; a generator that is handed in is the only one."""
    if generator is not None:
        given = generator
        return Models(given.name, lambda: given, lambda: [given.name], None)
    from service.generators.ollama import OllamaServer

    ollama = OllamaServer(ollama_host(), settings.ollama_context_tokens)
    return Models(settings.model, lambda: own(settings.model, home), lambda: generators(home), ollama)


def own(name: str, home: Path) -> Generator:
    """Our engine with the installed model of that name.

    Raises:
        WeightsMissing: it is not installed; names the command that fetches it.
        ModelError: it is damaged, or cannot chat.
    """
    from model import install

    try:
        path = install.find(name, home)
    except UnknownModel as error:
        raise WeightsMissing(str(error)) from error
    from model.engine import Engine
    from service.generators.own import OwnGenerator

    return OwnGenerator(Engine.load(path))


def generators(home: Path) -> list[str]:
    """Names of the installed models that can answer."""
    from model import install

    folder = install.models_folder(home)
    return [name for name in install.installed(home) if install.kind_of(folder / name) == "generator"]
