"""The things that a comparison sets beside each other."""

from __future__ import annotations

import pytest

from service import evidence
from service.questions.compared import speaks, things

COMPARED = [
    ("What is the difference between the dense arm and the keyword arm?", ["dense", "keyword"]),
    ("How does packet switching differ from circuit switching?", ["packet", "circuit"]),
    ("How are ducks different from swans?", ["ducks", "swans"]),
    ("How is formal rule different from the informal sort?", ["formal rule", "informal sort"]),
    ("dabbling ducks vs diving ducks: where do they look for food", ["dabbling", "diving"]),
    ("LayerNorm versus RMSNorm, what is it?", ["layer layernorm", "rms rmsnorm"]),
    ("What sets construction apart from manufacturing?", ["construction", "manufacturing"]),
    ("Compare cats with dogs.", ["cats", "dogs"]),
    ("How do cats and dogs differ?", ["cats", "dogs"]),
    ("FSDP 和 DDP 有什么区别？", ["FSDP", "DDP"]),
    ("reader、editor、admin 三种角色的权限有什么区别？", ["reader", "editor", "admin"]),
    ("dput 和 dupload 哪个好？", ["dput", "dupload"]),
    ("邊沁和彌爾對幸福的看法有什麼不同？", ["邊沁", "彌爾"]),
    ("说明发信机和收信机各自的工作", ["发信", "收信"]),
    # Nothing of its own, or nothing compared.
    ("What is the difference between a cat and the cat?", []),
    ("What is a cat?", []),
    ("各国的文法学校有何不同？", []),
    ("", []),
]


@pytest.mark.parametrize(("question", "named"), COMPARED)
def test_what_each_thing_has_for_itself(question: str, named: list[str]) -> None:
    assert things(question) == tuple(frozenset(evidence.terms(name)) for name in named)


def test_a_text_speaks_of_a_thing_with_half_of_its_own_words() -> None:
    one, other = things("How does packet switching differ from a public circuit?")
    assert speaks(frozenset(evidence.terms("Packets are switched.")), one)
    assert speaks(frozenset(evidence.terms("It is public.")), other)
    assert not speaks(frozenset(evidence.terms("It is blue.")), other)
