r"""The words between us and the reading model: what it is asked, and what its replies mean.

Training and serving both build their prompts and read their replies here, so that they cannot drift apart.

    system   one sentence, the same for every passage
    user     heading newline passage, an empty line, "Question: " and the question
    reply    a short answer      the answer on one line, then one line "> " and the sentence that supports it
             how-to, list        no answer line; one to five lines "> " and a sentence each
             not in the passage  `NOT_HERE`, alone

System, passage, question, in that order: all before "\n\nQuestion:" is the same for every question on a
passage, so that its attention state can be kept. A white space character inside an answer or a sentence
(a line that was wrapped) is written as one space, so lengths stay as they were.

Invariant: `parse_reply(render_reply(answer, sentences))` gives both back, written as above.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from model.chat import Message

SYSTEM = "Answer from the passage only, and quote the sentence that says so."
NOT_HERE = "Not in this passage."
QUOTE = "> "
QUESTION = "\n\nQuestion: "
#: Quoted sentences of a how-to, a list or a summary.
MOST_SENTENCES = 5
#: Tokens that a reply may take: a short answer and a long sentence, or five of ordinary length.
MOST_TOKENS = 256

_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says.

    Attributes:
        answer: the short answer; None where there is none.
        sentences: those that it quotes, as it wrote them; nobody has yet looked whether the passage has them.
        refused: it says that the passage does not tell.
    """

    answer: str | None = None
    sentences: tuple[str, ...] = ()
    refused: bool = False


REFUSAL = Reading(refused=True)


def passage_text(heading: str, passage: str) -> str:
    """What stands before the question: the heading on a line of its own, if there is one, and the passage."""
    return f"{heading.strip()}\n{passage}" if heading.strip() else passage


def passage_messages(heading: str, passage: str, question: str) -> list[Message]:
    """The conversation that asks `question` of `passage`."""
    asked = f"{passage_text(heading, passage)}{QUESTION}{question.strip()}"
    return [Message(role="system", content=SYSTEM), Message(role="user", content=asked)]


def flat(text: str) -> str:
    """`text` on one line: trimmed, every white space character within it a space; no length changes there."""
    return _SPACE.sub(" ", text.strip())


def render_reply(answer: str | None, sentences: Sequence[str]) -> str:
    """The reply that gives this answer and quotes these sentences; without either, `NOT_HERE`.

    Raises:
        ValueError: a blank answer or sentence, an answer that would be read as a quotation or as a refusal,
            or more than `MOST_SENTENCES`.
    """
    if answer is None and not sentences:
        return NOT_HERE
    lines = [QUOTE + flat(sentence) for sentence in sentences]
    if QUOTE in lines:
        raise ValueError("a sentence to quote is blank")
    if len(lines) > MOST_SENTENCES:
        raise ValueError(f"a reply quotes at most {MOST_SENTENCES} sentences, got {len(lines)}")
    if answer is not None:
        short = flat(answer)
        if not short or short.startswith(QUOTE.strip()) or _refuses(short):
            raise ValueError(f"an answer that would not be read as one: {answer!r}")
        lines.insert(0, short)
    return "\n".join(lines)


def parse_reply(text: str) -> Reading:
    """What `text` says, be it whole, cut off, or not quite in the form.

    Lines before the first quotation are the answer; plain lines behind it are left out. An empty reply is no
    refusal and no answer either.
    """
    lines = [flat(line) for line in text.split("\n") if line.strip()]
    if lines and _refuses(lines[0]):
        return REFUSAL
    marker = QUOTE.strip()
    at = next((i for i, line in enumerate(lines) if line.startswith(marker)), len(lines))
    quoted = (line.removeprefix(marker).strip() for line in lines[at:] if line.startswith(marker))
    return Reading(" ".join(lines[:at]) or None, tuple(line for line in quoted if line))


def _refuses(line: str) -> bool:
    return line.rstrip(".").casefold() == NOT_HERE.rstrip(".").casefold()
