"""`POST /ask`: what a reply holds, in which order events come, and what is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ingest.parse import parse_file
from model.chat import Message
from service.answer import READ_FROM, Answerer, Ask
from service.cli import ask as command
from service.errors import InvalidRequest
from service.events import Final
from service.schemas.asking import AskRequest
from tests.service.conftest import TOWER, read_events
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

QUESTION = "How tall is the Eiffel Tower?"


def test_an_answer_is_cited_with_offsets_that_cut_the_stored_text(
    client: TestClient, library: MemoryLibrary
) -> None:
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert reply["answered"] and reply["llm_generated"] and reply["refusal_reason"] is None
    assert reply["answer"] == "The tower is 330 metres tall. [1]"
    assert 'href="#citation-1"' in reply["answer_html"]
    (citation,) = reply["citations"]
    text = client.get(f"/documents/{citation['document_id']}/text").json()["text"]
    assert (
        text[citation["char_start"] : citation["char_end"]]
        == citation["text"]
        == "The tower is 330 metres tall."
    )
    assert citation["path"] == "tower.md" and citation["support"] == 1.0
    assert reply["usage"]["prompt_tokens"] > 0 and reply["usage"]["completion_tokens"] == 6
    assert reply["index_generation"] == library.generation and reply["model"] == "scripted"
    assert 0 < reply["confidence"] <= 1


def test_events_come_in_order_and_the_last_one_is_the_json_reply(client: TestClient) -> None:
    plain = client.post("/ask", json={"question": QUESTION}).json()
    with client.stream("POST", "/ask", json={"question": QUESTION, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = read_events(response)
    names = [name for name, _ in events]
    assert names == ["sources", *["token"] * 6, "citation", "final"]
    assert (
        "".join(json.loads(d)["text"] for n, d in events if n == "token").strip()
        == "The tower is 330 metres tall."
    )
    final = json.loads(events[-1][1])
    assert json.loads(events[-2][1]) == final["citations"][0]
    for reply in (plain, final):
        for field in ("id", "timings"):
            reply.pop(field)
    assert final == plain


def test_beams_are_asked_for_by_name_and_go_with_no_drawing(client: TestClient) -> None:
    asked = AskRequest(question=QUESTION, num_beams=3, length_penalty=1.5).sampling(40)
    assert (asked.num_beams, asked.length_penalty, asked.max_tokens) == (3, 1.5, 40)
    beams = {"question": QUESTION, "mode": "closed_book", "num_beams": 3}
    assert client.post("/ask", json=beams).status_code == 200
    refused = client.post("/ask", json=beams | {"temperature": 0.5})
    assert refused.status_code == 422 and "temperature 0" in refused.json()["error"]["message"]
    assert client.post("/ask", json=beams | {"num_beams": 17}).status_code == 422


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_on_a_terminal_is_called_empty(question: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^question: is empty$"):
        command.request(question=question)


@pytest.mark.parametrize(
    ("question", "told", "never"),
    [
        (QUESTION, ['[1] tower.md, page 1: "', "(the documents' own words, confidence "], "，（把握"),
        (
            "这座桥在哪里？",
            ["[1] 桥.md，第 1 页：“古桥横跨", "（资料原文，把握 ", " 秒）"],
            "confidence words",
        ),
        (
            "月亮上的海有多深？",
            ["最接近的段落：", "  - bridge.md，第 1 页：", "（未作答，"],
            "Nearest refused",
        ),
    ],
)
def test_the_terminal_speaks_the_questions_language_around_the_answer(
    app: FastAPI,
    library: MemoryLibrary,
    capsys: pytest.CaptureFixture[str],
    question: str,
    told: list[str],
    never: str,
) -> None:
    library.shelves["default"]["桥.md"] = "古桥横跨内雷特瓦河，这座桥在莫斯塔尔。"
    body = command.request(question=question, mode="quote")
    assert command.run(app.state.parts, body, as_json=False) == 0
    said = capsys.readouterr()
    shown = said.out + said.err
    assert all(words in shown for words in told), shown
    assert not any(word in shown for word in never.split()), shown


def test_a_file_of_questions_in_json_is_quoted_without_braces_and_keys_and_after_prose(
    client: TestClient, library: MemoryLibrary, tmp_path: Path
) -> None:
    rows = [
        {"id": n, "question": asked, "answers": [said], "meta": {"kind": "fact", "page": n}}
        for n, (asked, said) in enumerate(
            ((QUESTION, "It is exactly 333 metres tall."), ("Who made it?", "The company of Gustave Eiffel."))
        )
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    library.shelves["default"] = {"questions.jsonl": parse_file(file, max_bytes=1 << 20).text}
    reply = client.post("/ask", json={"question": QUESTION, "mode": "quote"}).json()
    assert reply["answer"] == "It is exactly 333 metres tall. [1]", reply["answer"]
    library.shelves["default"]["tower.md"] = TOWER
    reply = client.post("/ask", json={"question": QUESTION, "mode": "quote"}).json()
    assert reply["answer"] == "The tower is 330 metres tall. [1]", reply["answer"]


def test_a_window_of_the_text_is_cut_by_code_points(client: TestClient) -> None:
    start = TOWER.index("It has three levels")  # behind an emoji: UTF-16 offsets would be off by one
    document = client.get("/documents").json()["documents"][1]
    window = client.get(
        f"/documents/{document['document_id']}/text",
        params={"char_start": start, "char_end": start + 19, "context": 4},
    ).json()
    assert (window["before"], window["passage"], window["after"]) == (
        "l. 🗼 "[-4:],
        "It has three levels",
        " for",
    )


def test_what_the_passages_do_not_support_is_marked(client: TestClient, generator: ScriptedGenerator) -> None:
    generator.reply = "The tower is 330 metres tall. It was painted blue by Napoleon. It is 340 metres tall."
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert [s["supported"] for s in reply["statements"]] == [True, False, False]
    assert reply["answer_html"].count('class="unsupported"') == 2
    assert (
        reply["confidence"]
        < client.post("/ask", json={"question": QUESTION, "mode": "quote"}).json()["confidence"]
    )


def test_an_invented_answer_gives_way_to_the_documents_own_words(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    generator.reply = "Napoleon painted it blue [1]. Bananas grow there [2]."
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert reply["answered"] and not reply["llm_generated"]
    assert reply["statements"][0]["text"] in TOWER and "Napoleon" not in reply["answer"]
    streamed = client.post("/ask", json={"question": QUESTION, "stream": True}).text
    assert (
        "330" not in streamed.split("event: final")[0].split("event: token", 1)[1]
    )  # the draft is not prolonged
    asked_for = client.post("/ask", json={"question": QUESTION, "on_no_answer": "answer"}).json()
    assert asked_for["llm_generated"] and "Napoleon" in asked_for["answer"] and asked_for["citations"] == []
    generator.reply = "Napoleon painted it blue. The tower is 330 metres tall."  # what answers comes first
    assert not client.post("/ask", json={"question": QUESTION}).json()["llm_generated"]


def test_markers_that_the_model_wrote_are_no_citations(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    generator.reply = "The tower is 330 metres tall [7]. Bananas grow there [1]."
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert reply["answer"] == "The tower is 330 metres tall. [1] Bananas grow there."


def test_nothing_relevant_is_refused_without_asking_the_model(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    reply = client.post("/ask", json={"question": "Which enzymes digest lactose?"}).json()
    assert not reply["answered"] and reply["refusal_reason"] == "nothing_relevant"
    assert (
        reply["citations"] == [] and reply["sources"] and generator.asked == [] and not reply["llm_generated"]
    )
    assert reply["confidence"] < 0.5


def test_a_large_model_is_asked_of_passages_that_only_may_tell_and_must_show_that_they_do(
    library: MemoryLibrary,
) -> None:
    """A small one is not: what it writes there is noise (`focus_sentences`)."""
    question = "How many metres tall is the monument of the capital?"
    source = library.source("default")

    def asked(reply: str, focus: int = 0) -> tuple[Final, list[list[Message]]]:
        generator = ScriptedGenerator(reply)
        generator.focus_sentences = focus
        ask = Ask(question=question, reading="joint")
        *_, final = Answerer(0.99).answer(ask, source, generator, threading.Event())
        assert isinstance(final, Final)
        return final, generator.asked

    told, messages = asked("The tower is 330 metres tall.")
    assert READ_FROM < (told.confidence or 0) < 0.99 and len(messages) == 1
    assert told.answered and told.citations and "330" in told.answer
    unknown, _ = asked("The text does not say who sleeps there.")
    assert not unknown.answered and unknown.refusal_reason == "not_in_passages" and not unknown.citations
    small, messages = asked("The tower is 330 metres tall.", focus=3)
    assert small.refusal_reason == "nothing_relevant" and messages == []


def test_before_the_first_ingest_the_reply_says_what_to_run(
    client: TestClient, library: MemoryLibrary
) -> None:
    library.shelves.clear()
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert reply["refusal_reason"] == "nothing_ingested" and "python -m ingest ./docs" in reply["answer"]


def test_quote_mode_lets_the_model_write_nothing(client: TestClient, generator: ScriptedGenerator) -> None:
    reply = client.post("/ask", json={"question": "How many steps lead to the top?", "mode": "quote"}).json()
    assert not reply["llm_generated"] and generator.asked == []
    assert (
        reply["citations"][0]["text"]
        == "🗼 It has three levels for visitors, and 1,665 steps lead to the top."
    )


@pytest.mark.parametrize("writes", [False, True])
def test_a_question_in_a_language_that_the_model_cannot_write_is_answered_by_quotes(
    client: TestClient, library: MemoryLibrary, generator: ScriptedGenerator, writes: bool
) -> None:
    library.shelves["default"]["中文.md"] = (
        "Lorebase 是一个本地知识库。默认模型大约占用 200 MB 的下载量。不需要显卡。"
    )
    generator.writes_cjk, generator.reply = writes, "默认模型大约占用 200 MB 的下载量。"
    reply = client.post("/ask", json={"question": "默认模型的下载量有多大？"}).json()
    assert reply["llm_generated"] is writes and bool(generator.asked) is writes
    assert reply["citations"][0]["text"] == "默认模型大约占用 200 MB 的下载量。"


def test_closed_book_reads_no_document(
    client: TestClient, library: MemoryLibrary, generator: ScriptedGenerator
) -> None:
    generator.reply = "About **330** metres."
    reply = client.post("/ask", json={"question": QUESTION, "mode": "closed_book"}).json()
    assert reply["answer"] == "About **330** metres." and "<strong>330</strong>" in reply["answer_html"]
    assert library.searched == [] and reply["citations"] == [] and reply["confidence"] is None
    assert "unsupported" not in reply["answer_html"]


def test_reasoning_stays_out_of_the_answer(client: TestClient, generator: ScriptedGenerator) -> None:
    generator.reply = "Let me think about 7 towers. </think> The tower is 330 metres tall."
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert (
        reply["reasoning"] == "Let me think about 7 towers."
        and reply["answer"] == "The tower is 330 metres tall. [1]"
    )


def test_passages_that_do_not_fit_are_dropped_and_counted(
    client: TestClient, library: MemoryLibrary, generator: ScriptedGenerator
) -> None:
    shelf = library.shelves["default"]
    for n in range(8):
        shelf[f"more{n}.md"] = f"The Eiffel Tower, tall {n} " + "is a tower " * 60
    generator.context_tokens = 350
    reply = client.post("/ask", json={"question": QUESTION, "k": 8, "max_tokens": 20}).json()
    assert reply["usage"]["dropped_chunks"] > 0
    (asked,) = generator.asked
    assert generator.count_tokens(asked) <= 330 and len(reply["sources"]) == 8


def test_a_reply_that_repeats_itself_is_stopped(client: TestClient, generator: ScriptedGenerator) -> None:
    generator.reply = "The tower is 330 metres tall. " * 50
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert reply["answer"] == "The tower is 330 metres tall. [1]"


@pytest.mark.parametrize(
    "reply",
    [
        "## SQLite\n\nAdvantages:\n\n- one file\n\n## PostgreSQL\n\nAdvantages:\n\n- many writers",
        "| Shop | State |\n|---|---|\n| Alpha | open |\n| Beta | open |\n\n| Town |\n|---|\n| Oslo |",
        "Yes. It is so. Yes. That is all.",
    ],
)
def test_what_may_well_come_twice_does_not_end_a_reply(
    client: TestClient, generator: ScriptedGenerator, reply: str
) -> None:
    generator.reply = reply
    answer = client.post("/ask", json={"question": QUESTION, "mode": "closed_book"}).json()["answer"]
    assert answer.split() == reply.split()


def test_sentences_that_come_round_again_are_dropped(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    generator.reply = "It is high. It is old. It is iron. " * 9
    reply = client.post("/ask", json={"question": QUESTION, "mode": "closed_book"}).json()
    assert reply["answer"] == "It is high. It is old. It is iron."


def test_reasoning_is_taken_back_whole(client: TestClient, generator: ScriptedGenerator) -> None:
    generator.reply = "Hmm. The user asks. Hmm. Let me see. </think>The Eiffel Tower is 330 metres tall."
    for mode in ("closed_book", "rag"):
        reply = client.post("/ask", json={"question": QUESTION, "mode": mode}).json()
        assert reply["answer"].removesuffix(" [1]") == "The Eiffel Tower is 330 metres tall."


def test_a_table_stays_a_table_beside_its_citations(client: TestClient, generator: ScriptedGenerator) -> None:
    generator.reply = "The tower is 330 metres tall.\n\n| what | metres |\n|---|---|\n| the tower | 330 |"
    reply = client.post("/ask", json={"question": QUESTION}).json()
    assert "<table>" in reply["answer_html"] and "| the tower | 330 [1] |" in reply["answer"]


def test_a_sentence_cut_off_by_the_limit_is_left_out(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    generator.reply, generator.finish_reason = "The tower is 330 metres tall. It has three lev", "length"
    assert (
        client.post("/ask", json={"question": QUESTION}).json()["answer"]
        == "The tower is 330 metres tall. [1]"
    )


def test_a_small_model_reads_the_best_sentences_only(
    client: TestClient, library: MemoryLibrary, generator: ScriptedGenerator
) -> None:
    filler = " ".join(f"Sentence {n} is about gardens." for n in range(30))
    library.shelves["default"]["long.md"] = (
        f"{filler} The Eiffel Tower is 330 metres tall. It is of iron. {filler}"
    )
    generator.focus_sentences = 1
    reply = client.post("/ask", json={"question": QUESTION, "k": 1}).json()
    (asked,) = generator.asked
    text = asked[-1]["content"]
    assert "Sentence 29 is about gardens. The Eiffel Tower is 330 metres tall. It is of iron." in text
    assert text.count("gardens") == 1
    citation = reply["citations"][0]
    stored = library.shelves["default"]["long.md"]
    assert stored[citation["char_start"] : citation["char_end"]] == "The Eiffel Tower is 330 metres tall."
    generator.reply = "Bananas grow there."
    quoted = client.post("/ask", json={"question": QUESTION, "k": 1}).json()
    assert not quoted["llm_generated"] and quoted["answer"].startswith("The Eiffel Tower is 330 metres tall.")


def test_a_question_back_and_a_bare_announcement_are_left_out(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    generator.reply = "The answer is:\n\nThe tower is 330 metres tall. How tall is it?"
    assert (
        client.post("/ask", json={"question": QUESTION}).json()["answer"]
        == "The tower is 330 metres tall. [1]"
    )
