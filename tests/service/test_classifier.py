"""The classifier's parts against oracles: by hand, by brute force, by the engine's own scores."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.classifier import mixture, prompt
from service.classifier.classify import Classifying, Wanted
from service.classifier.decided import Decided
from service.classifier.examples import Classes, clean, shortened
from service.classifier.fitted import weigh
from service.classifier.kernels import SHARPNESS, Grams, Similarity, label_scores
from service.classifier.likelihood import Likelihood
from service.errors import InvalidClasses
from service.generators.own import OwnGenerator
from tests.fakes import HashEmbedder
from tests.service.reading_engine import build

GIVEN = {
    "weather": ["rain falls on the hills", "the sun shines on the hills", "wind and rain tonight"],
    "money": ["the bank lends money", "money comes from the bank", "pay the bank tonight"],
    "sport": ["the team wins the match", "a goal in the match"],
}
CANCEL = threading.Event()


def made(given: dict[str, list[str]] = GIVEN) -> Classifying:
    return Classifying(lambda: HashEmbedder(dimension=64), Decided(None))


def ask(texts: list[str], given: dict[str, list[str]] = GIVEN, **fields: object):
    return made().classify(Wanted(tuple(texts), Classes.of(given), **fields), None, CANCEL)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 4))
def test_leaving_out_is_what_it_is_to_be_without(seed: int, labels: int, each: int) -> None:
    random = np.random.default_rng(seed)
    belongs = np.concatenate([np.repeat(np.arange(labels), each), np.arange(labels)])
    vectors = random.standard_normal((len(belongs), 6)) + 3
    words = ["".join(random.choice(list("abcde 知识"), 9)) for _ in belongs]
    rows = range(labels * each)
    for kind, items in ((Similarity, vectors), (Grams, words)):
        found = kind(items, belongs, labels).left_out(rows)  # type: ignore[arg-type]
        for row in rows:
            others = [other for other in range(len(belongs)) if other != row]
            rest = items[others] if kind is Similarity else [words[o] for o in others]
            without = kind(rest, belongs[others], labels).scores(items[row : row + 1])  # type: ignore[arg-type]
            np.testing.assert_allclose(found[row], without[0], rtol=1e-9, atol=1e-9)


def test_a_kernel_score_is_the_log_of_the_mean_over_the_labels_examples() -> None:
    found = label_scores(np.array([[0.5, 0.1, -0.2]]), np.array([0, 0, 1]), 2)
    by_hand = math.log((math.exp(SHARPNESS * 0.5) + math.exp(SHARPNESS * 0.1)) / 2)
    np.testing.assert_allclose(found, [[by_hand, SHARPNESS * -0.2]])


def test_ngrams_that_no_example_has_make_a_text_less_similar() -> None:
    grams = Grams(["abcd", "wxyz"], np.array([0, 1]), 2)
    plain, longer = grams.scores(["abcd"])[0], grams.scores(["abcd 0123456789"])[0]
    assert plain[0] == pytest.approx(SHARPNESS) and longer[0] < plain[0] - 1


def test_weights_are_where_the_penalised_likelihood_is_highest() -> None:
    random = np.random.default_rng(3)
    right = random.integers(0, 4, 60)
    parts = random.standard_normal((3, 60, 4))
    parts[0, np.arange(60), right] += 2.0
    parts[1, np.arange(60), right] += 0.7
    towards = np.array([0.5, 0.5, 0.5])
    weights = mixture.fit(parts, right, towards)
    assert weights[0] > weights[1] > weights[2] >= 0

    def loss(at: np.ndarray) -> float:
        pull = mixture.PULL * (((at - towards) / towards) ** 2).sum()
        return float(mixture.log_losses(parts, at, right).sum() + pull)

    for step in random.standard_normal((200, 3)) * 0.05:
        assert loss(np.maximum(weights + step, 0)) >= loss(weights) - 1e-6
    none = mixture.fit(parts[:, :0], right[:0], towards)
    np.testing.assert_array_equal(none, towards)
    few = mixture.fit(parts[:, :2], right[:2], towards)
    assert abs(few - towards).max() < abs(weights - towards).max()


def test_the_likelihood_earns_its_place_or_is_left_aside() -> None:
    random = np.random.default_rng(5)
    right = random.integers(0, 3, 16)
    parts = random.standard_normal((2, 16, 3))
    nats = random.standard_normal((16, 3)) * 9
    noise = weigh(parts, np.array([1.0, 1.0]), nats, right, "auto")
    assert not noise.used and len(noise.weights) == 2 and "only costs time" in noise.reason
    nats[np.arange(16), right] += 40
    help_ = weigh(parts, np.array([1.0, 1.0]), nats, right, "auto")
    assert help_.used and help_.weights[2] > help_.weights[:2].max()
    assert weigh(parts, np.array([1.0, 1.0]), -nats, right, "on").weights[2] == pytest.approx(0, abs=1e-6)


def test_the_prompt_is_the_chat_templates_own_id_for_id(tmp_path: Path) -> None:
    engine = build(tmp_path)
    classes = Classes.of(GIVEN, "Say what it is about.")
    likelihood = Likelihood(engine, classes)
    shown = (4, 0, 2)
    messages = [{"role": "system", "content": "Say what it is about.\nLabels: money; sport; weather"}]
    for row in shown:
        text, at = classes.flat[row]
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": classes.labels[at]}]
    messages += [{"role": "user", "content": "rain tonight"}]
    assert engine.chat is not None
    assert likelihood.ids("rain tonight", shown) == engine.chat.encode(messages, engine.tokenizer).ids  # type: ignore[arg-type]
    spelled = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    assert engine.tokenizer.decode(likelihood.ids("rain tonight", shown), special=True) == (
        spelled + "<|im_start|>assistant\n"
    )


def test_likelihood_is_the_engines_score_less_that_of_texts_that_say_nothing(tmp_path: Path) -> None:
    engine = build(tmp_path)
    classes = Classes.of(GIVEN)
    likelihood = Likelihood(engine, classes)
    end = engine.tokenizer.special["<|im_end|>"]
    labels = [[*engine.tokenizer.encode(label), end] for label in classes.labels]

    def by_hand(text: str, shown: tuple[int, ...]) -> np.ndarray:
        messages = prompt.conversation(classes, [classes.flat[row] for row in shown], text)
        return np.array([sum(s) for s in engine.score(engine.prompt(messages), labels)])

    everything = likelihood.shown(range(len(classes.flat)))
    assert everything == tuple(range(len(classes.flat)))
    for text in ("rain on the bank", "the match 知识"):
        nothing = np.mean([by_hand(t, everything) for t in ("N/A", "…", "-")], axis=0)
        np.testing.assert_allclose(
            likelihood.scores(text, everything, CANCEL), by_hand(text, everything) - nothing, atol=2e-3
        )
        np.testing.assert_allclose(
            likelihood.scores(text, (3, 1), CANCEL), by_hand(text, (3, 1)) - by_hand("N/A", (3, 1)), atol=2e-3
        )


def test_examples_that_do_not_fit_give_way_to_the_nearest_the_nearest_last(tmp_path: Path) -> None:
    assert prompt.chosen([3, 0, 2, 1], [5, 5, 5, 5], 20) == (0, 1, 2, 3)
    assert prompt.chosen([3, 0, 2, 1], [5, 5, 5, 5], 12) == (0, 3)
    assert prompt.chosen([3, 0, 2, 1], [5, 5, 5, 5], 12, without=3) == (2, 0)
    assert prompt.chosen([0, 1], [50, 5], 12) == ()
    many = {label: [f"{label} number {n} of many" for n in range(60)] for label in ("one", "two")}
    likelihood = Likelihood(build(tmp_path), Classes.of(many))
    shown = likelihood.shown(list(range(120)))
    assert 0 < len(shown) < 120 and shown == tuple(reversed(range(len(shown))))
    assert sum(likelihood.cost[row] for row in shown) <= likelihood.room


def test_probabilities_sum_to_one_and_order_of_labels_and_examples_means_nothing(tmp_path: Path) -> None:
    turned = {label: list(reversed(texts)) for label, texts in reversed(GIVEN.items())}
    model = OwnGenerator(build(tmp_path))
    texts = ("rain on the hills", "who wins the match", "知识", "x" * 5000)
    for use in ("off", "on"):
        wanted = [Wanted(texts, Classes.of(g), likelihood=use) for g in (GIVEN, turned)]  # type: ignore[arg-type]
        one, other = (made().classify(w, lambda: model, CANCEL) for w in wanted)
        for a, b in zip(one.results, other.results, strict=True):
            assert sum(a.scores.values()) == pytest.approx(1) and a.label == b.label
            assert a.scores == pytest.approx(b.scores)
            assert list(a.parts) == ["similarity", "ngrams"] + ["likelihood"] * (use == "on")
            for part in a.parts.values():
                assert sum(part.values()) == pytest.approx(1)
    assert one.model == "tiny+reading" and set(one.weights) == {"similarity", "ngrams", "likelihood"}
    assert any("head and tail" in note for note in one.results[3].notes)


def test_decisions_are_made_once_and_kept(tmp_path: Path) -> None:
    model = OwnGenerator(build(tmp_path / "m"))
    wanted = Wanted(("rain",), Classes.of(GIVEN), likelihood="on")
    decided = Decided(tmp_path / "d")
    first = Classifying(HashEmbedder, decided).classify(wanted, lambda: model, CANCEL)
    (file,) = (tmp_path / "d").glob("*.json")
    read = model.engine.tokens_read  # type: ignore[attr-defined]
    again = Classifying(HashEmbedder, decided).classify(wanted, lambda: model, CANCEL)
    assert again.results == first.results
    assert 0 < model.engine.tokens_read - read < read / 2  # type: ignore[attr-defined]
    file.write_text('{"used": true, "weights": [1], "spread": 0}', encoding="utf-8")
    assert Classifying(HashEmbedder, decided).classify(wanted, lambda: model, CANCEL).results == first.results


def test_what_needs_no_model_loads_none() -> None:
    def unwanted() -> OwnGenerator:
        raise AssertionError("no model is needed")

    clear = {"a": ["apple pie", "apple tart", "apple cake", "apple jam"], "b": ["zinc ore", "zinc mine", "zinc bar", "zinc wire"]}  # fmt: skip
    found = made().classify(Wanted(("apple",), Classes.of(clear)), unwanted, CANCEL)
    assert found.results[0].label == "a" and found.model is None and "every left-out" in found.likelihood
    many = {f"label {n}": [f"word{n} thing"] for n in range(200)}
    found = made().classify(Wanted(("word17 thing",), Classes.of(many)), unwanted, CANCEL)
    assert found.results[0].label == "label 17" and len(found.results[0].scores) == 200
    assert "more than 100 labels" in found.likelihood


def test_a_label_without_examples_is_known_by_its_name() -> None:
    found = ask(["money please", "rain please"], {"money_matters": [], "rain": []}, likelihood="off")
    assert [r.label for r in found.results] == ["money_matters", "rain"] and found.left_out is None
    found = ask(["the match"], {**GIVEN, "match": []}, likelihood="off")
    assert sum(found.results[0].scores.values()) == pytest.approx(1)


def test_abstention_and_empty_texts() -> None:
    sure = ask(["rain falls on the hills"]).results[0]
    best = sure.scores["weather"]
    assert sure.label == "weather" and not sure.abstained
    above = ask(["rain falls on the hills"], abstain_below=best + 1e-6).results[0]
    assert above.label is None and above.abstained and above.scores == pytest.approx(sure.scores)
    assert ask(["rain falls on the hills"], abstain_below=best - 1e-6).results[0].label == "weather"
    for result in ask(["", " \n\t ", "\x00\x07"]).results:
        assert result.label is None and result.abstained and result.notes == ("the text is empty",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing to choose"),
        ({"one": ["x"]}, "nothing to choose"),
        ({"a": ["x"], " A ": ["y"]}, "are the same"),
        ({"a b": ["x"], "ａ  b": ["y"]}, "are the same"),
        ({"": ["x"], "b": []}, "a label is empty"),
        ({" \t": ["x"], "b": []}, "a label is empty"),
        ({"a\x00": ["x"], "b": []}, "control characters"),
        ({"a\nb": ["x"], "b": []}, "line breaks"),
        ({"a" * 201: ["x"], "b": []}, "200 characters"),
        ({"a": [""], "b": []}, "an example of 'a' is empty"),
        ({"a": ["\x00 "], "b": []}, "an example of 'a' is empty"),
        ({"a": ["x" * 20_001], "b": []}, "20,000"),
        ({str(n): [] for n in range(1001)}, "1,000 labels"),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_told_apart_are_refused(given: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InvalidClasses, match=words):
        Classes.of(given)


@given(st.text(max_size=300), st.integers(8, 60))
def test_a_long_text_keeps_head_and_tail_within_the_limit(text: str, most: int) -> None:
    kept = shortened(text, most, len)
    assert len(kept) <= most and (kept == text or len(text) > most)
    if kept != text and text.isprintable() and " " not in text:
        head, tail = kept.split(" … ", 1)
        assert text.startswith(head) and text.endswith(tail)
    assert clean(clean(text)) == clean(text) and "\x00" not in clean(text)


def test_a_cancelled_decision_ends(tmp_path: Path) -> None:
    from model.errors import Cancelled

    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        made().classify(
            Wanted(("x",), Classes.of(GIVEN), likelihood="on"), lambda: OwnGenerator(build(tmp_path)), stop
        )
