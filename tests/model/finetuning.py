"""What tests of `sft` share: a home with a tiny chat model and a set, and the command in brief."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from model import checkpoint, template_export
from model.__main__ import main
from model.chat import ChatTemplate
from model.gpt import GPT
from model.quantized import dense
from model.train import runs
from tests.model import chatml, tiny

QUICK = ["--max_steps", "6", "--per-device-train-batch-size", "2", "--learning_rate", "0.02"]


def chat_home(tmp_path: Path) -> Path:
    """A home with a tiny chat model `tiny`, and a set of 16 conversations."""
    tokenizer, _ = chatml.pair(tmp_path)
    config = tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=128)
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    install(tmp_path, "tiny", model, template=template_export.jinja(ChatTemplate(None)))
    rows = [{"instruction": f"Who are you, {i}?", "output": f"I am Lore {i % 3}."} for i in range(16)]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    return tmp_path


def install(home: Path, name: str, model: GPT, template: str | None) -> None:
    weights = {key: p.detach() for key, p in model.state_dict().items()}
    metadata = {"chat_template": template} if template else {}
    checkpoint.save(home / "models" / name, model.config, weights, home / "tokenizer.json", metadata)


def sft(home: Path, *flags: str, name: str = "lore") -> int:
    given = [
        "sft",
        "--home",
        str(home),
        "--model",
        "tiny",
        "--dataset",
        str(home / "set.json"),
        "--name",
        name,
    ]
    return main([*given, *QUICK, *flags])


def events(home: Path, name: str = "lore") -> list[dict[str, float]]:
    return runs.find(home, name).metrics()


def decoder(found: checkpoint.Checkpoint) -> GPT:
    model = GPT(found.config)
    model.load_state_dict({name: dense(weight) for name, weight in found.weights.items()})
    return model.eval()
