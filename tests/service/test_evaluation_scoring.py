"""Scores and statistics against hand-made cases, a published package, brute force and simulation."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.evaluation import scoring, statistics


@pytest.mark.parametrize(
    ("reply", "answers", "exact", "f1"),
    [
        ("The Eiffel Tower.", ["eiffel tower"], 1.0, 1.0),  # case, article and stop do not count
        ("in the year 1889", ["1889"], 0.0, 0.5),  # 3 words said, 1 wanted: 2*1 / (3 + 1)
        ("Tampa, Florida", ["Tampa", "Tampa Florida"], 1.0, 1.0),  # the best answer counts
        ("7,000 cats", ["7000 dogs"], 0.0, 0.5),
        ("red red blue", ["red blue blue"], 0.0, 4 / 6),  # repeats count as often as both have them
        ("", ["something"], 0.0, 0.0),
        ("the", ["a"], 1.0, 1.0),  # nothing is left on both sides
        ("八公斤", ["8公斤"], 0.0, 2 / 3),  # 公 and 斤 of three characters each
        ("2014年，中山市", ["2014年中山市"], 1.0, 1.0),  # Chinese punctuation does not count
        ("ＡＢＣ公司", ["abc公司"], 1.0, 1.0),  # full width
        ("北京", ["北京市"], 0.0, 4 / 5),
        ("３．５", ["3.5"], 1.0, 1.0),
        ("１，８８９ 人", ["1,889 人"], 1.0, 1.0),
        ("下午２：３０", ["下午2:30"], 1.0, 1.0),
        ("＄100", ["$100"], 1.0, 1.0),
        ("O’Brien’s", ["O'Brien's"], 1.0, 1.0),
    ],
)
def test_exact_match_and_f1_by_hand(reply: str, answers: list[str], exact: float, f1: float) -> None:
    assert scoring.exact_match(reply, answers) == exact
    assert scoring.f1(reply, answers) == pytest.approx(f1)


WORDS = st.lists(st.sampled_from(["red", "blue", "green", "tower", "of", "1889", "x"]), max_size=12).map(
    " ".join
)


@settings(deadline=None)  # the package is imported within the first example
@given(WORDS, WORDS)
def test_rouge_l_agrees_with_the_package(reply: str, answer: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    expected = scorer.score(answer, reply)["rougeL"].fmeasure if reply and answer else float(reply == answer)
    assert scoring.rouge_l(reply, [answer]) == pytest.approx(expected)


def test_rouge_l_reads_chinese_where_the_package_sees_nothing() -> None:
    assert scoring.rouge_l("中山市在广东", ["广东中山市"]) == pytest.approx(2 * 3 / 11)  # 中山市


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
def test_common_subsequence_against_all_of_them(a: list[int], b: list[int]) -> None:
    def subsequences(s: list[int]) -> set[tuple[int, ...]]:
        return {tuple(s[i] for i in c) for n in range(len(s) + 1) for c in combinations(range(len(s)), n)}

    best = max(len(s) for s in subsequences(a) & subsequences(b))
    assert scoring.lcs([*map(str, a)], [*map(str, b)]) == best


def test_containment_wants_whole_words_and_every_part() -> None:
    assert scoring.holds("No, it does not.", "no")
    assert not scoring.holds("Notes are not read.", "no")
    assert scoring.holds("Run `python -m ingest forget PATH`.", "python -m ingest forget")
    assert scoring.holds("造成至少12人死亡", "12人") and not scoring.holds("造成112人死亡", "12人")
    assert scoring.contains("1月17日开始", [["1月17日"], ["2月25日"]]) == 0.5
    assert scoring.contains("187万 or so", [["1313851", "187万"]]) == 1.0
    assert scoring.contains("anything", []) == 0.0


@pytest.mark.parametrize(
    ("text", "answer", "there"),
    [
        (
            "the U.S. and many other governments.[citation needed]",
            "the U.S. and many other governments.",
            True,
        ),
        ("a four-valve counter flow engine", "four", True),
        ("built in 1978[3] and sold", "1978", True),
        ("the Code (701) and its heir", "Code (701)", True),
        ("edit config.yaml first", "config", False),
        ("version 3.5 is out", "5", False),
        ("the F-16 flies", "16", False),
        ("costs 1,000 dollars", "1000", True),
    ],
)
def test_held_by_a_text_whatever_stands_beside_it(text: str, answer: str, there: bool) -> None:
    assert scoring.holds(text, answer) is there


def test_bootstrap_against_every_resample_of_a_small_case() -> None:
    values = np.array([[0.0], [1.0], [3.0], [7.0]])
    every = [
        np.mean([values[i, 0] for i in draw]) for draw in product(range(4), repeat=4)
    ]  # 256, all as likely
    found = statistics.intervals(values, resamples=40_000)[0]
    assert found is not None
    assert found.mean == 2.75
    low, high = np.quantile(every, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.26), pytest.approx(high, abs=0.26))
    means = statistics.bootstrap_means(values, resamples=40_000)[:, 0]
    assert means.std() == pytest.approx(np.std(every), rel=0.02)
    assert set(np.round(np.unique(means), 6)) <= set(np.round(every, 6))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    draw, covered = np.random.default_rng(5), 0
    for trial in range(300):
        sample = (draw.random((60, 1)) < 0.4).astype(float)
        found = statistics.intervals(sample, resamples=400, seed=trial)[0]
        assert found is not None
        covered += found.low <= 0.4 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_pairing_takes_the_difficulty_of_questions_out() -> None:
    draw = np.random.default_rng(1)
    hard = draw.random((200, 1))
    ours, theirs = hard + 0.05 + 0.01 * draw.standard_normal((200, 1)), hard
    paired = statistics.differences(ours, theirs, resamples=1000)[0]
    alone = statistics.intervals(ours, resamples=1000)[0]
    assert paired is not None and alone is not None
    assert 0.04 < paired.low < paired.mean < paired.high < 0.06 < alone.high - alone.low
    assert statistics.differences(ours, theirs, resamples=1000)[0] == paired  # seeded


def test_a_figure_that_concerns_few_questions_is_averaged_over_those() -> None:
    values = np.array([[1.0, np.nan], [0.0, np.nan], [1.0, 0.5], [0.0, np.nan]])
    first, second = statistics.intervals(values, resamples=500)
    assert first is not None and second is not None
    assert (first.mean, second.mean, second.low, second.high) == (0.5, 0.5, 0.5, 0.5)
    assert statistics.intervals(np.full((3, 1), np.nan), resamples=10) == [None]
    assert statistics.intervals(np.empty((0, 2))) == [None, None]


def test_risk_coverage_by_hand_and_with_ties() -> None:
    confidence, wrong = np.array([0.2, 0.9, 0.6, 0.4]), np.array([1.0, 0.0, 1.0, 0.0])
    curve = statistics.risk_coverage(confidence, wrong)
    assert curve.coverage == (0.25, 0.5, 0.75, 1.0)
    assert curve.risk == pytest.approx((0.0, 1 / 2, 1 / 3, 2 / 4))
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # equal confidence ranks nothing: the order of the questions must not matter
    tied = np.full(4, 0.5)
    assert statistics.risk_coverage(tied, wrong).risk == pytest.approx((0.5,) * 4)
    assert statistics.risk_coverage(tied, wrong[::-1]) == statistics.risk_coverage(tied, wrong)
    assert math.isnan(statistics.risk_coverage(np.empty(0), np.empty(0)).area)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.85, 0.91, 0.15, 1.0])
    right = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    bins, error = statistics.calibration(confidence, right)
    # bins: [.9, 1] holds .95, .91 and 1.0 (mean .9533, right 2/3); .85 alone; .15 alone
    assert [(b.count, round(b.confidence, 4), round(b.right, 4)) for b in bins] == [
        (1, 0.15, 0.0),
        (1, 0.85, 0.0),
        (3, 0.9533, 0.6667),
    ]
    assert error == pytest.approx(0.15 / 5 + 0.85 / 5 + 3 / 5 * (2.86 / 3 - 2 / 3))
