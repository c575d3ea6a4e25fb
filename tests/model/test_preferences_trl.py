"""DPO and the reward head beside trl's trainers: same weights, same pairs, the same losses step for step.

trl is no dependency of the project: `pip install trl` where this shall run, elsewhere it is skipped. The
formulas themselves are checked without it, in `test_preferences` and `test_heads`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from model import lora
from model.chat import ChatTemplate
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.data.forms import load
from model.data.registry import find
from model.formats import hf, peft
from model.gpt import GPT
from model.heads.data import HeadLoader
from model.heads.network import Preferring, add_readout
from model.heads.training import network
from model.identity import identity
from model.preferences.dpo import DPO, DPOConfig
from model.preferences.reward import _rows as reward_rows
from model.quantized import dense
from model.tokenizer import Tokenizer
from model.train.loop import fit
from tests.model.preferring import ROWS, chat_home, prepared

trl = pytest.importorskip("trl", reason="trl is not installed: pip install trl")
datasets = pytest.importorskip("datasets", reason="trl's datasets are not installed: pip install trl")

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, RATE = 6, 0.01
#: What both trainers are told alike: constant rate, AdamW, clipping at 1, all pairs in each step, no dropout.
THEIRS: dict[str, Any] = {
    "per_device_train_batch_size": len(ROWS), "max_steps": STEPS, "learning_rate": RATE,
    "lr_scheduler_type": "constant", "logging_steps": 1, "report_to": [], "use_cpu": True, "bf16": False,
    "max_grad_norm": 1.0, "weight_decay": 0.0, "gradient_checkpointing": False, "max_length": None, "save_strategy": "no",
}  # fmt: skip
OURS = TrainConfig(max_steps=STEPS, learning_rate=RATE, lr_scheduler_type="constant", warmup_ratio=0.0)


def as_trl_reads(home: Path, base: Checkpoint) -> tuple[Path, Any]:
    """The base's folder in transformers' form, and its tokenizer."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(home / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    return hf.write(base, home / "hf", dtype="fp32"), tokenizer


def texts() -> Any:
    """The pairs; trl puts the end token behind each reply by itself."""
    template = ChatTemplate(None)
    asked = [template.text([{"role": "user", "content": row["instruction"]}]) for row in ROWS]
    return datasets.Dataset.from_list(
        [
            {"prompt": q, "chosen": r["chosen"], "rejected": r["rejected"]}
            for q, r in zip(asked, ROWS, strict=True)
        ]
    )


def trained(model: GPT, loss: Any, batches: Any) -> list[dict[str, Any]]:
    """Our steps."""
    events: list[dict[str, Any]] = []
    fit(model, loss, batches, OURS, report=lambda event: events.append(event | loss.figures()))
    return events


def steps_of(trainer: Any) -> list[dict[str, Any]]:
    """trl's steps."""
    trainer.train()
    return [event for event in trainer.state.log_history if "loss" in event]


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_is_trls(tmp_path: Path, beta: float) -> None:
    base = chat_home(tmp_path)
    ours = GPT(base.config)
    ours.load_state_dict({name: dense(weight) for name, weight in base.weights.items()})
    ours.requires_grad_(False)
    knobs = LoRAConfig(lora_rank=4)
    lora.inject(ours, knobs, generator=torch.Generator().manual_seed(0))
    (tmp_path / "peft").mkdir()
    fresh = lora.extract(ours, knobs, base=identity(base.weights))
    peft.write(tmp_path / "peft", fresh, base.config, base_name="tiny")
    folder, tokenizer = as_trl_reads(tmp_path, base)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    trainer = trl.DPOTrainer(
        model=PeftModel.from_pretrained(plain, tmp_path / "peft", is_trainable=True),
        args=trl.DPOConfig(output_dir=str(tmp_path / "out"), beta=beta, **THEIRS),
        train_dataset=texts(),
        processing_class=tokenizer,
    )
    expected = steps_of(trainer)
    sets = prepared(tmp_path, per_device_train_batch_size=len(ROWS))
    found = trained(ours, DPO(DPOConfig(pref_beta=beta)), sets.train)
    assert found[-1]["loss"] < 0.1 < found[0]["loss"], "the adapter must have moved"
    for ours_is, theirs_is in (
        ("loss", "loss"),
        ("margin", "rewards/margins"),
        ("accuracy", "rewards/accuracies"),
    ):
        mine, other = (
            [event[key] for event in events] for key, events in ((ours_is, found), (theirs_is, expected))
        )
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-5), ours_is


def test_the_reward_head_is_trls(tmp_path: Path) -> None:
    base = chat_home(tmp_path)
    first = base.config.n_layers - 1
    lower, upper = network(base, first, None, 0, torch.float32)
    readout = add_readout(upper, 1, 0)
    folder, tokenizer = as_trl_reads(tmp_path, base)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    theirs.config.pad_token_id = tokenizer.pad_token_id
    theirs.score.weight.data.copy_(readout.weight.data)
    theirs.requires_grad_(False)
    for part in (theirs.model.layers[first], theirs.model.norm, theirs.score):
        part.requires_grad_(True)
    trainer = trl.RewardTrainer(
        model=theirs,
        args=trl.RewardConfig(output_dir=str(tmp_path / "out"), **THEIRS),
        train_dataset=texts(),
        processing_class=tokenizer,
    )
    expected = steps_of(trainer)
    ours_reads = Tokenizer.from_file(tmp_path / "tokenizer.json")
    (loaded,) = (load(spec, use="rank") for spec in find([str(tmp_path / "pairs.json")], tmp_path))
    rows = reward_rows(loaded.examples, ChatTemplate(None), ours_reads, 128, [])
    batches = HeadLoader(rows, [0] * len(ROWS), batch_size=len(ROWS), seed=0, lower=lower)
    found = trained(upper, Preferring(), batches)
    assert found[-1]["loss"] < 0.5 < found[0]["loss"], "the head must have learned"
    for ours_is, theirs_is in (("loss", "loss"), ("accuracy", "accuracy"), ("grad_norm", "grad_norm")):
        mine, other = (
            [event[key] for event in events] for key, events in ((ours_is, found), (theirs_is, expected))
        )
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-5), ours_is
