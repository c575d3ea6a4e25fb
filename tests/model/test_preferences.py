"""Preference tuning: DPO against the paper's formula with transformers' and peft's log-probabilities."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F

from model import checkpoint, lora
from model.__main__ import main
from model.chat import ChatTemplate
from model.config import LoRAConfig
from model.data.forms import load
from model.data.registry import find
from model.data.samples import Sample
from model.data.sets import DataConfig, gather
from model.errors import DataError, TrainingError
from model.formats import hf, peft
from model.gpt import GPT
from model.identity import identity
from model.preferences.dpo import DPO, DPOConfig
from model.preferences.logprobs import TokenLogs, token_logs
from model.preferences.pairs import PairBatch
from model.quantized import dense
from model.tokenizer import Tokenizer
from model.train import runs
from model.train.fused import quicken
from model.train.noise import noisy
from tests.model.preferring import ROWS, chat_home, prepared

DATA = Path(os.environ.get("LOREBASE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))

pytestmark = pytest.mark.usefixtures("one_thread")


def decoder(found: checkpoint.Checkpoint) -> GPT:
    model = GPT(found.config)
    model.load_state_dict({name: dense(weight) for name, weight in found.weights.items()})
    quicken(model)
    return model


def whole_batch(home: Path, **how: Any) -> PairBatch:
    loader = prepared(home, per_device_train_batch_size=len(ROWS), **how).train
    return loader.batch(0, 0)


@pytest.mark.parametrize("packing", [False, True])
def test_the_first_loss_is_ln_2(tmp_path: Path, packing: bool) -> None:
    model = decoder(chat_home(tmp_path))
    lora.inject(model, LoRAConfig(lora_rank=4), generator=torch.Generator().manual_seed(0))
    loss = DPO(DPOConfig())
    batch = whole_batch(tmp_path, packing=packing)
    total, count = loss(model, batch)
    assert count == len(ROWS)
    assert abs(float(total.detach()) / count - math.log(2)) < 1e-6
    total.backward()
    pulls = [p.grad.abs().max() for p in model.parameters() if p.grad is not None]
    assert max(pulls) > 1e-3, "a loss of ln 2 must still move the adapter"
    assert lora.active(model) == lora.DEFAULT


def test_the_reference_reads_without_dropout_noise_or_adapter(tmp_path: Path) -> None:
    """What a pair was worth before training is one number, whatever a step draws."""
    model = decoder(chat_home(tmp_path, residual_dropout=0.4, embed_dropout=0.2))
    batch = whole_batch(tmp_path)
    with torch.no_grad():
        plain = token_logs(model.eval(), batch)
    lora.inject(model, LoRAConfig(lora_rank=4), generator=torch.Generator().manual_seed(0))
    for name, p in model.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(p, std=0.05)
    seen: list[Tensor] = []

    class Watched(DPO):
        def _replies(self, model: GPT, batch: PairBatch) -> Tensor:
            seen.append(token_logs(model, batch).detach())
            return super()._replies(model, batch)

    for _ in range(2):
        noisy(Watched(DPOConfig()), 5.0)(model.train(), batch)
    before, policy, before_again, policy_again = seen
    assert torch.equal(before, plain) and torch.equal(before_again, plain)
    assert not torch.equal(policy, policy_again), "the policy keeps its dropout"
    assert model.training and lora.active(model) == lora.DEFAULT


@pytest.mark.parametrize(
    ("beta", "smoothing", "normalised"), [(0.1, 0.0, False), (0.5, 0.1, False), (0.3, 0.0, True)]
)
def test_loss_and_gradient_are_those_of_the_formula(
    tmp_path: Path, beta: float, smoothing: float, normalised: bool
) -> None:
    """The oracle: transformers with peft's adapter, each conversation read whole and alone."""
    base = chat_home(tmp_path)
    ours = decoder(base)
    knobs = LoRAConfig(lora_rank=4, lora_target=("q", "v", "down"))
    lora.inject(ours, knobs, generator=torch.Generator().manual_seed(0))
    for name, p in ours.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    folder = hf.write(base, tmp_path / "hf", dtype="fp32")
    (tmp_path / "peft").mkdir()
    found = lora.extract(ours, knobs, base=identity(base.weights))
    peft.write(tmp_path / "peft", found, base.config, base_name="tiny")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "peft", is_trainable=True)

    tokenizer = Tokenizer.from_file(tmp_path / "tokenizer.json")

    def log_prob(prompt: str, reply: str) -> Tensor:
        said = ChatTemplate(None).encode(
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}],
            tokenizer, reply=False,
        )  # fmt: skip
        ids = torch.tensor([said.ids])
        logs = theirs(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        taken = logs[torch.tensor(said.mask[1:])]
        return taken.mean() if normalised else taken.sum()

    expected = torch.zeros(())
    for row in ROWS:
        policy = [log_prob(row["instruction"], row[key]) for key in ("chosen", "rejected")]
        with torch.no_grad(), theirs.disable_adapter():
            before = [log_prob(row["instruction"], row[key]) for key in ("chosen", "rejected")]
        z = beta * ((policy[0] - before[0]) - (policy[1] - before[1]))
        expected = expected - (1 - smoothing) * F.logsigmoid(z) - smoothing * F.logsigmoid(-z)
    expected.backward()

    loss = DPO(DPOConfig(pref_beta=beta, pref_length_normalised=normalised), smoothing)
    total, _ = loss(ours, whole_batch(tmp_path))
    total.backward()
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-5)
    assert abs(float(total) / len(ROWS) - math.log(2)) > 1e-3, "the adapter must matter here"
    name = "blocks.1.attn.q.adapters.default.a"
    other = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight"
    pulled = dict(theirs.named_parameters())[other].grad
    torch.testing.assert_close(dict(ours.named_parameters())[name].grad, pulled, rtol=1e-3, atol=1e-5)


def test_token_logs_have_autograds_gradients() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(300, 8, dtype=torch.double, requires_grad=True)
    weight = torch.randn(11, 8, dtype=torch.double, requires_grad=True)
    targets, pull = torch.randint(0, 11, (300,)), torch.randn(300)
    TokenLogs.apply(hidden, weight, targets).mul(pull).sum().backward()
    ours = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    logs = F.linear(hidden, weight).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (logs * pull).sum().backward()
    for mine, expected in zip(ours, (hidden.grad, weight.grad), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)  # softmax is taken in float32


def test_dpo_from_the_command_to_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = chat_home(tmp_path)
    given = ["dpo", "--home", str(tmp_path), "--model", "tiny", "--dataset", str(tmp_path / "pairs.json")]
    flags = [
        "--max_steps",
        "30",
        "--eval_steps",
        "30",
        "--val_size",
        "2",
        "--learning_rate",
        "0.005",
        "--compute_type",
        "fp32",
    ]
    assert main([*given, *flags, "--name", "kind", "--per_device_train_batch_size", "4"]) == 0
    events = runs.find(tmp_path, "kind").metrics()
    steps = [event for event in events if "loss" in event]
    assert abs(steps[0]["loss"] - math.log(2)) < 1e-6 and steps[0]["margin"] == pytest.approx(0, abs=1e-6)
    assert steps[-1]["loss"] < 0.3 and steps[-1]["accuracy"] == 1
    (held,) = [event for event in events if "eval_loss" in event]
    assert held["eval_accuracy"] == 1
    adapter = peft.read(tmp_path / "adapters" / "kind", base.config, base=identity(base.weights))
    assert adapter.metadata["command"] == "dpo"
    capsys.readouterr()
    for flag, what in ((["--freeze", "1"], "leave out freeze"), (["--pref_beta", "0"], "pref_beta must be")):
        assert main([*given, *flag]) == 1
        assert what in capsys.readouterr().err
    assert main(["sft", *given[1:]]) == 1
    assert "those of a preference set" in capsys.readouterr().err


SHAREGPT = {
    "conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}],
    "chosen": {"from": "gpt", "value": "Hello!"},
    "rejected": {"from": "gpt", "value": "What?"},
}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (SHAREGPT | {"rejected": SHAREGPT["chosen"]}, "nothing to prefer"),
        (SHAREGPT | {"chosen": {"from": "human", "value": "x"}}, "'chosen' must be the assistant's"),
        (SHAREGPT | {"chosen": 3}, "'chosen': turn 1 must be an object"),
        (SHAREGPT | {"conversations": [*SHAREGPT["conversations"], SHAREGPT["chosen"]]}, "must end with the user's"),
        ({"instruction": "Hi", "chosen": "a"}, "'rejected' is missing"),
        ({"instruction": "", "chosen": "a", "rejected": "b"}, "the instruction is empty"),
        ({"instruction": "Hi", "chosen": None, "rejected": "b"}, "'chosen' must be a string"),
    ],
)  # fmt: skip
def test_a_pair_that_cannot_be_used_says_why(row: dict[str, Any], what: str, tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    good = SHAREGPT if "conversations" in row else {"instruction": "Hi", "chosen": "a", "rejected": "b"}
    file.write_text(json.dumps([good, row]))
    (loaded,) = (load(spec, use="rank") for spec in find([str(file)], tmp_path))
    (problem,) = loaded.problems
    assert what in problem.what and problem.row == 2
    (example,) = loaded.examples
    chosen, rejected = example.conversations
    assert chosen[:-1] == rejected[:-1] and chosen[-1] != rejected[-1]
    with pytest.raises(DataError, match="1 of 2 rows of set are malformed"):
        gather([str(file)], DataConfig(dataset=(str(file),)), [], "rank")


def test_a_set_for_something_else_is_refused(tmp_path: Path) -> None:
    registry = {
        "plain": {"file_name": "plain.json"},
        "kto": {"file_name": "kto.json", "formatting": "sharegpt", "columns": {"messages": "m", "kto_tag": "l"}},
        "ranked": {"file_name": "ranked.json", "ranking": True, "columns": {"prompt": "q", "chosen": "c", "rejected": "r"}},
    }  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps(registry))
    (tmp_path / "plain.json").write_text(json.dumps([{"instruction": "Hi", "output": "Hello"}]))
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (tmp_path / "kto.json").write_text(json.dumps([{"m": turns, "l": True}]))
    (tmp_path / "untold.json").write_text(json.dumps([{"messages": turns, "label": False}]))
    (tmp_path / "ranked.json").write_text(json.dumps([{"q": "Hi", "c": "a", "r": "b"}]))
    for name, what in (
        ("plain", "no preference set"),
        ("kto", "one by one .KTO. and are no pairs"),
        (str(tmp_path / "untold.json"), "one by one .KTO."),
    ):
        with pytest.raises(DataError, match=what):
            load(*find([name], tmp_path), use="rank")
    assert len(load(*find(["ranked"], tmp_path), use="rank").examples) == 1
    with pytest.raises(DataError, match="no single reply to imitate"):
        load(*find(["ranked"], tmp_path))
    with pytest.raises(TrainingError, match="pref_beta"):
        DPOConfig(pref_beta=-1)


def test_a_pair_that_loses_a_reply_is_dropped(tmp_path: Path) -> None:
    rows = [ROWS[0], {"instruction": "q", "chosen": "word " * 200, "rejected": "no"},
            {"instruction": "q", "chosen": "yes", "rejected": " "}]  # fmt: skip
    chat_home(tmp_path, rows)
    sets = prepared(tmp_path, too_long="drop", cutoff_len=100)
    assert [line for line in sets.report if "1 of 3 pairs" in line]
    (row,) = sets.train.rows
    (sample,) = row
    assert isinstance(sample, Sample) and len(sample.branches) == 2


def test_only_the_last_turn_of_a_conversation_is_compared(tmp_path: Path) -> None:
    history = [["Who are you?", "I am Lore."], ["Since when?", "Since 2026."]]
    rows = [
        {"instruction": "q", "chosen": "yes", "rejected": "no", "history": history},
        {"instruction": "q", "chosen": " ", "rejected": "no", "history": history},
        {"instruction": "q", "chosen": "yes", "rejected": "no", "history": [["word " * 90, "I am Lore."]]},
    ]
    chat_home(tmp_path, rows)
    sets = prepared(tmp_path, cutoff_len=100)
    assert [line for line in sets.report if "1 of 3 pairs" in line]
    batch = sets.train.batch(0, 0)
    tokenizer = Tokenizer.from_file(tmp_path / "tokenizer.json")
    said = [batch.targets[batch.owner == kind].tolist() for kind in (0, 1)]
    assert [tokenizer.decode(ids) for ids in said] == ["yes", "no"]


PUBLIC = {"dpo_en_demo": 277, "dpo_zh_demo": 267, "llms_from_scratch_preference": 966}


@pytest.mark.parametrize(("name", "rows"), PUBLIC.items())
def test_public_preference_sets_load_whole(name: str, rows: int) -> None:
    file = DATA / "sft" / f"{name}.json.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; set LOREBASE_DATA")
    config = DataConfig(dataset=(str(file),), placeholders={"name": "Lore", "author": "us"})
    (loaded,) = (load(spec, use="rank") for spec in find(config.dataset, config.dataset_dir))
    same = [problem for problem in loaded.problems if "nothing to prefer" in problem.what]
    assert len(loaded.examples) + len(loaded.problems) == loaded.rows == rows
    allowed = 5 if name.startswith("llms") else 0
    assert len(same) == allowed
    print([p for p in loaded.problems if p not in same][:3])
