"""Prompt lookup: the reply is the plain one to the last bit, however drafts fare."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import Checkpoint
from model.config import LoRAConfig, Sampling
from model.engine import Engine, Generation
from model.engine.constrain import Quotation, Slices, Vocabulary
from model.engine.lookup import TAILS, Lookup
from model.lora import Adapter, LowRank
from tests.model import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["bfloat16+packed", "float32+packed"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """4- and 8-bit blocks and the kernels that serve; end token 0 is rarely met."""
    file = tmp_path_factory.mktemp("letters") / "tokenizer.json"
    file.write_bytes(tiny.tokenizer())
    config = tiny.config(context_length=1024)
    weights = {
        name: 0.3 * w if isinstance(w, torch.Tensor) else w
        for name, w in tiny.weights(config, 3, ("f32", "q4_1", "q8_0")).items()
    }
    return Engine.from_checkpoint(Checkpoint(file.parent, config, weights, file, {}), kernel=request.param)


def told(reply: Generation) -> tuple[list[tuple[int, str, float]], str | None, int, list[int]]:
    tokens = [(token.id, token.text, token.logprob) for token in reply]
    assert reply.cache is not None
    return tokens, reply.finish_reason, reply.completion_tokens, reply.cache.lengths


@pytest.mark.parametrize("past", [1, 40, 600])  # 600: another way to attend
def test_tokens_read_at_once_are_to_the_bit_those_read_singly(engine: Engine, past: int) -> None:
    generator = torch.Generator().manual_seed(past)
    prompt = torch.randint(1, 256, (past,), generator=generator).tolist()
    tokens = torch.randint(1, 256, (8,), generator=generator).tolist()
    singly = engine.prefill([prompt])[1]
    at_once = singly.copy()
    expected = torch.cat([engine.step([token], singly) for token in tokens])
    assert torch.equal(engine.verify(tokens, at_once), expected)
    assert torch.equal(engine.step([9], singly), engine.step([9], at_once))


class Oracle:
    """Drafts the reply that is coming; each time another token of it is wrong, or none."""

    reply: tuple[int, ...] = ()

    def __init__(self, tokens: list[int], *, most: int) -> None:
        self.most, self.said, self.asked = most, 0, 0

    def push(self, token: int) -> None:
        self.said += 1

    def draft(self, most: int) -> list[int]:
        self.asked += 1
        draft = list(self.reply[self.said :][: max(min(most, self.most), 0)])
        wrong = self.asked % 5
        if wrong < len(draft):
            draft[wrong] = (draft[wrong] + 1) % 256
        return draft

    def judge(self, drafted: int, kept: int) -> None:
        assert 0 <= kept <= drafted <= self.most


def test_replies_are_the_same_whatever_is_drafted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong and right drafts; ends by length, within a draft, by a stop string and by an end token."""
    monkeypatch.setattr("model.engine.generation.Lookup", Oracle)
    fared = Counter[str]()
    for seed, drafts in ((0, 1), (1, 3), (2, 7)):
        prompt = torch.randint(1, 256, (9,), generator=torch.Generator().manual_seed(seed)).tolist()
        whole = list(engine.generate(prompt, Sampling(max_tokens=24)))
        text = "".join(token.text for token in whole)
        ways: list[dict[str, Any]] = [
            {"max_tokens": 24},
            {"max_tokens": 5},
            {"max_tokens": 24, "repetition_penalty": 1.3},
            {"max_tokens": 24, "stop": (text[7:9],)},
        ]
        for how in ways:
            expected = told(engine.generate(prompt, Sampling(**how)))
            Oracle.reply = tuple(token for token, _, _ in expected[0])
            reply = engine.generate(prompt, Sampling(**how, prompt_lookup=drafts))
            assert told(reply) == expected
            fared["drafted"] += reply.drafted_tokens
            fared["kept"] += reply.kept_tokens
        ending = copy.copy(engine)
        ending.config = replace(engine.config, eos_ids=(whole[6].id,))
        expected = told(ending.generate(prompt, Sampling(max_tokens=24)))
        Oracle.reply = tuple(token.id for token in whole)
        assert told(ending.generate(prompt, Sampling(max_tokens=24, prompt_lookup=drafts))) == expected
        assert expected[1] == "stop"
    assert 20 < fared["kept"] < fared["drafted"]


def test_only_greedy_replies_of_the_base_are_drafted(engine: Engine) -> None:
    fast = Sampling(prompt_lookup=100)
    assert engine.drafts(fast) == 7
    assert engine.drafts(Sampling()) == 0
    assert engine.drafts(Sampling(prompt_lookup=5, temperature=0.5)) == 0
    low_rank = LowRank(torch.randn(2, 64), torch.randn(64, 2), 1.0)
    engine.attach("a", Adapter(LoRAConfig(lora_rank=2), {"blocks.0.attn.q": low_rank}))
    assert engine.use("a").drafts(fast) == 0 and engine.drafts(fast) == 7
    engine.detach("a")
    quoted = Quotation(Slices("abc abc", {0: (7,)}, Vocabulary(engine.tokenizer)), end=(0,))
    reply = engine.generate([65, 66], Sampling(max_tokens=9, prompt_lookup=7), constraint=quoted)
    assert "".join(t.text for t in reply) in "abc abc" and reply.drafted_tokens == 0


@pytest.mark.parametrize("kernel", ["float32", "bfloat16"])
def test_dense_kernels_do_not_draft(kernel: str, tmp_path: Path) -> None:
    """Their products of one row and of several round apart: a reply might change."""
    (tmp_path / "tokenizer.json").write_bytes(tiny.tokenizer())
    config = tiny.config()
    loaded = Checkpoint(tmp_path, config, tiny.weights(config), tmp_path / "tokenizer.json", {})
    assert Engine.from_checkpoint(loaded, kernel=kernel).drafts(Sampling(prompt_lookup=7)) == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_a_draft_is_what_followed_the_longest_tail_last(tokens: list[int], most: int) -> None:
    """Against a search through the whole text."""
    lookup = Lookup(tokens, most=100)
    expected: list[int] = []
    for length in TAILS:
        tail = tokens[-length:]
        places = [i for i in range(len(tokens) - length) if tokens[i : i + length] == tail]
        if len(tokens) >= length and places:
            expected = tokens[places[-1] + length :][: min(most, 4)]  # the first reach
            break
    assert lookup.draft(most) == expected
