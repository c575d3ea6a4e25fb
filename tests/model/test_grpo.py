"""GRPO: advantages and loss by hand, a toy reward that rises, and a penalty that holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model import lora
from model.__main__ import main
from model.config import LoRAConfig, Sampling
from model.data.batches import IGNORED
from model.engine import Engine
from model.errors import TrainingError, UnknownModel
from model.gpt import GPT
from model.preferences import rewards
from model.preferences.grpo import GRPO
from model.preferences.rewards import Reply
from model.preferences.rollouts import Rollouts, batch_of, sample
from model.quantized import dense
from model.train import runs
from tests.model.preferring import chat_home

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_group_drawn_together_is_what_each_would_be_alone(tmp_path: Path) -> None:
    engine = Engine.from_checkpoint(chat_home(tmp_path), kernel="float32")
    prompt = engine.prompt([{"role": "user", "content": "Who are you?"}])
    hows = [Sampling(temperature=1.0, max_tokens=12, seed=i) for i in range(5)]
    drawn = sample(engine, prompt, hows)
    alone = [[token.id for token in engine.generate(prompt, how)] for how in hows]
    assert drawn == alone and len({tuple(ids) for ids in drawn}) > 3


def test_loss_and_gradient_by_hand(tmp_path: Path) -> None:
    base = chat_home(tmp_path)
    model = GPT(base.config)
    model.load_state_dict({name: dense(weight) for name, weight in base.weights.items()})
    lora.inject(model, LoRAConfig(lora_rank=2), generator=torch.Generator().manual_seed(0))
    for name, p in model.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    batch = batch_of([5, 6, 7], [[8, 9, 2], [10], [11, 12, 13, 14]], [1.0, 0.0, 0.5])
    assert batch.advantages.tolist() == pytest.approx([0.9998, -0.9998, 0.0], abs=1e-4)
    assert [row[row != IGNORED].tolist() for row in batch.targets] == [[8, 9, 2], [10], [11, 12, 13, 14]]
    loss = GRPO(0.3)
    total, count = loss(model, batch)
    total.backward()
    name = "blocks.0.attn.q.adapters.default.b"
    ours = dict(model.named_parameters())[name].grad.clone()
    model.zero_grad()

    def logs() -> torch.Tensor:
        hidden = model(batch.ids)
        every = model.logits(hidden).log_softmax(-1)
        return every.gather(2, batch.targets.clamp(min=0)[..., None])[..., 0]

    wanted = batch.targets != IGNORED
    policy = logs()
    lora.set_active(model, None)
    reference = logs().detach()
    lora.set_active(model, lora.DEFAULT)
    ratio = (reference - policy).exp()
    divergence = ratio - (reference - policy) - 1
    each = -batch.advantages[:, None] * (policy - policy.detach()).exp() + 0.3 * divergence
    expected = sum((each[r][wanted[r]]).mean() for r in range(3))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)
    expected.backward()
    torch.testing.assert_close(ours, dict(model.named_parameters())[name].grad, rtol=1e-4, atol=1e-6)
    assert count == 3 and loss.figures()["reward"] == pytest.approx(0.5) and loss.figures() == {}


def train(home: Path, name: str, beta: float) -> tuple[list[float], list[float]]:
    given = [
        "grpo",
        "--home",
        str(home),
        "--model",
        "named",
        "--dataset",
        str(home / "said.json"),
        "--name",
        name,
    ]
    given += [
        "--reward",
        "contains:Paris",
        "--grpo_beta",
        str(beta),
        "--max_completion_length",
        "10",
        "--seed",
        "1",
    ]
    given += [
        "--max_steps",
        "40",
        "--learning_rate",
        "0.003",
        "--num_generations",
        "8",
        "--compute_type",
        "fp32",
    ]
    assert main([*given, "--lora_rank", "4", "--lr_scheduler_type", "constant"]) == 0
    events = [event for event in runs.find(home, name).metrics() if "loss" in event]
    return [event["reward"] for event in events], [event["kl"] for event in events]


def test_a_toy_reward_rises_and_the_penalty_holds(tmp_path: Path) -> None:
    """A model that says one of three names with equal chances learns to say the one that is rewarded."""
    chat_home(tmp_path)
    rows = [
        {"instruction": "Who are you?", "output": f"I am {name}."} for name in ("Lore", "Paris", "France")
    ]
    (tmp_path / "said.json").write_text(json.dumps(rows * 4))
    sft = [
        "sft",
        "--home",
        str(tmp_path),
        "--model",
        "tiny",
        "--dataset",
        str(tmp_path / "said.json"),
        "--name",
        "named",
    ]
    sft += ["--full", "--max_steps", "60", "--learning_rate", "0.01", "--per_device_train_batch_size", "12"]
    assert main([*sft, "--compute_type", "fp32"]) == 0
    free, away = train(tmp_path, "free", 0.0)
    held, near = train(tmp_path, "held", 3.0)
    assert sum(free[-10:]) / 10 > 0.85 > 0.7 > sum(held) / len(held), (free, held)
    assert sum(near[-10:]) < sum(away[-10:]) / 3, (near, away)
    assert free[0] == held[0] and near[0] == pytest.approx(0, abs=1e-6), "both begin at the base"


def test_a_resumed_run_draws_the_same(tmp_path: Path) -> None:
    base = chat_home(tmp_path)
    model = GPT(base.config)
    model.load_state_dict({name: dense(weight) for name, weight in base.weights.items()})
    knobs = LoRAConfig(lora_rank=2)
    lora.inject(model, knobs, generator=torch.Generator().manual_seed(0))
    engine = Engine.from_checkpoint(base, kernel="float32")
    prompts = [[{"role": "user", "content": f"q{i}"}] for i in range(5)]
    sampling = Sampling(temperature=1.0, max_tokens=5)
    made = Rollouts(prompts, engine, model, knobs, rewards.find("ends", tmp_path), group=3, sampling=sampling)
    whole = list(made.batches(2))
    later = list(made.batches(2, 3))
    assert len(whole) == made.steps(2) == 5 and len(later) == 2
    for a, b in zip(whole[3:], later, strict=True):
        assert torch.equal(a.ids, b.ids) and torch.equal(a.rewards, b.rewards)
    assert not all(torch.equal(a.ids, b.ids) for a, b in zip(whole, made.batches(3), strict=True))


def test_rules_and_bad_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replies = [Reply("q", "one two three four", True), Reply("q", "one", False)]
    assert rewards.find("contains:two", tmp_path)(replies) == [1.0, 0.0]
    assert rewards.find("brief:2", tmp_path)(replies) == [0.0, 1.0]
    assert rewards.find("ends", tmp_path)(replies) == [1.0, 0.0]
    for name in ("contains:", "brief:no"):
        with pytest.raises(TrainingError, match="--reward"):
            rewards.find(name, tmp_path)
    with pytest.raises(UnknownModel, match="there is no reward 'nobody'"):
        rewards.find("nobody", tmp_path)
    chat_home(tmp_path)
    given = ["grpo", "--home", str(tmp_path), "--model", "tiny", "--dataset", str(tmp_path / "pairs.json")]
    assert main([*given, "--reward", "ends", "--num_generations", "1"]) == 1
    assert "num_generations must be between 2" in capsys.readouterr().err
    assert main([*given, "--reward", "ends", "--val_size", "2"]) == 1
    assert "leave out val_size" in capsys.readouterr().err
    assert main(given) == 1 and "--reward is needed" in capsys.readouterr().err
