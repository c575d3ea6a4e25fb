"""Rewards by name: what a reply to a prompt is worth.

    NAME             a trained reward head (`python -m model reward`)
    contains:TEXT    1 where the reply has the text, else 0
    brief:N          1 for at most N words, less by the word, never below -1
    ends             1 where the reply came to its own end, 0 where it was cut

Rules cost nothing and cannot be fooled by style; they are there to try, and to test, the training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from model.errors import TrainingError


class Reply(NamedTuple):
    """One reply, and whether it came to its own end."""

    prompt: str  #: the last user turn
    text: str
    ended: bool


#: Rewards of replies, one each.
Reward = Callable[[Sequence[Reply]], list[float]]


def _contains(text: str) -> Reward:
    if not text:
        raise TrainingError("--reward contains:TEXT needs a text")
    return lambda replies: [float(text in reply.text) for reply in replies]


def _brief(words: str) -> Reward:
    if not words.isdecimal() or int(words) < 1:
        raise TrainingError(f"--reward brief:N needs a number of words, got {words!r}")
    most = int(words)
    return lambda replies: [
        max(1.0 - max(len(reply.text.split()) - most, 0) / most, -1.0) for reply in replies
    ]


def _ends(_: str) -> Reward:
    return lambda replies: [float(reply.ended) for reply in replies]


RULES: dict[str, Callable[[str], Reward]] = {"contains": _contains, "brief": _brief, "ends": _ends}


def find(name: str, home: Path) -> Reward:
    """The reward of that name.

    Raises:
        TrainingError: a rule without what it needs.
        UnknownModel: no such reward head.
    """
    rule, _, rest = name.partition(":")
    if rule in RULES:
        return RULES[rule](rest)
    from model.preferences import reward

    reader = reward.load(name, home)
    return lambda replies: reward.score(reader, [(reply.prompt, reply.text) for reply in replies])
