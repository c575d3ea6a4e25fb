"""Samples: what is trained on, as token ids with the mask of what is supervised.

A sample is a tree of depth one: a prefix, and branches that each continue it. One conversation is a tree with
one branch and an empty prefix. Several conversations that begin alike (questions on the same passage) share
the prefix, which is then read once however many branches there are.

Invariants:

* prefix + branch is, id for id, what the conversation gives alone, up to its last end token. The shared
  prefix is found among the ids, never by cutting the text, so no token is split or joined differently because
  of the sharing.
* Nothing in a prefix is supervised, and every branch of a tree begins with an unsupervised token. The last
  token of a prefix has as many successors as there are branches and therefore predicts none; where a reply
  would begin right behind the prefix, the token before it goes into every branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.chat import ChatTemplate, Conversation, Message, Teach
from model.errors import DataError
from model.tokenizer import Tokenizer

Ids = NDArray[np.int32]
Mask = NDArray[np.bool_]
TooLong = Literal["truncate", "drop"]

NO_IDS: Ids = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Branch:
    """One continuation: ids (n,), and for each whether it is supervised."""

    ids: Ids
    mask: Mask


@dataclass(frozen=True, slots=True)
class Sample:
    """A prefix that nothing supervises and the branches behind it; at least one."""

    branches: tuple[Branch, ...]
    prefix: Ids = field(default_factory=lambda: NO_IDS)

    def __post_init__(self) -> None:
        """Refuse a tree whose branches' first tokens nothing could predict."""
        if not self.branches or any(not len(branch.ids) for branch in self.branches):
            raise ValueError("a sample needs at least one branch, and no branch may be empty")
        if len(self.prefix) and any(branch.mask[0] for branch in self.branches):
            raise ValueError("a branch behind a prefix must begin with an unsupervised token")

    @property
    def tokens(self) -> int:
        """Tokens laid out: the prefix once and every branch."""
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)

    @property
    def depth(self) -> int:
        """Positions taken: the prefix and the longest branch."""
        return len(self.prefix) + max(len(branch.ids) for branch in self.branches)

    @property
    def supervised(self) -> int:
        """Tokens that are predicted; a first token with nothing before it is not."""
        return sum(int(branch.mask[0 if len(self.prefix) else 1 :].sum()) for branch in self.branches)


@dataclass(slots=True)
class Counts:
    """What became of the conversations; each lands in exactly one of kept and dropped_*."""

    conversations: int = 0
    kept: int = 0
    truncated: int = 0  #: of the kept ones: cut at cutoff_len, so the last reply has no end token to learn
    dropped_too_long: int = 0  #: by option, or because the cut left nothing to learn
    dropped_empty: int = 0  #: every reply is blank
    dropped_unsupervised: int = 0  #: no reply at all
    tokens: int = 0  #: laid out, shared prefixes once
    unshared_tokens: int = 0  #: what the same conversations take one by one
    supervised: int = 0

    def dropped(self) -> int:
        """Conversations not trained on."""
        return self.dropped_too_long + self.dropped_empty + self.dropped_unsupervised

    def __str__(self) -> str:
        """One line for a log."""
        lost = {
            "too long": self.dropped_too_long,
            "with an empty reply": self.dropped_empty,
            "without a supervised token": self.dropped_unsupervised,
        }
        parts = [f"{self.kept} of {self.conversations} conversations"]
        parts += [f"{self.truncated} truncated"] if self.truncated else []
        parts += [f"{count} dropped {why}" for why, count in lost.items() if count]
        share = self.supervised / self.tokens if self.tokens else 0.0
        parts.append(f"{self.tokens} tokens, {share:.1%} supervised")
        return ", ".join(parts)


def encode(
    groups: Sequence[Sequence[Sequence[Message]]],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    *,
    cutoff_len: int,
    too_long: TooLong = "truncate",
    teach: Teach = "said",
) -> tuple[list[Sample], Counts]:
    """Samples of conversations that come in groups; those of one group share what they begin with.

    A conversation longer than `cutoff_len` tokens is cut there or dropped. A cut reply keeps its supervised
    tokens up to the cut and loses its end token: no end is taught where none is.

    Raises:
        DataError: cutoff_len below 2.
        UnsupportedModel: the vocabulary has no chat tokens.
    """
    if cutoff_len < 2:
        raise DataError(f"cutoff_len must be at least 2 tokens, got {cutoff_len}")
    samples, counts = [], Counts()
    for group in groups:
        kept = []
        for messages in group:
            counts.conversations += 1
            if _silent(messages):
                counts.dropped_empty += 1
                continue
            conversation = template.encode(_up_to_last_reply(messages), tokenizer, reply=False, teach=teach)
            branch = _cut(conversation, cutoff_len, too_long, counts)
            if branch is not None:
                kept.append(branch)
        if kept:
            sample = share(kept)
            samples.append(sample)
            counts.kept += len(kept)
            counts.tokens += sample.tokens
            counts.unshared_tokens += sum(len(branch.ids) for branch in kept)
            counts.supervised += sample.supervised
    return samples, counts


def share(whole: Sequence[Branch]) -> Sample:
    """One tree of conversations, behind the longest prefix that all of them allow."""
    if len(whole) == 1:
        return Sample((whole[0],))
    prefix = min(_sharable(branch) for branch in whole)
    first = whole[0].ids
    for other in whole[1:]:
        different = np.flatnonzero(first[:prefix] != other.ids[:prefix])
        prefix = int(different[0]) if len(different) else prefix
    return Sample(tuple(Branch(b.ids[prefix:], b.mask[prefix:]) for b in whole), first[:prefix])


def _sharable(branch: Branch) -> int:
    """How much of a conversation may go into a prefix: all before the token that precedes its first reply."""
    supervised = np.flatnonzero(branch.mask)
    return max(0, int(supervised[0]) - 1) if len(supervised) else len(branch.ids) - 1


def _cut(conversation: Conversation, cutoff_len: int, too_long: TooLong, counts: Counts) -> Branch | None:
    """The conversation as a branch of at most `cutoff_len` tokens, or None where nothing is left to learn."""
    mask = np.array(conversation.mask, np.bool_)
    if not mask[1:].any():
        counts.dropped_unsupervised += 1
        return None
    length = int(np.flatnonzero(mask)[-1]) + 1  # nothing is learned from what follows the last end token
    mask = mask[: min(length, cutoff_len)]
    if length > cutoff_len and (too_long == "drop" or not mask[1:].any()):
        counts.dropped_too_long += 1
        return None
    counts.truncated += length > cutoff_len
    return Branch(np.array(conversation.ids[: len(mask)], np.int32), mask)


def _silent(messages: Sequence[Message]) -> bool:
    """True if there are replies and all of them are blank: they would teach to say nothing."""
    replies = [turn["content"] for turn in messages if turn["role"] == "assistant"]
    return bool(replies) and not any(reply.strip() for reply in replies)


def _up_to_last_reply(messages: Sequence[Message]) -> Sequence[Message]:
    """Without the turns behind the last reply, which nothing would learn from."""
    last = max((i for i, turn in enumerate(messages) if turn["role"] == "assistant"), default=-1)
    return messages[: last + 1] if last >= 0 else messages
