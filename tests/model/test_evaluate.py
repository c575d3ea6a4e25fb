"""Evaluation: surprise equals transformers', exact matches, and a judge that is a stand-in for a model in Ollama."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from model.__main__ import main
from model.data.sets import DataConfig
from model.engine import Engine
from model.errors import DataError, ModelError, OllamaError
from model.evaluate.instructions import Instruction, exact, held_out
from model.evaluate.judge import compare, mark
from model.evaluate.perplexity import surprise
from model.formats import hf
from model.lines import Lines
from tests.model.preferring import chat_home
from tests.service.ollama_stand_in import OllamaStandIn, standing_in

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "The capital of France is Paris. 法国的首都是巴黎。 def add(a, b): return a + b\n" * 4


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaStandIn]:
    with standing_in() as stand_in:
        monkeypatch.setenv("OLLAMA_HOST", stand_in.address)
        yield stand_in


@pytest.mark.parametrize(("window", "stride"), [(128, 64), (32, 31), (40, 1), (128, 127)])
def test_each_token_is_scored_once_and_as_transformers_does(tmp_path: Path, window: int, stride: int) -> None:
    base = chat_home(tmp_path)
    engine = Engine.from_checkpoint(base, kernel="float32")
    text = TEXT if stride > 1 else TEXT[:80]
    found = surprise(engine, text, window=window, stride=stride)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hf.write(base, tmp_path / "hf", dtype="fp32"))
    ids = torch.tensor([engine.tokenizer.encode(text)])
    nats, scored, done = 0.0, 0, 1
    for begin in range(0, ids.shape[1], stride):  # the loop of transformers' guide to perplexity
        end = min(begin + window, ids.shape[1])
        if end <= done:
            break
        with torch.no_grad():
            logs = theirs(ids[:, begin:end]).logits[0, :-1].log_softmax(-1)
        each = logs.gather(1, ids[0, begin + 1 : end, None])[:, 0]
        new = each[done - begin - 1 :]
        nats, scored, done = nats - float(new.sum()), scored + len(new), end
    assert found.tokens == scored == ids.shape[1] - 1
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats / scored), rel=1e-5)
    first = engine.tokenizer.token_bytes(int(ids[0, 0]))
    assert found.bytes == len(text.encode()) - len(first)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / found.bytes, rel=1e-5)


def test_perplexity_from_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat_home(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    given = ["evaluate", "perplexity", "tiny", "--home", str(tmp_path)]
    assert main([*given, str(tmp_path / "a.txt"), "--json", "--max_tokens", "50"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tokens"] == 49 and said["window"] == 128 and said["stride"] == 64
    (tmp_path / "marked.txt").write_text(TEXT, encoding="utf-8-sig")
    assert main([*given, str(tmp_path / "marked.txt"), "--json", "--max_tokens", "50"]) == 0
    assert json.loads(capsys.readouterr().out) == said, "a byte order mark is no part of the text"
    for wrong in (["--max_tokens", "-3"], ["--max_tokens", "0"]):
        with pytest.raises(SystemExit):
            main([*given, str(tmp_path / "a.txt"), *wrong])
        assert "must be at least 1" in capsys.readouterr().err
    asked = ["evaluate", "exact", "tiny", "--home", str(tmp_path), "--dataset", "x", "--limit", "-1"]
    with pytest.raises(SystemExit):
        main(asked)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    for more, what in (
        ([str(tmp_path / "none.txt")], "cannot be read"),
        ([str(tmp_path / "latin.txt")], "is not UTF-8"),
        ([str(tmp_path / "a.txt"), "--window", "129"], "window must be between"),
        ([str(tmp_path / "a.txt"), "--stride", "128"], "stride must be between"),
        ([str(tmp_path / "a.txt"), "--window", "0"], "window must be between"),
        ([str(tmp_path / "a.txt"), "--stride", "0"], "stride must be between"),
        ([str(tmp_path / "a.txt"), "--max_tokens", "1"], "less than two tokens"),
    ):
        assert main([*given, *more]) == 1
        assert what in capsys.readouterr().err


def test_exact_matches() -> None:
    told = [
        Instruction(({"role": "user", "content": "q"},), text) for text in ("Paris.", "巴黎。", "42", "a b")
    ]
    assert exact(["paris", " 巴黎 ", "43", "ａ  B."], told) == [True, True, False, True]


def test_what_is_held_out_is_what_sft_validates_on(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "output": f"a{i}"} for i in range(20)]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    data = DataConfig(dataset=(str(tmp_path / "set.json"),), val_size=5)
    found, _ = held_out(data)
    from model.data.sets import gather
    from model.data.split import split

    _, held = split(gather(data.dataset, data, []), 5)
    assert [i.reference for i in found] == [e.conversations[0][-1]["content"] for e in held] and len(
        found
    ) == 5
    assert len(held_out(data, 3)[0]) == 3


@pytest.mark.parametrize(
    ("said", "score"),
    [('{"score": 85}', 85), ('{"score": 0}', 0), ('{"score": 101}', None), ('{"score": -1}', None),
     ('{"score": "85"}', None), ('{"score": true}', None), ("85", None), ("[85]", None), ("I would say 85", None), ("", None)],
)  # fmt: skip
def test_a_mark_is_a_whole_number_in_json(said: str, score: int | None) -> None:
    assert mark(said) == score


def test_the_judge_marks_before_and_after(
    tmp_path: Path, judge: OllamaStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    base = chat_home(tmp_path)
    del base
    rows = [{"instruction": f"Say {i}", "output": str(i)} for i in range(12)]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    sft = ["sft", "--home", str(tmp_path), "--model", "tiny", "--dataset", str(tmp_path / "set.json")]
    assert main([*sft, "--name", "after", "--max_steps", "2", "--learning_rate", "0.05"]) == 0

    def lines() -> Iterator[bytes]:
        asked = judge.asked[-1]
        assert (
            asked["format"]["properties"]["score"]["maximum"] == 100 and asked["options"]["temperature"] == 0
        )
        told = asked["messages"][-1]["content"]
        number, reply = int(told.split("user: Say ")[1].split()[0]), told.split("Reply to mark:\n")[1]
        judge.words = (
            ["no idea"] if number == 3 else [json.dumps({"score": 3 * number + number * len(reply) % 30})]
        )
        return OllamaStandIn.lines(judge)

    judge.lines = lines  # type: ignore[method-assign]
    capsys.readouterr()
    given = ["evaluate", "judge", "--home", str(tmp_path), "--before", "tiny", "--after", "tiny+after"]
    given += [
        "--judge",
        "ollama/tiny:1b",
        "--dataset",
        str(tmp_path / "set.json"),
        "--max_tokens",
        "4",
        "--json",
    ]
    assert main(given) == 0
    said = json.loads(capsys.readouterr().out)
    marks: dict[str, list[int]] = {}  # of each instruction, before and, where the reply is another, after
    for record in Lines(tmp_path / "evaluations" / "judge-tiny-1b.jsonl").records.values():
        marks.setdefault(record["asked"], []).append(mark(record["said"]))
    pairs = [(found[0], found[-1]) for asked, found in marks.items() if asked != "Say 3"]
    assert said["malformed"] == 2 and said["pairs"] == len(pairs) == 11 and said["instructions"] == 12
    assert (said["before"], said["after"]) == tuple(
        pytest.approx(np.mean(side)) for side in zip(*pairs, strict=True)
    )
    assert said["gain"] == pytest.approx(said["after"] - said["before"]) and said["before"] != said["after"]
    assert said["gain_low"] <= said["gain"] <= said["gain_high"]
    asked = len(judge.asked)
    assert 12 < asked <= 24
    assert main(given[:-1]) == 0  # marks were kept: nobody is asked again
    assert len(judge.asked) == asked and "fewer than 100 instructions" in capsys.readouterr().out
    assert main([*given, "--judge", "tiny"]) == 1 and "should be ollama/NAME" in capsys.readouterr().err
    assert main([*given, "--judge", "ollama/missing"]) == 1
    assert "refused missing: model 'missing' not found" in capsys.readouterr().err


def test_the_interval_is_that_of_pairs() -> None:
    rng = np.random.default_rng(1)
    before = rng.integers(0, 60, 150).tolist()
    found = compare(before, [b + int(g) for b, g in zip(before, rng.integers(0, 21, 150), strict=True)])
    assert found.pairs == 150 and found.gain == pytest.approx(10, abs=1.5)
    half = 1.96 * np.std([*range(21)]) / math.sqrt(150)
    assert found.gain_high - found.gain_low == pytest.approx(2 * half, rel=0.15)
    assert compare([1, None, 3], [2, 5, None]).pairs == 1
    with pytest.raises(OllamaError, match="use a larger judge"):
        compare([None, 1], [2, None])


def test_a_file_of_lines_survives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    Lines(file).add({"key": "a", "said": "né\u2028"})
    with file.open("ab") as opened:
        opened.write(b'{"key": "b", "sa')
    lines = Lines(file)
    assert list(lines.records) == ["a"]
    lines.add({"key": "c"})
    assert [json.loads(line)["key"] for line in file.read_bytes().split(b"\n")[:-1]] == ["a", "c"]
    (tmp_path / "other.txt").write_text("plain\n")
    with pytest.raises(DataError, match="no record of an earlier run"):
        Lines(tmp_path / "other.txt")


@pytest.mark.weights
def test_smollm2_is_as_surprised_as_under_transformers(tmp_path: Path, weights_of) -> None:
    """On a few hundred tokens of wikitext-2, by the kernels that the probe chooses."""
    data = Path(os.environ.get("LOREBASE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    file = data / "pretrain" / "wikitext2_valid.txt.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; set LOREBASE_DATA")
    import gzip

    from model import checkpoint

    text = gzip.decompress(file.read_bytes()).decode()[:1500]
    base = checkpoint.load(weights_of("smollm2-135m-instruct"))
    engine = Engine.from_checkpoint(base)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hf.write(base, tmp_path / "hf", dtype="fp32"))
    ids = torch.tensor([engine.tokenizer.encode(text)])
    with torch.no_grad():
        expected = float(theirs(ids, labels=ids).loss)
    found = surprise(engine, text, window=2048, stride=1024)
    assert found.nats / found.tokens == pytest.approx(expected, abs=0.02)
    with pytest.raises(ModelError, match="window must be"):
        surprise(engine, text, window=1 << 20, stride=1)


@pytest.mark.parametrize("theirs", ['[{"key": "a"}]', "a note", '{"other": 1}'])
def test_a_file_that_is_no_earlier_runs_is_left_as_it_is(tmp_path: Path, theirs: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(theirs, encoding="utf-8")  # without a newline at its end, as json.dumps writes it
    with pytest.raises(DataError, match="no file of an earlier run"):
        Lines(file)
    assert file.read_text(encoding="utf-8") == theirs
    file.write_text('{"key": "a", "reply": 1}\n{"key": "b", "re', encoding="utf-8")
    assert [*Lines(file).records] == ["a"], "the torn end of our own is cut"
