"""Questions about something that the documents never mention: which words are names, and what becomes of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ingest import words
from ingest.types import Hit
from service.answer import Answerer, Ask, Source
from service.events import Final
from service.questions.names import names
from service.refusal import NOWHERE, unmentioned
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

TEXTS = (
    "The Céloron expedition left Montreal in 1749. Temüjin was elected khan of the Mongols.",
    "Lorebase answers questions with Ollama on a graphics card; the DataPac network came before.",
    "FSDP 与 DDP 都来自 PyTorch。",
)


def hits(*texts: str) -> list[Hit]:
    return [
        Hit(n, str(n), f"{n}.md", "", n, text, 0, len(text), None, None, (), 0.5, None, None)
        for n, text in enumerate(texts)
    ]


def rarity(terms: Sequence[str]) -> list[float]:
    """BM25's inverse document frequency, counted text by text."""
    having = [sum(term in words.terms(text) for text in TEXTS) for term in terms]
    return [math.log((len(TEXTS) - n + 0.5) / (n + 0.5)) for n in having]


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("How do I connect Lorebase to Slack?", ["Lorebase", "Slack"]),
        ("what about Temüjin's father", ["Temüjin's"]),
        ("Which is it? Android is what I have.", []),  # the first word of a sentence has a capital anyway
        ("NotebookLM or the other?", ["NotebookLM"]),
        ("WHat is a GPU for, and who is the CEO in May?", []),
        ("Wie lade ich Dokumente in die Sammlung hoch?", []),  # every German noun would be one
        ("How To Connect Your Own Data Sources", []),  # a headline
        ("DDP 和 Horovod 有什么区别？", ["Horovod"]),
        ("怎么用Docker部署？", ["Docker"]),
        ("如何交叉编译 ARM 的包，用 snap 吗？", []),
        ("", []),
    ],
)
def test_names_are_told_by_how_they_are_written(question: str, named: list[str]) -> None:
    assert names(question) == named


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("How do I connect Lorebase to Slack?", ["Slack"]),
        ("How does Lorebase differ from NotebookLM?", ["NotebookLM"]),
        ("Who was on Celeron's expedition from Montréal?", []),  # neither an accent nor a slip is a new name
        ("Who is the father of Temüjin?", []),
        ("Does it run on the DataPac-like Ollama?", []),
        ("DDP 和 Horovod 有什么区别？", ["Horovod"]),
        ("PyTorch 里的 DDP 是什么？", []),
    ],
)
def test_a_name_is_missing_where_no_text_has_it(question: str, missing: list[str]) -> None:
    assert unmentioned(question, hits(*TEXTS), rarity) == missing
    assert unmentioned(question, hits(*TEXTS)) == [] and unmentioned(question, [], rarity) == []
    # Texts in another script write names in their own way.
    for beside in ((), TEXTS):
        foreign = unmentioned(question, hits(*beside, "成吉思汗统一了蒙古各部。"), rarity)
        assert foreign == (missing if "？" in question else [])
    assert unmentioned(question, hits(*TEXTS, "| 12 | 7 |"), rarity) == missing


def test_no_text_has_the_term_that_stands_for_absence() -> None:
    assert NOWHERE not in words.terms("_ __ a_b _c_ `_`") and words.terms("a_b")
    assert rarity([NOWHERE])[0] > rarity(["lorebas"])[0]


def ask(question: str, **more: Any) -> tuple[Final, ScriptedGenerator]:
    library = MemoryLibrary({f"{n}.md": text for n, text in enumerate(TEXTS)})
    source: Source = replace(library.source("default"), rarity=rarity)
    generator = ScriptedGenerator("Lorebase answers questions with Ollama.")
    *_, final = Answerer(0.0).answer(Ask(question=question, **more), source, generator, threading.Event())
    assert isinstance(final, Final)
    return final, generator


def test_the_refusal_names_what_is_missing_and_nobody_reads() -> None:
    final, generator = ask("How does Lorebase answer questions with Slack?")
    assert not final.answered and final.refusal_reason == "not_mentioned" and generator.asked == []
    assert 'never mention "Slack"' in final.answer and "Lorebase" not in final.answer
    assert final.sources and final.confidence == 0.0
    assert "没有提到“Horovod”" in ask("DDP 和 Horovod 有什么区别？")[0].answer
    assert ask("How does Lorebase answer questions with Ollama?")[0].answered
    assert ask("How does Lorebase answer questions with Slack?", on_no_answer="answer")[0].answered


@pytest.mark.parametrize(
    "question",
    [
        "What should I do if I'm ill?",
        "What happens if I’ve lost my badge?",
        "Hello Claude, what is the price of the pump?",
        "Please answer in French what is the price of the pump?",
        "请用English回答：保修期多久？",
        "What does the Handbook say about sick leave?",
        "Is it closed on Mondays?",
    ],
)
def test_contractions_greetings_languages_and_common_nouns_are_no_names(question: str) -> None:
    assert names(question) == []


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is the price of the iPhone15?", "The iPhone 15 costs 999 EUR."),
        ("Where do I report it on GitHub?", "Open an issue on git hub."),
        ("When did Łukasz join?", "Lukasz joined in 2020."),
        ("How long is the Øresund bridge?", "The Oresund bridge is 8 km long."),
    ],
)
def test_a_name_in_another_spelling_is_mentioned(question: str, text: str) -> None:
    assert names(question)
    assert unmentioned(question, hits(text), rarity) == []
    assert unmentioned("How do I connect it to Slack?", hits(text), rarity) == ["Slack"]
