"""Which generator answers: an installed model, `MODEL+ADAPTER`, `ollama/NAME` or `openai/NAME` elsewhere.

Choosing costs nothing and happens on the event loop; getting the chosen generator may load a model and
happens in the slot's thread. `switch` decides with which adapter a model answers when it is asked by its
plain name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as GeneratorOf
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from model.errors import UnknownModel
from service.errors import InvalidRequest, UpstreamError
from service.generators import Generator
from service.generators.failover import Failover, Server
from service.residents import Resident, Residents

OLLAMA, OPENAI = "ollama/", "openai/"
UpstreamKind = Literal["ollama", "openai"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A generator that can be asked."""

    name: str
    kind: Literal["own", "ollama", "openai"]
    loaded: bool
    context_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    detail: str = ""
    adapter: str | None = None  #: with which it answers by its plain name
    adapters: tuple[str, ...] = ()  #: attached ones


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter on the disk."""

    name: str
    base: str | None  #: the model that it was trained on, as far as it says
    rank: int | None = None
    attached_to: tuple[str, ...] = ()
    stale: str | None = None  #: why what it was trained on no longer stands


class Upstream(Server, Protocol):
    """An Ollama server, whose own API is passed on, too."""

    def catalogue(self, path: str) -> Sequence[dict[str, Any]]:
        """Its models as it tells them itself at `/api/tags` or `/api/ps`. Raises UpstreamError."""
        ...

    def relay(
        self, path: str, body: Mapping[str, Any], cancel: threading.Event
    ) -> GeneratorOf[bytes, None, None]:
        """Its reply to a request in its own words; to be closed by the thread that reads it.

        Raises:
            UpstreamError, Cancelled: as `service.generators.ollama` does.
        """
        ...


class Installed(Protocol):
    """What is on the disk."""

    def models(self) -> Sequence[str]:
        """Names of the models that can answer."""
        ...

    def adapters(self) -> Sequence[AdapterInfo]:
        """The adapters; quick, so not yet whether they are stale."""
        ...

    def stale(self, adapter: str) -> str | None:
        """Why an adapter's documents no longer stand as it was trained on them; None where they do."""
        ...

    def trained_on(self, model: str, adapter: str | None) -> Mapping[str, Sequence[str]]:
        """Which collections each of the two knows by heart, as far as it says."""
        ...

    def load(self, name: str) -> Resident:
        """A model, loaded. Raises WeightsMissing, ModelError."""
        ...

    def cache_bytes(self) -> int:
        """What was read of passages and is kept for the next question, of all models together."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Who shall answer, before anything is loaded."""

    own: bool  #: in this process, in our own engine's slot
    default: bool  #: the model that the service loads at its start
    get: Callable[[], Generator] = field(repr=False)  #: blocks while a model is loaded


class Models:
    """Generators by name."""

    def __init__(
        self,
        default: str,
        installed: Installed,
        ollama: Upstream | None,
        most_resident: int = 2,
        openai: Sequence[Server] = (),
    ) -> None:
        self.default = default
        self.ollama = ollama
        self.openai = tuple(openai)
        self._served = Failover(self.openai)
        self._installed = installed
        self._residents = Residents(installed.load, most_resident)
        self._switched: dict[str, str] = {}

    @property
    def own(self) -> Generator | None:
        """The default generator, if it is of our own engine and loaded."""
        if not self.default_is_own:
            return None
        model, adapter = self._split(self.default)
        resident = self._residents.peek(model)
        if resident is None or (adapter is not None and adapter not in resident.adapters):
            return None
        return resident.generator(adapter)

    @property
    def default_is_own(self) -> bool:
        """Whether questions go to our own engine unless they say otherwise."""
        return not self.default.startswith((OLLAMA, OPENAI))

    def cache_bytes(self) -> int:
        """What was read of passages and is kept for the next question."""
        return self._installed.cache_bytes()

    def warm(self) -> None:
        """Load the default generator, unless another server has it.

        Raises:
            WeightsMissing, ModelError: it cannot be loaded.
        """
        if self.default_is_own:
            self._answering(*self._split(self.default))

    def choose(self, name: str | None) -> Choice:
        """Who answers by that name, or by default.

        Raises:
            UnknownModel: no model of that name is installed.
        """
        name = name or self.default
        if name.startswith(OLLAMA):
            if self.ollama is None or name == OLLAMA:
                raise UnknownModel(f"no model {name!r}: a model of Ollama is named ollama/NAME")
            generator = self.ollama.generator(name.removeprefix(OLLAMA))
            return Choice(False, name == self.default, lambda: generator)
        if name.startswith(OPENAI):
            if not self.openai or name == OPENAI:
                raise UnknownModel(
                    f"no model {name!r}: a model of an OpenAI-style server is named openai/NAME, and the "
                    "setting openai_upstreams says where such servers are"
                )
            served = name.removeprefix(OPENAI)
            return Choice(False, name == self.default, lambda: self._served.generator(served))
        model, adapter = self._split(name)
        self._require(model, adapter)
        return Choice(True, model == self._split(self.default)[0], lambda: self._answering(model, adapter))

    def trained_on(self, name: str | None) -> Mapping[str, Sequence[str]]:
        """Which collections a model that answers by that name, and its adapter, know by heart."""
        name = name or self.default
        if name.startswith((OLLAMA, OPENAI)):
            return {}
        model, adapter = self._split(name)
        return self._installed.trained_on(model, adapter or self._switched.get(model))

    def has(self, name: str) -> bool:
        """Whether a model of our own answers by that name."""
        try:
            self._require(*self._split(name))
        except (UnknownModel, InvalidRequest):
            return False
        return not name.startswith((OLLAMA, OPENAI))

    def load(self, model: str, adapter: str | None = None) -> None:
        """Load a model, and attach an adapter to it.

        Raises:
            UnknownModel: one of them is not installed.
            AdapterError: the adapter is for another base.
        """
        self._require(model, adapter)
        resident = self._residents.get(model)
        if adapter is not None:
            resident.attach(adapter)

    def unload(self, model: str) -> None:
        """Let go of a model; it is loaded again when it is asked.

        Raises:
            UnknownModel: it is not loaded.
        """
        if not self._residents.drop(model):
            raise UnknownModel(f"the model {model!r} is not loaded; loaded: {self._loaded()}")

    def switch(self, model: str, adapter: str | None) -> None:
        """Let a model answer with an adapter (None: without) whenever it is asked by its plain name.

        Raises:
            UnknownModel: one of them is not installed.
            AdapterError: the adapter is for another base.
        """
        if adapter is None:
            self._require(model, None)
            self._switched.pop(model, None)
        else:
            self.load(model, adapter)
            self._switched[model] = adapter

    def detach(self, model: str, adapter: str) -> None:
        """Let go of an adapter; it is attached again when it is asked for by `MODEL+ADAPTER`.

        Raises:
            UnknownModel: the model is not loaded.
            AdapterError: the adapter is not attached to it.
        """
        resident = self._residents.peek(model)
        if resident is None:
            raise UnknownModel(f"the model {model!r} is not loaded; loaded: {self._loaded()}")
        resident.detach(adapter)
        if self._switched.get(model) == adapter:
            del self._switched[model]

    def list_own(self) -> list[ModelInfo]:
        """Installed models of our own stack."""
        return [self._info(name) for name in sorted({*self._installed.models(), *self._residents.names})]

    def list_adapters(self) -> list[AdapterInfo]:
        """Installed adapters, and where they are attached."""
        held = {
            name: found.adapters for name in self._residents.names if (found := self._residents.peek(name))
        }
        return [
            replace(
                a,
                attached_to=tuple(sorted(m for m, names in held.items() if a.name in names)),
                stale=self._installed.stale(a.name),
            )
            for a in self._installed.adapters()
        ]

    def list_upstreams(self) -> list[tuple[UpstreamKind, str, Sequence[str] | None, str]]:
        """Kind, address, models (None where it does not answer) and message of each upstream."""
        servers: list[tuple[UpstreamKind, Server]] = [] if self.ollama is None else [("ollama", self.ollama)]
        servers += [("openai", server) for server in self.openai]
        found: list[tuple[UpstreamKind, str, Sequence[str] | None, str]] = []
        for kind, server in servers:
            try:
                found.append((kind, server.address, server.models(), ""))
            except UpstreamError as error:
                found.append((kind, server.address, None, str(error)))
        return found

    def _answering(self, model: str, adapter: str | None) -> Generator:
        resident = self._residents.get(model)
        adapter = adapter or self._switched.get(model)
        if adapter is not None:
            resident.attach(adapter)
        return resident.generator(adapter)

    def _info(self, name: str) -> ModelInfo:
        resident, switched = self._residents.peek(name), self._switched.get(name)
        if resident is None:
            return ModelInfo(name, "own", loaded=False, adapter=switched)
        plain = resident.generator(None)
        capabilities, attached = tuple(sorted(plain.capabilities)), tuple(resident.adapters)
        return ModelInfo(name, "own", True, plain.context_tokens, capabilities, "", switched, attached)

    def _require(self, model: str, adapter: str | None) -> None:
        """Both are there; the default model may be missing, and its own error says so when it is loaded."""
        known = {*self._installed.models(), *self._residents.names, self._split(self.default)[0]}
        if model not in known:
            installed = ", ".join(self._installed.models()) or "none"
            raise UnknownModel(
                f"no model {model!r} is installed. Installed: {installed}. "
                "Fetch one: python -m model pull NAME; a model of Ollama is named ollama/NAME."
            )
        if adapter is not None and adapter not in (there := [a.name for a in self._installed.adapters()]):
            raise UnknownModel(
                f"no adapter {adapter!r} is installed. Installed: {', '.join(there) or 'none'}."
            )

    def _loaded(self) -> str:
        return ", ".join(self._residents.names) or "none"

    @staticmethod
    def _split(name: str) -> tuple[str, str | None]:
        """MODEL or MODEL+ADAPTER."""
        model, plus, adapter = name.partition("+")
        if plus and not (model and adapter):
            raise InvalidRequest(f"{name!r} should read MODEL or MODEL+ADAPTER")
        return model, adapter or None
