"""Settings that a training command would ignore are refused, by name and before a run exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.__main__ import main
from tests.model.preferring import chat_home

LABELS = [{"text": f"{word} {i}", "label": word} for word in ("ham", "spam") for i in range(5)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    chat_home(home)
    (home / "labels.json").write_text(json.dumps(LABELS))
    return home


@pytest.mark.parametrize(
    ("command", "flags", "what"),
    [
        ("sft", "--full --loraplus_lr_ratio 4", "loraplus_lr_ratio is for adapters"),
        ("sft", "--early_stopping_patience 2", "needs something to validate on"),
        ("dpo", "--torch_compile", "torch_compile belongs to `pretrain` and `sft`"),
        ("distill --teacher tiny", "--label_smoothing 0.1", "label_smoothing is left to the teacher"),
        ("distill --teacher tiny", "--freeze 1 --loraplus_lr_ratio 4", "loraplus_lr_ratio is for adapters"),
        ("grpo --reward ends", "--label_smoothing 0.1", "label_smoothing needs targets"),
        ("grpo --reward ends", "--packing", "packing changes nothing"),
        ("grpo --reward ends", "--per_device_train_batch_size 4", "per_device_train_batch_size changes"),
        ("grpo --reward ends", "--max_z_loss 1", "max_z_loss belongs to"),
        ("reward", "--packing", "packing changes nothing"),
        ("reward", "--too_long drop", "too_long changes nothing"),
        ("reward", "--early_stopping_patience 2", "needs something to validate on"),
        ("reward", "--last_blocks 2", "last_blocks is for tune last_blocks"),
        ("classify train", "--torch_compile", "torch_compile belongs to"),
        ("classify train", "--max_z_loss 0.1", "max_z_loss belongs to"),
        ("classify train", "--neftune_noise_alpha 5", "neftune_noise_alpha belongs to"),
        ("classify train", "--freeze 1", "freeze is said here with last_blocks"),
        ("classify train", "--loraplus_lr_ratio 16", "loraplus_lr_ratio is for tune lora"),
        ("classify train", "--lora_rank 4", "lora_rank is for tune lora"),
        ("classify train", "--val_size 0 --early_stopping_patience 2", "needs something to validate on"),
    ],
)
def test_what_would_be_ignored_is_refused(
    home: Path, command: str, flags: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / ("labels.json" if command.startswith("classify") else "pairs.json")
    given = ["--home", str(home), "--model", "tiny", "--dataset", str(file), "--name", "refused"]
    assert main([*command.split(), *given, *flags.split()]) == 1
    assert what in capsys.readouterr().err
    assert not (home / "runs").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_reply_is_as_long_as_the_window_has_room_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default of 256 tokens is no prompt's room in a window of 128."""
    given = ["generate", "tiny", "Who are you?", "--home", str(home), "--json"]
    assert main(given) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0 < said["completion_tokens"] <= 128 - said["prompt_tokens"]
    assert main([*given, "--max-tokens", "256"]) == 1
    assert "window of 128" in capsys.readouterr().err
