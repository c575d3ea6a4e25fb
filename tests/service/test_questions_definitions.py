"""What something is, and which things there are: told from questions for a few words, and answered in full."""

from __future__ import annotations

import pytest

from service.questions.definitions import (
    announces,
    asked,
    defines,
    first,
    how_many_named,
    lists,
    naming,
    several,
    takes_sentences,
)


@pytest.mark.parametrize(
    ("question", "thing"),
    [
        ("What is a reading adapter?", "reading adapter"),
        ("what does LOREBASE_HOME mean", "LOREBASE_HOME"),
        ("What was the IBM MT/ST?", "IBM MT/ST"),
        ("What are embeddings", "embeddings"),
        ("Please tell me what is RAG?", "RAG"),
        ("什么是非營利組織？", "非營利組織"),
        ("尤金袋鼠是什么？", "尤金袋鼠"),
        ("What is the default port?", None),
        ("What is the capital of France?", None),
        ("What is Anna's nickname?", None),
        ("What is stored in a collection?", None),
        ("What is a synonym of happy?", None),
        ("What is it?", None),
        ("How tall is a tower?", None),
        ("默认的嵌入模型是什么？", None),
    ],
)
def test_what_is_asked_the_meaning_of(question: str, thing: str | None) -> None:
    assert asked(question) == thing


@pytest.mark.parametrize(
    ("sentence", "thing", "so"),
    [
        ("A reading adapter is a small network.", "reading adapter", True),
        ("Reading adapters (LoRA) are small.", "reading adapter", True),
        ("With the reading adapter `grounded-qa`, a model reads each passage.", "reading adapter", True),
        ("A network of that kind is called a reading adapter.", "reading adapter", True),
        ("The reading adapter reads English, too.", "reading adapter", False),
        ("Rows for a reading adapter are kept.", "reading adapter", False),
        ("The readings are in the adapter.", "reading adapter", False),
        ("尤金袋鼠（学名）是袋鼠科中细小的成员。", "尤金袋鼠", True),
        ("他看见了尤金袋鼠。", "尤金袋鼠", False),
        ("It is so.", "?", False),
    ],
)
def test_a_sentence_that_defines_begins_with_the_thing_or_names_it(
    sentence: str, thing: str, so: bool
) -> None:
    assert defines(sentence, thing) is so


def test_of_several_answers_the_one_that_defines_is_taken_and_else_the_likeliest() -> None:
    told = [["The pump makes noise."], ["It is red.", "A pump is a machine."], ["Pumps are machines."]]
    assert first("What is a pump?", told) == 1
    assert first("What is a valve?", told) == first("Who made the pump?", told) == 0


@pytest.mark.parametrize(
    ("question", "number"),
    [
        ("Which three periods does it have?", 3),
        ("What are the 12 months?", 12),
        ("Name two rivers.", 2),
        ("中生代可以分為哪三個紀？", 3),
        ("有哪两种方法？", 2),
        ("Which periods does it have?", None),
        ("How many periods are there?", None),
        ("Which of the three is larger?", None),
        ("哪年成立？", None),
    ],
)
def test_how_many_things_are_to_be_named(question: str, number: int | None) -> None:
    assert how_many_named(question) == number


def test_what_only_says_how_many_there_are_and_what_names_them() -> None:
    assert announces("The era has three periods.", 3) and announces("中生代可以分為三個紀。", 3)
    for text in (
        "It is 3.5 km long.",
        "开始于第三纪。",
        "They are red, green and blue: three colours.",
        "十三个省",
    ):
        assert not announces(text, 3), text
    assert naming(["Red, green and blue.", "It rains."], 3) == 1
    assert naming(["The first is red.", "The second is blue.", "The third is green.", "It rains."], 3) == 3
    assert naming(["第一是红。", "第二是蓝。"], 2) == 2
    assert (
        naming(["The first is red.", "It rains."], 2)
        == naming(["The first is red."], 2)
        == naming([], 2)
        == 0
    )


@pytest.mark.parametrize(
    ("question", "answer", "sentences"),
    [
        ("What is a pump?", "loud", True),
        ("What are the modes of asking?", "rag", True),
        ("What are the modes of asking?", "rag, quote and closed_book", False),
        ("Which file formats can be read?", "PDF", True),
        ("Name three colours of the flag.", "red or blue", False),
        ("What side effects does it have?", "drowsiness", True),
        ("What items are on the invoice?", "a lamp", True),
        ("Which years were the best?", "12,000", True),
        ("What are the parts called?", "legs", False),
        ("Which bus can I take?", "4", False),
        ("How many modes are there?", "3", False),
    ],
)
def test_a_single_item_is_no_list_and_few_words_define_nothing(
    question: str, answer: str, sentences: bool
) -> None:
    assert takes_sentences(question, answer) is sentences
    assert lists(question) or asked(question) or not sentences
    assert several("三疊紀、侏羅紀和白堊紀") and not several("三疊紀")
