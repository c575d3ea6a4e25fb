"""The walls of the house: who may import whom, read off the syntax trees (imports inside functions included)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("ingest", "model", "service")
ALLOWED = {"ingest": {"ingest"}, "model": {"model"}, "service": {"ingest", "model", "service"}}
LONGEST_MODULE = 400
VAGUE = {"utils", "util", "common", "base", "manager", "helpers", "helper", "misc"}
#: The modules of a wing that may open a network connection (a listening socket in `service.__main__` is uvicorn's).
NETWORK_CLIENTS = {
    "socket",
    "http",
    "urllib",
    "httpx",
    "requests",
    "aiohttp",
    "ollama",
    "openai",
    "huggingface_hub",
    "opentelemetry",
    "sqlalchemy",
    "psycopg",
}
#: model/export/ollama.py hands a finished model to the user's own Ollama, because it was asked to; service/cli/serve.py only
#: sets an option of the socket that listens; service/tracing.py sends traces where the user's variables say.
MAY_CONNECT = {
    "ingest/embed/ollama.py",
    "ingest/embed/openai.py",
    "ingest/fetch.py",
    "ingest/pipeline/crew.py",  # looks whether the Ray cluster that was named is there
    "ingest/store/milvus/server.py",
    "ingest/store/milvus/tables.py",  # makes its schemas, through the server's connection
    "model/fetch.py",
    "model/export/ollama.py",
    "model/ollama.py",
    "service/generators/ollama.py",
    "service/generators/openai.py",
    "service/cli/serve.py",
    "service/tracing.py",
    "service/postgres/__init__.py",
    "service/postgres/schema.py",  # works on the connection of the one above, as its revisions do
    "service/postgres/versions/r0001_keys_and_sessions.py",
}


def modules() -> list[Path]:
    return [p for wing in WINGS for p in sorted((ROOT / wing).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_keeps_the_rules(path: Path) -> None:
    relative = path.relative_to(ROOT)
    wing = relative.parts[0]
    tops = {name.split(".")[0] for name in imported(path)}
    if path.name != "__main__.py":  # composition roots may reach into another wing
        assert tops & set(WINGS) <= ALLOWED[wing], f"{relative} imports another wing"
    if wing == "ingest" and path.name not in {"embed.py"} and "embed" not in relative.parts:
        assert not tops & {"torch", "sentence_transformers", "transformers"}, (
            f"{relative} imports torch at the wrong place"
        )
    clients = {n for n in imported(path) if n.split(".")[0] in NETWORK_CLIENTS} - {
        "urllib.parse",
        "http.HTTPStatus",
        "http",
    }
    if str(relative) not in MAY_CONNECT:
        assert not clients, f"{relative} imports network clients {clients}; only {sorted(MAY_CONNECT)} may"
    assert "pickle" not in tops, f"{relative} imports pickle"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE, (
        f"{relative} is past {LONGEST_MODULE} lines: make it a folder"
    )
    assert path.stem not in VAGUE, f"{relative}: a name that says nothing"


def test_only_main_modules_read_the_environment_in_model() -> None:
    for path in (ROOT / "model").rglob("*.py"):
        if path.name != "__main__.py":
            assert "os.environ" not in path.read_text(encoding="utf-8"), path


def test_every_make_command_that_is_written_down_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.M)
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    named = {
        name for file in texts for name in re.findall(r"(?:^|`)make ([a-z]+)", file.read_text("utf-8"), re.M)
    }
    assert named >= {"run", "test", "eval"}
    assert named | set(phony.split()) <= targets
