"""The span reader's network, pieces, data and folder, against transformers, brute force and their own laws."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.config import TrainConfig
from model.errors import Cancelled, CheckpointError, DataError, UnsupportedModel
from model.folder import replaced
from model.spans import folder as spans_folder
from model.spans.data import STATES, Pair, SpanBatches, SpanSet, Text, write
from model.spans.encoder import Encoder, read_encoder
from model.spans.network import NEVER, Side, SpanNet, join, span_loss
from model.spans.pieces import Pieced
from model.spans.reader import LONGEST, SpanReader, _reading
from model.train.loop import fit
from model.train.state import Store
from tests.model import spanning

pytestmark = pytest.mark.usefixtures("one_thread")

LOWER = 2
PASSAGES = ["上海塔在上海. 塔高 12 米", "the tower 的 北京", "ab c", "北京 在哪里? é 🗼 12,5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spanning.encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return read_encoder(folder)


@pytest.fixture
def net(encoder: Encoder) -> SpanNet:
    return SpanNet.fresh(encoder, spanning.LAYERS - LOWER, seed=1).eval()


@pytest.fixture
def reader(encoder: Encoder, net: SpanNet) -> SpanReader:
    pieced = Pieced(encoder.tokenizer_file, encoder.config.n_positions)
    return SpanReader("tiny", encoder.lower(LOWER, torch.float32), net, pieced)


def test_states_and_logits_are_those_of_transformers(encoder: Encoder, net: SpanNet) -> None:
    from transformers import BertModel

    oracle = BertModel.from_pretrained(encoder.folder).eval()
    lower = encoder.lower(LOWER, torch.float32)
    question, passage = [0, 7, 31, 2], [0, 7, 30, 31, 12, 2]
    with torch.no_grad():
        apart = [
            oracle(torch.tensor([ids]), output_hidden_states=True).hidden_states[LOWER][0]
            for ids in (question, passage)
        ]
        for ours, theirs in zip(lower([question, passage]), apart, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        marks = [0] * len(question) + [1, 1, 1, 2, 1, 1]  # 31 is in the question, too, and its own word
        cosine = torch.nn.functional.cosine_similarity(apart[1][2:5, None], apart[0][None, 1:3], dim=2).amax(
            1
        )
        near = torch.zeros(len(marks), 1)
        near[-4:-1, 0] = (cosine - cosine.mean()) / cosine.std()
        x = (torch.cat(apart) + net.segments.weight[marks] + near @ net.near.weight.T)[None]
        for layer in oracle.encoder.layer[LOWER:]:
            found = layer(x)
            x = found[0] if isinstance(found, tuple) else found
        may = [False, False, True, True, True, False]
        asked = Side(question, [False, True, True, False], apart[0])
        starts, ends = net(join([asked], [Side(passage, may, apart[1])]))
        wanted = net.edges(x[0])
    allowed = torch.tensor([False] * len(question) + may)
    for i, logits in enumerate((starts[0], ends[0])):
        torch.testing.assert_close(logits[allowed], wanted[allowed, i], rtol=1e-4, atol=1e-4)
        assert (logits[1:][~allowed[1:]] == NEVER).all()
        torch.testing.assert_close(logits[:1], net.null(x[0, 0]), rtol=1e-4, atol=1e-4)


def test_together_with_others_is_as_alone(encoder: Encoder, net: SpanNet, reader: SpanReader) -> None:
    passages = [(text, heading) for text in PASSAGES for heading in ("", "上海")]
    together = reader.read("塔高?", passages)
    again = reader.read("塔高?", passages)  # from kept states
    for passage, one, other in zip(passages, together, again, strict=True):
        alone = reader.read("塔高?", [passage])[0]
        for found in (one, other):
            assert [(s.start, s.end) for s in found.spans] == [(s.start, s.end) for s in alone.spans]
            assert found.not_here == pytest.approx(alone.not_here, abs=1e-5)
            np.testing.assert_allclose(found.begins, alone.begins, atol=1e-5)
    fresh = SpanReader("tiny", reader._lower, net, reader._pieced, kept_bytes=0)
    assert fresh.read("塔高?", passages)[3].not_here == pytest.approx(together[3].not_here, abs=1e-5)
    assert not fresh._kept and fresh._held_bytes == 0


@settings(max_examples=150, deadline=None)
@given(
    st.text(
        st.sampled_from(
            [*"abcdetower0123.,:?北京上海塔高é🗼", " ", "\n", "①", "ﬁ", "\u0301", "\u3000", "𠀀", "龘"]
        ),
        max_size=200,
    )
)
@example("  北京  ①ﬁ e\u0301\n\n")
@example("\u0301\n龘")
@example("")
def test_places_are_slices_of_the_text(text: str) -> None:
    made = spanning.tokenizer()
    pieced = Pieced(
        lambda texts: [(e.ids, e.offsets) for e in made.encode_batch(texts, add_special_tokens=False)], 40
    )
    windows = pieced.passage(text, "heading")
    covered = set()
    for window in windows:
        assert len(window) <= 40 and len(window.ids) == len(window.places)
        for place in window.places:
            if place is not None:
                start, end = place
                assert 0 <= start < end <= len(text)
                assert text[start:end] == text[start:end].strip() != ""
                covered |= set(range(start, end))
    words = {i for i, c in enumerate(text) if not c.isspace()}
    # NFKC joins a letter and the mark on it; the piece's place is the letter's. A mark on nothing is joined
    # with the space behind it, and stands in one piece with the word after that.
    lost = {i for i, c in enumerate(text) if c.isspace() and i and unicodedata.combining(text[i - 1])}
    assert {i for i in words if not unicodedata.combining(text[i])} <= covered <= words | lost


def test_long_passages_are_read_in_windows(reader: SpanReader) -> None:
    text = "上海塔 " * 60
    found = reader.read("塔高?", [(text, "")])[0]
    assert found.spans and all(0 <= s.start < s.end <= len(text) for s in found.spans)
    assert found.not_here == min(
        w.not_here for w in (reader.read("塔高?", [(text, "")], best=n)[0] for n in (1, 2, 3))
    )
    empty = reader.read("塔高?", [("  \n ", "")])[0]
    assert empty.spans == () and empty.not_here == 1.0
    with pytest.raises(Cancelled):
        reader.read("塔高?", [(text, "")], cancelled=lambda: True)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 9).flatmap(
        lambda n: st.lists(st.floats(-5, 5, width=32), min_size=2 * n + 2, max_size=2 * n + 2)
    )
)
def test_the_best_span_is_brute_forces(values: list[float]) -> None:
    n = len(values) // 2 - 1
    text = "x" * n
    pieces = Pieced(
        lambda texts: [([5] * len(t), [(i, i + 1) for i in range(len(t))]) for t in texts], 99
    ).passage(text)[0]
    starts, ends = np.array(values[: n + 1], np.float32), np.array(values[n + 1 :], np.float32)
    lead = len(pieces) - n - 1  # special pieces and the prefix in front
    padded = [
        np.concatenate((x[:1], np.full(lead, NEVER), x[1:], [NEVER])).astype(np.float32)
        for x in (starts, ends)
    ]
    found = _reading(pieces, *padded, best=2)
    pairs = [(i, j) for i in range(n) for j in range(i, min(n, i + LONGEST))]
    scores = {
        (i, j): float(starts[i + 1]) + float(ends[j + 1]) - float(starts[0]) - float(ends[0])
        for i, j in pairs
    }
    if not pairs:
        assert found.spans == () and found.not_here == 1.0
        return
    assert found.spans[0].score == pytest.approx(max(scores.values()), abs=1e-4)
    told = np.logaddexp.reduce(list(scores.values()))
    assert found.not_here == pytest.approx(1 / (1 + np.exp(told)), abs=1e-5)
    assert found.mass(0, n) == pytest.approx(
        1 - np.exp(starts[0]) / np.exp(starts.astype(float)).sum(), abs=1e-5
    )
    if len(found.spans) == 2:
        one, two = found.spans
        assert one.end <= two.start or two.end <= one.start


@settings(deadline=None)
@example(([0.0] * 14, [2, 5]))
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(-5, 5, width=32), min_size=2 * n + 2, max_size=2 * n + 2),
            st.lists(st.integers(0, n), max_size=6, unique=True).map(sorted),
        )
    )
)
def test_spans_held_to_stretches_are_brute_forces(given_: tuple[list[float], list[int]]) -> None:
    values, cuts = given_
    n = len(values) // 2 - 1
    within = list(zip(cuts[::2], cuts[1::2], strict=False))  # the rest is within none
    pieces = Pieced(
        lambda texts: [([5] * len(t), [(i, i + 1) for i in range(len(t))]) for t in texts], 99
    ).passage("x" * n)[0]
    starts, ends = np.array(values[: n + 1], np.float32), np.array(values[n + 1 :], np.float32)
    lead = len(pieces) - n - 1
    padded = [
        np.concatenate((x[:1], np.full(lead, NEVER), x[1:], [NEVER])).astype(np.float32)
        for x in (starts, ends)
    ]
    found = _reading(pieces, *padded, best=9, within=within)
    best = {
        (a, b): max(
            float(starts[i + 1] - starts[0]) + float(ends[j + 1] - ends[0])
            for i in range(a, b)
            for j in range(i, b)
        )
        for a, b in within
    }
    assert [s.score for s in found.spans] == pytest.approx(sorted(best.values(), reverse=True), abs=1e-4)
    stretches = [next((a, b) for a, b in within if a <= s.start and s.end <= b) for s in found.spans]
    assert sorted(stretches) == within
    assert found.not_here == 1.0 if not within else found.not_here < 1.0


def small_set(folder: Path, encoder: Encoder, pairs: int = 24) -> SpanSet:
    """Where is 塔 in a row of letters? Every fourth passage lacks it."""
    pieced = Pieced(encoder.tokenizer_file, encoder.config.n_positions)
    texts, made = [], []
    for i in range(pairs):
        question = pieced.question("塔在哪里?")
        passage = pieced.passage(
            "".join("塔" if j == 2 + i % 7 and i % 4 else "abcde"[(i * j) % 5] for j in range(11))
        )[0]
        texts += [Text(question.ids, question.own), Text(passage.ids, passage.own)]
        at = [j for j, place in enumerate(passage.places) if place == (2 + i % 7, 3 + i % 7)]
        made.append(Pair(2 * i, 2 * i + 1, (at[0], at[0]) if i % 4 else None, i % 6 == 5))
    write(folder, texts, made, encoder.config.width)
    return SpanSet(folder, encoder.config.width)


def test_states_go_on_where_they_were_interrupted(tmp_path: Path, encoder: Encoder) -> None:
    lower = encoder.lower(LOWER, torch.float32)
    spans = small_set(tmp_path / "a", encoder)
    with pytest.raises(DataError):
        spans.states(0)
    spans.compute(lower)
    whole = (tmp_path / "a" / STATES).read_bytes()
    again = small_set(tmp_path / "a", encoder)  # the same texts: nothing is lost
    (tmp_path / "a" / STATES).write_bytes(whole[: len(whole) // 3 + 7])
    again.compute(lower)
    assert (tmp_path / "a" / STATES).read_bytes() == whole
    fewer = small_set(tmp_path / "a", encoder, 10)  # states of the texts that still come first are kept
    assert (tmp_path / "a" / STATES).read_bytes() == whole[
        : 2 * spanning.WIDTH * sum(len(t.ids) for t in fewer.texts)
    ]
    states = spans.texts[3].ids
    torch.testing.assert_close(fewer.states(3).float(), lower([states])[0], rtol=0.02, atol=0.02)


def test_batches_are_every_pair_once_and_resume(tmp_path: Path, encoder: Encoder) -> None:
    spans = small_set(tmp_path, encoder)
    spans.compute(encoder.lower(LOWER, torch.float32))
    batches = SpanBatches(spans, spans.pairs, 5, seed=3)
    epoch = list(batches.batches(0))
    assert len(epoch) == batches.steps(0) == 5
    assert sum(len(batch.lengths) for batch in epoch) == len(spans.pairs)
    assert sorted(i for some in batches._order(0) for i in some) == list(range(len(spans.pairs)))
    assert batches._order(0) != batches._order(1)
    rest = list(SpanBatches(spans, spans.pairs, 5, seed=3).batches(0, 3))
    for one, other in zip(epoch[3:], rest, strict=True):
        assert torch.equal(one.states, other.states) and torch.equal(one.targets, other.targets)


def test_it_learns_and_a_resumed_run_is_the_straight_one(tmp_path: Path, encoder: Encoder) -> None:
    spans = small_set(tmp_path / "set", encoder, 48)
    spans.compute(encoder.lower(LOWER, torch.float32))
    learned = SpanBatches(spans, [p for p in spans.pairs if not p.held], 8, seed=0)
    config = TrainConfig(learning_rate=5e-3, num_train_epochs=12, save_steps=7, compute_type="fp32")

    def trained(name: str, stop_after: int | None) -> tuple[SpanNet, list[float]]:
        losses: list[float] = []
        net = SpanNet.fresh(encoder, 1, seed=0)
        store = Store(tmp_path / name, lambda target, parameters: None)
        fit(
            net, span_loss, learned, config, store=store,
            report=lambda event: losses.append(event["loss"]),
            stop=lambda: stop_after is not None and len(losses) >= stop_after,
        )  # fmt: skip
        return net, losses

    straight, losses = trained("straight", None)
    assert losses[-1] < 0.2 < 1.5 < losses[0]
    trained("resumed", 11)
    resumed, rest = trained("resumed", None)
    assert rest == losses[-len(rest) :] and len(rest) == len(losses) - 11
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    starts, ends = straight.eval()(batch := spans.batch([p for p in spans.pairs if not p.held]))
    assert batch.targets is not None
    for logits, wanted in zip((starts, ends), batch.targets.unbind(1), strict=True):
        assert torch.equal(logits.argmax(1), wanted)


@pytest.fixture
def shipped(tmp_path: Path, encoder: Encoder, net: SpanNet) -> Iterator[Path]:
    with replaced(tmp_path / "tiny", {"kind": "span reader"}) as new:
        spans_folder.write(new, net, encoder, "tiny-encoder")
    yield tmp_path / "tiny"


def test_a_folder_reads_as_what_was_written(shipped: Path, folder: Path, reader: SpanReader) -> None:
    assert spans_folder.encoder_name(shipped) == "tiny-encoder"
    loaded = spans_folder.load(folder, shipped, dtype=torch.float32)
    before, after = (r.read("塔高?", [(p, "") for p in PASSAGES]) for r in (reader, loaded))
    for one, other in zip(before, after, strict=True):
        assert one.not_here == pytest.approx(other.not_here, abs=0.02)  # 8 bits
    state = {"a": torch.randn(7, 5), "b": torch.randn(7)}
    back = spans_folder.unpacked(spans_folder.packed(state))
    assert torch.equal(back["b"], state["b"])
    assert ((back["a"] - state["a"]).abs() <= state["a"].abs().amax(1, keepdim=True) / 254 + 1e-6).all()


def test_another_encoder_or_a_damaged_folder_is_refused(shipped: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not the tiny-encoder"):
        spans_folder.load(spanning.encoder(tmp_path / "other", seed=5), shipped)
    data = bytearray((shipped / spans_folder.WEIGHTS_FILE).read_bytes())
    data[-3] ^= 1
    (shipped / spans_folder.WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        spans_folder.load(folder, shipped)
    (shipped / spans_folder.CONFIG_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="no span reader"):
        spans_folder.load(folder, shipped)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "roberta"}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="roberta"):
        read_encoder(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        read_encoder(tmp_path / "other")


def test_a_set_that_is_damaged_says_so(tmp_path: Path, encoder: Encoder) -> None:
    small_set(tmp_path, encoder)
    (tmp_path / "pairs.jsonl").write_text("[1, 2]\n")
    with pytest.raises(DataError, match="build it again"):
        SpanSet(tmp_path, 32)


def test_moving_a_batch_changes_nothing(tmp_path: Path, encoder: Encoder) -> None:
    spans = small_set(tmp_path, encoder)
    spans.compute(encoder.lower(LOWER, torch.float32))
    batch = spans.batch(spans.pairs[:3])
    moved = replace(batch).to("cpu")
    assert torch.equal(moved.states, batch.states) and moved.tokens == batch.tokens == sum(batch.lengths)
