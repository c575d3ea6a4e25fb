"""The loop's laws: exact accumulation, exact resumption, several processes as one, no step on bad losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import lora
from model.config import LoRAConfig, TrainConfig
from model.data.batches import IGNORED, Batch
from model.errors import CheckpointError, NonFiniteLoss, TrainingError
from model.gpt import GPT
from model.train import loop, losses, precision, state
from model.train.fused import quicken
from model.train.loop import fit, planned_steps
from model.train.state import Store
from tests.model import tiny

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


class Rows:
    """Random rows of ragged supervision, one a sample; micro-batches of some rows, shuffled by epoch."""

    def __init__(self, rows: int = 12, size: int = 2, n: int = 10, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(1, 256, (rows, n), generator=generator)
        starts = torch.randint(0, n - 1, (rows, 1), generator=generator)
        self.targets = self.ids.roll(-1, 1).masked_fill(torch.arange(n) < starts, IGNORED)
        self.size, self.built = size, 0

    def steps(self, epoch: int) -> int:
        return -(-len(self.ids) // self.size)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        order = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(self.size)[start_step:]:
            self.built += 1
            r, n = len(rows), self.ids.shape[1]
            yield Batch(self.ids[rows], torch.arange(n).expand(r, n), self.targets[rows], None, [n] * r, r)


def model(dropout: float = 0.0, full: bool = False) -> GPT:
    made = GPT(tiny.config())
    made.initialise(torch.Generator().manual_seed(0))
    if not full:
        knobs = LoRAConfig(lora_rank=2, lora_dropout=dropout)
        lora.inject(made, knobs, generator=torch.Generator().manual_seed(1))
    quicken(made)
    return made


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**({"learning_rate": 0.01, "num_train_epochs": 2, "seed": 3} | changes))  # type: ignore[arg-type]


def trained(of: GPT) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in of.named_parameters() if p.requires_grad}


def no_export(folder: Path, parameters: Mapping[str, Tensor]) -> None:
    (folder / "note").write_text(str(len(parameters)))


def test_cutting_a_step_into_micro_batches_changes_nothing_but_rounding() -> None:
    found = []
    for size, accumulation in ((1, 8), (2, 4), (8, 1)):
        one, events = model(), []
        knobs = config(gradient_accumulation_steps=accumulation, max_steps=3, weight_decay=0.1)
        fit(one, losses.next_token, Rows(8, size), knobs, report=events.append)
        assert [event["supervised"] for event in events] == [events[0]["supervised"]] * 3
        # The norm, too: AdamW itself would hide a gradient that is too large by the same factor everywhere.
        found.append(([event[key] for key in ("loss", "grad_norm") for event in events], trained(one)))
    for others, parameters in found[1:]:
        assert others == pytest.approx(found[0][0], rel=1e-5)
        for name, parameter in parameters.items():
            torch.testing.assert_close(parameter, found[0][1][name], rtol=1e-3, atol=1e-5)
    assert found[0][0][2] < found[0][0][0], "it learns"


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_resumed_run_is_bit_for_bit_the_run_that_was_never_stopped(full: bool, tmp_path: Path) -> None:
    knobs = config(gradient_accumulation_steps=2, weight_decay=0.1, num_train_epochs=3, save_steps=4)
    straight, events = model(0.3, full), []
    validation, store = Rows(4, seed=9), Store(tmp_path / "straight", no_export, {})
    fit(straight, losses.next_token, Rows(9), knobs, validation=validation, store=store, report=events.append)
    for session in range(3):  # an epoch has three steps: interrupted after 4 and 8 of 9, in the middle of one
        again, seen = model(0.3, full), []
        torch.manual_seed(session)  # what came before must not matter
        outcome = fit(
            again,
            losses.next_token,
            Rows(9),
            knobs,
            validation=Rows(4, seed=9),
            store=Store(tmp_path / "resumed", no_export, {}),
            report=seen.append,
            stop=lambda seen=seen: sum("loss" in event for event in seen) >= 4,
        )
        assert outcome.end == ("finished" if session == 2 else "stopped")
        steps = {event["step"]: event for event in events if "loss" in event}
        for event in seen:
            if "loss" in event:
                same = ("loss", "learning_rate", "grad_norm", "epoch", "tokens")
                assert [event[k] for k in same] == [steps[event["step"]][k] for k in same]
    assert outcome.position.step == 9
    expected, found = trained(straight), trained(again)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    knobs = config(max_steps=1)
    fit(model(), losses.next_token, Rows(4), knobs, store=Store(tmp_path, no_export, {"data": "one"}))
    with pytest.raises(TrainingError, match="another data"):
        fit(model(), losses.next_token, Rows(4), knobs, store=Store(tmp_path, no_export, {"data": "two"}))
    with pytest.raises(TrainingError, match="does not fit"):
        fit(
            model(full=True),
            losses.next_token,
            Rows(4),
            knobs,
            store=Store(tmp_path, no_export, {"data": "one"}),
        )
    (tmp_path / "last" / state.TENSORS_FILE).write_bytes(b"torn")
    with pytest.raises(TrainingError, match="damaged"):
        fit(model(), losses.next_token, Rows(4), knobs, store=Store(tmp_path, no_export, {"data": "one"}))


def test_a_loss_that_is_no_number_stops_before_any_parameter_changes(tmp_path: Path) -> None:
    def breaks_later(one: GPT, batch: Batch) -> tuple[Tensor, int]:
        total, count = losses.next_token(one, batch)
        calls.append(1)
        return (total * torch.nan if len(calls) == 5 else total), count

    calls: list[int] = []
    store, one = Store(tmp_path, no_export, {}), model()
    with pytest.raises(
        NonFiniteLoss, match=r"step 5: the loss is nan \(epoch 0, micro-batches 4 to 4\).*step 4"
    ):
        fit(one, breaks_later, Rows(), config(save_steps=2), store=store)
    found = store.load()
    assert found is not None
    assert found[0].step == 4
    assert all(torch.equal(p, found[1][f"parameter/{name}"]) for name, p in trained(one).items())


def test_a_validation_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    def breaks_in_validation(one: GPT, batch: Batch) -> tuple[Tensor, int]:
        total, count = losses.next_token(one, batch)
        return total if one.training else total * torch.nan, count

    store = Store(tmp_path, no_export, {})
    with pytest.raises(
        NonFiniteLoss, match=r"step 6, in validation: the loss is nan; the checkpoint of step 4"
    ):
        fit(model(), breaks_in_validation, Rows(), config(save_steps=2), validation=Rows(4), store=store)
    assert not (tmp_path / "best").exists() and store.step() == 4


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, no_export, {})
    original, saves = state.write_tensors, []

    def full(file: Path, tensors: Mapping[str, Tensor]) -> None:
        saves.append(file)
        if len(saves) > 1:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        original(file, tensors)

    monkeypatch.setattr(state, "write_tensors", full)
    with pytest.raises(CheckpointError, match=r"No space left.*free space"):
        fit(model(), losses.next_token, Rows(), config(save_steps=2), store=store)
    found = store.load()
    assert found is not None
    assert found[0].step == 2


def test_a_run_is_saved_now_and_then_within_a_long_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing else is asked for: at the ends of epochs alone a killed machine would lose hours."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    for save_steps, expected in ((0, 3), (2, 2)):
        store = Store(tmp_path / str(save_steps), no_export, {})
        calls: list[int] = []

        def dies(one: GPT, batch: Batch, calls: list[int] = calls) -> tuple[Tensor, int]:
            calls.append(1)
            if len(calls) == 4:
                raise MemoryError
            return losses.next_token(one, batch)

        with pytest.raises(MemoryError):
            fit(model(), dies, Rows(), config(save_steps=save_steps), store=store)
        assert store.step() == expected


def test_the_best_weights_are_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    events: list[dict[str, float]] = []
    outcome = fit(model(), losses.next_token, Rows(4), config(
        learning_rate=0.3, num_train_epochs=50, early_stopping_patience=2, lr_scheduler_type="constant"
    ), validation=Rows(6, seed=5), store=Store(tmp_path, no_export, {}), report=events.append)  # fmt: skip
    validated = [event["eval_loss"] for event in events if "eval_loss" in event]
    assert outcome.end == "early"
    best = min(range(len(validated)), key=validated.__getitem__)
    assert len(validated) == best + 3
    assert outcome.position.best_loss == validated[best]
    assert json.loads((tmp_path / "best" / "manifest.json").read_text())["step"] == outcome.position.best_step


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputing_changes_no_gradient(dtype: torch.dtype, full: bool) -> None:
    found = []
    for checkpointing in (False, True):
        one = model(dropout=0.2, full=full)
        fit(
            one,
            losses.next_token,
            Rows(),
            config(gradient_checkpointing=checkpointing, max_steps=2),
            dtype=dtype,
        )
        found.append(trained(one))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_bf16_follows_float32() -> None:
    curves = []
    for dtype in (torch.float32, torch.bfloat16):
        for full in (False, True):
            one, events = model(full=full), []
            if not full and dtype == torch.bfloat16:
                precision.freeze_in(one, dtype)
            fit(one, losses.next_token, Rows(), config(max_steps=6), dtype=dtype, report=events.append)
            assert {p.dtype for p in trained(one).values()} == {torch.float32}
            curves.append([event["loss"] for event in events])
    for single, half in zip(curves[:2], curves[2:], strict=True):
        assert half == pytest.approx(single, rel=0.01)
        assert half != single


def test_steps_are_counted_by_epoch() -> None:
    rows = Rows(9, 2)  # five micro-batches
    assert planned_steps(rows, config(num_train_epochs=3), 2) == 9
    assert planned_steps(rows, config(num_train_epochs=0.5), 1) == 2
    assert planned_steps(rows, config(num_train_epochs=0.01), 1) == 1
    assert planned_steps(rows, config(max_steps=4), 2) == 4


TOGETHER = """
import itertools, json, sys, torch
from torch.distributed.tensor import DTensor
from model.train import distributed, losses
from model.train.loop import fit
from model.train.state import Store
from tests.model import test_train_loop as t
torch.set_num_threads(1)
world = distributed.join()
found = {}
for way, what in itertools.product(("ddp", "fsdp"), ("lora", "full")):
    events = found[f"{way} {what}"] = []
    for pause in (2, 2, 99):  # resumed from within an epoch, and from behind a validation
        before = len(events)
        one = t.model(full=what == "full")
        fit(one, losses.next_token, t.Rows(9, 1), t.together(2, fsdp=way == "fsdp"), world=world,
            report=events.append, validation=t.Rows(3, 1, seed=4),
            store=Store(t.Path(sys.argv[1]) / way / what, t.no_export, {}),
            stop=lambda: len(events) - before >= pause)
        local = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in one.parameters())
        whole = sum(p.numel() for p in one.parameters())
        assert (0.4 < local / whole < 0.6) if way == "fsdp" else local == whole, "each holds its half, or all"
if world.first:
    print(json.dumps(found))
distributed.leave()
"""


def together(accumulation: int, **changes: object) -> TrainConfig:
    return config(gradient_accumulation_steps=accumulation, weight_decay=0.1, max_grad_norm=0.5, **changes)


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Copied (DDP) or sharded (FSDP2), with adapters or in full: losses, norms and weights of one process."""
    launch = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--no-python"]
    command = ["-m", "torch.distributed.run", *launch, sys.executable, "-c", TOGETHER, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-8000:]
    found: dict[str, list[dict[str, float]]] = json.loads(done.stdout.splitlines()[-1])
    for what in ("lora", "full"):
        alone: list[dict[str, float]] = []
        one = model(full=what == "full")
        fit(
            one,
            losses.next_token,
            Rows(9, 1),
            together(4),
            report=alone.append,
            validation=Rows(3, 1, seed=4),
        )
        for way in ("ddp", "fsdp"):
            for event, expected in zip(found[f"{way} {what}"], alone, strict=True):
                timed = {"tokens_per_s", "best_step"}
                assert {k: event[k] for k in expected.keys() - timed} == pytest.approx(
                    {k: expected[k] for k in expected.keys() - timed}, rel=2e-5
                ), (way, what)
            saved = Store(tmp_path / way / what, no_export, {}).load()
            assert saved is not None
            assert saved[0].step == 6
            for name, parameter in trained(one).items():
                torch.testing.assert_close(saved[1][f"parameter/{name}"], parameter, rtol=1e-3, atol=1e-4)
