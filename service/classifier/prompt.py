"""What a model reads: an instruction, each example as a user's turn and its label as the reply, the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.classifier.examples import Classes
from service.generators import Message

INSTRUCTION = "Classify the user's text. Reply with exactly one of the labels and nothing else."
#: More labels than these are not listed in the instruction: they would fill the window.
MOST_LISTED = 100

Count = Callable[[Sequence[Message]], int]


def system(classes: Classes) -> Message:
    """The instruction and the labels."""
    told = classes.instruction or INSTRUCTION
    if len(classes.labels) <= MOST_LISTED:
        told += "\nLabels: " + "; ".join(classes.labels)
    return {"role": "system", "content": told}


def turns(text: str, label: str) -> list[Message]:
    """An example."""
    return [{"role": "user", "content": text}, {"role": "assistant", "content": label}]


def prefix(classes: Classes, shown: Sequence[tuple[str, int]]) -> list[Message]:
    """Everything in front of the text."""
    return [system(classes), *(m for text, at in shown for m in turns(text, classes.labels[at]))]


def conversation(classes: Classes, shown: Sequence[tuple[str, int]], text: str) -> list[Message]:
    """The whole prompt."""
    return [*prefix(classes, shown), {"role": "user", "content": text}]


def costs(classes: Classes, flat: Sequence[tuple[str, int]], count: Count) -> list[int]:
    """Tokens that each example adds to a prompt."""
    first = system(classes)
    alone = count([first])
    return [count([first, *turns(text, classes.labels[at])]) - alone for text, at in flat]


def chosen(
    order: Sequence[int], cost: Sequence[int], room: int, *, without: int | None = None
) -> tuple[int, ...]:
    """Which examples are shown: all in their own order if they fit, else the nearest, the nearest last.

    Args:
        order: examples by nearness to the text, the nearest first.
        cost: tokens of each.
        room: tokens for all of them.
        without: an example that must not be shown.
    """
    there = [row for row in order if row != without]
    if sum(cost[row] for row in there) <= room:
        return tuple(sorted(there))
    taken: list[int] = []
    for row in there:
        if cost[row] > room:
            break
        room -= cost[row]
        taken.append(row)
    return tuple(reversed(taken))
