"""Distillation: the loss against torch's kl_div, a student that comes nearer, replies fetched and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from model import checkpoint
from model.__main__ import main
from model.chat import ChatTemplate
from model.data.sets import DataConfig, prepare
from model.distill.loss import Distilling, DistilLoss
from model.gpt import GPT
from model.quantized import dense
from model.tokenizer import Tokenizer
from model.train import runs
from tests.model.preferring import chat_home
from tests.service.ollama_stand_in import OllamaStandIn, standing_in

pytestmark = pytest.mark.usefixtures("one_thread")

SET = [{"instruction": f"Who are you, {i}?", "output": f"I am Lore {i % 3}."} for i in range(8)]


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 1.0), (2.0, 0.5), (4.0, 0.9), (3.0, 0.0)])
def test_loss_and_gradients_are_those_of_kl_div(temperature: float, share: float) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 8, requires_grad=True), torch.randn(17, 8, requires_grad=True)
    told, rows = torch.randn(300, 5), torch.randn(17, 5)
    targets = torch.randint(0, 17, (300,))
    total = DistilLoss.apply(hidden, weight, targets, (told, rows), (temperature, share))
    (3 * total).backward()
    ours = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    logits, aim = hidden @ weight.T, told @ rows.T
    soft = F.kl_div(F.log_softmax(logits / temperature, 1), F.softmax(aim / temperature, 1), reduction="sum")
    expected = share * temperature**2 * soft + (1 - share) * F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-3)
    (3 * expected).backward()
    for mine, theirs in zip(ours, (hidden.grad, weight.grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A student `tiny`, a wider teacher `large` with the same tokenizer, and a set."""
    base = chat_home(tmp_path)
    (tmp_path / "set.json").write_text(json.dumps(SET))
    from dataclasses import replace

    config = replace(base.config, d_mlp=160, n_layers=3, vocab_size=base.config.vocab_size + 4)
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(5))
    weights = {key: p.detach() * (4 if p.ndim == 2 else 1) for key, p in model.state_dict().items()}
    checkpoint.save(tmp_path / "models" / "large", config, weights, base.tokenizer_file, base.metadata)
    return tmp_path


def divergence(home: Path, student: str) -> float:
    """KL from the teacher at temperature 1, a token."""
    loaded = [checkpoint.load(home / "models" / name) for name in ("large", student)]
    models = []
    for one in loaded:
        model = GPT(one.config)
        model.load_state_dict({name: dense(weight) for name, weight in one.weights.items()})
        models.append(model)
    tokenizer = Tokenizer.from_file(loaded[0].tokenizer_file)
    sets = prepare(DataConfig(dataset=(str(home / "set.json"),)), ChatTemplate(None), tokenizer)
    batch = sets.train.batch(0, 0)
    with torch.no_grad():
        total, count = Distilling(models[0], tokenizer.vocab_size, temperature=1, share=1)(models[1], batch)
    return float(total) / count


def test_a_student_comes_nearer_to_its_teacher(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["distill", "--home", str(home), "--model", "tiny", "--dataset", str(home / "set.json")]
    flags = ["--full", "--learning_rate", "0.01", "--max_steps", "40", "--compute_type", "fp32"]
    assert main([*given, *flags, "--teacher", "large", "--name", "pupil", "--teacher_share", "1"]) == 0
    losses = [event["loss"] for event in runs.find(home, "pupil").metrics() if "loss" in event]
    assert losses[-1] < losses[0] / 2
    assert divergence(home, "pupil") < divergence(home, "tiny") / 2
    other = chat_home(home / "models", n_layers=1)  # with another tokenizer file
    content = json.loads(other.tokenizer_file.read_text())
    content["added_tokens"][0]["content"] = "<|other|>"
    (home / "models" / "large" / "tokenizer.json").write_text(json.dumps(content))
    assert main([*given, *flags, "--teacher", "large", "--name", "pupil2"]) == 1
    assert "another tokenizer than tiny" in capsys.readouterr().err
    assert main([*given, "--teacher", "nobody"]) == 1


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaStandIn]:
    with standing_in() as stand_in:
        monkeypatch.setenv("OLLAMA_HOST", stand_in.address)
        yield stand_in


def test_replies_are_fetched_once_and_trained_on(
    home: Path, teacher: OllamaStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "distill",
        "--home",
        str(home),
        "--dataset",
        str(home / "set.json"),
        "--teacher",
        "ollama/tiny:1b",
    ]
    (home / "how.toml").write_text('teacher = "ollama/tiny:1b"\ntemperature = 0.5\n')
    from_file = [*given[:5], "--config", str(home / "how.toml"), "--max_samples", "1"]
    assert main([*from_file, "--name", "file"]) == 0, "a teacher named in the file is asked, too"
    (line,) = (home / "datasets" / "file.jsonl").read_text().splitlines()
    assert json.loads(line)["options"]["temperature"] == 0.5
    teacher.asked.clear()
    for wrong, what in ((["--detach"], "--detach is for training"), (["--seed", "-1"], "seed must be"),
                        (["--resume", "x"], "leave out --dataset")):  # fmt: skip
        assert main([*given, *wrong]) == 1 and not teacher.asked
        assert what in capsys.readouterr().err
    plain = teacher.lines

    def fails_at_the_fourth() -> Iterator[bytes]:
        teacher.script = "breaks" if len(teacher.asked) == 4 else "answer"
        return plain()

    teacher.lines = fails_at_the_fourth  # type: ignore[method-assign]
    assert main(given) == 1
    file = home / "datasets" / "tiny-1b-replies.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(records) == 7 and len(teacher.asked) == 8
    assert records[0]["messages"] == [
        {"role": "user", "content": "Who are you, 0?"},
        {"role": "assistant", "content": "The tower is 330 metres tall."},
    ]
    assert records[0]["teacher"] == "ollama/tiny:1b" and records[0]["options"]["num_predict"] == 512
    assert "7 replies fetched, 0 were there, 1 failed" in capsys.readouterr().out
    assert main(given) == 0  # only the one that failed
    assert len(teacher.asked) == 9 and len(file.read_text().splitlines()) == 8
    sft = ["sft", "--home", str(home), "--model", "tiny", "--dataset", str(file), "--max_steps", "1"]
    assert main([*sft, "--name", "imitates"]) == 0
    assert "8 of 8 rows (sharegpt)" in capsys.readouterr().err
    teacher.script = "500"
    assert main([*given, "--name", "fresh"]) == 1
    assert "3 prompts failed in a row; 0 replies are in" in capsys.readouterr().err
    assert (
        main([*given[:3], "--teacher", "ollama/x"]) == 1 and "--dataset is needed" in capsys.readouterr().err
    )
