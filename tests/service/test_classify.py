"""`POST /classify`, the named classifiers and the command, over HTTP and in process."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service import wiring
from service.app import assemble, create_app
from service.cli import arguments, classify
from service.errors import InvalidClasses, InvalidRequest, UnknownClassifier, WeightsMissing
from service.generators.ollama import OllamaServer
from service.generators.own import OwnGenerator
from service.models import Models
from service.schemas import ClassifyRequest
from service.settings import ServiceSettings
from service.wiring import Given
from tests.service.fakes import MemoryLibrary
from tests.service.ollama_stand_in import OllamaStandIn, standing_in
from tests.service.reading_engine import build
from tests.service.test_classifier import GIVEN

#: Held out: none of them stands among the shipped examples.
FINANCE = {
    "新闻报道": ["沪指今日收涨1.2%，两市成交额超九千亿元，券商板块集体走强。", "财政部今日发布减税新政，媒体称中小企业将受益。"],
    "财务报告": ["公司本季度净利润同比增长18%，经营现金流由负转正，资产负债率降至40%。", "年末存货余额3.2亿元，营业成本较上年增加9%，每股收益0.41元。"],
    "公司公告": ["公司宣布将以30亿元收购一家电池制造商，交易预计年底完成。", "本公司董事会决定聘任李明先生为总经理，任期三年。"],
    "分析师报告": ["我们看好新能源行业的长期前景，预计明年需求增长25%，维持推荐评级。", "研究团队认为航空业盈利拐点将至，上调板块评级至超配。"],
}  # fmt: skip


@pytest.fixture
def library() -> MemoryLibrary:
    return MemoryLibrary({"a.md": "A tower.\n"})


@pytest.fixture
def own(tmp_path: Path, library: MemoryLibrary) -> Iterator[TestClient]:
    """The service with a tiny model of our own that scores for real."""
    app = create_app(ServiceSettings(), tmp_path, library, OwnGenerator(build(tmp_path / "m").use(None)))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        yield client


def test_a_text_gets_a_label_and_the_reply_shows_the_parts(own: TestClient) -> None:
    body = {"text": "rain falls tonight", "classes": GIVEN, "include_prompt": True}
    reply = own.post("/classify", json=body | {"likelihood": "on"}).json()
    (result,) = reply["results"]
    assert result["label"] == "weather" and not result["abstained"]
    assert sum(result["scores"].values()) == pytest.approx(1) and set(result["scores"]) == set(GIVEN)
    assert set(result["parts"]) == {"similarity", "ngrams", "likelihood"} == set(reply["weights"])
    assert reply["likelihood"].startswith("used") and reply["model"].startswith("tiny")
    assert reply["left_out"]["examples"] == 8 and reply["classifier"] is None
    assert result["prompt"].endswith(
        "<|im_start|>user\nrain falls tonight<|im_end|>\n<|im_start|>assistant\n"
    )
    assert result["prompt"].count("<|im_start|>assistant\n") == 9
    plain = own.post("/classify", json=body | {"likelihood": "off", "include_prompt": False}).json()
    assert plain["model"] is None and "likelihood" not in plain["weights"]
    assert plain["results"][0]["prompt"] is None
    many = own.post("/classify", json={"texts": ["", "a goal"], "classes": GIVEN, "abstain_below": 1}).json()
    assert [r["label"] for r in many["results"]] == [None, None]
    assert all(r["abstained"] for r in many["results"])


def test_bad_requests_are_422_and_unknown_things_404(own: TestClient) -> None:
    two = {"a": ["x"], "b": ["y"]}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"classes": two}, "text or texts"),
        ({"text": "x", "texts": ["x"], "classes": two}, "text or texts"),
        ({"text": "x"}, "classes or classifier"),
        ({"text": "x", "classes": two, "classifier": "finance-zh"}, "classes or classifier"),
        ({"texts": [], "classes": two}, "texts"),
        ({"text": "x", "classes": {"a": ["x"]}}, "nothing to choose"),
        ({"text": "x", "classes": {"a": "x", "b": []}}, "classes.a"),
        ({"text": "x", "classes": {"a": [], "Ａ": []}}, "are the same"),
        ({"text": "x", "classes": two, "abstain_below": 1.5}, "abstain_below"),
        ({"text": "x", "classes": two, "likelihood": "maybe"}, "likelihood"),
        ({"text": "x", "classes": two, "surprise": 1}, "surprise"),
    ]
    for body, words in bad:
        reply = own.post("/classify", json=body)
        assert reply.status_code == 422 and words in reply.json()["error"]["message"], (body, reply.text)
    raw = b'{"text": "x", "classes": {"a": ["x"], "b": ["y"], "a": ["z"]}}'
    for path, method in (("/classify", "POST"), ("/classifiers/c", "PUT")):
        sent = raw if method == "POST" else raw.replace(b'"text": "x", ', b"")
        reply = own.request(method, path, content=sent, headers={"Content-Type": "application/json"})
        assert reply.status_code == 422 and "stands twice" in reply.json()["error"]["message"]
    surrogate = b'{"text": "\\ud800", "classes": {"a": [], "b": []}}'
    assert (
        own.post("/classify", content=surrogate, headers={"Content-Type": "application/json"}).status_code
        == 422
    )
    for body, code in (
        ({"classifier": "no"}, "unknown_classifier"),
        ({"classes": two, "model": "no"}, "unknown_model"),
    ):
        reply = own.post("/classify", json={"text": "x"} | body)
        assert reply.status_code == 404 and reply.json()["error"]["code"] == code


def test_a_classifier_is_put_listed_used_and_deleted(own: TestClient, tmp_path: Path) -> None:
    body = {
        "classes": GIVEN,
        "instruction": "What is it about?",
        "description": "three",
        "abstain_below": 0.2,
    }
    assert own.put("/classifiers/subjects", json=body).status_code == 201
    again = own.put("/classifiers/subjects", json=body)
    assert again.status_code == 200 and own.get("/classifiers/subjects").json() == again.json()
    assert again.json()["classes"] == {k: sorted(v) for k, v in sorted(GIVEN.items())}
    assert not again.json()["built_in"] and again.json()["abstain_below"] == 0.2
    listed = {c["name"]: c for c in own.get("/classifiers").json()["classifiers"]}
    assert set(listed) == {"finance-zh", "subjects"} and listed["subjects"]["labels"]["sport"] == 2
    reply = own.post(
        "/classify", json={"text": "a goal", "classifier": "subjects", "include_prompt": True}
    ).json()
    assert reply["classifier"] == "subjects" and reply["results"][0]["label"] == "sport"
    assert "What is it about?" in reply["results"][0]["prompt"]
    (tmp_path / "classifiers" / "broken.json").write_text('{"classes": {"a": []}}', encoding="utf-8")
    assert own.get("/classifiers/broken").status_code == 503
    problems = {c["name"]: c["problem"] for c in own.get("/classifiers").json()["classifiers"]}
    assert problems["broken"] and not problems["subjects"]
    assert own.delete("/classifiers/subjects").status_code == 204
    assert (
        own.get("/classifiers/subjects").status_code == own.delete("/classifiers/subjects").status_code == 404
    )
    for name in ("..%2Fx", "CON", "a%00b", "." * 3, "x" * 300):
        assert own.put(f"/classifiers/{name}", json={"classes": GIVEN}).status_code in (404, 405, 422), name
        assert own.get(f"/classifiers/{name}").status_code in (404, 405), name
    assert {
        p.name for p in tmp_path.rglob("*.json") if "classifiers" in p.parts and ".decided" not in p.parts
    } == {"broken.json"}


def test_the_shipped_classifier_stays_and_can_be_hidden(own: TestClient) -> None:
    shipped = own.get("/classifiers/finance-zh").json()
    assert shipped["built_in"] and list(shipped["classes"]) == sorted(FINANCE)
    assert all(8 <= len(texts) <= 12 for texts in shipped["classes"].values())
    known = {text for texts in shipped["classes"].values() for text in texts}
    assert not known & {text for texts in FINANCE.values() for text in texts}
    reply = own.delete("/classifiers/finance-zh")
    assert reply.status_code == 409 and reply.json()["error"]["code"] == "built_in"
    assert own.put("/classifiers/finance-zh", json={"classes": GIVEN}).json()["hides_built_in"]
    assert "sport" in own.get("/classifiers/finance-zh").json()["classes"]
    assert own.delete("/classifiers/finance-zh").status_code == 204
    assert own.get("/classifiers/finance-zh").json() == shipped


def test_replies_keep_to_the_openapi_document(own: TestClient) -> None:
    api = own.get("/openapi.json").json()
    shapes, paths = api["components"]["schemas"], api["paths"]
    assert set(paths["/classifiers/{name}"]) == {"get", "put", "delete"}
    for path, method in (("/classify", "post"), ("/classifiers", "get"), ("/classifiers/{name}", "put")):
        shape = paths[path][method]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        reply = {
            "/classify": lambda: own.post("/classify", json={"text": "x", "classes": GIVEN}),
            "/classifiers": lambda: own.get("/classifiers"),
            "/classifiers/{name}": lambda: own.put("/classifiers/c", json={"classes": GIVEN}),
        }[path]().json()
        assert set(reply) == set(shapes[shape.rsplit("/", 1)[1]]["properties"])
    for example in shapes["ClassifyRequest"]["examples"]:
        assert own.post("/classify", json=example).status_code == 200


@pytest.fixture
def ollama() -> Iterator[OllamaStandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture
def upstream(tmp_path: Path, library: MemoryLibrary, ollama: OllamaStandIn) -> Iterator[TestClient]:
    model = OwnGenerator(build(tmp_path / "m").use(None))
    app: FastAPI = create_app(ServiceSettings(), tmp_path, library, model)
    models = Models(model.name, Given(model), OllamaServer(ollama.address, 4096))
    object.__setattr__(app.state.parts, "models", models)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        yield client


def test_ollama_is_held_to_the_labels_and_what_is_none_is_an_abstention(
    upstream: TestClient, ollama: OllamaStandIn
) -> None:
    body = {"text": "rain", "classes": GIVEN, "model": "ollama/tiny:1b"}
    ollama.words = ['{"label": ', '"sport"}']
    reply = upstream.post("/classify", json=body).json()
    (result,) = reply["results"]
    assert result["label"] == "sport" and reply["model"] == "ollama/tiny:1b"
    assert max(result["scores"], key=result["scores"].get) == "weather"
    asked = ollama.asked[0]
    assert asked["format"]["properties"]["label"]["enum"] == sorted(GIVEN)
    assert [m["role"] for m in asked["messages"]] == ["system"] + ["user", "assistant"] * 8 + ["user"]
    assert asked["messages"][-1]["content"] == "rain" and asked["options"]["temperature"] == 0
    for said in ('{"label": "politics"}', "I think it is sport, or not", "{", "", "[]", '{"label": null}'):
        ollama.words = [said]
        (result,) = upstream.post("/classify", json=body).json()["results"]
        assert result["abstained"] and result["label"] is None, said
        assert any("no label" in note for note in result["notes"])
    dotted = {"U.S.": ["Washington"], "U.K.": ["London"]}
    ollama.words = ['{"label": "U.S."}']
    reply = upstream.post("/classify", json=body | {"classes": dotted, "abstain_below": 0.99}).json()
    (result,) = reply["results"]
    assert result["label"] == "U.S." and any("abstain_below does not count" in n for n in result["notes"])
    ollama.words = ["Sport."]
    assert upstream.post("/classify", json=body).json()["results"][0]["label"] == "sport"
    asked_before = len(ollama.asked)
    assert upstream.post("/classify", json=body | {"text": " "}).json()["results"][0]["abstained"]
    assert len(ollama.asked) == asked_before
    long = upstream.post("/classify", json=body | {"text": "rain " * 9000}).json()["results"][0]
    assert any("head and tail" in note for note in long["notes"])
    assert len(ollama.asked[-1]["messages"][-1]["content"]) < 9000
    assert upstream.post("/classify", json=body | {"model": "ollama/missing"}).status_code == 404


def test_the_command_labels_lines_and_says_what_is_wrong(
    tmp_path: Path,
    library: MemoryLibrary,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = assemble(ServiceSettings(), tmp_path, library, OwnGenerator(build(tmp_path / "m").use(None)))
    file = tmp_path / "classes.json"
    file.write_text("\ufeff" + json.dumps(GIVEN), encoding="utf-8")
    by_file = ["classify", "--classes", str(file), "--likelihood", "off"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("a goal\nrain and wind\r\n"))
    assert classify.run(parts, arguments.parse([*by_file, "-", "the bank"])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["sport", "weather", "money"] and lines[0].endswith(
        "\ta goal"
    )
    assert classify.run(parts, arguments.parse([*by_file, "--json", "a goal"])) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["label"] == "sport"
    held = {"classes": GIVEN, "instruction": "Sort these.", "abstain_below": 1.0}
    file.write_text(json.dumps(held), encoding="utf-8")
    assert classify.run(parts, arguments.parse([*by_file, "a goal"])) == 0
    assert "(abstains; likeliest: sport)" in capsys.readouterr().out
    assert classify.run(parts, arguments.parse([*by_file, "--abstain-below", "0", "a goal"])) == 0
    assert "abstains" not in capsys.readouterr().out
    assert classify.request(arguments.parse([*by_file, "a goal"])).instruction == "Sort these."
    with pytest.raises(UnknownClassifier, match="finance-zh"):
        classify.run(parts, arguments.parse(["classify", "--classifier", "none", "x"]))
    for content, problem in (
        ("{", InvalidRequest),
        ("[1]", InvalidRequest),
        ('{"a": [], "a": []}', InvalidClasses),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(problem):
            classify.run(parts, arguments.parse([*by_file, "x"]))
    file.unlink()
    with pytest.raises(InvalidRequest, match=r"classes\.json cannot be read: No such file"):
        classify.run(parts, arguments.parse([*by_file, "x"]))


@pytest.mark.weights
def test_the_four_kinds_of_finance_sentences_are_told_apart(tmp_path: Path) -> None:
    from ingest.embed import find_embedder
    from ingest.errors import EmbedderError
    from ingest.settings import IngestSettings, find_home

    try:
        found = find_embedder(IngestSettings().embedder, find_home())
    except EmbedderError as error:
        pytest.skip(str(error))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / found.folder.name).symlink_to(found.folder.resolve())
    parts = assemble(ServiceSettings(), tmp_path)
    texts = [text for texts in FINANCE.values() for text in texts]
    body = ClassifyRequest(texts=texts, classifier="finance-zh")
    named = body.wanted(parts.classifiers.get("finance-zh"))
    try:
        model = wiring.own(ServiceSettings().model, find_home())
    except WeightsMissing as error:
        pytest.skip(str(error))
    outcome = parts.classifying.classify(named, lambda: model, threading.Event())
    # What the model is worth here was decided when the examples were written, and came with the program.
    assert outcome.likelihood.startswith("left aside, it only costs time")
    assert not (tmp_path / "classifiers" / ".decided").exists()
    assert [r.label for r in outcome.results] == [label for label, t in FINANCE.items() for _ in t]
    assert outcome.left_out is not None and outcome.left_out.accuracy >= 0.85
