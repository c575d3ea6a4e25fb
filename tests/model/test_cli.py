"""`python -m model`: what it prints, what it returns, and what it does not load."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model import checkpoint
from model.__main__ import main
from model.errors import CheckpointError
from tests.model import tiny

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    config = tiny.config()
    weights = tiny.weights(config, 1, ("q4_1", "bf16", "q8_0", "f32"))
    metadata = {"source": "a test", "license": "MIT", "chat_template": "x"}
    checkpoint.save(tmp_path / "models" / "tiny", config, weights, tiny.tokenizer(), metadata)
    return tmp_path


def figures(text: str) -> dict[str, int]:
    """The lines of an inspection that end in a figure."""
    return {
        m[1].strip(): int(m[2].replace(",", ""))
        for m in re.finditer(r"^ {4}(\S.*?) {2,}([\d,]+)$", text, re.M)
    }


def test_inspect_counts_what_is_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "tiny", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    found = checkpoint.load(home / "models" / "tiny")
    parameters = {n: w.shape[0] * (w.shape[1] if len(w.shape) > 1 else 1) for n, w in found.weights.items()}
    block = sum(count for name, count in parameters.items() if name.startswith("blocks.0."))
    counted = figures(said.split("bytes by dtype")[0])
    assert counted["blocks.0 to 1, each"] == block
    assert counted["embed.weight"] == 256 * 64
    assert counted["total"] == sum(parameters.values())
    held = figures(said.split("bytes by dtype")[1])
    size = (home / "models" / "tiny" / "model.safetensors").stat().st_size
    assert held["total"] == sum(held[k] for k in ("Q4_1", "Q8_0", "BF16", "F32"))
    assert 0 < size - held["total"] < 8192, "the rest is the header"
    assert f"KV cache: {2 * 2 * 2 * 16 * 2:,} bytes per token" in said
    assert "context: 64 tokens" in said
    assert "vocabulary: 256 tokens" in said


@pytest.mark.weights
def test_smollm2_has_the_parameters_it_is_known_for(
    weights_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = weights_of("smollm2-135m-instruct").parents[1]
    assert main(["inspect", "smollm2-135m-instruct", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert figures(said.split("bytes by dtype")[0])["total"] == 134_515_008
    assert "23,040 bytes per token" in said


def test_damage_is_told_by_list_and_inspect(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "tiny", "--verify", "--home", str(home)]) == 0
    assert "verified" in capsys.readouterr().out
    tokenizer = home / "models" / "tiny" / "tokenizer.json"
    content = tokenizer.read_bytes()
    tokenizer.write_bytes(content.replace(b"BPE", b"BPX"))  # the same size: only its hash tells
    assert main(["inspect", "tiny", "--verify", "--home", str(home)]) == 1
    assert re.search(r"DAMAGED: tokenizer.json has SHA-256 [0-9a-f]{64}", capsys.readouterr().out)
    tokenizer.write_bytes(content[:-1])
    main(["list", "--home", str(home)])
    assert "DAMAGED: tokenizer.json" in capsys.readouterr().out


def test_list_shows_the_home_what_is_there_and_what_is_offered(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "models" / "by-hand").mkdir()
    assert main(["list", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"home: {home}\n")
    for line in (
        r"tiny +generator .*MIT; a test",
        r"by-hand +unknown",
        r"multilingual-e5-small +embedder +MIT; 91",
    ):
        assert re.search(line, said), line
    assert main(["list", "--home", str(home / "nowhere")]) == 0
    assert not (home / "nowhere").exists(), "looking makes nothing"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "nothing"], "not installed"),
        (["inspect", "multilingual-e5-small"], "python -m model pull multilingual-e5-small"),
        (["inspect", "../tiny"], "not installed"),
        (["pull", "no-such-thing"], "no catalog name"),
        (["pull", "no/such/path"], "no catalog name"),
        (["pull", "~nobody-of-this-name/x"], "begins with ~"),
    ],
)
def test_an_error_is_one_line_and_status_1(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([*arguments, "--home", str(home)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert said in captured.err
    assert captured.out == ""


def test_no_encoding_of_a_terminal_or_a_pipe_ends_in_a_traceback(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 \xff"), encoding="utf-8"))
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    checkpoint = tiny.saved(home / "made" / "乌龟", tiny.config(eos_ids=()), tiny.tokenizer())
    options = ["--raw", "--max-tokens", "20", "--temperature", "9", "--seed", "0", "--kernel", "float32"]
    assert main(["generate", str(checkpoint.path), *options]) == 0
    stdout.flush()
    assert "\\ufffd" in stdout.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert main(["generate", str(checkpoint.path), "x", "--threads", "0"]) == 1
    assert "--threads must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["frob"], ["pull"], ["inspect"], ["list", "--nonsense"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage:" in capsys.readouterr().err
    assert main(["pull", "a", "b", "--name", "c"]) == 2


def test_one_source_that_fails_does_not_stop_the_others(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(home / "models" / "tiny")
    other = home / "other"
    assert main(["pull", "no-such-thing", source, "--home", str(other)]) == 1
    captured = capsys.readouterr()
    assert "no-such-thing" in captured.err
    assert "tiny: installed in" in captured.out


def test_an_interrupt_is_quiet(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.install.pull", interrupted)
    assert main(["pull", "tiny", "--home", str(home)]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "\x00\xff" * 50, '{"format": "lorebase-gpt"}', "[" * 100_000]
)
def test_no_damaged_file_brings_a_traceback(
    home: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "models" / "tiny" / name).write_text(content)
    assert main(["list", "--home", str(home)]) == 0
    assert main(["inspect", "tiny", "--home", str(home)]) in (0, 1)
    if name == "manifest.json":
        checkpoint.load(home / "models" / "tiny")  # which does without it
    else:
        with pytest.raises(CheckpointError):
            checkpoint.load(home / "models" / "tiny")


@pytest.mark.parametrize(
    ("key", "value"), [("eos_ids", 5), ("eos_ids", None), ("norm_eps", "x"), ("rope_theta", [])]
)
def test_a_config_with_values_of_another_kind_is_refused(home: Path, key: str, value: object) -> None:
    file = home / "models" / "tiny" / "config.json"
    described = json.loads(file.read_text())
    described["config"][key] = value
    file.write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="config: "):
        checkpoint.load(home / "models" / "tiny")


PROBE = """
import json, sys
from model.__main__ import main
status = main(sys.argv[1:])
heavy = ("torch", "transformers", "sentence_transformers", "huggingface_hub", "numpy", "tokenizers")
print(json.dumps([status, [name for name in heavy if name in sys.modules]]))
"""


@pytest.mark.parametrize(
    "arguments", [["list"], ["inspect", "tiny"], ["inspect", "tiny", "--verify"], ["pull", "SOURCE"]]
)
def test_looking_loads_no_torch(home: Path, arguments: list[str]) -> None:
    """A pull of what is there already is looking, too."""
    source = str(home / "models" / "tiny")
    arguments = [source if a == "SOURCE" else a for a in arguments]
    if arguments[0] == "pull":
        assert main([*arguments, "--name", "again", "--home", str(home)]) == 0
        arguments += ["--name", "again"]
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments, "--home", str(home)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [0, []], run.stdout
