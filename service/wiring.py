"""The composition root's hands: how real collections and real weights are opened.

Heavy imports (torch, sentence-transformers, FAISS) happen inside the loaders, in the threads that load.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.collections import collection_folder
from ingest.settings import IngestSettings, read_table
from model.errors import AdapterError, ModelError, UnknownModel
from service.errors import BadKeyFile, WeightsMissing
from service.generators import Generator
from service.generators.failover import Server
from service.library import Library
from service.models import AdapterInfo, Models
from service.reading.calibrators import Calibrators
from service.residents import Resident
from service.settings import ServiceSettings, ollama_host

if TYPE_CHECKING:
    from service.reading.cache import States


def library(settings: ServiceSettings, home: Path) -> Library:
    """The collections of `home`."""
    from ingest.embed.finding import embedder_named
    from service.ingesting import IngestProcess
    from service.shelves import Shelves

    ingest_settings = read_table("ingest", IngestSettings)
    if not ingest_settings.openai_upstreams:
        served = {"openai_upstreams": settings.openai_upstreams, "openai_key_file": settings.openai_key_file}
        ingest_settings = ingest_settings.model_copy(update=served)
    return Shelves(
        home,
        settings.collection,
        ingest_settings,
        lambda name: embedder_named(name, home, ingest_settings),
        IngestProcess() if ingest_settings.store == "sqlite" else None,
    )


def calibrators(home: Path) -> Calibrators:
    """The shipped calibrator, and those of the collections of `home`."""
    return Calibrators(lambda name: collection_folder(home, name))


def models(settings: ServiceSettings, home: Path, generator: Generator | None) -> Models:
    """The generators of `home`, and Ollama's; a generator that is handed in is the only one."""
    if generator is not None:
        return Models(generator.name, Given(generator), None)
    from service.generators.ollama import OllamaServer

    ollama = OllamaServer(ollama_host(), settings.ollama_context_tokens)
    return Models(
        settings.model,
        OnDisk(home, settings.kernel, settings.reading_cache_mb),
        ollama,
        settings.resident_models,
        openai_servers(settings),
    )


def openai_servers(settings: ServiceSettings) -> list[Server]:
    """The OpenAI-style servers that the settings name.

    Raises:
        InvalidRequest: an address is none.
        BadKeyFile: the file with their key cannot be read.
    """
    if not settings.openai_upstreams:
        return []
    from service.generators.openai import OpenAIServer

    key = None
    if settings.openai_key_file is not None:
        try:
            key = settings.openai_key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadKeyFile(f"the key file {settings.openai_key_file} cannot be read: {error}") from error
    return [OpenAIServer(a, settings.openai_context_tokens, key) for a in settings.openai_upstreams]


class OnDisk:
    """The installed models and adapters of a data folder; a `service.models.Installed`."""

    def __init__(self, home: Path, kernel: str = "auto", reading_cache_mb: int = 256) -> None:
        self._home, self._kernel = home, kernel
        self._cache_mb = reading_cache_mb
        self._states: States | None = None  #: of all models together

    def models(self) -> list[str]:
        """Names of the models that can answer."""
        return generators(self._home)

    def adapters(self) -> list[AdapterInfo]:
        """The adapters."""
        from model import shelf

        return [AdapterInfo(a.name, a.base, a.rank) for a in shelf.adapters(self._home)]

    def stale(self, adapter: str) -> str | None:
        """Why an adapter's documents no longer stand as it was trained on them; None where they do."""
        from model import shelf
        from service.tuning import trained_on

        folders = [a.folder for a in shelf.adapters(self._home) if a.name == adapter]
        return trained_on.stale(folders[0], self._home) if folders else None

    def trained_on(self, model: str, adapter: str | None) -> dict[str, list[str]]:
        """Which of the two says that it was trained on documents, and of which collections.

        Where what it says cannot be read, the collection has no name: nobody can be sure of it.
        """
        from model import install, layout, shelf
        from service.tuning import trained_on

        found: dict[str, list[str]] = {}
        with contextlib.suppress(ModelError):  # no model, then; whoever asks it is told so
            _, told = layout.read_config(install.models_folder(self._home) / model)
            found[model] = list(told.get(shelf.KNOWN, ()))
        for one in shelf.adapters(self._home):
            if one.name == adapter and (one.folder / shelf.TRAINED_ON).is_file():
                marked = trained_on.read(one.folder)
                found[one.name] = [marked.collection if marked else ""]
        return found

    def load(self, name: str) -> Resident:
        """Our engine with the installed model of that name.

        Raises:
            WeightsMissing: it is not installed; names the command that fetches it.
            ModelError: it is damaged, or cannot chat.
        """
        from model import install

        try:
            path = install.find(name, self._home)
        except UnknownModel as error:
            raise WeightsMissing(str(error)) from error
        from model.engine import Engine
        from service.generators.own import OwnModel
        from service.reading.cache import MEGABYTE, States

        if self._states is None:
            self._states = States(self._cache_mb * MEGABYTE)
        return OwnModel(Engine.load(path, kernel=self._kernel), self._home, self._states)

    def cache_bytes(self) -> int:
        """Of the states that are held."""
        return self._states.nbytes if self._states is not None else 0


class Given:
    """One generator that somebody made; a `service.models.Installed` and its only resident."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def models(self) -> list[str]:
        """Its name."""
        return [self._generator.name]

    def adapters(self) -> list[AdapterInfo]:
        """None."""
        return []

    def stale(self, adapter: str) -> str | None:  # noqa: ARG002 - it has none
        """Nothing is."""
        return None

    def trained_on(self, model: str, adapter: str | None) -> dict[str, list[str]]:  # noqa: ARG002
        """On nobody's."""
        return {}

    def load(self, name: str) -> Resident:  # noqa: ARG002
        """It is there already."""
        return _GivenResident(self._generator)

    def cache_bytes(self) -> int:
        """None."""
        return 0


class _GivenResident:
    adapters: tuple[str, ...] = ()

    def __init__(self, given: Generator) -> None:
        self._given = given

    def attach(self, adapter: str) -> None:
        raise UnknownModel(f"no adapter {adapter!r} is installed")

    def detach(self, adapter: str) -> None:
        raise AdapterError(f"no adapter {adapter!r} is attached")

    def generator(self, adapter: str | None) -> Generator:  # noqa: ARG002 - it has none
        return self._given


def own(name: str, home: Path) -> Generator:
    """Our engine with the installed model of that name.

    Raises:
        WeightsMissing: it is not installed; names the command that fetches it.
        ModelError: it is damaged, or cannot chat.
    """
    return OnDisk(home).load(name).generator(None)


def generators(home: Path) -> list[str]:
    """Names of the installed models that can answer."""
    from model import install

    folder = install.models_folder(home)
    return [name for name in install.installed(home) if install.kind_of(folder / name) == "generator"]
