"""Models, adapters and upstreams."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from service.models import AdapterInfo, ModelInfo
from service.schemas.wire import Reply, Request, encodable

ModelName = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^+]+$"), AfterValidator(encodable)
]


class LoadRequest(Request):
    """`POST /models/load`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "smollm2-135m-instruct"},
                {"model": "smollm2-135m-instruct", "action": "switch", "adapter": "identity"},
                {"model": "smollm2-135m-instruct", "action": "switch", "adapter": None},
                {"model": "smollm2-135m-instruct", "action": "unload"},
            ]
        }
    )

    model: ModelName = Field(description="an installed model of our own")
    action: Literal["load", "unload", "attach", "detach", "switch"] = Field(
        "load",
        description="load: into memory; unload: out of it; attach: make the adapter ready for MODEL+ADAPTER; "
        "detach: let go of it; switch: from now on MODEL answers with the adapter, or with null without one",
    )
    adapter: ModelName | None = Field(None, description="an installed adapter; for attach, detach, switch")

    @model_validator(mode="after")
    def _fits(self) -> LoadRequest:
        if self.action in ("attach", "detach") and self.adapter is None:
            raise ValueError(f"{self.action} needs an adapter")
        if self.action in ("load", "unload") and self.adapter is not None:
            raise ValueError(f"{self.action} takes no adapter; attach, detach and switch do")
        if self.action == "switch" and "adapter" not in self.model_fields_set:
            raise ValueError("switch needs an adapter, or null for none")
        return self


class ModelReply(Reply):
    """A generator that can be asked."""

    name: str
    kind: Literal["own", "ollama", "openai"]
    loaded: bool = Field(description="whether it answers without being loaded first")
    default: bool
    context_tokens: int | None = None
    capabilities: list[str] = Field(default_factory=list)
    detail: str = ""
    adapter: str | None = Field(
        default=None, description="with which it answers when asked by its plain name"
    )
    adapters: list[str] = Field(default_factory=list, description="attached; each answers as MODEL+ADAPTER")

    @classmethod
    def of(cls, info: ModelInfo, *, default: bool) -> ModelReply:
        """From the inner form."""
        fields = {name: getattr(info, name) for name in cls.model_fields if name != "default"}
        return cls.model_validate(fields | {"default": default})


class AdapterReply(Reply):
    """An installed adapter; it is asked as BASE+NAME."""

    name: str
    kind: Literal["adapter"] = "adapter"
    base: str | None = Field(description="the model that it was trained on, as far as it says")
    rank: int | None
    loaded: bool = Field(description="whether it answers without being attached first")
    attached_to: list[str] = Field(description="loaded models that it is attached to")
    stale: str | None = Field(
        description="why the documents that it was trained on no longer stand: deleted or changed since"
    )

    @classmethod
    def of(cls, info: AdapterInfo) -> AdapterReply:
        """From the inner form."""
        return cls(
            name=info.name,
            base=info.base,
            rank=info.rank,
            loaded=bool(info.attached_to),
            attached_to=list(info.attached_to),
            stale=info.stale,
        )


class UpstreamReply(Reply):
    """Another server that answers for models named `NAME/...`."""

    name: str
    address: str
    reachable: bool
    message: str = ""


class OwnModelsReply(Reply):
    """Models of our own engine, and adapters."""

    models: list[ModelReply]
    adapters: list[AdapterReply]
    default: str


class ModelsReply(OwnModelsReply):
    """The same with the upstreams that were asked for theirs, and what they offer."""

    upstreams: list[UpstreamReply]
