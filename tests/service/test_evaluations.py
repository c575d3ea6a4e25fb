"""Comparisons over HTTP and in the page: a process of its own, its report in a frame that may do nothing."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from service.evaluation import page as report_page
from service.evaluation import report
from service.evaluation.modes import Asking, modes
from service.evaluation.questions import Question
from service.evaluation.replies import Reply
from service.workshop import comparisons
from tests.service.browsing import Opener, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.conftest import until

HOSTILE = "<script>parent.pwned=1</script><img src=https://evil.example/x.png onerror=parent.pwned=1>"


def written(home: Path, name: str, answer: str = HOSTILE) -> None:
    """A finished comparison, as the command line leaves it."""
    asked, notes = modes(["base"], Asking(model="a", collection="default"))
    questions = [Question(id="1", text=f"Who? {answer}", parts=(("Lore",),))]
    replies = {
        m.name: {"1": Reply(id="1", mode=m.name, setup="x", answer=answer, answered=True)} for m in asked
    }
    made = report.build(questions, asked, replies, settings={"questions": "q.jsonl"}, notes=notes)
    folder = home / "evaluations" / name
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(made))
    (folder / "report.html").write_text(report_page.render(made))
    (folder / "answers.jsonl").write_text("{}\n" * 3)


def code(reply: object, status: int) -> str:
    assert reply.status_code == status, reply.text  # type: ignore[attr-defined]
    return str(reply.json()["error"]["code"])  # type: ignore[attr-defined]


def test_what_the_command_line_compared_is_listed_with_its_report(client: TestClient, app: FastAPI) -> None:
    home = app.state.parts.home
    assert client.get("/evaluations").json() == {"evaluations": []}
    written(home, "manual")
    (listed,) = client.get("/evaluations").json()["evaluations"]
    assert (listed["name"], listed["state"], listed["done"], listed["has_report"]) == (
        "manual",
        "finished",
        3,
        True,
    )
    assert set(listed["summary"]["right"]) == {"base", "always-refuse", "best-sentence"}
    assert client.get("/evaluations/manual").json()["report"]["questions"]["asked"] == 1
    shown = client.get("/evaluations/manual/report.html")
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'") and "script-src" not in policy
    assert "<script" not in shown.text and shown.headers["x-frame-options"] == "SAMEORIGIN"
    assert client.get("/").headers["x-frame-options"] == "DENY"
    (home / "evaluations" / "begun").mkdir()
    assert code(client.get("/evaluations/begun/report.html"), 404) == "unknown_name"
    for name in ("none", ".hidden", "x%2f..%2fmanual"):
        assert client.get(f"/evaluations/{name}").status_code in (404, 405), name


def test_a_comparison_runs_in_a_process_of_its_own(client: TestClient, app: FastAPI) -> None:
    asked = b'{"id": "1", "question": "Who?", "answers": ["Lore"]}\n'
    client.post("/datasets", files={"file": ("asked.jsonl", asked)})
    client.post("/datasets", files={"file": ("talk.json", b'[{"instruction": "x", "output": "y"}]')})
    good = {"name": "one", "questions": "asked.jsonl", "modes": ["base"]}
    for change, status in (({"name": "../x"}, 422), ({"questions": "none"}, 404), ({"questions": "talk.json"}, 422), ({"modes": []}, 422), ({"modes": ["a,b"]}, 422)):  # fmt: skip
        assert client.post("/evaluations", json=good | change).status_code == status, change
    assert not (app.state.parts.home / "evaluations").exists()
    begun = client.post("/evaluations", json=good)
    assert begun.status_code == 201 and begun.json()["state"] == "running" and begun.json()["total"] == 3
    assert code(client.post("/evaluations", json=good | {"name": "two"}), 409) == "run_active"
    until(lambda: client.get("/evaluations/one").json()["state"] != "running", 200)
    ended = client.get("/evaluations/one").json()
    assert ended["state"] == "failed"  # the model is not installed here, and the log says so
    assert "scripted" in ended["log"] or "is empty" in ended["log"], ended["log"]
    assert code(client.post("/evaluations", json=good | {"modes": ["rag"]}), 409) == "name_taken"


def test_looking_at_a_comparison_from_several_sides_starts_and_stops_nothing(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look is to have its lock for an instant: nobody takes another one's look for a comparison that runs."""
    client.post("/datasets", files={"file": ("asked.jsonl", b'{"question": "Who?", "answers": ["Lore"]}\n')})
    begun, killed, flock = comparisons.subprocess.Popen, [], comparisons.fcntl.flock
    monkeypatch.setattr(
        comparisons.subprocess, "Popen", lambda _, **more: begun([sys.executable, "-c", ""], **more)
    )
    good = {"name": "one", "questions": "asked.jsonl", "modes": ["base"]}
    assert client.post("/evaluations", json=good).status_code == 201
    until(lambda: client.get("/evaluations/one").json()["state"] != "running")
    monkeypatch.setattr(comparisons.os, "kill", lambda pid, _: killed.append(pid))
    asked = [client.get, client.delete]
    seen = []

    def looked_at_meanwhile(lock: int, how: int) -> None:
        flock(lock, how)
        if asked:
            seen.append(asked.pop()("/evaluations/one").json()["state"])

    with monkeypatch.context() as patch:
        patch.setattr(comparisons.fcntl, "flock", looked_at_meanwhile)
        seen.append(client.get("/evaluations/one").json()["state"])
    assert seen == ["failed"] * 3 and not killed  # that number may be anybody's by now
    lock = (app.state.parts.home / "evaluations" / "one" / ".lock").open("rb+")
    flock(lock, comparisons.fcntl.LOCK_SH)
    monkeypatch.setattr(comparisons.time, "sleep", lambda _: lock.close())
    assert client.post("/evaluations", json=good).status_code == 201


def test_a_comparison_that_the_disk_let_begin_only_half_can_be_begun_again(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/datasets", files={"file": ("asked.jsonl", b'{"question": "Who?", "answers": ["Lore"]}\n')})
    begun = comparisons.subprocess.Popen
    monkeypatch.setattr(
        comparisons.subprocess, "Popen", lambda _, **more: begun([sys.executable, "-c", ""], **more)
    )
    good = {"name": "one", "questions": "asked.jsonl", "modes": ["base"]}
    folder = app.state.parts.home / "evaluations" / "one"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        refused = client.post("/evaluations", json=good)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code(refused, 507) == "storage_full" and list(folder.iterdir()) == []
    (folder / "request.json").write_text('{"questions": "ask')  # as a service of another day left it
    assert client.post("/evaluations", json=good).status_code == 201
    assert json.loads((folder / "request.json").read_text())["questions"] == "asked.jsonl"
    until(lambda: client.get("/evaluations/one").json()["state"] != "running")
    (folder / "request.json").unlink()
    (folder / "answers.jsonl").write_text("{}\n")  # the command line's own: nobody else goes on with it
    assert code(client.post("/evaluations", json=good), 409) == "name_taken"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_is_shown_in_a_frame_that_may_do_nothing(visit: Opener, app: FastAPI, scheme: str) -> None:
    script = axe_script()
    page = visit("#/evaluate", color_scheme=scheme)
    expect(page.get_by_role("heading", name="Nothing compared yet")).to_be_visible()
    expect(page.get_by_role("button", name="Start")).to_be_disabled()
    written(app.state.parts.home, "manual")
    page.reload()
    expect(page.locator(".run .score-label")).to_contain_text(["base"])
    frame = page.frame_locator(".report-frame")
    expect(frame.locator("h1")).to_be_visible()
    expect(frame.locator("body")).to_contain_text(HOSTILE)
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.locator(".report-frame").get_attribute("sandbox") == ""
    background = frame.locator("body").evaluate(
        "(node) => getComputedStyle(node.ownerDocument.documentElement).colorScheme"
    )
    assert background  # its own styles are alive
    page.set_input_files("#questions-file", [{"name": "q.jsonl", "mimeType": "application/json", "buffer": b'{"question": "Who?", "answers": ["Lore"]}\n'}])  # fmt: skip
    expect(page.get_by_role("radio", name="q.jsonl")).to_be_checked()
    expect(page.get_by_role("button", name="Start")).to_be_enabled()
    page.get_by_label("A trained adapter alone").check()
    expect(page.get_by_role("button", name="Start")).to_be_disabled()  # there is no adapter
    assert breaches(page, script) == []
