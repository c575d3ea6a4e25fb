"""`--torch_compile`: plain where nothing compiles, tried on the lengths that a run has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.data.batches import Batch
from model.gpt import GPT
from model.train import compiling, losses
from tests.model.preferring import ROWS, chat_home, prepared
from tests.model.test_train_loop import Rows, model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_where_nothing_compiles_the_run_goes_on_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    one, said, batch = model(full=True), [], next(Rows().batches(0))

    def broken(*args: object, **named: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    before = losses.next_token(one, batch)[0].item()
    monkeypatch.setattr(torch, "compile", broken)
    assert not compiling.compile_blocks(one, losses.next_token, [batch], torch.float32, said.append)
    assert said == ["torch_compile: not compiled, the run goes on without (No working C++ compiler found)"]
    assert losses.next_token(one, batch)[0].item() == before
    assert all(parameter.grad is None for parameter in one.parameters())
    calls: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda f, **named: lambda *args: (calls.append(1), f(*args))[1])
    assert compiling.compile_blocks(one, losses.next_token, [batch], torch.float32, said.append)
    assert "times as fast" in said[-1]
    calls.clear()
    assert losses.next_token(one, batch)[0].item() == before and len(calls) == len(one.blocks)

    uneven = [next(Rows(n=n).batches(0)) for n in (10, 6)]
    met: list[int] = []

    def spied(of: GPT, some: Batch) -> tuple[Tensor, int]:
        met.append(some.ids.shape[1])
        return losses.next_token(of, some)

    assert compiling.compile_blocks(one, spied, uneven, torch.float32, said.append)
    assert met == [10, 6] * (len(met) // 2), "each round meets every length, before and after"


def test_compiling_is_tried_on_several_lengths(tmp_path: Path) -> None:
    rows = [row | {"instruction": "word " * i} for i, row in enumerate(ROWS, 1)]
    chat_home(tmp_path, rows)
    loader = prepared(tmp_path, per_device_train_batch_size=2).train
    lengths = sorted(batch.ids.shape[1] for batch in loader.batches(0))
    found = [batch.ids.shape[1] for batch in compiling.some_lengths(loader)]
    assert found[:2] == [lengths[-1], lengths[0]] and len(set(found)) == len(found) > 2
