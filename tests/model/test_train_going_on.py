"""`sft --adapter_name_or_path`: an adapter is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import checkpoint, template_export
from model.__main__ import main
from model.chat import ChatTemplate
from model.formats import peft
from model.gpt import GPT
from model.identity import identity
from model.shelf import TRAINED_ON
from model.train import runs
from tests.model.finetuning import chat_home, events, install, sft

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a tiny chat model `tiny`, and a set of 16 conversations."""
    return chat_home(tmp_path)


def test_an_adapter_is_gone_on_from(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--lora_rank", "4", "--lora_alpha", "12", "--lora_target", "q_proj", "down_proj"]
    assert sft(home, *shape, "--max_steps", "60") == 0
    before = load_file(home / "adapters" / "lore" / peft.WEIGHTS_FILE)
    base = identity(checkpoint.load(home / "models" / "tiny").weights)

    # A step too small to see: what was there is what is trained, under its own rank, strength and projections.
    there = str(home / "adapters" / "lore")
    for name, source in (("same", "lore"), ("by-folder", there)):
        still = ["--max_steps", "1", "--learning_rate", "1e-12"]
        assert sft(home, "--adapter_name_or_path", source, *still, name=name) == 0
        after = load_file(home / "adapters" / name / peft.WEIGHTS_FILE)
        assert before.keys() == after.keys()
        for key, tensor in before.items():
            torch.testing.assert_close(after[key], tensor, rtol=0, atol=1e-9)
        config = checkpoint.load(home / "models" / "tiny").config
        assert peft.read(home / "adapters" / name, config, base=base).config.scale == 3

    assert sft(home, "--adapter_name_or_path", "lore", "--max_steps", "20", name="more") == 0
    losses = {name: [e["loss"] for e in events(home, name) if "loss" in e] for name in ("lore", "more")}
    assert max(losses["more"]) < min(losses["lore"][:5])
    assert not all(
        torch.equal(t, before[k])
        for k, t in load_file(home / "adapters" / "more" / peft.WEIGHTS_FILE).items()
    )
    assert all(
        torch.equal(t, before[k])
        for k, t in load_file(home / "adapters" / "lore" / peft.WEIGHTS_FILE).items()
    )

    # A stopped run needs what it began with no more; what that knows by heart, its heir knows.
    (home / "adapters" / "lore" / TRAINED_ON).write_text('{"collection": "secrets"}')
    assert (
        sft(home, "--adapter_name_or_path", "lore", "--max_steps", "8", "--save_steps", "4", name="heir") == 0
    )
    assert (home / "adapters" / "heir" / TRAINED_ON).read_text() == '{"collection": "secrets"}'
    run = runs.Run(home / "runs" / "heir")
    (home / "adapters" / "heir").rename(home / "adapters" / "first")
    run.set_status("stopped")
    (home / "adapters" / "lore").rename(home / "away")
    assert main(["sft", "--home", str(home), "--resume", "heir"]) == 0
    (home / "away").rename(home / "adapters" / "lore")
    assert (
        sft(home, "--adapter_name_or_path", "lore", "--lora_target", "down_proj", "q_proj", name="turned")
        == 0
    )

    capsys.readouterr()
    for flags, complaint in (
        (["--lora_rank", "8"], "lora_rank 8: the adapter in "),
        (["--full"], "merge it first"),
        (["--model", "other"], "not on this base"),
        (["--adapter_name_or_path", "none"], "'none' is no adapter"),
    ):
        if "other" in flags:
            model = GPT(checkpoint.load(home / "models" / "tiny").config)
            model.initialise(torch.Generator().manual_seed(1))
            install(home, "other", model, template=template_export.jinja(ChatTemplate(None)))
        assert sft(home, "--adapter_name_or_path", "lore", *flags, name="refused") != 0
        assert complaint in capsys.readouterr().err
    assert not (home / "adapters" / "refused").exists()
