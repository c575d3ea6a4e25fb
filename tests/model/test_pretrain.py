"""Pretraining: texts to shards to windows without a leak or a loss, and a run that is what it says."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import checkpoint
from model.__main__ import main
from model.data.batches import IGNORED
from model.data.shards import build as shards
from model.data.shards import texts as reading
from model.data.shards.build import build, pieces
from model.data.shards.config import CorpusConfig
from model.data.shards.stream import Stream, open_streams
from model.data.shards.windows import Windows
from model.engine import Engine
from model.errors import DataError
from model.gpt import GPT
from model.tokenizer import Tokenizer
from model.tokenizing import shelf
from model.tokenizing.train import train as train_tokenizer
from model.train import task

pytestmark = pytest.mark.usefixtures("one_thread")

LINES = [f"The {a} {b} {c} the {d}." for a in ("old", "quick", "happy") for b in ("cat", "king", "poet")
         for c in ("sees", "loves", "finds") for d in ("sea", "moon", "rose", "road")]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    shelf.save(train_tokenizer(["\n".join(LINES)], "bpe", vocab_size=300), "mine", home, {})
    return home


def of(ids: Sequence[int], cuts: Sequence[int] = ()) -> Stream:
    parts = np.split(np.asarray(ids, np.uint16), sorted(cuts))
    return Stream(list(parts), {"texts": 1, "bytes": len(ids)}, "x")


# ----------------------------------------------------------------------------------------------------
# windows


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_windows_predict_every_token_from_the_one_before_wherever_shards_end(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 60))
    length = data.draw(st.integers(1, 12))
    stride = data.draw(st.integers(1, length))
    batch = data.draw(st.integers(1, 4))
    stream = of(range(size), data.draw(st.lists(st.integers(0, size), max_size=3)))
    for shuffle in (False, True):
        windows = Windows(stream, length=length, stride=stride, batch_size=batch, seed=7, shuffle=shuffle)
        for epoch in (0, 1):
            made = list(windows.batches(epoch))
            assert len(made) == windows.steps(epoch) and all(1 <= len(one.ids) <= batch for one in made)
            predicted = []
            for one in made:
                shown = one.targets != IGNORED
                assert torch.equal(one.targets[shown], one.ids[shown] + 1)  # ids count up: what stands behind
                assert torch.equal(
                    one.ids[shown] - one.positions[shown], one.ids[:, :1].expand_as(one.ids)[shown]
                )
                predicted += one.targets[shown].tolist()
                assert one.tokens == sum(one.lengths)
            if not shuffle:
                assert predicted == list(range(1, size)) == windows.predicted().tolist(), (
                    "each once, in order"
                )
            else:
                first = min(predicted)
                assert set(predicted) == set(range(first, size)) and first <= max(stride, 1)
            start = data.draw(st.integers(0, len(made)))
            again = Windows(stream, length=length, stride=stride, batch_size=batch, seed=7, shuffle=shuffle)
            rest = list(again.batches(epoch, start))
            assert all(torch.equal(a.ids, b.ids) for a, b in zip(rest, made[start:], strict=True))


def test_epochs_are_shuffled_and_begin_elsewhere() -> None:
    windows = Windows(of(range(2000)), length=20, batch_size=1, seed=1)
    orders = [[int(one.ids[0, 0]) for one in windows.batches(epoch)] for epoch in range(4)]
    assert len({order[0] % 20 for order in orders}) > 1 and all(order != sorted(order) for order in orders)
    other = Windows(of(range(2000)), length=20, batch_size=1, seed=2)
    assert [int(one.ids[0, 0]) for one in other.batches(0)] != orders[0]
    assert other.fingerprint() != windows.fingerprint()
    for wrong in (0, 21):
        with pytest.raises(DataError, match="stride"):
            Windows(of(range(99)), length=20, batch_size=1, stride=wrong or -1)


# ----------------------------------------------------------------------------------------------------
# shards


def corpus(folder: Path, count: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    from pyarrow import Table, parquet

    rows = [f"{line} Number {i}." for i, line in enumerate(LINES[:count])]
    third = count // 3
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows[:third])
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    parquet.write_table(Table.from_pydict({"text": rows[third : 2 * third]}), folder / "b.parquet")
    (folder / "c.txt").write_text("\n".join(rows[2 * third :]) + "\n\n")
    return folder


def read(path: Path, home: Path) -> list[list[str]]:
    """The texts of both sides, as the shards hold them."""
    tokenizer = Tokenizer.from_file(shelf.find("mine", home))
    return [
        []
        if one is None
        else tokenizer.decode(one.read(0, len(one)).tolist(), special=True).split("<|endoftext|>")[:-1]
        for one in open_streams(path)
    ]


@pytest.mark.parametrize("many", [20, 10_000_000])
def test_every_text_of_every_form_stands_on_one_side_only(home: Path, tmp_path: Path, many: int) -> None:
    folder = corpus(tmp_path / "corpus")
    (folder / "d.txt").write_text("\n".join(LINES[:5]) + "\n" + f"{LINES[0]} Number 0.\n")  # once more
    knobs = CorpusConfig(dataset=(str(folder),), separate="line", val_size=0.2, shard_tokens=many)
    train, held = read(build(knobs, shelf.find("mine", home), tmp_path / str(many)), home)
    everything = [text for file in reading.files([folder]) for text in
                  reading.texts(file, column="text", separate="line", problems=reading.Problems())]  # fmt: skip
    assert sorted(train + held) == sorted(everything) and len(everything) == 66
    assert not set(train) & set(held), "equal texts stand on one side"
    assert 4 < len(held) < 25
    assert train == [text for text in everything if text not in set(held)], "in order"


def test_what_validates_is_written_down_in_shards_too(home: Path, tmp_path: Path) -> None:
    """Where most of a corpus validates, ids must not gather in memory until the other side is full."""
    folder = corpus(tmp_path / "corpus")
    knobs = CorpusConfig(dataset=(str(folder),), separate="line", val_size=0.9, shard_tokens=100)
    made = build(knobs, shelf.find("mine", home), tmp_path)
    held = json.loads((made / "manifest.json").read_text())["validation"]["shards"]
    assert len(held) > 5 and max(shard["tokens"] for shard in held) < 200


def test_the_end_of_few_long_texts_validates(home: Path, tmp_path: Path) -> None:
    text = "\n".join(LINES)
    file = tmp_path / "book.txt"
    file.write_text(text)
    train, held = read(build(CorpusConfig(dataset=(str(file),)), shelf.find("mine", home), tmp_path), home)
    cut = int(len(text) * 0.9)  # nanoGPT's split
    assert (train, held) == ([text[:cut]], [text[cut:]])


def test_a_build_that_was_killed_goes_on_and_ends_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(tmp_path / "corpus")
    (folder / "a2.jsonl").write_text('{"text": "one more line"}\nno json\n{"no": "text"}\n')
    knobs = CorpusConfig(dataset=(str(folder),), separate="line", val_size=0.2, shard_tokens=100)
    straight = build(knobs, shelf.find("mine", home), tmp_path / "straight")
    files = {file.name: file.read_bytes() for file in straight.iterdir()}
    assert len(files) > 6
    real, left = shards.write_file, [0]

    def dies(file: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(file, data)

    monkeypatch.setattr(shards, "write_file", dies)
    said: list[str] = []
    for _ in range(99):
        left[0] = 4  # a flush writes three files
        try:
            found = build(knobs, shelf.find("mine", home), tmp_path / "killed", said.append)
            break
        except KeyboardInterrupt:
            pass
    assert {file.name: file.read_bytes() for file in found.iterdir()} == files
    assert len(said) > 3 and "going on" in said[-1]
    manifest = json.loads(files["manifest.json"])
    assert manifest["left_out"]["count"] == 2
    assert build(knobs, shelf.find("mine", home), tmp_path / "killed") == found, "there already"


def test_damage_is_found_before_training(home: Path, tmp_path: Path) -> None:
    folder = build(CorpusConfig(dataset=(str(corpus(tmp_path / "c")),)), shelf.find("mine", home), tmp_path)
    (shard,) = folder.glob("train-*.bin")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00000.bin is damaged.*remove"):
        open_streams(folder)
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        open_streams(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="manifest"):
        open_streams(folder)


@given(
    words=st.lists(
        st.sampled_from(["king", "a_b", "\n", " \n", "x\n", "1\n", "不\n", " ", ".\n", "é"]), max_size=60
    )
)
@settings(max_examples=60, deadline=None)
def test_a_long_text_encoded_in_pieces_has_the_ids_of_the_whole(home: Path, words: list[str]) -> None:
    tokenizer, text = Tokenizer.from_file(shelf.find("mine", home)), "".join(words)
    with pytest.MonkeyPatch().context() as changed:
        changed.setattr(shards, "PIECE", 10)
        cut = list(pieces(text))
    assert "".join(cut) == text
    assert [i for piece in cut for i in tokenizer.encode(piece)] == tokenizer.encode(text)


# ----------------------------------------------------------------------------------------------------
# the command

SMALL = ("--n_layers", "2", "--n_heads", "2", "--d_model", "32", "--context_length", "16",
         "--per_device_train_batch_size", "4", "--learning_rate", "0.01", "--compute_type", "fp32")  # fmt: skip


def pretrained(home: Path, name: str, *more: object) -> int:
    words = [
        "pretrain",
        "--tokenizer",
        "mine",
        "--preset",
        "nano-gpt2",
        "--name",
        name,
        *SMALL,
        *map(str, more),
    ]
    return main([*words, "--home", str(home)])


def weights(home: Path, name: str) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(home / "models" / name).weights)


def test_a_text_becomes_a_model_that_generates(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(LINES))
    assert pretrained(home, "small", "--dataset", text, "--max_steps", 40, "--eval_steps", 20) == 0
    events = [
        json.loads(line) for line in (home / "runs" / "small" / "metrics.jsonl").read_text().splitlines()
    ]
    judged = [event for event in events if "eval_loss" in event]
    assert judged[-1]["eval_loss"] < judged[0]["eval_loss"] < math.log(300)
    assert (home / "runs" / "small" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "perplexity" in capsys.readouterr().err

    # Perplexity and bits per byte by their definitions, window by window, from the weights that were kept.
    loaded = checkpoint.load(home / "models" / "small")
    model = GPT(loaded.config)
    model.load_state_dict(dict(loaded.weights))
    held = LINES and "\n".join(LINES)[int(len("\n".join(LINES)) * 0.9) :]
    tokenizer = Tokenizer.from_file(loaded.tokenizer_file)
    ids = [*tokenizer.encode(held), tokenizer.special["<|endoftext|>"]]
    nats = 0.0
    with torch.no_grad():
        for at in range(0, len(ids) - 1, 16):
            row = ids[at : at + 17]
            logs = model.logits(model(torch.tensor([row[:-1]])))[0].log_softmax(-1)
            nats -= sum(float(logs[i, token]) for i, token in enumerate(row[1:]))
    best = min(judged, key=lambda event: event["eval_loss"])
    assert best["perplexity"] == pytest.approx(math.exp(nats / (len(ids) - 1)), rel=1e-4)
    size = len(held.encode()) - len(tokenizer.token_bytes(ids[0]))
    assert best["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)

    engine = Engine.load(home / "models" / "small", kernel="float32")
    assert engine.config.context_length == 16 and engine.config.vocab_size == 300
    assert main(["generate", "small", "The old king", "--raw", "--max-tokens", "8", "--home", str(home)]) in (
        0,
        2,
    )


def test_a_run_resumes_bit_for_bit_and_refuses_other_texts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(LINES))
    knobs = ("--dataset", text, "--max_steps", 9, "--dropout", 0.2, "--stride", 8, "--save_steps", 3, "--optim", "rmsprop",
             "--lr_scheduler_type", "warmup_stable_decay", "--max_z_loss", 2e-4, "--val_size", 0)  # fmt: skip
    assert pretrained(home, "straight", *knobs) == 0
    real = task.fit
    counted = [0]

    def stopping(*args: object, **named: object) -> object:
        counted[0] = 0

        def stop() -> bool:
            counted[0] += 1
            return counted[0] > 4

        return real(*args, **(named | {"stop": stop}))  # type: ignore[arg-type]

    monkeypatch.setattr(task, "fit", stopping)
    assert pretrained(home, "resumed", *knobs) == 130
    text.write_text("\n".join(LINES[1:]))
    assert main(["pretrain", "--resume", "resumed", "--home", str(home)]) == 1
    assert "another data" in capsys.readouterr().err
    text.write_text("\n".join(LINES))
    assert main(["sft", "--resume", "resumed", "--home", str(home)]) == 1
    assert "is a run of pretrain" in capsys.readouterr().err
    monkeypatch.setattr(task, "fit", real)
    assert main(["pretrain", "--resume", "resumed", "--home", str(home)]) == 0
    straight, resumed = weights(home, "straight"), weights(home, "resumed")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())

    # Trained on from what is installed: its first loss is where the other ended, not that of fresh weights.
    assert main(["pretrain", "--model", "straight", "--name", "on", "--dataset", str(text), "--max_steps", "1",
                 "--val_size", "0", "--compute_type", "fp32", "--home", str(home)]) == 0  # fmt: skip
    loss = json.loads((home / "runs" / "on" / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert loss < 4.5 < math.log(300)


def test_what_cannot_be_is_said_before_a_run_exists(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, empty, binary = (tmp_path / name for name in ("a.txt", "empty.txt", "b.txt"))
    text.write_text("\n".join(LINES))
    empty.write_text("\n \n")
    binary.write_bytes(b"\0\1\2")
    shelf.save(train_tokenizer(LINES, "word"), "words", home, {})
    for wanted, words in {
        "--tokenizer is needed": ["--tokenizer", "", "--dataset", str(text)],
        "only byte-level BPE": ["--tokenizer", "words", "--dataset", str(text)],
        "no tokenizer 'nowhere'": ["--tokenizer", "nowhere", "--dataset", str(text)],
        "--dataset is needed": ["--tokenizer", "mine"],
        "no preset 'huge'": ["--tokenizer", "mine", "--dataset", str(text), "--preset", "huge"],
        "val_size must be": ["--tokenizer", "mine", "--dataset", str(text), "--val_size", "1.5"],
        "keeps its shape": ["--model", "small", "--dataset", str(text), "--n_layers", "3"],
        "for adapters": ["--tokenizer", "mine", "--dataset", str(text), "--loraplus_lr_ratio", "4"],
        "at most 1 together": ["--tokenizer", "mine", "--dataset", str(text), "--decay_ratio", "0.99"],
    }.items():
        assert main(["pretrain", *words, "--name", "refused", "--home", str(home)]) == 1
        assert wanted in capsys.readouterr().err
        assert not (home / "runs" / "refused").exists()
    for wanted, file in {"no text is left to train on": empty, "is binary": binary}.items():
        assert pretrained(home, "refused", "--dataset", file) == 1
        assert wanted in capsys.readouterr().err


def test_half_a_character_costs_its_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "whole"}\n{"text": "half \\ud800"}\n{"text": "again"}\n', encoding="utf-8")
    problems = reading.Problems()
    found = [*reading.texts(file, column="text", separate="line", problems=problems)]
    assert found == ["whole", "again"]
    assert problems.count == 1 and "half a character" in problems.lines[0]
