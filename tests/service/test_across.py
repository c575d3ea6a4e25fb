"""A question that no passage in its own script answers: the other script's are read by the span reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.service.test_spans import SpanLibrary, asking, phrase

__all__ = ["asking"]

TEXTS = {
    "塔.md": "广州塔位于广州市。它由两位荷兰建筑师设计。\n\n广州塔的灯光每晚都会亮起。\n",
    "tower.md": "The Canton Tower stands in Guangzhou. The Canton Tower is 600 metres tall.\n",
}
QUESTION = "广州塔有多高？"


def paths(reply: dict[str, Any]) -> set[str]:
    return {Path(source["path"]).name for source in reply["sources"]}


def test_the_other_language_answers_where_the_own_does_not(asking: Any) -> None:
    reply = asking(SpanLibrary(TEXTS, phrase("600 metres")), QUESTION, k=2)
    assert reply["answered"] and reply["answer"] == "600 metres [1]"
    assert reply["citations"][0]["text"] == "The Canton Tower is 600 metres tall."
    assert reply["refusal_reason"] is None and reply["quoted_by"] == "spans"
    assert paths(reply) == {"塔.md", "tower.md"}, "what is cited is among the sources"


def test_an_answer_in_the_own_language_stays(asking: Any) -> None:
    reply = asking(SpanLibrary(TEXTS, phrase("600 metres", "两位荷兰建筑师")), "广州塔由谁设计？", k=2)
    assert reply["answer"] == "两位荷兰建筑师 [1]" and paths(reply) == {"塔.md"}


def test_a_question_in_english_is_not_answered_from_chinese(asking: Any) -> None:
    library = SpanLibrary(TEXTS, phrase("两位荷兰建筑师"))
    reply = asking(library, "Who designed the Canton Tower?", k=1, mode="quote")
    assert not reply["answered"] and paths(reply) == {"tower.md"}


@pytest.mark.parametrize(
    ("why", "texts", "asked", "score"),
    [
        ("the other language does not tell either", TEXTS, QUESTION, None),
        ("it is not sure enough", TEXTS, QUESTION, -3.0),
        ("there is one language", {"塔.md": TEXTS["塔.md"]}, QUESTION, 8.0),
        ("a few words would not answer", TEXTS, "怎样参观广州塔？", 8.0),
    ],
)
def test_otherwise_the_refusal_stays(
    asking: Any, why: str, texts: dict[str, str], asked: str, score: float | None
) -> None:
    script = phrase("nowhere") if score is None else phrase("600 metres", score=score)
    reply = asking(SpanLibrary(texts, script), asked, k=2)
    assert not reply["answered"] and reply["citations"] == [], why
    assert paths(reply) == {"塔.md"}


def test_a_filter_holds_for_the_second_look_too(asking: Any) -> None:
    only = {"field": "path", "op": "~", "value": "塔"}
    reply = asking(SpanLibrary(TEXTS, phrase("600 metres")), QUESTION, k=2, filters=only)
    assert not reply["answered"] and paths(reply) == {"塔.md"}
