"""Heads: the cut network against transformers, training with kept states, and a classifier from file to label."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional as F

from model import checkpoint
from model.__main__ import main
from model.config import LoRAConfig
from model.engine import Engine
from model.errors import CheckpointError, DataError, UnknownModel
from model.formats import hf
from model.heads import described as about
from model.heads import folder, labels
from model.heads.classify import evaluate
from model.heads.data import HeadLoader
from model.heads.figures import judge
from model.heads.labels import Labelled
from model.heads.network import READOUT, Classifying, Preferring, add_readout, outputs
from model.heads.reader import HeadReader
from model.heads.training import network
from model.preferences import reward
from model.train import runs
from tests.model.preferring import chat_home

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [[5, 9, 200, 31], [7, 7], [44, 3, 2, 19, 80, 6, 1], [90]]


def texts(count: int = 60) -> list[dict[str, Any]]:
    spam = [{"text": f"WIN {i} pounds now!!!", "label": "spam"} for i in range(count // 3)]
    return spam + [{"text": f"see you at {i}, love", "label": "ham"} for i in range(count - count // 3)]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_outputs_are_those_of_transformers_sequence_classification(tmp_path: Path, first: int) -> None:
    """A readout of three labels on the last token, whatever is cut off and in whichever batch it stands."""
    base = chat_home(tmp_path)
    lower, upper = network(base, first, None, 0, torch.float32)
    readout = add_readout(upper, 3, seed=4)
    folder_ = hf.write(base, tmp_path / "hf", dtype="fp32")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder_, num_labels=3, pad_token_id=0
    ).eval()
    theirs.score.weight.data = readout.weight.data.clone()
    loader = HeadLoader(ROWS, [0, 1, 2, 0], batch_size=4, shuffle=False, lower=lower)
    (batch,) = loader.batches(0)
    order = sorted(range(4), key=lambda i: len(ROWS[i]))
    with torch.no_grad():
        ours = outputs(upper, batch)
        expected = torch.cat([theirs(torch.tensor([ROWS[i]])).logits for i in order])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1e-3


def test_losses_are_the_formulas(tmp_path: Path) -> None:
    lower, upper = network(chat_home(tmp_path), 1, None, 0, torch.float32)
    add_readout(upper, 3, seed=4)
    (batch,) = HeadLoader(ROWS, [0, 1, 2, 0], batch_size=4, shuffle=False, lower=lower).batches(0)
    loss = Classifying(0.1)
    total, count = loss(upper, batch)
    said = outputs(upper, batch).log_softmax(1)
    own = -said[torch.arange(4), batch.labels].sum() * 0.9 - said.mean(1).sum() * 0.1
    torch.testing.assert_close(total, own)
    assert count == 4 and loss.figures().keys() == {"accuracy"} and loss.figures() == {}
    total.backward()
    moved = {name for name, p in upper.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert "blocks.0.attn.q.weight" in moved and f"{READOUT}.bias" in moved and "norm.weight" in moved
    assert not any(p.requires_grad for p in lower.parameters())

    lower, upper = network(chat_home(tmp_path), 1, None, 0, torch.float32)
    add_readout(upper, 1, seed=4)
    (batch,) = HeadLoader(ROWS, [0, 0], batch_size=2, shuffle=False, lower=lower).batches(0)
    preferring = Preferring()
    total, count = preferring(upper, batch)
    scores = {tuple(row): 0.0 for row in ROWS}
    for row in ROWS:
        (alone,) = HeadLoader([row], [0], batch_size=1, shuffle=False, lower=lower).batches(0)
        scores[tuple(row)] = float(outputs(upper, alone).detach())
    pairs = [(scores[tuple(ROWS[i])], scores[tuple(ROWS[i + 1])]) for i in (0, 2)]
    assert count == 2
    assert float(total.detach()) == pytest.approx(
        sum(math.log1p(math.exp(r - c)) for c, r in pairs), rel=1e-4
    )
    assert preferring.figures() == {"accuracy": sum(c > r for c, r in pairs) / 2}
    unsure, _ = Preferring(0.2)(upper, batch)
    other = sum(math.log1p(math.exp(c - r)) for c, r in pairs)
    assert float(unsure.detach()) == pytest.approx(0.8 * float(total.detach()) + 0.2 * other, rel=1e-4)


@pytest.mark.parametrize("tune", ["last_blocks", "lora"])
def test_a_classifier_learns_and_is_served_as_it_was_trained(
    tmp_path: Path, tune: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = chat_home(tmp_path)
    (tmp_path / "sms.json").write_text(json.dumps(texts()))
    given = ["classify", "train", "--home", str(tmp_path), "--model", "tiny", "--name", "spam"]
    given += ["--dataset", str(tmp_path / "sms.json"), "--tune", tune, "--learning_rate", "0.005"]
    assert main([*given, "--num_train_epochs", "3", "--compute_type", "fp32"]) == 0
    found = about.describe(tmp_path / "classifiers" / "spam")
    assert found.labels == ("ham", "spam") and found.first_block == (1 if tune == "last_blocks" else 0)
    assert found.figures["accuracy"] == 1 and found.figures["texts"] == 12
    events = runs.find(tmp_path, "spam").metrics()
    assert events[0]["loss"] > 3 * events[-2]["loss"] and events[-1]["eval_accuracy"] == 1
    saved = json.loads((runs.find(tmp_path, "spam").checkpoints / "last" / "state.json").read_text())
    assert saved["fingerprint"].keys() == {"data", "base", "settings", "number of processes"}

    engine = Engine.load(tmp_path / "models" / "tiny", kernel="float32")
    head = folder.read(tmp_path / "classifiers" / "spam", engine.config)
    said = HeadReader(engine, head).texts([row["text"] for row in texts()]).softmax(1)
    lower, upper = network(
        base, found.first_block, LoRAConfig() if tune == "lora" else None, 0, torch.float32
    )
    add_readout(upper, 2, seed=0)
    saved = (
        checkpoint._read_tensors(runs.find(tmp_path, "spam").checkpoints / "best" / "head.safetensors")
        if tune == "last_blocks"
        else None
    )
    if saved is not None:  # the frozen part is the engine's own, the trained one the run's
        upper.load_state_dict(
            {k.replace("blocks.1.", "blocks.0."): v for k, v in saved.items()}, strict=False
        )
        rows = [engine.tokenizer.encode(row["text"]) for row in texts()]
        (batch,) = HeadLoader(rows, [0] * 60, batch_size=60, shuffle=False, lower=lower).batches(0)
        order = sorted(range(60), key=lambda i: len(rows[i]))
        torch.testing.assert_close(
            said[order], outputs(upper, batch).softmax(1).detach(), rtol=1e-3, atol=1e-4
        )
    else:
        plain = HeadReader(engine, folder.Head("x", head.described, head.weights, None))
        assert (plain.texts(["WIN 3 pounds now!!!"]).softmax(1) - said[3]).abs().max() > 0.01

    capsys.readouterr()
    assert (
        main(
            [
                "classify",
                "eval",
                "spam",
                "--home",
                str(tmp_path),
                "--dataset",
                str(tmp_path / "sms.json"),
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1
    assert main(given) == 1 and "exists; choose another --name" in capsys.readouterr().err
    with pytest.raises(DataError, match="row 1: the label 'eggs' is none of ham, spam"):
        evaluate(tmp_path / "classifiers" / "spam", tmp_path, [Labelled("x", "eggs", Path("f"), 1)])
    other = Engine.load(tmp_path / "models" / "tiny", kernel="float32")
    other.base = "0" * 64
    with pytest.raises(CheckpointError, match="train it again"):
        HeadReader(other, head)
    (tmp_path / "classifiers" / "spam" / "head.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        folder.read(tmp_path / "classifiers" / "spam", engine.config)
    with pytest.raises(UnknownModel, match="there are: spam"):
        about.path_of("classifier", "ham", tmp_path)


def test_a_reward_head_prefers_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat_home(tmp_path)
    given = ["reward", "--home", str(tmp_path), "--model", "tiny", "--name", "kind", "--val_size", "3"]
    given += ["--dataset", str(tmp_path / "pairs.json"), "--learning_rate", "0.005", "--compute_type", "fp32"]
    assert (
        main([*given, "--num_train_epochs", "4", "--per_device_train_batch_size", "3", "--eval_steps", "12"])
        == 0
    )
    found = about.describe(tmp_path / "rewards" / "kind")
    assert found.kind == "reward" and found.adapter and found.figures == {"pairs": 3, "accuracy": 1.0}
    reader = reward.load("kind", tmp_path)
    good, bad = reward.score(
        reader, [("Who are you, 99?", "I am Lore 1."), ("Who are you, 99?", "Go away 99!")]
    )
    assert good > bad
    missing = [*given, "--name", "other", "--dataset", str(tmp_path / "missing.json")]
    assert main(missing) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"txt": "a", "label": "x"}], "no column 'text'"),
        ([{"text": "a", "class": "x"}], "no column 'label'"),
        ([{"text": "a", "label": "x"}, {"text": " ", "label": "x"}], "row 2: column 'text' must be a text"),
        (
            [{"text": "a", "label": "x"}, {"text": "a", "label": None}],
            "row 2: column 'label' must be a label",
        ),
        (
            [{"text": "a", "label": "x"}, {"text": "b", "label": True}],
            "row 2: column 'label' must be a label",
        ),
    ],
)
def test_labelled_texts_that_cannot_be_used_say_why(rows: Any, what: str, tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=what):
        labels.load([str(file)], tmp_path)


def test_rows_that_are_malformed_at_the_end_are_told(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    rows = [json.dumps({"text": f"t{i}", "label": "x"}) for i in range(5)]
    file.write_text("\n".join([*rows[:2], *(row + "," for row in rows[2:])]))
    with pytest.raises(DataError, match="3 of 5 rows"):
        labels.load([str(file)], tmp_path)
    assert len(labels.load([str(file)], tmp_path, max_samples=2)[0]) == 2


def test_equal_texts_stay_on_one_side_and_the_order_of_the_file_does_not_matter() -> None:
    rows = [
        Labelled(f"text {i % 40}" + " " * (i // 40), "a" if i % 2 else "b", Path("f"), i) for i in range(80)
    ]
    parts = labels.split(rows, 0.2, 0.1)
    assert [len(part) for part in parts] == [56, 16, 8]
    keys = [{labels.normal(one.text) for one in part} for part in parts]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    again = labels.split(rows[::-1], 0.2, 0.1)
    assert [{one.row for one in part} for part in again] == [{one.row for one in part} for part in parts]
    uneven = [Labelled(f"t{i}", "spam" if i < 5 else "ham", Path("f"), i) for i in range(30)]
    assert sorted(one.label for one in labels.balanced(uneven)) == ["ham"] * 5 + ["spam"] * 5
    with pytest.raises(DataError, match="cannot be split"):
        labels.split(rows, 80)


def test_figures_against_counting_by_hand() -> None:
    said = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    found = judge(said, [0, 0, 1, 1, 0], ["ham", "spam"])
    assert found["accuracy"] == 0.6 and found["always_the_commonest"] == 0.6
    assert found["labels"]["spam"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "texts": 2}
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    expected = F.nll_loss(said.log(), torch.tensor([0, 0, 1, 1, 0]))
    assert found["log_loss"] == pytest.approx(float(expected))
    assert found["accuracy_low"] < 0.3 and found["accuracy_high"] > 0.85
