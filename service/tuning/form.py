r"""The words between us and the question writer: the reading form, turned round.

A reader is given passage and question and replies with an answer and the sentence that it stands in; a writer
is given passage, sentence and answer and asks the question. Training (`examples/question_writer`) and
`service tune` both build their prompts here.

    system   one sentence, the same for every passage
    user     heading newline passage, an empty line, "Sentence: " and the sentence, "Answer: " and the answer
    reply    the question, on one line

The answer stands last: a small model asks about what it has just read, and with the sentence last it asked
the same question for every answer in it. All before "\n\nSentence:" is the same for a passage,
so that it is read once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.chat import Message
from service.reading.form import flat, passage_text

SYSTEM = "Write the question to this answer."
SENTENCE, ANSWER = "\n\nSentence: ", "\nAnswer: "
#: Stands for the answer where whole sentences are it.
WHOLE = "the whole sentence"
#: Tokens that a question may take.
MOST_TOKENS = 48

_ENDS = re.compile(r"[.?!？。！]$")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def wanted(answer: str | None, sentences: Sequence[str]) -> str:
    """What stands behind `SENTENCE`: the sentences and the answer in them (None: they are the answer)."""
    told = " ".join(flat(sentence) for sentence in sentences)
    return f"{told}{ANSWER}{WHOLE if answer is None else flat(answer)}"


def writer_messages(
    heading: str, passage: str, answer: str | None, sentences: Sequence[str]
) -> list[Message]:
    """The conversation that asks for the question to an answer."""
    told = f"{passage_text(heading, passage)}{SENTENCE}{wanted(answer, sentences)}"
    return [Message(role="system", content=SYSTEM), Message(role="user", content=told)]


def tidy(question: str) -> str:
    """`question` on one line, with a capital and a mark at its end; empty where there is no word in it."""
    line = " ".join(flat(question).split()).strip("\"'“” ")
    if not re.search(r"\w", line):
        return ""
    if not _ENDS.search(line):
        line += "？" if _CJK.search(line) else "?"
    return line[0].upper() + line[1:]
