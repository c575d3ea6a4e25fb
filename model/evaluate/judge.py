"""Marks of replies by a judge: a model in Ollama that is held to a JSON schema.

The judge sees the instruction, the set's own reply and the reply to mark, and answers with a whole number
from 0 to 100. It is not told which of two models replied. Whatever else it says is malformed: it is counted,
and is no mark. Before is compared with after on the instructions that have both marks, in pairs; the interval
is a bootstrap over instructions (Efron 1979).

A judge has tastes of its own (long replies, its own style): compare models by one judge, never marks of two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.chat import Message
from model.errors import OllamaError
from model.evaluate.instructions import Instruction
from model.lines import Lines
from model.ollama import Ollama

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 100}},
    "required": ["score"],
}
SYSTEM = (
    "You mark replies to instructions. Compare the reply with the instruction and with the reference, which "
    "is one right reply among others. Mark from 0 (useless or wrong) to 100 (fully right and complete). Do "
    'not reward length. Answer with JSON only: {"score": NUMBER}.'
)
#: Below so many instructions the interval is wide, and the report says so.
ENOUGH = 100
RESAMPLES, SEED = 10_000, 0
#: Failures in a row after which the judge is given up.
PATIENCE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Marks before and after, and what became of the rest."""

    instructions: int
    pairs: int  #: with both marks
    malformed: int  #: of all marks that were asked for
    unanswered: int  #: requests that failed
    before: float
    after: float
    gain: float
    gain_low: float
    gain_high: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {name: getattr(self, name) for name in self.__slots__}


def question(instruction: Instruction, reply: str) -> list[Message]:
    """What the judge reads."""
    asked = "\n".join(f"{turn['role']}: {turn['content']}" for turn in instruction.asked)
    told = f"Instruction:\n{asked}\n\nReference:\n{instruction.reference}\n\nReply to mark:\n{reply}\n"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": told}]


def mark(said: str) -> int | None:
    """The mark in the judge's words; None where they are no mark."""
    try:
        held = json.loads(said)
    except (ValueError, RecursionError):
        return None
    score = held.get("score") if isinstance(held, dict) else None
    if not isinstance(score, int) or isinstance(score, bool):
        return None
    return score if 0 <= score <= 100 else None


def marks(
    judge: str,
    client: Ollama,
    instructions: Sequence[Instruction],
    said: Sequence[str],
    *,
    kept: Lines,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[int | None], int]:
    """A mark of each reply (None: malformed, or unanswered), and how many were unanswered.

    What was asked before is in `kept` and not asked again; an unanswered one is.

    Raises:
        OllamaError: `PATIENCE` requests failed in a row.
        DataError: the disk refused.
    """
    found: list[int | None] = []
    failed = row = 0
    for number, (instruction, reply) in enumerate(zip(instructions, said, strict=True), 1):
        messages = question(instruction, reply)
        key = hashlib.sha256(json.dumps([judge, messages]).encode()).hexdigest()[:32]
        if key not in kept.records:
            try:
                words = client.reply(judge, messages, options={"temperature": 0, "seed": 0}, schema=SCHEMA)
            except OllamaError as error:
                failed, row = failed + 1, row + 1
                if row == PATIENCE:
                    raise
                say(f"{number}: {error}")
                found.append(None)
                continue
            asked = instruction.asked[-1]["content"]
            kept.add({"key": key, "judge": judge, "asked": asked, "reply": reply, "said": words})
            row = 0
        found.append(mark(kept.records[key]["said"]))
        if number % 10 == 0:
            say(f"{number} of {len(instructions)} replies marked")
    return found, failed


def compare(before: Sequence[int | None], after: Sequence[int | None], unanswered: int = 0) -> Verdict:
    """The paired difference with its 95% interval.

    Raises:
        OllamaError: no instruction has both marks: the judge cannot be used.
    """
    nothing = sum(score is None for score in (*before, *after)) - unanswered
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    if not pairs:
        raise OllamaError(
            f"the judge gave no instruction two marks ({nothing} malformed replies): use a larger judge"
        )
    scores = np.array(pairs, dtype=np.float64)
    gains = scores[:, 1] - scores[:, 0]
    drawn = np.random.default_rng(SEED).integers(0, len(gains), (RESAMPLES, len(gains)))
    low, high = np.quantile(gains[drawn].mean(1), (0.025, 0.975))
    return Verdict(
        instructions=len(before),
        pairs=len(pairs),
        malformed=nothing,
        unanswered=unanswered,
        before=float(scores[:, 0].mean()),
        after=float(scores[:, 1].mean()),
        gain=float(gains.mean()),
        gain_low=float(low),
        gain_high=float(high),
    )
