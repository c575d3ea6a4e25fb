"""What a step is made of: optimisers and schedules beside torch's and transformers', NEFTune, LoRA+, decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config import TrainConfig
from model.data.batches import Batch
from model.errors import TrainingError
from model.gpt import GPT
from model.train import losses
from model.train.loop import fit
from model.train.noise import noisy
from model.train.optimise import OPTIMISERS, optimiser
from model.train.schedule import SCHEDULES, factor
from model.train.state import Store
from tests.model import tiny
from tests.model.test_train_loop import Rows, config, model, no_export, trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("lowest", [0.0, 0.1])
def test_warmup_stable_decay_and_cosine_to_a_floor_are_those_of_transformers(lowest: float) -> None:
    import math

    from transformers.optimization import _get_wsd_scheduler_lambda

    shape = {"warmup_type": "linear", "decay_type": "linear", "num_cycles": 0.5, "min_lr_ratio": lowest}
    counts = {"num_warmup_steps": 10, "num_stable_steps": 65, "num_decay_steps": 25}
    knobs = {"min_lr_ratio": lowest, "decay_ratio": 0.25}
    for step in range(10, 100):
        ours = factor("warmup_stable_decay", step, 100, 0.1, **knobs)
        assert ours == pytest.approx(_get_wsd_scheduler_lambda(step, **shape, **counts))
        # nanoGPT's: from the top to the floor by half a cosine
        cosine = lowest + 0.5 * (1 + math.cos(math.pi * (step - 10) / 90)) * (1 - lowest)
        assert factor("cosine", step, 100, 0.1, **knobs) == pytest.approx(cosine)


@pytest.mark.parametrize("optim", OPTIMISERS)
def test_every_optimiser_is_torchs_step_by_step_and_resumes_bit_for_bit(optim: str, tmp_path: Path) -> None:
    knobs = config(
        optim=optim, learning_rate=0.02, weight_decay=0.1, max_steps=4, momentum=0.8, warmup_ratio=0.25,
        lr_scheduler_type="linear", adam_beta2=0.9, rms_alpha=0.8, adam_epsilon=1e-6,
    )  # fmt: skip
    ours = model(full=True)
    fit(ours, losses.next_token, Rows(8), knobs, store=Store(tmp_path / "straight", no_export))

    theirs, data = model(full=True), Rows(8)
    adam = {"betas": (0.9, 0.9), "eps": 1e-6}
    cls, shape = {
        "sgd": (torch.optim.SGD, {"momentum": 0.8}),
        "adagrad": (torch.optim.Adagrad, {"eps": 1e-6}),
        "rmsprop": (torch.optim.RMSprop, {"alpha": 0.8, "eps": 1e-6}),
        "adam": (torch.optim.Adam, adam),
        "adamw": (torch.optim.AdamW, adam),
    }[optim]
    every = list(theirs.parameters())
    groups = [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]
    plain = cls(groups, lr=0.02, **shape)
    fall = torch.optim.lr_scheduler.LambdaLR(plain, lambda step: (1.0, 1.0, 2 / 3, 1 / 3, 0)[step])
    for batch in data.batches(0):
        summed, count = losses.next_token(theirs, batch)
        summed.backward()
        for parameter in every:
            parameter.grad.mul_(1 / count)
        torch.nn.utils.clip_grad_norm_(every, knobs.max_grad_norm)
        plain.step()
        fall.step()
        plain.zero_grad()
    for name, parameter in theirs.named_parameters():
        # Ours takes torch's fused kernel, whose roots are rounded otherwise.
        torch.testing.assert_close(parameter, ours.get_parameter(name), rtol=2e-4, atol=2e-6)
    start = model(full=True)
    assert any(not torch.equal(p, start.get_parameter(name)) for name, p in ours.named_parameters()), (
        "it trained"
    )

    for _ in range(2):  # two steps, and in another process's place two more
        again, seen = model(full=True), []
        fit(
            again, losses.next_token, Rows(8), knobs, store=Store(tmp_path / "resumed", no_export),
            report=seen.append, stop=lambda seen=seen: len(seen) >= 2,
        )  # fmt: skip
    assert all(torch.equal(p, ours.get_parameter(name)) for name, p in again.named_parameters())


def test_noise_on_the_embedding_is_as_large_as_neftune_says_and_only_while_training() -> None:
    rows = next(Rows(4, 4, n=10).batches(0))
    ragged = replace(rows, lengths=[10, 5, 10, 1])
    seen: list[Tensor] = []

    def look(of: GPT, batch: Batch) -> tuple[Tensor, int]:
        seen.append(of.embed(batch.ids).detach())
        return seen[-1].sum(), 1

    one = model().train()
    noised = noisy(look, 5.0)
    noised(one, ragged)
    noise = seen[-1] - one.embed(ragged.ids)
    for row, length in zip(noise, ragged.lengths, strict=True):
        reach = 5.0 / (length * 64) ** 0.5  # alpha / sqrt(L d)
        assert 0.95 * reach < row.abs().max() <= reach
        assert abs(row.mean()) < 0.15 * reach and row.std() == pytest.approx(reach / 3**0.5, rel=0.1)
    one.eval()
    noised(one, ragged)
    assert torch.equal(seen[-1], one.embed(ragged.ids))
    one.train()
    reading = noisy(lambda of, batch: look(of.eval(), batch), 5.0)
    reading(one, ragged)
    assert torch.equal(seen[-1], one.embed(ragged.ids)), "a reference that reads within the step hears none"
    assert not one.embed._forward_hooks and noisy(look, 0.0) is look
    # The loop applies it: other losses than without, the same ones again.
    found = []
    for alpha in (0.0, 5.0, 5.0):
        events: list[dict] = []
        fit(
            model(),
            losses.next_token,
            Rows(8),
            config(max_steps=2, neftune_noise_alpha=alpha),
            report=events.append,
        )
        found.append([event["loss"] for event in events])
    assert found[0] != found[1] == found[2]


def test_lora_plus_groups_parameters_as_peft_does() -> None:
    peft = pytest.importorskip("peft")
    from peft.optimizers import create_loraplus_optimizer
    from transformers import LlamaConfig, LlamaForCausalLM

    hf = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
    )
    adapted = peft.get_peft_model(hf, peft.LoraConfig(r=2, target_modules="all-linear"))
    theirs = create_loraplus_optimizer(adapted, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16)
    one = model()
    ours = optimiser(one, config(loraplus_lr_ratio=16.0))

    def rates(
        groups: list[dict], names: dict[int, str], rate: Callable[[dict], float]
    ) -> dict[str, set[float]]:
        found: dict[str, set[float]] = {}
        for group in groups:
            for parameter in group["params"]:
                found.setdefault(names[id(parameter)], set()).add(round(rate(group), 9))
        return found

    theirs_by = {id(p): "B" if "lora_B" in name else "A" for name, p in adapted.named_parameters()}
    ours_by = {id(p): name.rpartition(".")[2].upper() for name, p in one.named_parameters()}
    expected = rates(theirs.param_groups, theirs_by, lambda group: group["lr"])
    assert rates(ours.param_groups, ours_by, lambda group: 0.01 * group["lr_ratio"]) == expected
    assert expected == {"A": {0.01}, "B": {0.16}}
    before = trained(one)
    fit(one, losses.next_token, Rows(8), config(max_steps=2, loraplus_lr_ratio=16.0, warmup_ratio=0.0))
    moved = {
        part: max(float((p - before[n]).abs().max()) for n, p in trained(one).items() if n.endswith(part))
        for part in (".a", ".b")
    }
    assert moved[".b"] > 8 * moved[".a"] > 0, "Adam's first steps are as large as its rate"


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules(kind: str) -> None:
    rates = [factor(kind, step, 100, 0.1) for step in range(100)]  # type: ignore[arg-type]
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5 if kind in ("cosine", "linear") else 1.0)
    assert 0 < rates[-1] <= 1


def test_norms_and_biases_do_not_decay() -> None:
    one = GPT(tiny.config(attention_bias=True))
    groups = optimiser(one, config(weight_decay=0.1)).param_groups
    names = {id(p): name for name, p in one.named_parameters()}
    for group in groups:
        spared = [("norm" in names[id(p)] or names[id(p)].endswith("bias")) for p in group["params"]]
        assert all(spared) if group["weight_decay"] == 0 else not any(spared)


def test_the_largest_seed_trains_and_one_below_nothing_is_refused() -> None:
    """Steps are seeded by a multiple of it, which once was too large for torch."""
    found = []
    for seed in (2**63 - 1, 2**63 - 1, 2**63 - 2):
        events: list[dict] = []
        knobs = config(max_steps=2, seed=seed)
        fit(model(dropout=0.5), losses.next_token, Rows(8), knobs, report=events.append)
        found.append(events[-1]["loss"])
    assert found[0] == found[1] != found[2]
    with pytest.raises(TrainingError, match="seed must be between 0"):
        TrainConfig(seed=-1)
