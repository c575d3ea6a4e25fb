"""OpenAI's wire, as far as it is spoken here.

Fields that nobody here knows are ignored, as clients send ever more of them. Fields that would change the
reply and that nobody here can do are refused (`unsupported`), so that no reply is other than what was asked
for without saying so.
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
from service.schemas.retrieving import Retrieving
from service.schemas.wire import Reply, Text

Model = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
Stop = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
#: Smallest nucleus: OpenAI allows 0, which means the likeliest token.
LEAST_TOP_P = 1e-6
#: OpenAI's own limit for one request of embeddings.
MOST_INPUTS = 2048


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class ContentPart(_Request):
    """A part of a turn; only texts are read."""

    type: Text
    text: Text | None = None


class Turn(_Request):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[ContentPart] | None = None
    tool_calls: list[Any] | None = None

    def words(self, at: int) -> str:
        """What is said. Raises UnsupportedField for anything but text."""
        if self.tool_calls or self.role in ("tool", "function"):
            raise UnsupportedField(f"messages.{at}", "tools are not supported")
        if isinstance(self.content, list):
            for part in self.content:
                if part.type not in ("text", "input_text") or part.text is None:
                    raise UnsupportedField(f"messages.{at}.content", f"only text is read, not {part.type!r}")
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class StreamOptions(_Request):
    """How to stream."""

    include_usage: bool | None = False


class _Decoding(_Request, Retrieving):
    """What both kinds of completion share. `top_k`, `min_p`, `repetition_penalty` are not OpenAI's own."""

    model: Model = Field(
        description="an installed MODEL or MODEL+ADAPTER, ollama/NAME, or lorebase:COLLECTION to be answered "
        "from documents"
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2, description="0, the likeliest token, if not given")
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    stop: Stop | list[Stop] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(None, description="only 1")
    logit_bias: dict[str, float] | None = Field(None, description="not supported")
    presence_penalty: float | None = Field(None, description="only 0; see repetition_penalty")
    frequency_penalty: float | None = Field(None, description="only 0; see repetition_penalty")

    @property
    def reply_tokens(self) -> int | None:
        """Longest reply."""
        return self.max_tokens

    def sampling(self) -> Sampling:
        """How to decode; the length is decided elsewhere."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > 16:
            raise UnsupportedField("stop", "at most 16 texts")
        return Sampling(
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=max(LEAST_TOP_P, 1.0 if self.top_p is None else self.top_p),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            stop=tuple(stop),
            seed=None if self.seed is None else self.seed % 2**63,
        )

    def unsupported(self) -> list[tuple[str, object, Sequence[object], str]]:
        """Field, value, values that ask for nothing, and what to do instead."""
        return [
            ("n", self.n, (None, 1), "only 1 reply at a time"),
            ("logit_bias", self.logit_bias, (None, {}), "not supported"),
            ("presence_penalty", self.presence_penalty, (None, 0), "not supported; see repetition_penalty"),
            ("frequency_penalty", self.frequency_penalty, (None, 0), "not supported; see repetition_penalty"),
        ]

    def refuse_unsupported(self) -> None:
        """Raises UnsupportedField for what would change the reply and cannot be done."""
        for field, value, nothing, instead in self.unsupported():
            if value not in nothing:
                raise UnsupportedField(field, instead)


class ChatRequest(_Decoding):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2-135m-instruct",
                    "messages": [{"role": "user", "content": "What is a llama?"}],
                    "stream": True,
                },
                {
                    "model": "lorebase:default",
                    "messages": [{"role": "user", "content": "How do I ingest a folder of documents?"}],
                },
            ]
        }
    )

    messages: list[Turn] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    tools: list[Any] | None = Field(None, description="not supported")
    tool_choice: Any = Field(None, description="not supported")
    functions: list[Any] | None = Field(None, description="not supported")
    response_format: dict[str, Any] | None = Field(None, description='only {"type": "text"}')
    logprobs: bool | None = Field(None, description="not supported; see /score")
    top_logprobs: int | None = Field(None, description="not supported")
    modalities: list[str] | None = Field(None, description='only ["text"]')
    audio: Any = Field(None, description="not supported")

    @property
    def reply_tokens(self) -> int | None:
        """Longest reply."""
        return self.max_completion_tokens or self.max_tokens

    def turns(self) -> list[Message]:
        """The conversation. Raises UnsupportedField for anything but text."""
        roles: dict[str, Literal["system", "user", "assistant"]] = {"user": "user", "assistant": "assistant"}
        return [
            {"role": roles.get(turn.role, "system"), "content": turn.words(at)}
            for at, turn in enumerate(self.messages)
        ]

    def unsupported(self) -> list[tuple[str, object, Sequence[object], str]]:
        """Those of both, and those of a chat."""
        form = (self.response_format or {}).get("type")
        return [
            *super().unsupported(),
            ("tools", self.tools, (None, []), "tools are not supported"),
            ("tool_choice", self.tool_choice, (None, "none", "auto"), "tools are not supported"),
            ("functions", self.functions, (None, []), "tools are not supported"),
            ("response_format", form, (None, "text"), "replies cannot be held to a format"),
            ("logprobs", self.logprobs, (None, False), "not supported; POST /score has them"),
            ("top_logprobs", self.top_logprobs, (None, 0), "not supported"),
            ("modalities", self.modalities, (None, [], ["text"]), "only text is written"),
            ("audio", self.audio, (None,), "only text is written"),
        ]


class CompletionRequest(_Decoding):
    """`POST /v1/completions`: what follows a text, without a chat template."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "smollm2-135m-instruct", "prompt": "Once upon a time", "max_tokens": 32}]
        }
    )

    prompt: (
        Annotated[Text, StringConstraints(min_length=1)]
        | list[Annotated[Text, StringConstraints(min_length=1)]]
    )
    suffix: Text | None = Field(None, description="not supported")
    echo: bool | None = Field(None, description="not supported")
    best_of: int | None = Field(None, description="only 1")
    logprobs: int | None = Field(None, description="not supported; see /score")

    def text(self) -> str:
        """The text to go on with. Raises UnsupportedField for more than one."""
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) != 1:
            raise UnsupportedField("prompt", "one text at a time")
        return self.prompt[0]

    def unsupported(self) -> list[tuple[str, object, Sequence[object], str]]:
        """Those of both, and those of a completion."""
        return [
            *super().unsupported(),
            ("suffix", self.suffix, (None, ""), "not supported"),
            ("echo", self.echo, (None, False), "not supported"),
            ("best_of", self.best_of, (None, 1), "only 1 reply at a time"),
            ("logprobs", self.logprobs, (None,), "not supported; POST /score has them"),
        ]


class EmbeddingRequest(_Request):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "multilingual-e5-small", "input": ["a text", "another"]}]}
    )

    model: Model = Field(description="the installed embedder")
    input: Text | list[Text | int | list[int]] = Field(description="a text or texts; tokens are refused")
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1, le=100_000, description="only the embedder's own")
    input_type: Literal["query", "passage"] | None = Field(
        None, description="not OpenAI's: what the texts are; passage if not given"
    )

    def texts(self) -> list[str]:
        """What to embed. Raises UnsupportedField for tokens, nothing, or too many."""
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [text for text in given if isinstance(text, str)]
        if len(texts) < len(given):
            raise UnsupportedField(
                "input",
                "send texts: tokens are those of another vocabulary (in LangChain: "
                "OpenAIEmbeddings(check_embedding_ctx_length=False))",
            )
        if not 1 <= len(texts) <= MOST_INPUTS:
            raise UnsupportedField("input", f"1 to {MOST_INPUTS} texts")
        return texts


class UsageReply(Reply):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> UsageReply:
        """From counts."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class GroundsReply(Reply):
    """What an answer from documents stands on; not OpenAI's, and only there with `lorebase:COLLECTION`."""

    sources: list[Passage] | None = Field(None, description="passages that the search found, best first")
    citations: list[CitationReply] | None = Field(None, description="what each [n] of the answer stands on")
    answered: bool | None = None
    refusal_reason: Refusal | None = None
    llm_generated: bool | None = Field(None, description="false where the words are the documents' own")
    confidence: float | None = None

    @staticmethod
    def fields(final: Final) -> dict[str, Any]:
        """From the conductor's reply."""
        return {
            "sources": [Passage.of(h) for h in final.sources],
            "citations": [CitationReply.of(c) for c in final.citations],
            "answered": final.answered,
            "refusal_reason": final.refusal_reason,
            "llm_generated": final.llm_generated,
            "confidence": final.confidence,
        }


class Said(Reply):
    """A reply's turn, or a piece of it."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = Field(None, description="the model's reasoning, where it gives any")


Finish = Literal["stop", "length"]


class ChatChoice(Reply):
    """The only reply."""

    index: int = 0
    message: Said
    finish_reason: Finish
    logprobs: None = None


class ChatReply(GroundsReply):
    """A whole reply."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageReply


class ChunkChoice(Reply):
    """A piece of the only reply."""

    index: int = 0
    delta: Said
    finish_reason: Finish | None = None


class ChatChunk(GroundsReply):
    """Data of one server-sent event; the last one is `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageReply | None = None


class TextChoice(Reply):
    """The only reply, or a piece of it."""

    index: int = 0
    text: str
    finish_reason: Finish | None = None
    logprobs: None = None


class CompletionReply(GroundsReply):
    """A whole reply, or a piece of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageReply | None = None


class EmbeddingItem(Reply):
    """One text's vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="with base64: little-endian float32")


class EmbeddingUsage(Reply):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingReply(Reply):
    """Vectors of unit length, in the order of the texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingItem]
    usage: EmbeddingUsage


class ModelItem(Reply):
    """What can be named as `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelList(Reply):
    """Everything that can be named as `model`."""

    object: Literal["list"] = "list"
    data: list[ModelItem]
