"""The tools as the official client of the Model Context Protocol sees them, in memory and as a process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from service.runner import Runner
from tests.service.conftest import until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

mcp = pytest.importorskip("mcp", reason="the MCP package is not installed: pip install 'lorebase[mcp]'")

ROOT = Path(__file__).resolve().parents[2]


def talk(target: Any, say: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a client hears that does `say`."""

    async def meet() -> Any:
        async with mcp.Client(target, read_timeout_seconds=60) as client:
            return await say(client)

    return asyncio.run(asyncio.wait_for(meet(), 90))


@pytest.fixture
def call(app: FastAPI) -> Callable[..., Any]:
    from service.mcp import server

    app.state.parts.readiness.start()
    return lambda tool, **given: talk(server(app.state.parts), lambda c: c.call_tool(tool, given))


def test_a_client_finds_the_tools_and_what_they_take(app: FastAPI) -> None:
    from service.mcp import server

    found = talk(server(app.state.parts), lambda c: c.list_tools()).tools
    assert [t.name for t in found] == ["search", "ask", "list_documents"]
    for tool in found:
        assert tool.description and tool.output_schema and tool.annotations.read_only_hint
    assert found[0].input_schema["required"] == ["query"]
    assert all("description" in p for t in found for p in t.input_schema["properties"].values())


def test_search_gives_passages_with_their_places(call: Callable[..., Any]) -> None:
    reply = call("search", query="1,665 steps", k=1)
    assert not reply.is_error
    (passage,) = reply.structured_content["passages"]
    assert passage["path"] == "tower.md" and passage["page_first"] == 1 and "1,665 steps" in passage["text"]
    assert "1,665 steps" in reply.content[0].text, "clients that read no structure get the same as text"


def test_ask_answers_with_citations_or_refuses_with_the_nearest(call: Callable[..., Any]) -> None:
    reply = call("ask", question="How tall is the Eiffel Tower?").structured_content
    assert reply["answered"] and "330 metres" in reply["answer"] and "[1]" in reply["answer"]
    (citation,) = reply["citations"]
    assert citation["marker"] == 1 and citation["path"] == "tower.md" and "330 metres" in citation["text"]
    refused = call("ask", question="Who sells bicycles on Neptune?").structured_content
    assert not refused["answered"] and refused["refusal_reason"] and refused["citations"] == []


def test_documents_are_listed_in_parts(call: Callable[..., Any], library: MemoryLibrary) -> None:
    library.shelves["empty"] = {}
    reply = call("list_documents", offset=1, limit=1).structured_content
    assert reply["total"] == 2 and reply["collections"] == ["default", "empty"]
    assert [d["path"] for d in reply["documents"]] == ["tower.md"]
    assert call("list_documents", collection="empty").structured_content["documents"] == []


@pytest.mark.parametrize(
    ("tool", "given", "says"),
    [
        ("search", {"query": "x", "collection": "absent"}, "no collection 'absent'"),
        ("ask", {"question": "x", "collection": "absent"}, "no collection 'absent'"),
        ("list_documents", {"collection": "absent"}, "no collection 'absent'"),
        ("ask", {"question": "x " * 40_000}, "max_question_chars"),
        ("ask", {"question": " "}, "question"),
        ("search", {"query": "x", "k": 0}, "greater than or equal to 1"),
        ("search", {}, "query"),
    ],
)
def test_what_goes_wrong_is_the_tools_own_error(
    call: Callable[..., Any], tool: str, given: dict[str, Any], says: str
) -> None:
    reply = call(tool, **given)
    assert reply.is_error and says in reply.content[0].text and "Traceback" not in reply.content[0].text


def test_what_nobody_foresaw_tells_nothing_of_the_inside(
    call: Callable[..., Any], library: MemoryLibrary
) -> None:
    library.failure = RuntimeError("secret")
    reply = call("list_documents")
    assert reply.is_error and "secret" not in reply.content[0].text


def test_a_call_that_is_withdrawn_frees_its_slot(app: FastAPI, generator: ScriptedGenerator) -> None:
    import threading

    from service.mcp import server

    generator.gate = threading.Event()
    app.state.parts.readiness.start()
    runner: Runner = app.state.parts.runner

    async def leave(client: Any) -> None:
        asked = asyncio.create_task(client.call_tool("ask", {"question": "How tall is the Eiffel Tower?"}))
        while not generator.asked:
            await asyncio.sleep(0.01)
        assert runner.running == 1
        asked.cancel()
        await asyncio.wait({asked})
        while runner.running:
            await asyncio.sleep(0.01)

    talk(server(app.state.parts), leave)
    until(lambda: generator.cancelled == 1)


def test_the_command_speaks_nothing_but_the_protocol_on_its_output(tmp_path: Path) -> None:
    """As an assistant starts it: a process, over a home where nothing is installed yet."""
    command = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "service", "mcp", "--home", str(tmp_path)],
        cwd=str(ROOT),
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )

    async def say(client: Any) -> tuple[Any, Any]:
        listed = await client.call_tool("list_documents", {})
        return listed, await client.call_tool("ask", {"question": "How tall is the tower?"})

    listed, asked = talk(command, say)
    assert listed.structured_content["total"] == 0
    assert asked.is_error and "python -m model pull" in asked.content[0].text
    assert str(tmp_path) not in asked.content[0].text
