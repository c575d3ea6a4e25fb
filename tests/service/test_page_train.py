"""A tiny LoRA from the form to its end in a real browser: trained, tried, compared, merged, chosen, asked, exported."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.browsing import Opener, ask, axe_script, breaches, browser, visit  # noqa: F401 - fixtures
from tests.service.fakes import MemoryLibrary
from tests.service.test_page_library import PAYLOADS
from tests.service.tiny_home import ROWS, alpaca, make_models

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    make_models(tmp_path)
    settings = ServiceSettings(model="a", kernel="float32", max_tokens=12, shutdown_grace_s=0.5)
    return create_app(settings, tmp_path, MemoryLibrary({"tower.md": "The tower is 330 metres tall.\n"}))


def upload(page: Page, name: str, content: bytes) -> None:
    page.set_input_files("#set-file", [{"name": name, "mimeType": "application/json", "buffer": content}])


def answer(page: Page) -> str:
    return page.locator(".turn").last.locator(".answer").text_content() or ""


def test_an_adapter_from_the_form_to_an_answer(visit: Opener, app: FastAPI, tmp_path: Path) -> None:
    page = visit("#/train")
    expect(page.get_by_role("heading", name="Nothing trained yet")).to_be_visible()
    start = page.get_by_role("button", name="Start training")
    expect(start).to_be_disabled()  # there is nothing to train on
    upload(page, "identity.json", alpaca(ROWS * 8))
    expect(page.get_by_role("checkbox", name="identity.json")).to_be_checked()
    page.get_by_label("Name").fill("lore")
    for label, value in (("Learning rate", "0.005"), ("Epochs", "8"), ("Rank", "16"), ("Alpha", "32")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_text("More settings").click()
    page.get_by_label("Cutoff length").fill("64")
    page.get_by_label("Batch size").fill("2")
    page.get_by_label("Scheduler").select_option("constant")
    page.get_by_label("Compute type").select_option("fp32")
    page.get_by_text("The same on the command line").first.click()
    command = page.locator("form .command code").last
    expect(command).to_have_text(
        "python -m model sft --dataset identity.json --model a --name lore --learning_rate 0.005 --num_train_epochs 8 "
        "--lora_rank 16 --lora_alpha 32 --cutoff_len 64 --per_device_train_batch_size 2 --lr_scheduler_type constant --compute_type fp32 --detach"
    )
    start.click()
    expect(page.locator(".run .item-head h3")).to_have_text("lore", timeout=100_000)
    expect(page.locator(".run .run-state")).to_have_text("finished", timeout=240_000)
    expect(page.locator(".run .figures")).to_contain_text("64 of 64")
    expect(page.get_by_role("img", name=re.compile("Loss after 64 of 64 steps"))).to_be_visible()
    assert len(page.locator(".chart-line").get_attribute("d") or "") > 300
    # The form and the command do the same: the run was started with exactly the words that were shown.
    kept = json.loads((tmp_path / "runs" / "lore" / "config.json").read_text())["settings"]
    assert (kept["learning_rate"], kept["lora_rank"], kept["lr_scheduler_type"]) == (0.005, 16, "constant")

    page.get_by_role("button", name="Try it").click()
    expect(page.locator("select[name=model]")).to_have_value("a+lore")
    expect(page.locator("select[name=mode]")).to_have_value("closed_book")
    ask(page, ROWS[0]["instruction"])
    assert answer(page).startswith(ROWS[0]["output"])  # it was learnt by heart
    expect(page.locator(".turn .facts")).to_contain_text("a+lore")

    page.get_by_role("link", name="Train").click()
    page.get_by_role("button", name="Merge…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_have_value("a-lore")
    dialog.get_by_role("button", name="Merge").click()
    page.get_by_role("button", name="Export…").click()
    dialog.get_by_role("button", name="Export").click()
    expect(dialog).to_contain_text("Written to exports/a-lore-gguf")
    expect(dialog.locator(".command code")).to_have_text("ollama create a-lore -f Modelfile")
    dialog.get_by_role("button", name="Cancel").click()
    assert (tmp_path / "exports" / "a-lore-gguf" / "Modelfile").is_file()

    page.get_by_role("link", name="Models").click()
    merged = page.locator(".item", has=page.get_by_role("heading", name="a-lore", exact=True))
    merged.get_by_role("button", name="Load", exact=True).click()
    expect(merged).to_contain_text("loaded")
    merged.get_by_role("button", name="Ask it").click()
    expect(page.locator("select[name=model]")).to_have_value("a-lore")
    page.click(".options summary")
    page.select_option("select[name=mode]", "closed_book")
    ask(page, ROWS[0]["instruction"])
    assert answer(page).startswith(ROWS[0]["output"])

    page.get_by_role("link", name="Compare").click()
    columns = page.locator(".column")
    expect(columns).to_have_count(2)
    columns.nth(0).get_by_label("Model").select_option("a")
    columns.nth(0).get_by_label("Answer with").select_option("closed_book")
    columns.nth(1).get_by_label("Model").select_option("a+lore")
    page.locator(".compare-form").get_by_label("Question").fill(ROWS[0]["instruction"])
    page.get_by_role("button", name="Ask all").click()
    expect(page.locator(".column[data-state=done]")).to_have_count(2)
    expect(columns.nth(1).locator(".answer")).to_contain_text(ROWS[0]["output"])
    assert ROWS[0]["output"] not in (columns.nth(0).locator(".answer").text_content() or "")
    for column in columns.all():
        expect(column.locator(".figures dt")).to_contain_text(["First word", "In all"])


def test_the_comparison_begins_with_adapters_of_ones_own_and_none_that_came_along(visit: Opener) -> None:
    page = visit()
    came = [{"name": name, "base": "a"} for name in ("grounded-qa", "question-writer")]
    told = {"models": [{"name": "a"}], "default": "a", "upstreams": []}
    page.route("**/models", lambda route: route.fulfill(json=told))
    for own, expected in ([{"name": "mine", "base": "a"}], "a+mine"), ([], "a"):
        told["adapters"] = came + own
        page.goto("about:blank")
        page.goto(f"{page.watched.address}/#/compare")  # type: ignore[attr-defined]
        chosen = page.locator(".column").get_by_label("Model")
        expect(chosen).to_have_count(2)
        assert [chosen.nth(n).input_value() for n in range(2)] == ["a", expected]


def test_a_run_that_fails_says_why_and_hostile_sets_are_text(visit: Opener, app: FastAPI) -> None:
    page = visit("#/train")
    page.watched.expected.append("422")  # type: ignore[attr-defined]
    upload(page, "broken.json", b"[{]")
    expect(page.locator(".set-picker .problem")).to_contain_text("cannot be trained on")
    rows = [{"instruction": payload, "output": payload} for payload in PAYLOADS]
    upload(page, "hostile.json", alpaca([*rows, {"instruction": "<img src=x onerror='window.pwned=1'>"}]))
    page.get_by_text("First row").click()
    expect(page.locator(".set .tag")).to_have_text("1 malformed")
    page.get_by_label("Cutoff length").evaluate("(node) => (node.closest('details').open = true)")
    page.get_by_label("Cutoff length").fill("64")
    page.get_by_label("Epochs").fill("1")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".run .run-state")).to_have_text("failed", timeout=240_000)
    expect(page.locator(".run > .problem")).to_contain_text("1 of 15 rows of hostile are malformed")
    filled = page.evaluate("document.querySelector('.run-share .bar-fill').offsetWidth")
    assert filled == 0, "what has not begun is not shown as done"
    expect(page.locator(".run .chart")).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("main :is(script,img,iframe,style,link,base,object,embed)").count() == 0


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 800)), ("dark", (390, 844))])
def test_accessibility_rules_hold(visit: Opener, tmp_path: Path, scheme: str, size: tuple[int, int]) -> None:
    script = axe_script()
    folder = tmp_path / "runs" / "done"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"command": "sft", "settings": {"model": "a", "dataset": ["x.json"]}})
    )
    (folder / "status.json").write_text(json.dumps({"state": "failed", "message": "the disk is full"}))
    events = [{"step": n + 1, "steps": 40, "epoch": n / 10, "loss": 4 / (n + 1)} for n in range(40)]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(e) + "\n" for e in [*events, {"step": 40, "eval_loss": 0.3}])
    )
    page = visit("#/train", color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    upload(page, "identity.json", alpaca())
    expect(page.locator(".set")).to_have_count(1)
    page.evaluate("for (const node of document.querySelectorAll('main details')) node.open = true")
    expect(page.locator(".chart-dot")).to_have_count(1)
    assert breaches(page, script) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for route in ("models", "compare", "evaluate"):
        page.goto(re.sub("#.*", f"#/{route}", page.url))
        page.wait_for_selector(f".{route} h1:visible")
        page.wait_for_timeout(300)
        assert breaches(page, script) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), route
