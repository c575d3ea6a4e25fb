"""`export` as a user meets it: what transformers and llama.cpp make of it, the Modelfile, an Ollama's answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from model import checkpoint, template_export
from model.__main__ import main
from model.chat import ChatTemplate
from model.config import Sampling
from model.engine import Engine
from model.gpt import GPT
from tests.fakes import OllamaRegistry, ollama_registry
from tests.model import chatml, tiny
from tests.model.llamacpp import LlamaCpp

TURN = "You are Lore."


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a tiny chat model `tiny`, and `plain`, which has no chat template."""
    tokenizer, _ = chatml.pair(tmp_path)
    # Weights larger than fresh ones: the likeliest token then stands well apart from the next.
    config = tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=128)
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    weights = {name: 3 * p.detach() for name, p in model.state_dict().items()}
    for name, metadata in (
        ("tiny", {"chat_template": template_export.jinja(ChatTemplate(TURN))}),
        ("plain", {}),
    ):
        checkpoint.save(
            tmp_path / "models" / name, config, dict(weights), tmp_path / "tokenizer.json", metadata
        )
    return tmp_path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaRegistry]:
    with ollama_registry() as registry:
        monkeypatch.setenv("OLLAMA_HOST", registry.address)
        yield registry


def export(home: Path, *flags: str, name: str = "tiny") -> int:
    return main(["export", "--home", str(home), name, *flags])


def test_both_forms_give_the_tokens_that_the_engine_gives(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(home, "--format", "hf", "--dtype", "fp32") == 0
    assert export(home, "--format", "gguf") == 0
    hf, gguf = (home / "exports" / f"tiny-{form}" for form in ("hf", "gguf"))
    assert str(hf) in capsys.readouterr().out
    assert sorted(p.name for p in gguf.iterdir()) == ["Modelfile", "tiny-f16.gguf"]

    engine = Engine.load(home / "models" / "tiny", kernel="float32")
    prompt = engine.prompt([{"role": "user", "content": "Who are you?"}])
    ours = [token.id for token in engine.generate(prompt, Sampling(max_tokens=16))]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hf)
    with torch.no_grad():
        out = theirs.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt) :]
    assert out.tolist() == ours
    tokenizer = transformers.AutoTokenizer.from_pretrained(hf)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Who are you?"}], add_generation_prompt=True, return_dict=False
    )
    assert rendered == prompt
    assert LlamaCpp(gguf / "tiny-f16.gguf").greedy(prompt, 16) == ours


def test_the_modelfile_says_how_to_talk_to_it(home: Path) -> None:
    assert export(home, "--format", "gguf", "--quantize", "q8_0", "--out", str(home / "there")) == 0
    lines = (home / "there" / "Modelfile").read_text()
    assert (
        lines.startswith('FROM ./tiny-q8_0.gguf\nTEMPLATE """')
        and (home / "there" / "tiny-q8_0.gguf").is_file()
    )
    assert f'SYSTEM """{TURN}"""\n' in lines and lines.endswith("PARAMETER num_ctx 128\n")
    assert [line for line in lines.splitlines() if line.startswith("PARAMETER stop")] == [
        'PARAMETER stop "<|im_start|>"',
        'PARAMETER stop "<|im_end|>"',
    ]
    assert export(home, "--format", "gguf", "--out", str(home / "there"), name="plain") == 0
    plain = (home / "there" / "Modelfile").read_text()
    assert plain == 'FROM ./plain-f16.gguf\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER num_ctx 128\n'


def test_a_model_is_created_on_a_running_ollama(
    home: Path, registry: OllamaRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(home, "--ollama", "lore:1") == 0
    file = home / "exports" / "tiny-gguf" / "tiny-f16.gguf"
    digest = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert registry.blobs == {digest: file.read_bytes()}
    (asked,) = registry.created
    assert asked["model"] == "lore:1" and asked["files"] == {"tiny-f16.gguf": digest}
    assert asked["template"] == template_export.GO_TEMPLATE and asked["system"] == TURN
    assert asked["parameters"] == {"stop": ["<|im_start|>", "<|im_end|>"], "num_ctx": 128}
    assert "from" not in asked and "ollama run lore:1" in capsys.readouterr().out


def test_what_ollama_refuses_is_said_and_the_file_stays(
    home: Path,
    registry: OllamaRegistry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.refuses_blobs = True
    assert export(home, "--ollama", "lore") == 1
    said = capsys.readouterr().err
    assert "refused sending tiny-f16.gguf" in said and "no space left on device" in said
    registry.refuses_blobs, registry.ending = False, ""
    assert export(home, "--ollama", "lore") == 1
    assert "broke off while creating lore (it last said 'writing manifest')" in capsys.readouterr().err
    monkeypatch.setattr("model.export.ollama.CONNECT_TIMEOUT_S", 0.5)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert export(home, "--ollama", "lore") == 1
    said = capsys.readouterr().err
    assert "does not answer at 127.0.0.1:9" in said and "tiny-f16.gguf is written" in said
    assert (home / "exports" / "tiny-gguf" / "tiny-f16.gguf").is_file()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "--format hf, or --format gguf"),
        (["--ollama", "a b"], "cannot be a model's name"),
        (["--ollama", "lore:"], "cannot be a model's name"),
        (["--ollama", "../lore"], "cannot be a model's name"),
        (["--format", "hf", "--quantize", "q8_0"], "--quantize goes with --format gguf"),
        (["--format", "hf", "--ollama", "lore"], "--ollama goes with --format gguf"),
        (["--format", "gguf", "--dtype", "fp32"], "--dtype goes with --format hf"),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_anything_is_written(
    home: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(home, *flags) == 1
    assert says in capsys.readouterr().err and not (home / "exports").exists()


def test_models_that_cannot_be_exported_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(home, "--format", "gguf", name="absent") == 1
    assert "'absent' is not installed" in capsys.readouterr().err
    config = home / "models" / "tiny" / "config.json"
    described = json.loads(config.read_text())
    described["metadata"]["chat_template"] = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    config.write_text(json.dumps(described))
    assert export(home, "--format", "gguf") == 1
    assert "only ChatML templates are supported" in capsys.readouterr().err
    (home / "taken").mkdir()
    (home / "taken" / "mine.txt").write_text("keep")
    assert export(home, "--format", "hf", "--out", str(home / "taken"), name="plain") == 1
    assert "is no earlier export" in capsys.readouterr().err
    assert [p.name for p in (home / "taken").iterdir()] == ["mine.txt"]
    (home / "file").write_text("")
    assert export(home, "--format", "gguf", "--out", str(home / "file"), name="plain") == 1
    assert "could not be written" in capsys.readouterr().err
