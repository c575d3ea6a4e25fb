"""The form of `handwritten.txt`: passages with questions, easy to write and to check.

=== GROUP | HEADING          a passage begins; the heading may be empty
text, in Markdown
---                          its questions begin
? question
= answer                     a short answer, where there is one
> words                      quote the sentence with these words in it; several such lines quote several
? question without = and >   the passage does not tell
"""

from __future__ import annotations

from pathlib import Path

from service.reading.form import flat, render_reply
from service.reading.rows import Asked, Passage
from service.sentences import split


def read_handwritten(file: Path) -> list[Passage]:
    """The passages of the file.

    Raises:
        ValueError: words to quote that stand in no sentence of their passage or in several, and which.
    """
    passages = []
    for block in file.read_text(encoding="utf-8").split("\n=== ")[1:]:
        head, _, rest = block.partition("\n")
        group, _, heading = (part.strip() for part in head.partition("|"))
        body, _, below = rest.partition("\n---\n")
        text = body.strip("\n")
        asked = [_asked(lines, text, group) for lines in below.strip().removeprefix("? ").split("\n? ")]
        passages.append(Passage(text, f"written {group}", heading, tuple(asked)))
    return passages


def _asked(lines: str, text: str, group: str) -> Asked:
    question, *reply = lines.split("\n")
    answer = next((line[2:].strip() for line in reply if line.startswith("= ")), None)
    sentences = tuple(_sentence(line[2:].strip(), text, group) for line in reply if line.startswith("> "))
    if any(not line.startswith(("= ", "> ")) for line in reply if line.strip()):
        raise ValueError(f"{group}: a line that is neither = nor >, below {question!r}")
    if answer is not None and not sentences:
        raise ValueError(f"{group}: an answer without a sentence: {question!r}")
    render_reply(answer, sentences)
    yes_no = answer in {"Yes", "No"}
    return Asked(question.strip(), answer, sentences, () if yes_no or answer is None else (answer,))


def _sentence(words: str, text: str, group: str) -> str:
    spans = [span for span in split(text) if words in flat(text[span.start : span.end])]
    if len(spans) != 1:
        raise ValueError(f"{group}: {len(spans)} sentences have {words!r} in them")
    return text[spans[0].start : spans[0].end]
