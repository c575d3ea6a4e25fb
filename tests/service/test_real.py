"""With the real weights: a cited answer, a refusal, and a Chinese question answered in the document's words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from ingest.embed import find_embedder
from ingest.settings import IngestSettings, find_home
from service import wiring
from service.app import create_app
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.service.conftest import until

MODELS = find_home() / "models"
NEEDED = ("smollm2-135m-instruct", "multilingual-e5-small")
pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(
        not all((MODELS / name).is_dir() for name in NEEDED),
        reason=f"weights missing: python -m model pull {' '.join(NEEDED)}",
    ),
]
TEXTS = {
    "lighthouse.md": "# The lighthouse of Varda\n\nThe lighthouse of Varda was built in 1874 by the engineer Signe "
    "Holm. 🗼 It is 31 metres tall. Its lamp was electrified in 1921.\n\n## Visits\n\nVisitors may climb the 142 "
    "steps from May to September. A ticket costs 60 kroner.\n",
    "pump.md": "# Water pump P-204\n\nThe pump P-204 delivers 85 litres a minute. Change its filter every six months. "
    "If the red lamp blinks, the inlet is blocked.\n",
    "leaflet.md": "# Leaflet\n\nThe pump P-204 delivers 95 litres a minute.\n",
    "手册.md": "# 打印机使用手册\n\n打印机的默认密码是 8061。更换墨盒之前请先关闭电源。墨盒一般可以打印一千两百页。\n",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home, real = tmp_path_factory.mktemp("home"), find_home()
    shelves = Shelves(home, "default", IngestSettings(workers=1), lambda name: find_embedder(name, real))
    app = create_app(ServiceSettings(max_tokens=48), home, shelves, wiring.own(NEEDED[0], real))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200, seconds=120)
        for path, text in TEXTS.items():
            job = client.post("/documents", json={"text": text, "path": path}).json()
            until(lambda job=job: client.get(f"/jobs/{job['id']}").json()["status"] == "done", seconds=120)
        yield client


def test_an_answer_stands_on_a_sentence_of_the_document(client: TestClient) -> None:
    reply = client.post("/ask", json={"question": "When was the lighthouse of Varda built?"}).json()
    assert reply["answered"] and "1874" in reply["answer"]
    citation = reply["citations"][0]
    assert citation["path"] == "lighthouse.md" and "1874" in citation["text"]
    text = client.get(f"/documents/{citation['document_id']}/text").json()["text"]
    assert (
        text == TEXTS["lighthouse.md"]
        and text[citation["char_start"] : citation["char_end"]] == citation["text"]
    )
    assert reply["confidence"] > 0.5 and reply["usage"]["prompt_tokens"] > 100


def test_a_question_about_something_else_is_refused(client: TestClient) -> None:
    for question in ("Who won the football world cup in 1998?", "红楼梦的作者是谁？"):
        reply = client.post("/ask", json={"question": question}).json()
        assert not reply["answered"] and reply["refusal_reason"] == "nothing_relevant", reply["answer"]
        assert reply["citations"] == [] and reply["sources"]


def test_a_loaded_question_is_refused_or_gets_the_documents_own_sentence(client: TestClient) -> None:
    for question, premise in (
        ("Why was the lighthouse of Varda demolished in 1950?", "demolished"),
        ("How much did Denmark pay for the lighthouse of Varda?", "Denmark"),
    ):
        reply = client.post("/ask", json={"question": question}).json()
        assert not (reply["answered"] and reply["llm_generated"]), reply["answer"]
        if reply["answered"]:
            assert premise not in reply["answer"] and reply["citations"], reply["answer"]


def test_documents_that_contradict_each_other_are_both_shown(client: TestClient) -> None:
    reply = client.post(
        "/ask", json={"question": "How many litres a minute does the pump P-204 deliver?"}
    ).json()
    assert reply["answered"] and reply["conflict"], reply["answer"]
    assert "85" in reply["answer"] and "95" in reply["answer"]
    assert {c["path"] for c in reply["citations"]} == {"pump.md", "leaflet.md"}


def test_a_chinese_question_gets_the_documents_own_words(client: TestClient) -> None:
    reply = client.post("/ask", json={"question": "打印机的默认密码是多少？"}).json()
    assert reply["answered"] and not reply["llm_generated"]
    assert reply["citations"][0]["text"] == "打印机的默认密码是 8061。"


def test_a_stream_is_the_same_answer(client: TestClient) -> None:
    body = {"question": "How often must the filter of the pump P-204 be changed?"}
    plain = client.post("/ask", json=body).json()
    streamed = client.post("/ask", json=body | {"stream": True}).text
    assert plain["answered"] and plain["citations"][0]["path"] == "pump.md"
    assert streamed.count("event: sources") == 1 and streamed.count("event: final") == 1
    assert plain["answer"] in streamed.replace("\\n", "\n")


def test_the_sentence_that_answers_is_preferred_to_the_one_that_repeats_the_question(
    client: TestClient,
) -> None:
    reply = client.post(
        "/ask", json={"question": "How often must the filter of the pump P-204 be changed?"}
    ).json()
    assert "six months" in reply["answer"]
