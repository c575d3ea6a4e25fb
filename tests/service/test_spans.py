"""Answers in the documents' own words where a span reader found them: scripted spans, everything else real."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.types import Hit
from model.engine.constrain import boundaries
from model.errors import Cancelled, UnknownModel
from model.spans.reader import Span, SpanReading
from service.answer import Answerer, Ask, Source
from service.answering.each import UNSURE, UNSURE_CJK, remarks
from service.app import create_app
from service.cells import BY_WORDS
from service.events import Final
from service.questions import wanted
from service.reading.calibration import Calibrator
from service.sentences import split
from service.settings import ServiceSettings
from service.spans.candidates import EDGES, FEATURES, gather, stretch, tidy, weigh
from service.spans.quoter import Quoter
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

TOWER = "广州塔位于广州市。广州塔高 600 米，2010 年建成 🗼。它由两位荷兰建筑师设计。\n"
BRIDGE = "港珠澳大桥全长 55 公里。广州塔高 610 米，另一份资料这样说。\n"
GUIDE = "安装很简单。安装需要三个步骤：\n1. 下载安装包。\n2. 运行安装程序。\n3. 重新启动电脑。\n"
Script = Callable[[str, str], Sequence[tuple[int, int, float]]]


class ScriptedSpans:
    """Finds what a script says: question and passage to (start, end, score), best first."""

    name, scripts = "scripted-spans", frozenset[str]()

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []

    def read(
        self,
        question: str,
        passages: Sequence[tuple[str, str]],
        *,
        best: int = 2,
        within: Sequence[Sequence[tuple[int, int]]] | None = None,
        cancelled: Callable[[], bool],
    ) -> list[SpanReading]:
        if cancelled():
            raise Cancelled("withdrawn")
        self.asked.append((question, list(passages)))
        return [self._reading(text, self.script(question, text)[:best]) for text, _ in passages]

    @staticmethod
    def _reading(text: str, found: Sequence[tuple[int, int, float]]) -> SpanReading:
        starts = np.arange(len(text))
        begins = np.zeros(len(text), np.float32)
        top = max((score for *_, score in found), default=-20.0)
        for start, _, score in found:
            begins[start] = 1 / (1 + np.exp(-score)) / len(found)
        return SpanReading(
            tuple(Span(*one) for one in found), float(1 / (1 + np.exp(top))), starts, starts + 1, begins
        )


def phrase(*phrases: str, score: float = 8.0) -> Script:
    """Every phrase where it stands, the first the surest."""

    def script(question: str, text: str) -> list[tuple[int, int, float]]:
        places = [(text.find(p), p) for p in phrases]
        return [(at, at + len(p), score - i) for i, (at, p) in enumerate(places) if at >= 0]

    return script


CALIBRATOR = Calibrator("by hand", FEATURES, (1.0, *[0.0] * (len(FEATURES) - 1)), 0.0, 0.5)


class SpanLibrary(MemoryLibrary):
    """In memory, with a span reader."""

    def __init__(self, texts: dict[str, str], script: Script) -> None:
        super().__init__(texts)
        self.reader = ScriptedSpans(script)
        self.quoter = Quoter(lambda: self.reader, CALIBRATOR)  # type: ignore[arg-type, return-value]

    def source(self, collection: str) -> Source:
        return replace(super().source(collection), quoter=self.quoter)


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Ask a service over a library."""
    open_: list[TestClient] = []

    def ask(library: MemoryLibrary, question: str, **more: Any) -> dict[str, Any]:
        app = create_app(
            ServiceSettings(model="scripted", refuse_below=0.0), tmp_path, library, ScriptedGenerator()
        )
        client = TestClient(app, base_url="http://127.0.0.1").__enter__()
        open_.append(client)
        assert app.state.parts.readiness.wait(10)
        reply = client.post("/ask", json={"question": question} | more)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        assert found["llm_generated"] is False
        for citation in found["citations"]:
            whole = library.text("default", citation["document_id"])
            assert whole[citation["char_start"] : citation["char_end"]] == citation["text"] != ""
        return found

    yield ask
    for client in open_:
        client.__exit__(None, None, None)


def test_a_few_words_are_answered_by_them_and_cited_by_their_sentence(asking: Any) -> None:
    library = SpanLibrary({"tower.md": TOWER}, phrase("600 米"))
    reply = asking(library, "广州塔有多高？")
    assert reply["answer"] == "600 米 [1]" and reply["answered"]
    assert reply["citations"][0]["text"] == "广州塔高 600 米，2010 年建成 🗼。"
    assert (reply["quoted_by"], reply["calibrator"], reply["model"]) == ("spans", "by hand", "scripted-spans")
    assert reply["confidence"] > 0.9 and not reply["conflict"]
    assert library.reader.asked[0][1][0][1] == "tower.md", "it is read below its title"


def test_the_cell_that_a_question_names_goes_before_what_is_read_off_its_table(asking: Any) -> None:
    table = "| 姓名 | 年龄 |\n| --- | --- |\n| 张三 | 30 |\n| 李四 | |\n"
    reply = asking(SpanLibrary({"people.md": table}, phrase("张三", score=0.5)), "张三的年龄是多少？")
    assert reply["answer"] == "30 [1]" and reply["confidence"] == BY_WORDS
    assert reply["citations"][0]["text"] == "| 张三 | 30 |"
    reply = asking(SpanLibrary({"people.md": table}, phrase("30")), "李四的年龄是多少？")
    assert not reply["answered"], "the cell is empty, and another row's is no answer"


def test_the_row_of_another_does_not_answer(asking: Any) -> None:
    table = "# 人员\n\n| 姓名 | 年龄 |\n| --- | --- |\n| 张三 | 30 |\n| 李四 | 25 |\n"
    library = SpanLibrary({"people.md": table}, phrase("25"))
    assert not asking(library, "王五的年龄是多少？")["answered"]
    assert asking(library, "李四有多大岁数？")["answer"].startswith("25")
    one_row = SpanLibrary({"people.md": table.replace("| 张三 | 30 |\n", "")}, phrase("25"))
    assert asking(one_row, "这个人有多大岁数？")["answered"], "there is no other it could be about"


def test_ways_and_lists_are_answered_by_sentences(asking: Any) -> None:
    reply = asking(SpanLibrary({"guide.md": GUIDE}, phrase("三个步骤")), "怎样安装？")
    assert reply["quoted_by"] == "spans"
    assert "安装需要三个步骤" in reply["answer"] and "运行安装程序" in reply["answer"]
    english = "Boil the water first. Add the tea. Wait for three minutes.\n"
    reply = asking(SpanLibrary({"tea.md": english}, phrase("water")), "How do I make tea?", mode="quote")
    assert reply["answer"].startswith("Boil the water first. [1]")
    reply = asking(
        SpanLibrary({"tea.md": english}, phrase("three minutes")), "How long does it take?", mode="quote"
    )
    assert reply["answer"] == "three minutes [1]"


def test_what_stands_nowhere_is_refused(asking: Any) -> None:
    library = SpanLibrary({"tower.md": TOWER}, phrase("600 米", score=-6.0))
    reply = asking(library, "广州塔用了多少钢材？")
    assert not reply["answered"] and reply["refusal_reason"] == "not_in_passages"
    assert reply["answer"].startswith("找到的段落没有给出答案")
    assert reply["confidence"] < 0.1 and reply["sources"] and not reply["citations"]
    reply = asking(library, "广州塔用了多少钢材？", on_no_answer="answer")
    assert reply["answered"] and reply["answer"] == f"{UNSURE_CJK}\n\n600 米 [1]"
    for question, ours in (("使用 Lorebase 需要显卡吗？", UNSURE_CJK), ("What does 显卡 mean here?", UNSURE)):
        assert [said.text for said in remarks(question, 0.1, conflict=False)] == [ours]
    reply = asking(SpanLibrary({"tower.md": TOWER}, lambda question, text: []), "广州塔有多高？")
    assert not reply["answered"] and reply["confidence"] == 0.0


def test_documents_that_disagree_are_both_shown(asking: Any) -> None:
    library = SpanLibrary({"tower.md": TOWER, "bridge.md": BRIDGE}, phrase("600 米", "610 米"))
    reply = asking(library, "广州塔高多少米？")
    assert reply["conflict"] and "600 米" in reply["answer"] and "610 米" in reply["answer"]
    assert {c["path"] for c in reply["citations"]} == {"tower.md", "bridge.md"}
    assert not asking(SpanLibrary({"tower.md": TOWER}, phrase("600 米", "2010 年")), "广州塔高多少米？")[
        "conflict"
    ]


def test_without_its_encoder_the_best_sentence_is_quoted(
    asking: Any, caplog: pytest.LogCaptureFixture
) -> None:
    library = SpanLibrary({"tower.md": TOWER}, phrase("600 米"))
    tried: list[int] = []

    def load() -> Any:
        tried.append(1)
        raise UnknownModel("multilingual-e5-small is not installed")

    library.quoter = Quoter(load, CALIBRATOR)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            reply = asking(library, "广州塔高多少米？")
            assert reply["answered"] and reply["quoted_by"] == "sentences" and reply["calibrator"] is None
            assert reply["answer"].startswith("广州塔高 600 米")
    assert tried == [1] and sum("is not installed" in r.message for r in caplog.records) == 1


def test_questions_in_a_script_that_it_was_not_trained_on_get_the_best_sentence(asking: Any) -> None:
    library = SpanLibrary({"tower.md": "The tower is 600 metres tall.\n" + TOWER}, phrase("600"))
    library.reader.scripts = frozenset({"CJK"})
    english = asking(library, "How tall is the tower?", mode="quote")
    assert (english["quoted_by"], english["answer"]) == ("sentences", "The tower is 600 metres tall. [1]")
    assert asking(library, "广州塔高多少米？", mode="quote")["quoted_by"] == "spans"
    library.reader.scripts = frozenset()
    assert asking(library, "How tall is the tower?", mode="quote")["quoted_by"] == "spans"


def test_words_that_only_repeat_the_question_bring_their_sentence(asking: Any) -> None:
    library = SpanLibrary({"tower.md": TOWER}, phrase("广州塔"))
    assert asking(library, "广州塔在哪里？")["answer"] == "广州塔位于广州市。 [1]"
    library = SpanLibrary({"towers.md": "广州塔\n\n两位荷兰建筑师设计了它。\n"}, phrase())
    library.reader.scripts = frozenset({"LATIN"})
    assert asking(library, "谁设计了广州塔？", mode="quote")["answer"].startswith("两位荷兰建筑师")


def test_an_aside_and_a_joining_word_say_nothing_of_their_own() -> None:
    asked = "默认的嵌入模型是什么？"
    assert wanted.repeats(asked, "因为默认的嵌入模型（向量模型）")
    assert not wanted.repeats(asked, "multilingual-e5-small（向量模型）")
    assert not wanted.repeats(asked, "（multilingual-e5-small）")


def test_a_withdrawn_question_ends(tmp_path: Path) -> None:
    library = SpanLibrary({"tower.md": TOWER}, phrase("600 米"))
    cancel = threading.Event()
    going = Answerer(0.0).answer(
        Ask(question="广州塔有多高？"), library.source("default"), ScriptedGenerator(), cancel
    )
    next(going)
    cancel.set()
    with pytest.raises(Cancelled):
        list(going)


TEXTS = st.lists(
    st.sampled_from(["广州塔", "高 600 米", "。", "，", "\n", "# 标题\n", " tall", " e\u0301", "👩‍🔬", "🗼", "，\n\n", "12.5", "- 项\n"]),
    min_size=1, max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.data())
@example("，。", None)
def test_spans_grow_to_words_and_lose_marks(text: str, data: st.DataObject | None) -> None:
    places = st.integers(0, len(text))
    first, second = (0, len(text)) if data is None else sorted((data.draw(places), data.draw(places)))
    start, end = tidy(text, first, second)
    core = text[first:second].strip(EDGES)
    assert core in text[start:end] and (start < end) == bool(core)
    if start < end:
        assert {start, end} <= set(boundaries(text))
        around = stretch(split(text), start, end)
        if around is not None:
            assert around[0] <= start < end <= around[1]


def test_a_bracket_that_a_span_opens_is_closed() -> None:
    text = "默认的嵌入模型（向量模型）是 e5，它（不是 MiniLM\n）很小。"
    assert text[slice(*tidy(text, 0, text.index("模型）") + 2))] == "默认的嵌入模型（向量模型）"
    assert text[slice(*tidy(text, 0, 5))] == text[:5]
    opened = text.index("（不")
    assert text[slice(*tidy(text, opened, opened + 3))] == "（不是"


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(0, 2**32))
def test_whatever_a_reader_says_every_word_is_the_documents(texts: list[str], seed: int) -> None:
    draw = np.random.default_rng(seed)

    def script(question: str, text: str) -> list[tuple[int, int, float]]:
        pairs = sorted(draw.integers(0, len(text) + 1, 2).tolist() for _ in range(2))
        return [(a, b, float(draw.normal(0, 5))) for a, b in map(sorted, pairs) if a < b]

    library = SpanLibrary({f"{i}.md": text for i, text in enumerate(texts)}, script)
    question = ["广州塔高多少米？", "怎样到广州塔？", "tall?"][seed % 3]
    *_, final = Answerer(0.0).answer(
        Ask(question=question, mode="quote"),
        library.source("default"),
        ScriptedGenerator(),
        threading.Event(),
    )
    assert isinstance(final, Final) and not final.llm_generated
    cited = {c.marker: c for c in final.citations}
    for citation in final.citations:
        assert (
            library.text("default", citation.document_id)[citation.char_start : citation.char_end]
            == citation.text
        )
    for statement in final.statements if final.answered else ():
        assert statement.ours or statement.text.strip() in cited[statement.markers[0]].text


def hit(text: str, score: float = 0.5, document: str = "d") -> Hit:
    return Hit(1, document, f"{document}.md", "", 0, text, 0, len(text), None, None, (), score, 0.8, 1.0)


def test_the_likelier_passage_wins_and_agreement_counts() -> None:
    one, other, third = "塔高 600 米。", "他说塔高 600 米。", "塔高 3 米。"
    hits = [hit(one, 0.5, "a"), hit(other, 0.4, "b"), hit(third, 0.3, "c")]
    readings = [
        ScriptedSpans._reading(h.text, phrase("600 米", "3 米", score=s)("", h.text))
        for h, s in zip(hits, (2.0, 5.0, 1.0), strict=True)
    ]
    found = gather("塔有多高？", hits, readings, [])
    ranked = weigh(found, CALIBRATOR)
    assert [c.reading.hit.document_id for c in ranked] == ["b", "a", "c"]
    agree, differ = FEATURES.index("agree"), FEATURES.index("differ")
    first = next(c for c in found if c.reading.hit.document_id == "a")
    assert first.features[agree] == pytest.approx(1 - readings[1].not_here)
    assert first.features[differ] == pytest.approx(1 - readings[2].not_here)
    twice = gather("塔有多高？", [hits[0], hits[0]], [readings[0]] * 2, [])
    assert len(twice) == 1, "passages overlap: one place is one candidate"


@pytest.mark.parametrize(
    ("question", "sentences"),
    [
        ("广州塔有多高？", False),
        ("怎样导入一个文件夹？", True),
        ("MoE 有哪几种？", True),
        ("为什么要分片？", True),
        ("什么是 DDP？", True),
        ("使用它需要显卡吗？", True),
        ("谁设计了广州塔？", False),
        ("Lorebase 是什么？", True),
        ("这座塔的原名是什么？", False),
        ("这座塔为什么有名？", True),
        ("这座塔被用来作为什么？", False),
        ("How do I ingest a folder?", True),
        ("How tall is the tower?", False),
        ("Is it free?", True),
        ("Who built it?", False),
    ],
)
def test_what_a_question_wants(question: str, sentences: bool) -> None:
    assert wanted.sentences(question) is sentences
