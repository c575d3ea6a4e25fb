"""Our own engine as a generator: every capability, no other process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from model import shelf
from model.config import Sampling
from model.engine import Engine
from model.errors import AdapterError, ModelError, UnknownModel
from model.formats import peft
from service.generators import Capability, Message, PassageReader, Piece
from service.reading.cache import States
from service.reading.reader import Reader

logger = logging.getLogger(__name__)

#: Tokens that are drafted at a time from prompt and reply, where kernels and sampling allow it.
DRAFTS = 7
#: The adapter with which a model reads passages apart.
READING = "grounded-qa"

#: A vocabulary that writes Chinese spends about one token on a character; one that was trained on English
#: alone spells each in two or three bytes.
CJK_SAMPLE = "知识库根据文档回答问题，并给出可以核对的引用。検索拡張生成とは何ですか。"
CJK_TOKENS_PER_CHARACTER = 1.3
#: A decoder below this width loses the thread of whole passages; it is given the best sentences instead.
SMALL_WIDTH, SMALL_FOCUS = 1024, 3


class OwnModel:
    """A loaded checkpoint and the adapters attached to it; a `service.residents.Resident`."""

    def __init__(self, engine: Engine, home: Path, states: States | None = None) -> None:
        """Make a loaded engine a resident.

        Args:
            engine: the base alone.
            home: the data folder, whose adapters may be attached.
            states: where its reader keeps what was read of passages; without it there is no reader.
        """
        self._engine, self._home, self._states = engine, home, states
        self._lock = threading.RLock()
        self._reader: Reader | None = None
        self._why_none = ""  #: why there is no reader
        self._told = False  #: whether the log has said so

    @property
    def adapters(self) -> list[str]:
        """Names of the attached adapters."""
        return self._engine.adapters

    def attach(self, adapter: str) -> None:
        """Attach an installed adapter; one that is attached stays as it is.

        Raises:
            UnknownModel: no such adapter.
            AdapterError: it is for another base, or damaged.
        """
        with self._lock:
            if adapter not in self._engine.adapters:
                found = shelf.find(adapter, self._home)
                if (
                    None not in (found.base_weights, self._engine.base)
                    and found.base_weights != self._engine.base
                ):
                    raise AdapterError(
                        f"the adapter {adapter} was trained on {found.base or 'another model'} (weights "
                        f"{str(found.base_weights)[:12]}), not on {self._engine.name} (weights "
                        f"{str(self._engine.base)[:12]}); ask it as {found.base or 'MODEL'}+{adapter}"
                    )
                self._engine.attach(adapter, peft.read(found.folder, self._engine.config))

    def detach(self, adapter: str) -> None:
        """Let go of an adapter. Raises AdapterError where it is not attached."""
        with self._lock:
            self._engine.detach(adapter)
            if adapter == READING:
                self._reader = None

    def generator(self, adapter: str | None) -> OwnGenerator:
        """What answers with this attached adapter, or without any.

        By its plain name, and with the reading adapter, it has a reader, if that adapter is installed.
        """
        reader = self._reading() if adapter in (None, READING) else None
        return OwnGenerator(self._engine.use(adapter), reader, self._tell)

    def _reading(self) -> Reader | None:
        """The reader, made when it is first wanted; None where its adapter is missing or for another base."""
        with self._lock:
            if self._reader is None and self._states is not None:
                try:
                    self.attach(READING)
                    self._reader = Reader(self._engine.use(READING), self._states)
                except UnknownModel:
                    return None
                except ModelError as error:
                    self._why_none = str(error)
            return self._reader

    def _tell(self) -> None:
        """Say once, when documents are to be read, why nothing reads them passage by passage."""
        if self._why_none and not self._told:
            logger.warning("%s answers without a reader: %s", self._engine.name, self._why_none)
            self._told = True


class OwnGenerator:
    """A loaded checkpoint with a chat template."""

    def __init__(
        self, engine: Engine, reader: PassageReader | None = None, missed: Callable[[], None] | None = None
    ) -> None:
        """`missed` is called where the reader is wanted and there is none."""
        self._engine, self._reader, self._missed = engine, reader, missed
        self._writes_cjk = engine.tokenizer.count(CJK_SAMPLE) <= CJK_TOKENS_PER_CHARACTER * len(CJK_SAMPLE)

    @property
    def reader(self) -> PassageReader | None:
        """What reads passages apart, if there is such a one."""
        if self._reader is None and self._missed is not None:
            self._missed()
        return self._reader

    @property
    def engine(self) -> Engine:
        """What scores given replies; with the adapter that speaks here."""
        return self._engine

    @property
    def name(self) -> str:
        """The checkpoint's name, and the adapter's behind a plus."""
        return self._engine.name + (f"+{self._engine.adapter}" if self._engine.adapter else "")

    @property
    def context_tokens(self) -> int:
        """Length of the window, prompt and reply together."""
        return self._engine.config.context_length

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        return frozenset({"stream", "score", "constrain"})

    @property
    def writes_cjk(self) -> bool:
        """Whether its vocabulary has Chinese, Japanese and Korean characters rather than their bytes."""
        return self._writes_cjk

    @property
    def focus_sentences(self) -> int:
        """How many sentences it reads, by its width; 0: whole passages."""
        return SMALL_FOCUS if self._engine.config.d_model < SMALL_WIDTH else 0

    def describe(self) -> str:
        """Which kernels run."""
        return self._engine.describe()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the whole rendered prompt."""
        return len(self._engine.prompt(messages))

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece]:
        """The reply, piece by piece; pieces are whole characters.

        Raises:
            ContextOverflow: prompt and reply do not fit the window.
            Cancelled: `cancel` was set.
        """
        yield from self._reply(self._engine.prompt(messages), sampling, cancel)

    def count_text(self, text: str) -> int:
        """Tokens of a text."""
        return self._engine.tokenizer.count(text)

    def go_on(self, text: str, sampling: Sampling, cancel: threading.Event) -> Iterator[Piece]:
        """What follows the text, without the chat template. Raises what `stream` raises."""
        yield from self._reply(self._engine.tokenizer.begin(text), sampling, cancel)

    def _reply(self, prompt: Sequence[int], sampling: Sampling, cancel: threading.Event) -> Iterator[Piece]:
        drafting = replace(sampling, prompt_lookup=DRAFTS)  # the reply is the same, sooner where it quotes
        reply = self._engine.generate(prompt, drafting, cancel)
        for token in reply:
            if reply.finish_reason is not None:
                yield Piece(token.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens)
            elif token.text:
                yield Piece(token.text)
