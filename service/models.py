"""Which generator answers: the loaded one by default, `ollama/NAME` through the upstream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from model.errors import UnknownModel
from service.errors import UpstreamError
from service.generators import Generator


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A generator that can be asked."""

    name: str
    kind: Literal["own", "ollama"]
    loaded: bool
    context_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    detail: str = ""


class Upstream(Protocol):
    """Another server with models of its own."""

    @property
    def address(self) -> str:
        """Where it is."""
        ...

    def models(self) -> Sequence[str]:
        """Names of its models. Raises UpstreamError."""
        ...

    def generator(self, name: str) -> Generator:
        """One of its models; whether it exists shows when it is asked."""
        ...


class Models:
    """Generators by name."""

    def __init__(
        self,
        default: str,
        load: Callable[[], Generator],
        installed: Callable[[], Sequence[str]],
        ollama: Upstream | None,
    ) -> None:
        self.default = default
        self.ollama = ollama
        self._load = load
        self._installed = installed
        self._own: Generator | None = None

    @property
    def own(self) -> Generator | None:
        """The loaded generator of our own engine."""
        return self._own

    @property
    def default_is_own(self) -> bool:
        """Whether questions go to our own engine unless they say otherwise."""
        return not self.default.startswith("ollama/")

    def warm(self) -> None:
        """Load the default generator, unless another server has it.

        Raises:
            WeightsMissing, ModelError: it cannot be loaded.
        """
        if self.default_is_own:
            self._own = self._load()

    def generator(self, name: str | None) -> Generator:
        """The generator of that name, or the default one.

        Raises:
            UnknownModel: no such model is loaded.
        """
        name = name or self.default
        if self._own is not None and name == self._own.name:
            return self._own
        if name.startswith("ollama/") and self.ollama is not None and len(name) > len("ollama/"):
            return self.ollama.generator(name.removeprefix("ollama/"))
        loaded = self._own.name if self._own else "none"
        raise UnknownModel(
            f"no model {name!r} is loaded. Loaded: {loaded}. Another installed model answers after "
            "`python -m service --model NAME`; a model of Ollama is named ollama/NAME."
        )

    def list_own(self) -> list[ModelInfo]:
        """Installed models of our own stack."""
        own = self._own
        names = sorted({*self._installed(), *([own.name] if own else [])})
        return [
            ModelInfo(n, "own", True, own.context_tokens, tuple(sorted(own.capabilities)))
            if own is not None and n == own.name
            else ModelInfo(n, "own", False)
            for n in names
        ]

    def list_upstreams(self) -> list[tuple[str, str, Sequence[str] | None, str]]:
        """Name, address, models (None where it does not answer) and message of each upstream."""
        if self.ollama is None:
            return []
        try:
            return [("ollama", self.ollama.address, self.ollama.models(), "")]
        except UpstreamError as error:
            return [("ollama", self.ollama.address, None, str(error))]
