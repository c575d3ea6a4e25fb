"""`python -m ingest`: what it prints, how it ends, and what it does not import."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.__main__ import main
from ingest.cli import terminal
from ingest.collections import open_collection
from ingest.embed import Embedder
from tests.fakes import HashEmbedder
from tests.ingest.running import InProcessParsers, notes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with documents and an empty data folder; embedders are fakes with the name asked for."""

    def find(name: str, home: Path) -> Embedder:
        return HashEmbedder(name=name)

    monkeypatch.setattr("ingest.__main__._find", find)
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    monkeypatch.delenv("LOREBASE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".lorebase").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Tortoises\n\nThe tortoise lives in the garden.\n")
    (tmp_path / "docs" / "b.txt").write_text("Part R123-78 costs 4.50.\n")
    return tmp_path


def test_a_day_with_a_knowledge_base(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        status = main(list(arguments))
        out, err = capsys.readouterr()
        assert f"data folder {project / '.lorebase'}" in err
        return status, out

    assert call("collections") == (0, "No collections yet. `python -m ingest ./docs` makes the first one.\n")
    status, out = call("./docs")
    assert status == 0 and "2 added, 0 failed" in out and "2 files parsed" in out
    status, out = call("docs", "--sync")
    assert status == 0 and "2 unchanged" in out and "0 files parsed, 0 pages, 0 passages embedded" in out
    status, out = call("list")
    assert status == 0 and "docs/a.md" in out and "2 documents" in out
    status, out = call("search", "where", "do", "tortoises", "live", "-k", "1")
    assert status == 0 and "docs/a.md" in out and "tortoise lives" in out
    status, out = call("search", "--mode", "keyword", "R123-78")
    assert status == 0 and "docs/b.txt" in out and "bm25" in out and "cosine" not in out
    status, out = call("show", "./docs/a.md")
    assert status == 0 and "Tortoises" in out and "-- passage 1" in out
    status, out = call("status")
    assert status == 0 and "multilingual-e5-small" in out and "documents    2" in out
    assert call("verify") == (0, "2 documents, 2 passages, 2 vectors: every hash and count agrees\n")
    status, out = call("rebuild", "--embedder", "other")
    assert status == 0 and "2 passages embedded" in out
    assert "other" in call("status")[1]
    assert call("forget", "b.txt")[0] == 1  # a name alone is no glob: there might be many of that name
    assert call("forget", "*.txt") == (0, "forgotten docs/b.txt\n")
    assert call("forget", "*.txt")[0] == 1
    assert call("forget", "docs") == (0, "forgotten docs/a.md\n")
    assert call("collections") == (0, "default\n")


def test_json_is_one_object_a_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> list[dict[str, object]]:
        main([*arguments, "--json"])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    (project / "docs" / "bad.pdf").write_bytes(b"%PDF-1.7 nothing")
    *files, last = call("./docs")
    assert {f["path"]: f["status"] for f in files} == {
        "docs/a.md": "added",
        "docs/b.txt": "added",
        "docs/bad.pdf": "failed",
    }
    assert (last["added"], last["failed"], last["parsed"], last["embedded"]) == (2, 1, 2, 2)
    assert last["collection"] == "default" and last["seconds"] >= 0  # type: ignore[operator]
    assert [d["path"] for d in call("list")] == ["docs/a.md", "docs/b.txt"]
    hits = call("search", "tortoise")
    assert hits[0]["rank"] == 1 and hits[0]["path"] == "docs/a.md" and hits[-1]["hits"] == len(hits) - 1
    assert call("show", "docs/b.txt")[0]["text"] == "Part R123-78 costs 4.50.\n"
    assert call("status")[0]["documents"] == 2
    assert call("verify")[0]["problems"] == []
    assert call("forget", "docs/b.txt") == [{"path": "docs/b.txt", "status": "forgotten"}]
    assert call("collections") == [{"name": "default"}]


def test_a_misspelt_setting_is_named_with_those_there_are(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOREBASE_INGEST_CHUNK_TOKEN", "300")
    assert main(["list"]) == 2
    said = capsys.readouterr().err
    assert "'chunk_token' (from LOREBASE_INGEST_CHUNK_TOKEN): there is no such setting. Known keys" in said
    assert "chunk_tokens," in said


def test_fields_and_filters(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        return main(list(arguments)), capsys.readouterr().out

    status, out = call("./docs", "--set", "year=2020", "--set", "tags=[law, tax]", "--include", "*.md")
    assert status == 0 and "1 file parsed, 0 pages, 1 passage embedded" in out
    assert call("--set", "year=2021", "./docs")[0] == 0
    assert "2 documents" in call("list")[1]
    assert "1 document\n" in call("list", "--filter", "year >= 2021 and tags = law")[1]
    status, out = call("search", "tortoise part", "--filter", "not tags in (law)")
    assert status == 0 and "docs/b.txt" in out and "docs/a.md" not in out
    assert "Nothing found" in call("search", "tortoise", "--filter", "year < 2021")[1]
    status, out = call("show", "docs/a.md")
    assert "tags *       [law, tax]" in out and "year *       2021" in out


def test_watching_tells_what_changes_and_ends_with_ctrl_c(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outs: list[str] = []

    def follow(folders: list[Path], home: Path, look: Callable[[], None], **_: object) -> None:
        assert (folders, home) == ([project / "docs"], project / ".lorebase")
        outs.append(capsys.readouterr().out)
        for change in (lambda: None, (project / "docs" / "b.txt").unlink):
            change()
            look()
            outs.append(capsys.readouterr().out)
        raise KeyboardInterrupt

    monkeypatch.setattr("ingest.pipeline.watch.follow", follow)
    assert main(["./docs", "--watch"]) == 0
    assert "2 added" in outs[0] and outs[1] == "" and "1 unchanged, 1 forgotten" in outs[2]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["./nowhere"], 2, "no such file or folder"),
        (["./docs", "./nowhere"], 1, ""),
        (["https://user:word@example.org/page"], 1, "credentials"),
        (["ftp://example.org/page"], 2, "only http and https"),
        (["http://127.0.0.1:9/page"], 1, "no address of the public Internet"),
        (["list", "--collection", "missing"], 2, "no collection 'missing'"),
        (["list", "--collection", "../x"], 2, "cannot name a collection"),
        (["show", "nothing.md"], 2, "no document"),
        (["search", "x", "-k", "0"], 2, "between 1 and 1000"),
        (["search", "x", "--rerank", "nowhere"], 2, "Reranker 'nowhere' is not installed"),
        (["./docs", "--embedder", "other"], 2, "was made with embedder"),
        (["./docs", "--chunking", "64-8"], 2, "rebuild --chunking 64-8"),
        (["./docs", "--collection", "new", "--chunking", "long"], 2, "no way of cutting"),
        (["./docs", "--collection", "new", "--chunking", "64-8"], 0, "2 added"),
        (["rebuild", "--chunking", "64-8"], 0, "2 updated"),
        (["list", "--wait", "soon"], 2, "0 or more"),
        (["./docs", "--wait", "nan"], 2, "0 or more"),
        (["./docs", "--wait", "inf"], 0, "2 unchanged"),
        (["./docs", "~nobody-of-this-name/x"], 2, "begins with ~"),
        (["--rerank", "nobody", "search", "x"], 2, "'nobody'"),
        (["list", "--filter", "year >="], 2, "character 8: expected a value after >="),
        (["search", "x", "--filter", "a = (1"], 2, "character 5: expected a value"),
        (["./docs", "--set", "year"], 2, "key=value"),
        (["./docs", "--set", "path=x"], 2, "cannot be set"),
        (["./docs/a.md", "--watch"], 2, "--watch follows folders"),
        (["forget", ""], 2, "an empty path"),
        ([" "], 2, "an empty path"),
        (["export", "-"], 2, "names no file"),
        (["backup", "docs/a.md"], 2, "left as it is"),
        (["export", ".lorebase/collections/default/kb.sqlite"], 2, "among the collections"),
        (["--coll", "default", "list"], 2, "unrecognized"),
        (["search"], 2, "required"),
        ([], 2, "required"),
        (["verify", "extra"], 2, "unrecognized"),
    ],
)
def test_what_goes_wrong_is_said_with_its_exit_status(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    if arguments[:1] != ["./nowhere"]:
        assert main(["./docs"]) == 0
    try:
        ended = main(arguments)
    except SystemExit as error:  # argparse
        ended = int(str(error.code))
    out, err = capsys.readouterr()
    assert ended == status and said in err + out
    assert "Traceback" not in err
    if arguments == ["./nowhere"]:
        assert not (project / ".lorebase" / "collections").exists()


def test_what_is_written_over_is_a_file_and_an_export(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["./docs"]) == 0
    os.mkfifo(project / "pipe")
    (project / "link").symlink_to(project / "kept.zip")
    assert main(["export", "pipe"]) == 2 and (project / "pipe").is_fifo()
    assert main(["export", "link"]) == main(["export", "kept.zip"]) == 0
    assert (project / "link").is_symlink() and (project / "kept.zip").is_file()
    assert main(["backup", "docs"]) == 2
    assert "left as it is" in capsys.readouterr().err


def test_forgetting_takes_what_was_kept_of_an_upload(project: Path) -> None:
    assert main(["./docs"]) == 0
    with open_collection(project / ".lorebase", "default") as store:
        a, b = (
            store.document(path).content_hash.removeprefix("sha256:") for path in ("docs/a.md", "docs/b.txt")
        )
    originals = project / ".lorebase" / "collections" / "default" / "originals"
    originals.mkdir()
    for name in (a, b, "0" * 64, ".1-2"):
        (originals / name).write_bytes(b"x")
    os.utime(originals / ".1-2", (0, 0))
    assert main(["forget", "docs/a.md"]) == 0
    assert [file.name for file in originals.iterdir()] == [b]


def test_options_may_stand_before_and_a_folder_called_like_a_command_is_written_with_a_dot(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "list").mkdir()
    (project / "list" / "c.md").write_text("in the folder called list")
    assert main(["--collection", "合同", "./list"]) == 0
    assert main(["--json", "list", "--collection=合同"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["path"] == "list/c.md"
    assert main(["--home", "elsewhere", "--workers", "1", "docs"]) == 0
    assert (project / "elsewhere" / "collections" / "default" / "kb.sqlite").is_file()


def test_a_damaged_collection_is_reported_and_not_a_traceback(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["docs"]) == 0
    file = project / ".lorebase" / "collections" / "default" / "kb.sqlite"
    file.write_bytes(file.read_bytes().replace(b"The tortoise lives", b"The lobster  lives"))
    assert main(["verify"]) == 1
    assert "problem" in capsys.readouterr().out
    assert main(["search", "garden"]) == 2
    assert "damaged" in capsys.readouterr().err
    file.write_bytes(b"nothing of use" * 1000)
    for command in (["list"], ["verify"], ["docs"], ["status"]):
        assert main(command) == 2
        assert "damaged" in capsys.readouterr().err


def test_names_cannot_drive_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "docs" / "x\x1b[31m\ny.md").write_text("evil \x1b]0;title\x07 tortoise")
    assert main(["docs"]) == 0
    for command in (["list"], ["search", "evil tortoise"], ["forget", "docs/x*"]):
        assert main(command) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\x07" not in out


def test_an_encoding_that_lacks_a_character_ends_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "docs" / "乌龟é.md").write_text("乌龟 née tortoise", encoding="utf-8")
    for options in ([], ["--json"]):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", stdout)
        for command in (["docs"], ["list"], ["search", "tortoise"], ["show", "docs/乌龟é.md"]):
            assert main([*command, *options]) == 0
        stdout.flush()
        lines = stdout.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
        assert any("\\u4e4c" in line for line in lines)
        if options:
            assert {json.loads(line).get("path") for line in lines} >= {"docs/乌龟é.md"}


def test_an_embedder_that_is_not_installed_is_fetched_or_the_command_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.errors import DownloadError

    monkeypatch.undo()
    monkeypatch.delenv("LOREBASE_HOME", raising=False)
    monkeypatch.chdir(project)
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    asked: list[str] = []

    def pull(name: str, home: Path, **options: object) -> None:
        asked.append(name)
        raise DownloadError("no network; run python -m model pull again later")

    monkeypatch.setattr("model.install.pull", pull)
    assert main(["docs"]) == 2
    err = capsys.readouterr().err
    assert asked == ["multilingual-e5-small"] and "fetching it once" in err and "python -m model pull" in err
    assert main(["docs", "--embedder", "nobody/nothing", "--collection", "other"]) == 2
    assert "python -m model pull nobody/nothing" in capsys.readouterr().err
    assert asked == ["multilingual-e5-small"]


LOOK = """
import sys
from ingest.__main__ import main
status = main(sys.argv[1:])
heavy = {"torch", "sentence_transformers", "transformers", "faiss"}
print(status, *sorted({n.split(".")[0] for n in sys.modules} & heavy))
"""


def test_commands_that_embed_nothing_import_no_model_code(project: Path) -> None:
    assert main(["docs"]) == 0
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LOREBASE_HOME": str(project / ".lorebase")}
    commands = [
        ["list"],
        ["show", "docs/a.md"],
        ["status"],
        ["verify"],
        ["collections"],
        ["forget", "docs/b.txt"],
    ]
    commands += [["docs"], ["search", "tortoise", "--mode", "keyword"]]
    for command in commands:  # `docs` last but one: b.txt was forgotten and would be embedded
        if command == ["docs"]:
            (project / "docs" / "b.txt").unlink()
        done = subprocess.run(
            [sys.executable, "-c", LOOK, *command],
            env=environment,
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.splitlines()[-1] == "0", (command, done.stdout, done.stderr)


SLOW = """
import sys, time
import ingest.__main__ as program
from tests.fakes import HashEmbedder

class Slow(HashEmbedder):
    def encode_passages(self, texts):
        time.sleep(0.2 * len(texts))
        return super().encode_passages(texts)

program._find = lambda name, home: Slow()
import ingest.pipeline.run as run
run._BATCH_TEXTS = 1
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_with_130_and_what_was_written_stays(tmp_path: Path) -> None:
    folder = notes(tmp_path / "many", 40)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LOREBASE_HOME": str(tmp_path / ".lorebase")}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    written = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "interrupted" in err and "go" in err
    written += [json.loads(line) for line in out.splitlines()]
    with open_collection(tmp_path / ".lorebase", "default") as store:
        paths = {d.path for d in store.documents()}
        assert {w["path"] for w in written} <= paths and 3 <= len(paths) < 40
        assert store.verify().problems == ()


def test_an_excerpt_of_a_text_without_spaces_is_as_long_as_others() -> None:
    assert len(terminal._excerpt("第一章 " + "字" * 600)) == 302
    assert terminal._excerpt("word " * 100).endswith("word …")
