"""Questions on passages in another language: XQuAD's, whose paragraphs and questions stand in English and Chinese."""

from __future__ import annotations

import random
from collections.abc import Iterator

from examples.span_reader.exchange import other, put
from examples.span_reader.passages import (
    LONGEST,
    SHORTEST,
    Keywords,
    Passage,
    Question,
    articles,
    chunks,
    located,
)
from model.spans.pieces import Pieced

#: XQuAD's paragraphs of the articles of `squad_train`, question and passage in the two languages each.
XQUAD = ("xquad_en_a", "xquad_zh_a")
#: Share of the passages without the answer that are of the question's own paragraph, where there are both.
SIBLING = 0.4


def crossed(draw: random.Random, pieced: Pieced) -> Iterator[tuple[Question, Passage, bool]]:
    """XQuAD's questions on its passages in the other language, Chinese ones on Chinese passages, too."""
    read_in = [articles(name) for name in XQUAD]
    known = {p["context"]: p for article in articles("squad_train") for p in article["paragraphs"]}
    numbers = [
        (a, p)
        for a, article in enumerate(read_in[0])
        for p, paragraph in enumerate(article["paragraphs"])
        if paragraph["context"] in known
    ]
    paragraphs = [[side[a]["paragraphs"][p] for side in read_in] for a, p in numbers]
    cut = [
        [_cut(side["context"], number, draw, pieced) for side in both]
        for number, both in enumerate(paragraphs)
    ]
    keywords = [Keywords([both[side]["context"] for both in paragraphs]) for side in (0, 1)]
    for number, both in enumerate(paragraphs):
        for told in zip(*(side["qas"] for side in both), strict=True):
            accepted = [tuple(dict.fromkeys(a["text"] for a in qa["answers"])) for qa in told]
            for asking, reading in ((0, 1), (1, 0), (1, 1)):
                question = told[asking]["question"]
                place = located(both[reading]["context"], told[reading]["answers"])
                holding = [
                    (p, at)
                    for p, at in cut[number][reading]
                    if place and at <= place[0] and place[1] <= at + len(p.text)
                ]
                if not holding or place is None:
                    continue
                passage, at = draw.choice(holding)
                yield (
                    Question(question, accepted[reading], number, 0, place[0] - at, place[1] - at),
                    passage,
                    True,
                )
                lacking = [
                    p
                    for i in keywords[asking].best(question, 4)
                    if i != number
                    for p, _ in cut[i][reading]
                    if not any(a in p.text for a in accepted[reading])
                ]
                beside = [
                    p for p, _ in cut[number][reading] if not any(a in p.text for a in accepted[reading])
                ]
                if lacking or beside:
                    some = beside if beside and (not lacking or draw.random() < SIBLING) else lacking
                    yield Question(question, (), number, None), draw.choice(some), False
            text = both[0]["context"]
            found = other(told[0]["question"], text, text, accepted[0], draw)
            if found:
                changed = put(told[0]["question"], *found)
                yield Question(changed, (), number, None), draw.choice(cut[number][1])[0], False
        for qa in known[both[0]["context"]]["qas"]:
            if not qa["answers"]:
                yield Question(qa["question"], (), number, None), draw.choice(cut[number][1])[0], False


def _cut(text: str, number: int, draw: random.Random, pieced: Pieced) -> list[tuple[Passage, int]]:
    """Passages of a text, without a heading, and where each begins."""
    found = chunks(text, draw.randint(SHORTEST, LONGEST), pieced)
    return [(Passage(number, text[a:b], ""), a) for a, b in found]
