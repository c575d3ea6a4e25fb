"""Our own engine as a generator: every capability, no other process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from model.config import Sampling
from model.engine import Engine
from service.generators import Capability, Message, Piece

#: A vocabulary that writes Chinese spends about one token on a character; one that was trained on English
#: alone spells each in two or three bytes.
CJK_SAMPLE = "知识库根据文档回答问题，并给出可以核对的引用。検索拡張生成とは何ですか。"
CJK_TOKENS_PER_CHARACTER = 1.3
#: A decoder below this width loses the thread of whole passages; it is given the best sentences instead.
SMALL_WIDTH, SMALL_FOCUS = 1024, 3


class OwnGenerator:
    """A loaded checkpoint with a chat template."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writes_cjk = engine.tokenizer.count(CJK_SAMPLE) <= CJK_TOKENS_PER_CHARACTER * len(CJK_SAMPLE)

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self._engine.name

    @property
    def context_tokens(self) -> int:
        """Length of the window, prompt and reply together."""
        return self._engine.config.context_length

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        return frozenset({"stream", "score"})

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
        reply = self._engine.generate(self._engine.prompt(messages), sampling, cancel)
        for token in reply:
            if reply.finish_reason is not None:
                yield Piece(token.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens)
            elif token.text:
                yield Piece(token.text)
