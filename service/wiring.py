"""The composition root's own hands: how real collections and real weights are opened.

Heavy imports (torch, sentence-transformers, FAISS) happen inside the loaders, in the threads that load.
"""

from __future__ import annotations

from pathlib import Path

from service.generators import Generator
from service.library import Library
from service.models import Models
from service.settings import ServiceSettings


def library(settings: ServiceSettings, home: Path) -> Library:
    """The collections of `home`."""
    raise NotImplementedError


def models(settings: ServiceSettings, home: Path, generator: Generator | None) -> Models:
    """The generators of `home`, and Ollama's."""
    if generator is not None:
        return Models(generator.name, lambda: generator, lambda: [generator.name], None)
    raise NotImplementedError
