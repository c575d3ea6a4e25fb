"""Replies to instructions that were held out, and how many say exactly what the set says."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model import install, shelf
from model.chat import Message
from model.config import Sampling
from model.data.sets import DataConfig, gather
from model.data.split import split
from model.engine import Engine
from model.errors import ContextOverflow, DataError
from model.formats import peft


@dataclass(frozen=True, slots=True)
class Instruction:
    """A conversation up to its last question, and the reply that the set has."""

    asked: tuple[Message, ...]
    reference: str


def speaker(name: str, home: Path) -> Engine:
    """MODEL or MODEL+ADAPTER, ready to reply.

    Raises:
        UnknownModel: one of them is not installed.
        ModelError: damaged, or an adapter of another base.
    """
    model, _, adapter = name.partition("+")
    found = shelf.find(adapter, home) if adapter else None
    engine = Engine.load(install.find(model, home))
    if found is None:
        return engine
    engine.attach(found.name, peft.read(found.folder, engine.config, base=engine.base))
    return engine.use(found.name)


def held_out(config: DataConfig, limit: int | None = None) -> tuple[list[Instruction], list[str]]:
    """The instructions of the validation side, as `sft` splits it, and lines on the sets.

    With val_size 0 all of the sets: then they must be sets that were not trained on.

    Raises:
        DataError: a set that cannot be used, or nothing left.
    """
    report: list[str] = []
    examples = gather(config.dataset, config, report)
    if config.val_size:
        _, examples = split(examples, config.val_size)
    found = [
        Instruction(tuple(turns[:-1]), turns[-1]["content"])
        for example in examples
        for turns in example.conversations
        if turns[-1]["role"] == "assistant" and len(turns) > 1
    ][:limit]
    if not found:
        raise DataError(f"{', '.join(config.dataset)}: no instruction with a reply is left")
    return found, report


def replies(
    engine: Engine,
    instructions: Sequence[Instruction],
    sampling: Sampling,
    say: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> list[str]:
    """A reply to each; one whose prompt does not fit the window is empty."""
    found = []
    for number, instruction in enumerate(instructions, 1):
        try:
            prompt = engine.prompt(instruction.asked)
            room = max(engine.config.context_length - len(prompt), 1)
            tokens = engine.generate(prompt, replace(sampling, max_tokens=min(sampling.max_tokens, room)))
            found.append("".join(token.text for token in tokens).strip())
        except ContextOverflow:
            found.append("")
        say(number, len(instructions))
    return found


def normal(text: str) -> str:
    """What is compared: compatible characters, case, spaces and a last full stop aside."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。")


def exact(said: Sequence[str], instructions: Sequence[Instruction]) -> list[bool]:
    """Whether each reply is the reference."""
    return [normal(a) == normal(b.reference) for a, b in zip(said, instructions, strict=True)]
