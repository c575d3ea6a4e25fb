"""Words that decide: what denies, what asks for yes or no, where a sentence ends."""

from __future__ import annotations

import pytest

from service import evidence
from service.questions import compared, kinds, mismatched, wanted
from service.sentences import split


@pytest.mark.parametrize(
    ("text", "denies"),
    [
        ("非洲最高的山是乞力马扎罗山。", False),
        ("无线耳机采用不锈钢。", False),
        ("未来的计划非常好。", False),
        ("See No. 5 on the list.", False),
        ("Not only lamps are sold.", False),
        ("它不支持蓝牙。", True),
        ("尚未发布。", True),
        ("没有保修。", True),
        ("非会员不能入场。", True),
        ("It doesn't fit.", True),
        ("There is no lamp.", True),
    ],
)
def test_what_denies(text: str, denies: bool) -> None:
    assert evidence.is_negative(text) is denies


@pytest.mark.parametrize(
    ("question", "polar"),
    [
        ("Doesn't the warranty cover water?", True),
        ("Can't I return it?", True),
        ("Hi, is the pump waterproof?", True),
        ("Please, can I bring my dog?", True),
        ("能不能带狗？", True),
        ("有没有停车场？", True),
        ("需要登記嗎？", True),
        ("Can you tell me where the office is?", False),
        ("Do you know when the office opens?", False),
        ("吗啡的剂量是多少？", False),
        ("Where is the office?", False),
    ],
)
def test_what_asks_for_yes_or_no(question: str, polar: bool) -> None:
    assert wanted.polar(question) is polar
    assert (kinds.kind("吗啡的剂量是多少？") == "yes-no") is False


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Berlin is big.[1] It has 3.7 million people.[2] It grows.", 3),
        ("这是《为什么？》一书。它很好。", 2),
        ("It is on p. 5. See Art. 5 of the law, incl. VAT.", 2),
        ("Mt. Everest is high. Gen. Lee was there.", 2),
    ],
)
def test_where_sentences_end(text: str, sentences: int) -> None:
    found = [text[span.start : span.end] for span in split(text)]
    assert len(found) == sentences, found


@pytest.mark.parametrize(
    ("question", "kind", "polar"),
    [
        ("hi how do i reset my password", "how-to", False),
        ("Hello, why was the meeting moved?", "why", False),
        ("How  do  I reset it", "how-to", False),
        ("What is the return policy? Why?", "why", False),
        ("How do I reset the router? How long does it take?", None, False),
        ("What is the deposit? Is that refundable?", "yes-no", True),
        ("If I cancel, do I get a refund?", "yes-no", True),
        ("可以报销么？", "yes-no", True),
        ("有无停车场？", "yes-no", True),
        ("报销什么？", None, False),
        ("年终总结什么时候交？", None, False),
        ("总结一下这本书", "summary", False),
        ("介绍人是谁？", None, False),
        ("张三被任命为什么职务？", None, False),
        ("When is the executive summary due?", None, False),
        ("what time is the lakers vs celtics game", None, False),
    ],
)
def test_the_part_that_asks_tells_the_kind(question: str, kind: str | None, polar: bool) -> None:
    assert (kinds.kind(question), wanted.polar(question)) == (kind, polar)
    if kind is None:
        assert not wanted.sentences(question)


def test_a_pasted_page_takes_no_time_to_judge() -> None:
    pasted = "How do I open the box and what is in it and how do they differ? " * 1500
    assert kinds.kind(pasted) == "comparison" and compared.things(pasted) == ()


def test_a_greeting_is_no_content() -> None:
    assert evidence.terms("Hello, how much is the deposit? Thanks!") == ["deposit"]


@pytest.mark.parametrize(
    ("question", "words", "other"),
    [
        ("新版App什么时候上线", "张伟汇报", True),
        ("新版什么时候上线", "新版App上线，张伟汇报", True),
        ("新版什么时候上线", "April底", False),
        ("新版App什么时候上线", "4月22日", False),
        ("项目何时结束？", "洪水退去之后", False),
        ("他哪年出生？", "上海", True),
        ("会议有几个人参加？", "刘芳", True),
        ("会议有几个人参加？", "十二人", False),
        ("押金多少元？", "免收", False),
        ("谁主持会议？", "刘芳", False),
        ("what time does Nina's flight leave", "October 2024", True),
        ("What time does it leave?", "11:20", False),
        ("at what time is dinner", "around 8 pm", False),
        ("What time period does it cover?", "the war", False),
        ("When did it end?", "the siege", False),
    ],
)
def test_a_person_is_no_time_and_a_place_no_number(question: str, words: str, other: bool) -> None:
    assert mismatched.is_of_another_kind(question, words) is other


@pytest.mark.parametrize(
    ("message", "questions"),
    [
        ("What is the rent?", ()),
        ("What is the rent? Thanks a lot!", ()),
        ("When is the midterm? I mean the one in June.", ()),
        ('What does "Who moved my cheese?" say about change?', ()),
        ("Really? When is it due?", ()),  # the first asks nothing
        ("What is the rent? And when is it due?", ("What is the rent?", "And when is it due?")),
        ("how much is it? can i pay by card", ("how much is it?", "can i pay by card")),
        ("押金是多少？什么时候退？", ("押金是多少？", "什么时候退？")),
        ("It blinks. Why? How do I stop it?", ("It blinks. Why?", "How do I stop it?")),
        ("Why? How do I stop it?", ()),
        ("Who? What? Where? When? Why?", ()),
    ],
)
def test_several_questions_in_one_message_are_told_apart(message: str, questions: tuple[str, ...]) -> None:
    assert wanted.apart(message) == questions


@pytest.mark.parametrize(
    ("question", "asks", "kind"),
    [
        ("When is the midterm? how do i ask for an extension", "how do i ask for an extension", "how-to"),
        ("滤芯多少钱？怎么更换", "怎么更换", "how-to"),
        ("What is the rent? and can i have a dog", "can i have a dog", "yes-no"),
        ("王丽的月薪是多少？ 那李明呢", "王丽的月薪是多少？", None),
        ("Can you help? thanks", "Can you help?", "yes-no"),
        ("Could you perhaps tell me how I can reset it? Many thanks", "how I can reset it?", "how-to"),
        ("Hi! I hope you are well. Could you tell me how I can reset it?", "how I can reset it?", "how-to"),
        ("The lamp blinks red. What does that mean?", "What does that mean?", "explain"),
        ("What did Dr. Can Yilmaz find?", "What did Dr. Can Yilmaz find?", None),
        ("Do you know how to reset it", "how to reset it", "how-to"),
        ("Could you kindly tell me who signed", "who signed", None),
        ("Can you tell me if dogs are allowed?", "Can you tell me if dogs are allowed?", "yes-no"),
        ("Do you know whether it opens", "Do you know whether it opens", "yes-no"),
        ("能告诉我押金是多少吗", "押金是多少", None),
        ("你知道谁主持会议吗", "谁主持会议", None),
        ("你知道押金可以退吗", "你知道押金可以退吗", "yes-no"),
        ("我想知道为什么推迟", "为什么推迟", "why"),
    ],
)
def test_what_is_asked_behind_courtesies_and_other_questions(
    question: str, asks: str, kind: str | None
) -> None:
    assert (wanted.asked(question), kinds.kind(question)) == (asks, kind)
