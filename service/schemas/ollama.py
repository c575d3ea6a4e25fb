"""Ollama's wire, as far as it is spoken here.

What is for a model of another server goes there as it came, unknown fields included. For our own models,
unknown fields are ignored, and those that would change the reply and cannot be done are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from model.config import Sampling
from service.errors import UnsupportedField
from service.events import Final, Refusal
from service.generators import Message
from service.schemas.asking import CitationReply, Passage
from service.schemas.openai import LEAST_TOP_P, MOST_INPUTS, Model, Stop
from service.schemas.retrieving import Retrieving
from service.schemas.wire import Reply, Text

#: Field, value, and the values that ask for nothing.
Unsupported = Sequence[tuple[str, object, Sequence[object]]]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: Model = Field(description="an own model, lorebase:COLLECTION, or a model of Ollama's")


class Options(BaseModel):
    """How to decode. Those that size Ollama's own runner (num_ctx, num_thread...) mean nothing here."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    temperature: float | None = Field(None, ge=0, le=100, description="0, the likeliest token, if not given")
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    top_p: float | None = Field(None, ge=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=100)
    num_predict: int | None = Field(None, ge=-2, le=1_000_000, description="below 0: as fits")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    presence_penalty: float | None = Field(None, description="for own models only 0")
    frequency_penalty: float | None = Field(None, description="for own models only 0")
    mirostat: int | None = Field(None, description="for own models only 0")

    def sampling(self) -> Sampling:
        """How to decode; the length is decided elsewhere."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=max(LEAST_TOP_P, 1.0 if self.top_p is None else self.top_p),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repeat_penalty or 1.0,
            stop=tuple(stop),
            seed=None if self.seed is None else self.seed % 2**63,
        )


class _Speaking(_Request, Retrieving):
    stream: bool | None = Field(True, description="Ollama streams unless told otherwise")
    options: Options | None = None
    format: Any = Field(None, description="not for own models")
    think: bool | str | None = Field(None, description="not for own models")
    logprobs: bool | None = Field(None, description="not for own models")
    keep_alive: Any = Field(None, description="own models stay until another one needs the room")

    @property
    def decoding(self) -> Options:
        """How to decode."""
        return self.options or Options.model_validate({})

    @property
    def reply_tokens(self) -> int | None:
        """Longest reply."""
        wanted = self.decoding.num_predict
        return None if wanted is None or wanted < 1 else wanted

    def unsupported(self) -> Unsupported:
        """What an own model cannot do."""
        options = self.decoding
        return [
            ("format", self.format, (None, "", {})),
            ("think", self.think, (None, False)),
            ("logprobs", self.logprobs, (None, False)),
            ("options.presence_penalty", options.presence_penalty, (None, 0)),
            ("options.frequency_penalty", options.frequency_penalty, (None, 0)),
            ("options.mirostat", options.mirostat, (None, 0)),
        ]

    def refuse_unsupported(self) -> None:
        """Raises UnsupportedField for what would change the reply and cannot be done."""
        for field, value, nothing in self.unsupported():
            if value not in nothing:
                raise UnsupportedField(field, f"{self.model} does not support it")


class Turn(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = ""
    images: list[Any] | None = Field(None, description="not for own models")
    tool_calls: list[Any] | None = Field(None, description="not for own models")


class ChatRequest(_Speaking):
    """`POST /api/chat`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "lorebase:default",
                    "messages": [{"role": "user", "content": "How do I ingest a folder of documents?"}],
                    "stream": False,
                },
                {
                    "model": "deepseek-r1:1.5b",
                    "messages": [{"role": "user", "content": "What is a llama?"}],
                    "options": {"temperature": 0},
                },
            ]
        }
    )

    messages: Annotated[list[Turn], Field(max_length=1000)] | None = Field(
        None, description="none: the model is loaded, and nothing is said"
    )
    tools: list[Any] | None = Field(None, description="not for own models")

    def turns(self) -> list[Message]:
        """The conversation. Raises UnsupportedField for anything but text."""
        turns: list[Message] = []
        for at, turn in enumerate(self.messages or ()):
            if turn.images or turn.tool_calls or turn.role == "tool":
                raise UnsupportedField(f"messages.{at}", f"{self.model} reads text, no images and no tools")
            turns.append({"role": turn.role, "content": turn.content or ""})
        return turns

    def unsupported(self) -> Unsupported:
        """Those of both, and those of a chat."""
        return [*super().unsupported(), ("tools", self.tools, (None, []))]


class GenerateRequest(_Speaking):
    """`POST /api/generate`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "smollm2-135m-instruct", "prompt": "What is a llama?", "stream": False}]
        }
    )

    prompt: Text | None = Field("", description="none: the model is loaded, and nothing is said")
    system: Text | None = None
    raw: bool | None = Field(None, description="go on with the prompt as it stands, without a chat template")
    suffix: Text | None = Field(None, description="not for own models")
    template: Text | None = Field(None, description="not for own models")
    context: list[int] | None = Field(None, description="not for own models")
    images: list[Any] | None = Field(None, description="not for own models")

    def said(self) -> list[Message] | str:
        """Turns, or the text to go on with."""
        if not self.prompt or self.raw:
            return self.prompt or ""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]

    def unsupported(self) -> Unsupported:
        """Those of both, and those of a generation."""
        return [
            *super().unsupported(),
            ("suffix", self.suffix, (None, "")),
            ("template", self.template, (None, "")),
            ("context", self.context, (None, [])),
            ("images", self.images, (None, [])),
        ]


class EmbedRequest(_Request):
    """`POST /api/embed`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "multilingual-e5-small", "input": ["a text", "another"]}]}
    )

    input: Text | Annotated[list[Text], Field(max_length=MOST_INPUTS)]
    truncate: bool | None = True
    dimensions: int | None = Field(None, ge=1, le=100_000, description="only the embedder's own")

    def texts(self) -> list[str]:
        """What to embed."""
        return [self.input] if isinstance(self.input, str) else list(self.input)


class EmbeddingsRequest(_Request):
    """`POST /api/embeddings`, the older form."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "multilingual-e5-small", "prompt": "a text"}]}
    )

    prompt: Text


class ShowRequest(BaseModel):
    """`POST /api/show`."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, json_schema_extra={"examples": [{"model": "smollm2-135m-instruct"}]}
    )

    model: Annotated[Text, StringConstraints(max_length=200)] | None = None
    name: Annotated[Text, StringConstraints(max_length=200)] | None = Field(
        None, description="the older form of model"
    )

    def named(self) -> str:
        """The model's name. Raises UnsupportedField where there is none."""
        name = self.model or self.name
        if not name:
            raise UnsupportedField("model", "name a model")
        return name


class _SpokenReply(Reply):
    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load"] | None = None
    total_duration: int | None = Field(None, description="nanoseconds, as all durations")
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    sources: list[Passage] | None = Field(None, description="with lorebase:COLLECTION: what was found")
    citations: list[CitationReply] | None = Field(
        None, description="with lorebase:COLLECTION: what each [n] of the answer stands on"
    )
    answered: bool | None = None
    refusal_reason: Refusal | None = None

    @staticmethod
    def grounds(final: Final) -> dict[str, Any]:
        """From the conductor's reply."""
        return {
            "sources": [Passage.of(h) for h in final.sources],
            "citations": [CitationReply.of(c) for c in final.citations],
            "answered": final.answered,
            "refusal_reason": final.refusal_reason,
        }


class SaidReply(Reply):
    """A reply's turn, or a piece of it."""

    role: Literal["assistant"] = "assistant"
    content: str
    thinking: str | None = None


class ChatReply(_SpokenReply):
    """A whole reply, or one line of a stream."""

    message: SaidReply


class GenerateReply(_SpokenReply):
    """A whole reply, or one line of a stream."""

    response: str
    thinking: str | None = None


class EmbedReply(Reply):
    """Vectors of unit length, in the order of the texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int


class EmbeddingsReply(Reply):
    """One text's vector."""

    embedding: list[float]


class Details(Reply):
    """What kind of model it is."""

    parent_model: str = ""
    format: str = "lorebase"
    family: str = "lorebase"
    families: list[str] = Field(default_factory=lambda: ["lorebase"])
    parameter_size: str = ""
    quantization_level: str = ""


class Listed(Reply):
    """A model in a list. Those of Ollama's are as it tells them itself."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    model: str
    modified_at: str | None = None
    size: int | None = None
    digest: str | None = None
    details: dict[str, Any] | None = None


class ListReply(Reply):
    """Models."""

    models: list[Listed]


class ShowReply(Reply):
    """One model."""

    model_config = ConfigDict(extra="allow", frozen=True)

    modelfile: str | None = None
    parameters: str | None = None
    template: str | None = None
    details: dict[str, Any] | None = None
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None
    modified_at: str | None = None


class VersionReply(Reply):
    """Of Lorebase."""

    version: str
