"""Which candidate is answered, when none is, and what a calibrator learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ServiceError
from service.questions.compared import weighed
from service.reading.calibration import (
    SHIPPED,
    Calibrator,
    OperatingPoint,
    area,
    calibration_error,
    fit,
    logistic,
    risk_coverage,
)
from service.reading.readings import PassageReading
from service.reading.select import (
    FEATURES,
    Candidate,
    contradict,
    decide,
    describe,
    rounded,
    same,
    supported,
    weigh,
    words,
)
from tests.service.reading_engine import hit

TOWER = "The tower is 330 metres tall. It was finished in 1889. It is made of iron, not of stone."


def reading(
    answer: str | None, sentence: str, *, text: str = TOWER, here: float = 0.9, rank: int = 0, **more: object
) -> PassageReading:
    start = text.index(sentence)
    place = None
    if answer and (at := text.find(answer)) >= 0:
        place = (at, at + len(answer))
    return PassageReading(
        hit(text, rank, 0.9 - rank / 10), rank, 1 - here, True, answer, place,
        sentences=((start, start + len(sentence)),), **more,  # type: ignore[arg-type]
    )  # fmt: skip


TALL = reading("330 metres", "The tower is 330 metres tall.")
OTHERS = "Others say that the tower is 324 metres tall."
SHORTER = reading("324 metres", OTHERS, text=OTHERS, rank=2)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("330 metres", "330  Metres.", True),
        ("330 metres", "330", True),
        ("the 1,665 steps", "1665 steps", True),
        ("330 metres", "324 metres", False),
        ("in 1889", "1887", False),
        ("within 10 working days", "within 30 working days", False),
        ("12 May 1990", "1990", True),
        ("Yes", "No", False),
        ("巴黎", "巴黎。", True),
        ("巴黎", "里昂", False),
        ("!", "?", False),
    ],
)
def test_answers_that_say_the_same(one: str, other: str, equal: bool) -> None:
    left, right = (reading(answer, "The tower is 330 metres tall.") for answer in (one, other))
    assert same(left, right) is same(right, left) is equal


def test_a_quotation_agrees_where_it_has_the_answer_and_contradicts_nothing() -> None:
    quoted = reading(None, "The tower is 330 metres tall.")
    assert same(TALL, quoted) is True
    assert same(reading("324 metres", "It was finished in 1889."), quoted) is None
    assert same(quoted, reading(None, "It was finished in 1889.")) is None


def test_what_bears_an_answer_out() -> None:
    asked, iron = "How tall is the building?", "It is made of iron, not of stone."
    assert supported(asked, TALL)
    assert not supported(asked, reading("330 metres", "It was finished in 1889.")), "it stands elsewhere"
    assert not supported(asked, reading("brass", iron, gain=1.0))
    assert supported(asked, reading("stone and iron", iron, gain=1.0)), "all its content does"
    assert not supported(asked, reading("stone and iron", iron, gain=-0.1)), "the passage speaks against it"
    made = "Is it made of stone?"
    assert supported(made, reading("No", iron, polar=True, gain=0.1))
    assert not supported(made, reading("No", iron, polar=True, gain=0.0)), "the passage adds nothing"
    assert not supported("Does it float?", reading("No", iron, polar=True, gain=1.0)), "about something else"
    assert not supported(made, reading("Yes", iron, polar=True, gain=1.0)), "the sentence denies it"
    plain = "It is made of iron."
    assert supported("Is it made of iron?", reading("Yes", plain, text=plain, polar=True, gain=1.0))
    assert not supported("Is it made of iron?", reading("No", plain, text=plain, polar=True, gain=1.0))
    assert not supported(
        "Is it still made of iron?", reading("Yes", plain, text=plain, polar=True, gain=1.0)
    ), "still?"
    without = "Can it be made without iron?"
    assert not supported(without, reading("No", plain, text=plain, polar=True, gain=1.0)), "it only names it"
    assert supported(without, reading("Yes", iron, polar=True, gain=1.0))
    assert not supported(made, reading("No", iron))
    assert not supported(asked, reading(None, "It was finished in 1889."))
    assert not supported("What is the tower?", reading("The tower", "The tower is 330 metres tall.")), "echo"
    modes = "Mode `quote` is one of them."
    assert not supported("What are the modes?", reading("Mode", modes, text=modes)), "an echo in the singular"
    assert supported("Tower or bridge?", reading("tower", "The tower is 330 metres tall."))


@pytest.mark.parametrize(
    ("question", "things"),
    [
        ("Which has more calories per portion, berries or grain?", ("berries", "grain")),
        ("Which country has the larger population, Germany or Austria?", ("Germany", "Austria")),
        ("Did more trucks or more laptops take part?", ("trucks", "laptops")),
        ("Was the tower of the computer museum built in 1887 or 1889?", None),
        ("What is the difference between rag and closed_book mode?", ("rag", "closed_book")),
        ("How do the moths and the beetles differ?", ("moths", "beetles")),
        ("how does a moth differ from a beetle", ("moth", "beetle")),
        ("Compare Berlin with Vienna.", ("Berlin", "Vienna")),
        ("FSDP 和 DDP 有什么区别？", ("FSDP", "DDP")),
        ("幼樹的葉與成熟的樹的葉有什麼不同？", ("幼樹的葉", "成熟")),
        ("丹麥和德意志邦聯間的戰爭由誰獲勝？", None),
        ("What is the largest city?", None),
        ("How do I connect it to the network and the printer?", None),
    ],
)
def test_what_compares(question: str, things: tuple[str, str] | None) -> None:
    assert weighed(question) == things
    if things is not None:
        row = f"{things[0]} and others."
        assert not supported(question, reading(things[0], row, text=row, gain=1.0))
        assert supported("What is named?", reading(things[0], row, text=row, gain=1.0)), "else it would be"


def test_features_are_as_named() -> None:
    other = reading("324 metres", "It was finished in 1889.", rank=1, here=0.6)
    unread = PassageReading(hit("Else.", 2, 0.95), 2, 0.99)
    first, second = (
        dict(zip(FEATURES, f, strict=True))
        for f in describe("How tall is the tower?", [TALL, other, unread], 0.8)
    )
    assert first["here"] == pytest.approx(np.log(9)) and first["relevance"] == pytest.approx(np.log(4))
    assert (first["agree"], first["differ"], second["differ"]) == (0, 0.6, 0.9)
    assert first["margin"] == pytest.approx(-0.05) and (first["stands"], second["stands"]) == (1, 0)
    assert first["asked"] == 1 and second["asked"] < 1 and first["short"] == 1


def candidate(p: float, answer: str, rank: int = 0) -> Candidate:
    return Candidate(reading(answer, "The tower is 330 metres tall.", rank=rank), (), p)


def test_the_likeliest_is_answered_and_contradictions_are_told() -> None:
    sure, unsure = candidate(0.8, "330 metres"), candidate(0.3, "324 metres", 1)
    other = replace(sure, probability=0.7, reading=SHORTER)
    q = "How tall is the tower?"
    assert decide(q, [], 0.0).kind == "refuse"
    assert decide(q, [sure, unsure], 0.5).kind == "answer" and decide(q, [sure, unsure], 0.5).best is sure
    assert decide(q, [sure], 0.81).kind == "refuse" and decide(q, [sure], 0.8).kind == "answer"
    told = decide(q, [sure, candidate(0.79, "330", 1), other], 0.5)
    assert told.kind == "conflict" and told.other is other
    assert decide(q, [sure, replace(other, probability=0.51)], 0.5).kind == "answer", "not nearly as likely"
    assert decide(q, [sure, other], 0.75).kind == "answer", "nobody would give it alone"


def test_the_sentence_that_defines_goes_before_a_likelier_one_if_it_is_likely_enough() -> None:
    made, text = "It is made of a pump.", "A pump is a machine. It is made of a pump."
    likelier = Candidate(reading("a pump", made, text=text), (), 0.9)
    defining = Candidate(reading("machine", "A pump is a machine.", text=text, rank=1), (), 0.4)
    asked = "What is a pump?"
    told = decide(asked, [likelier, defining], 0.3)
    assert (told.kind, told.best, told.confidence) == ("answer", defining, 0.4)
    assert decide(asked, [likelier, defining], 0.5).best is likelier
    assert decide("What is it made of?", [likelier, defining], 0.3).best is likelier


def test_a_list_goes_before_a_single_item_that_is_hardly_likelier() -> None:
    formats = "It reads PDF, Word and HTML. The text of a PDF is what its reader sees."
    one = Candidate(reading("PDF", "The text of a PDF is what its reader sees.", text=formats), (), 0.6)
    all_ = reading(None, "It reads PDF, Word and HTML.", text=formats, rank=1)
    asked, other = "Which file formats can be read?", "Which file format is usual?"
    assert decide(asked, [one, Candidate(all_, (), 0.5)], 0.2).best.reading is all_  # type: ignore[union-attr]
    assert decide(asked, [one, Candidate(all_, (), 0.4)], 0.2).best is one, "by far less likely"
    assert decide(other, [one, Candidate(all_, (), 0.5)], 0.2).best is one, "no list"


def test_what_contradicts_and_what_is_only_different() -> None:
    q = "How tall is the tower?"
    assert contradict(q, TALL, SHORTER) and contradict(q, SHORTER, TALL)
    assert contradict("and the height, please", TALL, SHORTER), "the same words but for the answers"
    assert not contradict(q, TALL, replace(SHORTER, not_here=0.3)), "one hardly tells"
    iron = reading("iron", "It is made of iron, not of stone.", rank=1)
    assert not contradict(q, TALL, iron), "a number and a word are answers to different things"
    year = reading("1889", "It was finished in 1889.", rank=1)
    assert not contradict(q, TALL, year), "it does not speak of what is asked"
    both = "The tower was 312 metres tall and is now 330 metres tall."
    assert not contradict(q, TALL, reading("312 metres", both, text=both, rank=1)), "it has both answers"
    assert not contradict("How do I measure the tall tower?", TALL, SHORTER), "there may be several ways"
    rebuilt = "The bridge was rebuilt. The bridge was never rebuilt."
    yes = reading("Yes", "The bridge was rebuilt.", text=rebuilt, polar=True, gain=1.0)
    no = reading("No", "The bridge was never rebuilt.", text=rebuilt, polar=True, rank=1, gain=1.0)
    assert contradict("Was the bridge rebuilt?", yes, no) and not contradict("Was it?", yes, TALL)
    wrong = reading("No", "The bridge was rebuilt.", text=rebuilt, polar=True, rank=1, gain=1.0)
    assert not contradict("Was the bridge rebuilt?", yes, wrong), "its sentence says the opposite"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("135 million", "134,515,008", True),
        ("134,515,008 parameters", "135 million parameters", True),
        ("134.5 million", "134,515,008", True),
        ("136 million", "134,515,008", False),
        ("1.2 billion", "1,249 million", True),
        ("1890", "1889", False),
        ("135 million in 1889", "134,515,008", False),
        ("many", "135 million", False),
    ],
)
def test_a_rounded_number_is_the_same(one: str, other: str, equal: bool) -> None:
    assert rounded(one, other) is rounded(other, one) is equal


def test_weighing_puts_the_likeliest_first() -> None:
    plain = Calibrator.load(Path(__file__).with_name("calibrator.json"), features=FEATURES)
    doubtful = reading("1889", "It was finished in 1889.", here=0.2, rank=0)
    found = weigh("How tall is the tower?", [doubtful, TALL], 0.9, plain)
    assert [c.reading for c in found] == [TALL, doubtful]
    assert 0 < found[1].probability < found[0].probability < 1


def test_logistic_finds_the_weights_that_made_the_data() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(20000, 3)) * [1, 5, 0.1] + [0, 3, 1]
    true, bias = np.array([1.5, -0.4, 0.0]), 0.7
    right = (draw.random(20000) < 1 / (1 + np.exp(-(x @ true + bias)))).astype(float)
    weights, found = logistic(x, right)
    assert (abs(weights - true) < [0.1, 0.03, 0.5]).all()
    assert found == pytest.approx(bias, abs=0.5)


def test_a_fitted_calibrator_means_what_it_says(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)

    def questions(n: int) -> list[list[tuple[list[float], bool]]]:
        made = []
        for _ in range(n):  # up to three candidates, of which the best is taken: it looks too good
            features = draw.normal(size=(draw.integers(0, 4), 2))
            made.append(
                [([*map(float, f)], bool(draw.random() < 1 / (1 + np.exp(1 - 2 * f[0])))) for f in features]
            )
        return made

    fitted = fit("mine", ["signal", "noise"], questions(3000))
    unseen = [max(q, key=lambda c: fitted.probability(c[0])) for q in questions(3000) if q]
    p = np.array([fitted.probability(f) for f, _ in unseen])
    right = np.array([float(ok) for _, ok in unseen])
    assert calibration_error(p, right) < 0.04 and abs(fitted.weights[0]) > 10 * abs(fitted.weights[1])
    assert area(p, right) < 0.8 * area(draw.random(len(p)), right)
    coverage = [c for _, c, _ in fitted.curve]
    assert coverage == sorted(coverage) and coverage[-1] == pytest.approx(0.75, abs=0.03), (
        "a quarter has none"
    )
    threshold = fitted.threshold_for(0.1)
    assert (1 - right[p >= threshold]).mean() < 0.15 and (p >= threshold).any()
    assert fitted.threshold_for(-1.0) == 1.0

    fitted = replace(fitted, least={"signal": -9.0})
    fitted.save(tmp_path / "c.json")
    again = Calibrator.load(tmp_path / "c.json", features=["signal", "noise"])
    assert again.probability([1.0, 2.0]) == pytest.approx(fitted.probability([1.0, 2.0]), abs=1e-4)
    with pytest.raises(ServiceError, match="signal, noise"):
        Calibrator.load(tmp_path / "c.json", features=FEATURES)
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(ServiceError, match="not a calibrator"):
        Calibrator.load(tmp_path / "d.json")
    with pytest.raises(ServiceError):
        fit("x", ["a"], [[([1.0], True)]])


def test_few_questions_hardly_move_what_was_known_and_many_do() -> None:
    draw = np.random.default_rng(2)

    def questions(n: int, slope: float, bias: float) -> list[list[tuple[list[float], bool]]]:
        x = draw.normal(size=n)
        return [[([float(a)], bool(draw.random() < 1 / (1 + np.exp(-slope * a - bias))))] for a in x]

    known = fit("shipped", ["signal"], questions(3000, 2.0, 0.0))
    few, many = (fit("mine", ["signal"], questions(n, 0.5, -2.0), prior=known) for n in (12, 4000))

    def distance(one: Calibrator, other: Calibrator) -> float:
        return max(abs(one.probability([x]) - other.probability([x])) for x in (-1.0, 0.0, 1.0))

    alone = fit("mine", ["signal"], questions(4000, 0.5, -2.0))
    assert distance(few, known) < 0.5 * distance(many, known) and distance(many, alone) < 0.05
    assert fit("mine", ["signal"], [[([0.0], True)], [([1.0], False)]], prior=known).questions == 2


def test_what_has_too_little_of_a_feature_is_never_given_whatever_else_it_has() -> None:
    draw = np.random.default_rng(3)
    rows = [[([float(a), float(b)], bool(b > 0))] for a, b in draw.normal(size=(400, 2))]
    made = fit("c", ["here", "other"], rows, least={"here": 0.5})
    assert made.probability([0.4, 9.0]) == 0.0 < made.probability([0.5, 9.0])
    assert (
        not made.hears([0.4, 9.0]) and len([1 for ((f, _),) in rows if f[0] >= 0.5]) > made.curve[-1][1] * 399
    )
    unheard = Candidate(TALL, (), 0.0)
    assert decide("How tall?", [unheard], 0.0).kind == "refuse"


def test_an_acceptable_error_becomes_a_threshold_and_says_what_it_stands_for() -> None:
    curve = ((0.9, 0.1, 0.0), (0.7, 0.5, 0.05), (0.4, 0.8, 0.2))
    made = Calibrator("c", ("a",), (1.0,), 0.0, threshold=0.5, curve=curve, questions=1000)
    assert made.operating_point() == OperatingPoint(0.5, 0.05, 0.5)
    assert made.operating_point(0.25) == OperatingPoint(0.4, 0.2, 0.8, 0.25)
    assert made.operating_point(0.1) == OperatingPoint(0.7, 0.05, 0.5, 0.1)
    assert made.operating_point(0.001) == OperatingPoint(1.0, None, 0.0, 0.001), "nothing was as good"
    few = replace(made, questions=20)
    assert few.operating_point(0.1).threshold == 1.0, "two right answers and ten prove little"
    assert replace(made, curve=()).operating_point(0.1) == OperatingPoint(0.5, None, None, 0.1)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.4001, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_every_point_of_the_curve_is_what_its_threshold_gives(given_: list[tuple[float, bool]]) -> None:
    p, right = (np.array(column, dtype=float) for column in zip(*given_, strict=True))
    for threshold, coverage, risk in risk_coverage(p, right):
        kept = p >= threshold
        assert coverage == pytest.approx(kept.mean()) and risk == pytest.approx(1 - right[kept].mean())


@given(st.text(max_size=30))
def test_words_of_any_text(text: str) -> None:
    assert words(text) == words(text.upper().lower()) or not text.isascii()


def test_the_shipped_one_is_for_these_features() -> None:
    stored = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assert tuple(stored["features"]) == FEATURES and 0 < stored["threshold"] < 1
