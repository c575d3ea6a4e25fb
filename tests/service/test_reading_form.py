"""The reading form: a law between writing and reading replies, and what stands where in a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.chat import ChatTemplate
from service.questions import wanted
from service.reading.form import (
    MOST_SENTENCES,
    NOT_HERE,
    QUESTION,
    REFUSAL,
    Reading,
    flat,
    parse_reply,
    passage_messages,
    render_reply,
)

words = st.text(min_size=1, max_size=60).filter(lambda s: s.strip() and s.splitlines()[0:1])
answers = words.filter(
    lambda s: not flat(s).startswith(">") and flat(s).rstrip(".").casefold() != "not in this passage"
)


@given(st.none() | answers, st.lists(words, max_size=MOST_SENTENCES))
def test_a_reply_means_what_was_written(answer: str | None, sentences: list[str]) -> None:
    read = parse_reply(render_reply(answer, sentences))
    if answer is None and not sentences:
        assert read == REFUSAL
    else:
        assert read == Reading(None if answer is None else flat(answer), tuple(map(flat, sentences)))


@given(words)
def test_flat_keeps_lengths_so_that_offsets_hold(text: str) -> None:
    assert len(flat(text)) == len(text.strip())
    assert "\n" not in flat(text)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", Reading()),
        ("\n\n", Reading()),
        (NOT_HERE, REFUSAL),
        ("not in this passage", REFUSAL),
        (f"{NOT_HERE}\n> A sentence all the same.", REFUSAL),
        ("Not in this passage but in another.", Reading("Not in this passage but in another.")),
        ("1066\n> In 1066 the", Reading("1066", ("In 1066 the",))),
        (">No blank.\nchatter\n> Second.", Reading(None, ("No blank.", "Second."))),
        ("two\nlines\n> One.", Reading("two lines", ("One.",))),
        (">\n> ", Reading()),
    ],
)
def test_replies_that_are_not_quite_in_form(text: str, meaning: Reading) -> None:
    assert parse_reply(text) == meaning


@pytest.mark.parametrize(
    ("answer", "sentences"),
    [("> 5", ["x"]), (NOT_HERE, ["x"]), (" ", ["x"]), ("a", [" "]), (None, ["x"] * 6)],
)
def test_what_cannot_be_read_back_is_not_written(answer: str | None, sentences: list[str]) -> None:
    with pytest.raises(ValueError):
        render_reply(answer, sentences)


def test_questions_on_a_passage_share_all_that_stands_before_them() -> None:
    template = ChatTemplate(None)
    one, two = (
        template.text(passage_messages("docs/a.md > B", "It is so.", q)) for q in ("Who?", "Why is it?")
    )
    shared = one[: one.index(QUESTION) + len(QUESTION)]
    assert two.startswith(shared)
    assert "user\ndocs/a.md > B\nIt is so.\n\nQuestion: " in shared
    assert "user\nIt is so.\n\nQuestion: Who?" in template.text(passage_messages(" ", "It is so.", " Who? "))


@pytest.mark.parametrize(
    ("question", "whole"),
    [
        ("How do I descale it?", True),
        ("The port is taken, what can I do?", True),
        ("What should we do if it rains?", True),
        ("Please summarise the rules.", True),
        ("What do plants do at night?", False),
        ("How tall is it?", False),
    ],
)
def test_questions_for_a_way_or_a_summary_are_answered_by_sentences(question: str, whole: bool) -> None:
    assert wanted.never_short(question) is whole
