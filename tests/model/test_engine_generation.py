"""Text, stop strings, sampling and the flow of one reply, on scripted and tiny models."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.axes.choices import RopeScaling
from model.checkpoint import Checkpoint
from model.config import Sampling
from model.engine import Engine
from model.engine.sampling import Sampler
from model.engine.text import ReplyText
from model.errors import Cancelled, ContextOverflow, InvalidSampling, ModelError, UnsupportedModel
from model.tokenizer import Tokenizer
from tests.model import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("letters") / "tokenizer.json"
    path.write_bytes(tiny.tokenizer())
    return path


def loaded(letters: Path, seed: int = 0, **changes: object) -> Checkpoint:
    config = tiny.config(**({"context_length": 512, "eos_ids": ()} | changes))
    weights = {name: 0.3 * w for name, w in tiny.weights(config, seed).items() if isinstance(w, torch.Tensor)}
    return Checkpoint(letters.parent, config, dict(weights), letters, {})


@pytest.fixture(scope="module")
def engine(letters: Path) -> Engine:
    return Engine.from_checkpoint(loaded(letters), kernel="float32")


PROMPT = list(range(40, 70))

# ---- text


def read(letters: Path, text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    tokenizer = Tokenizer.from_file(letters)
    reply = ReplyText(tokenizer, stop)
    said = ""
    for token in tokenizer.encode(text):  # one byte a token: every stop string straddles tokens
        said += reply.push(token)
        if reply.stopped:
            return said, True
    return said + reply.finish(), False


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("ab€", max_size=12),
    stop=st.lists(st.text("ab€", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_a_reply_ends_before_the_stop_string_that_ends_first(
    letters: Path, text: str, stop: tuple[str, ...]
) -> None:
    ends = [(text.index(s) + len(s), text.index(s)) for s in stop if s in text]
    assert read(letters, text, stop) == (text[: min(ends)[1]] if ends else text, bool(ends))


def test_aab_is_found_in_aaab(letters: Path) -> None:
    assert read(letters, "aaab", ("aab",)) == ("a", True)


def test_half_a_character_waits_and_a_broken_one_is_marked(letters: Path) -> None:
    tokenizer = Tokenizer.from_file(letters)
    reply, tokens = ReplyText(tokenizer), tokenizer.encode("🙂")
    assert [reply.push(token) for token in tokens[:3]] == ["", "", ""] and reply.finish() == "\ufffd"


# ---- sampling

SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 40, 5000]),
    top_p=st.sampled_from([0.001, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
)


@settings(max_examples=100, deadline=None)
@given(
    sampling=SETTINGS,
    seed=st.integers(0, 2**20),
    size=st.sampled_from([5, 300, 3000]),
    spread=st.sampled_from([0.01, 1.0, 8.0]),
)
def test_filters_are_those_of_transformers(sampling: Sampling, seed: int, size: int, spread: float) -> None:
    transformers = pytest.importorskip("transformers")
    logits = spread * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    prompt = [0, 1, 1, size - 1]
    chain = transformers.LogitsProcessorList(
        [transformers.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)]
    )
    chain.append(transformers.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(transformers.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(transformers.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        chain.append(transformers.MinPLogitsWarper(sampling.min_p))
    expected = chain(torch.tensor([prompt]), logits[None].clone())[0].softmax(-1)
    found = Sampler(sampling, prompt, size).filter(logits).softmax(-1)
    differing = (found > 0) != (expected > 0)
    # At the edge of top-p and min-p the two sum in another order; a token there may fall either way.
    assert differing.sum() <= 1
    if not differing.any():
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_draws_follow_the_distribution() -> None:
    """Chi-square with 4 degrees of freedom: above 23.5 once in 10,000 runs; the seed is fixed."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])
    sampler = Sampler(Sampling(temperature=0.8, seed=7), [], 5)
    draws = 4000
    counts = torch.bincount(torch.tensor([sampler.choose(logits)[0] for _ in range(draws)]), minlength=5)
    expected = draws * (logits / 0.8).softmax(-1)
    assert float(((counts - expected) ** 2 / expected).sum()) < 23.5


def test_equal_seeds_draw_alike_and_greedy_needs_none() -> None:
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))

    def drawn(seed: int | None, temperature: float) -> list[int]:
        sampler = Sampler(Sampling(temperature=temperature, seed=seed), [], 300)
        return [sampler.choose(row)[0] for row in logits]

    assert drawn(1, 1.0) == drawn(1, 1.0) != drawn(2, 1.0)
    assert drawn(None, 1.0) != drawn(None, 1.0)
    assert drawn(1, 0.0) == drawn(2, 0.0) == logits.argmax(-1).tolist()
    for cold in (1e-30, 1e-50, 5e-324):  # no temperature overflows, or is too small for float32
        assert drawn(1, cold) == logits.argmax(-1).tolist()
    least = Sampler(Sampling(temperature=1.0, top_p=1e-320, seed=1), [], 300)
    assert [least.choose(row)[0] for row in logits] == logits.argmax(-1).tolist()


def test_a_decoder_may_have_more_rows_than_there_are_tokens(letters: Path) -> None:
    padded = Engine.from_checkpoint(loaded(letters, vocab_size=320), kernel="float32")
    reply = list(padded.generate(PROMPT, Sampling(max_tokens=60, temperature=5.0, seed=1)))
    assert any(token.id >= 256 for token in reply) and len(reply) == 60
    assert all(token.text == "" for token in reply if token.id >= 256)
    beams = list(padded.generate(PROMPT, Sampling(max_tokens=20, num_beams=4, stop=("no such end",))))
    assert len(beams) == 20


def test_damaged_weights_are_an_error_and_not_a_word() -> None:
    for bad in (math.nan, math.inf):
        logits = torch.zeros(5)
        logits[3] = bad
        for sampling in (Sampling(), Sampling(temperature=1.0, seed=0)):
            with pytest.raises(ModelError, match="not a number"):
                Sampler(sampling, [], 5).choose(logits)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidSampling, match="stop"):
        Sampling(stop=("",))


# ---- flow


def plain_greedy(engine: Engine, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    """Without cache, slices or sampler."""
    ids, logprobs = list(prompt), []
    with torch.no_grad():
        for _ in range(n):
            scores = engine.model.logits(engine.model(torch.tensor([ids]))[0, -1]).float().log_softmax(-1)
            ids.append(int(scores.argmax()))
            logprobs.append(float(scores.max()))
    return ids[len(prompt) :], logprobs


def test_greedy_tokens_and_logprobs_are_those_of_the_plain_model(engine: Engine) -> None:
    tokens = list(engine.generate(PROMPT, Sampling(max_tokens=20)))
    ids, logprobs = plain_greedy(engine, PROMPT, 20)
    assert [token.id for token in tokens] == ids
    assert [token.logprob for token in tokens] == pytest.approx(logprobs, abs=1e-4)
    assert "".join(token.text for token in tokens) == engine.tokenizer.decode(ids)


def test_the_end_is_counted_and_named(engine: Engine, letters: Path) -> None:
    ids, _ = plain_greedy(engine, PROMPT, 12)
    reply = engine.generate(PROMPT, Sampling(max_tokens=7))
    assert len(list(reply)) == 7
    assert (reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("length", len(PROMPT), 7)
    with pytest.raises(StopIteration):
        next(reply)
    end = next(token for i, token in enumerate(ids) if i and token not in ids[:i])
    ending = Engine.from_checkpoint(
        loaded(letters, eos_ids=(300, end) if end == 300 else (end,)), kernel="float32"
    )
    reply = ending.generate(PROMPT, Sampling(max_tokens=50))
    tokens = list(reply)
    assert [token.id for token in tokens] == ids[: ids.index(end) + 1] and reply.finish_reason == "stop"
    assert "".join(token.text for token in tokens) == engine.tokenizer.decode(ids[: ids.index(end)])


def test_a_stop_string_ends_the_reply_before_it(engine: Engine) -> None:
    whole = "".join(token.text for token in engine.generate(PROMPT, Sampling(max_tokens=40)))
    stop = whole[5:8]
    reply = engine.generate(PROMPT, Sampling(max_tokens=40, stop=(stop,)))
    assert "".join(token.text for token in reply) == whole[: whole.index(stop)]
    assert reply.finish_reason == "stop" and reply.completion_tokens < 40


def test_what_might_have_become_a_stop_string_is_not_lost_at_the_end(engine: Engine) -> None:
    whole = "".join(token.text for token in engine.generate(PROMPT, Sampling(max_tokens=10)))
    reply = list(engine.generate(PROMPT, Sampling(max_tokens=10, stop=(whole[-3:] + "never",))))
    assert "".join(token.text for token in reply) == whole
    assert reply[-1].text == whole[-3:] and reply[-2].text == ""


def test_a_rows_last_state_does_not_depend_on_the_rows_beside_it(letters: Path) -> None:
    stretched = RopeScaling(kind="dynamic", factor=4.0, original_context_length=16)
    other = Engine.from_checkpoint(loaded(letters, rope_scaling=stretched), kernel="float32")
    short, long = ([7 * i % 250 for i in range(n)] for n in (10, 60))
    together = other.last_states([short, long])
    for row, states in zip((short, long), together, strict=True):
        torch.testing.assert_close(states, other.last_states([row])[0], rtol=1e-4, atol=1e-4)


def test_slices_change_nothing(letters: Path, engine: Engine) -> None:
    prompt = [7 * i % 250 for i in range(50)]
    whole, _ = Engine(engine.model, engine.tokenizer, slice_tokens=1000).prefill([prompt])
    for size in (1, 7, 32):
        sliced, cache = Engine(engine.model, engine.tokenizer, slice_tokens=size).prefill([prompt])
        torch.testing.assert_close(sliced, whole, rtol=1e-4, atol=1e-4)
        assert cache.lengths == [50]


def test_a_batch_of_unequal_prompts_is_each_alone(engine: Engine) -> None:
    sliced = Engine(engine.model, engine.tokenizer, slice_tokens=8)
    prompts = [PROMPT[:n] for n in (1, 30, 8, 17)]
    logits, cache = sliced.prefill(prompts)
    steps = [[3, 5, 7, 9], [1, 1, 2, 2]]
    found = [logits] + [sliced.step(step, cache) for step in steps]
    for row, prompt in enumerate(prompts):
        alone, one = engine.prefill([prompt])
        expected = [alone] + [engine.step([step[row]], one) for step in steps]
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(got[row], want[0], rtol=1e-4, atol=1e-4)


def test_scores_are_log_probabilities_of_each_token_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.engine.scoring.SCORE_TOKENS", 80)  # several batches
    monkeypatch.setattr("model.engine.scoring.LOGIT_ROWS", 3)
    continuations = [[5], [], [9, 8, 7, 6, 5, 4, 3], [1, 2], [9, 8], [200] * 5]
    found = engine.score(PROMPT, continuations)
    with torch.no_grad():
        for tokens, scores in zip(continuations, found, strict=True):
            ids = torch.tensor([PROMPT + tokens])
            table = engine.model.logits(engine.model(ids)).float().log_softmax(-1)[0]
            expected = [float(table[len(PROMPT) - 1 + i, token]) for i, token in enumerate(tokens)]
            assert scores == pytest.approx(expected, abs=1e-4)


def test_a_cached_beginning_is_not_read_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [token.id for token in engine.generate(PROMPT, Sampling(max_tokens=5))]
    _, cache = engine.prefill([PROMPT[:20]])
    read: list[int] = []
    forward = engine.model.forward
    monkeypatch.setattr(
        engine.model, "forward", lambda ids, **more: read.append(ids.shape[1]) or forward(ids, **more)
    )
    reply = engine.generate(PROMPT, Sampling(max_tokens=5), cache=cache.copy())
    assert [token.id for token in reply] == expected
    assert read == [10, 1, 1, 1, 1] and reply.cached_tokens == 20
    again = engine.generate(PROMPT, Sampling(max_tokens=1), cache=engine.prefill([PROMPT])[1])
    assert [token.id for token in again] == expected[
        :1
    ]  # wholly cached: its last token is read for its logits


class Countdown(threading.Event):
    """Set after being looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_cancelling_ends_reading_within_one_slice_and_writing_within_one_token(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliced = Engine(engine.model, engine.tokenizer, slice_tokens=10)
    read: list[int] = []
    forward = engine.model.forward
    monkeypatch.setattr(
        engine.model, "forward", lambda ids, **more: read.append(ids.shape[1]) or forward(ids, **more)
    )
    with pytest.raises(Cancelled):
        next(sliced.generate([1] * 100, Sampling(), Countdown(3)))
    assert read == [10, 10, 10]
    reply = sliced.generate(PROMPT, Sampling(max_tokens=50), Countdown(3 + 4))
    with pytest.raises(Cancelled):
        list(reply)
    assert reply.completion_tokens == 5
    with pytest.raises(Cancelled):
        sliced.score(PROMPT, [[1, 2]], cancel=Countdown(0))


def test_what_does_not_fit_is_refused_with_numbers(engine: Engine) -> None:
    with pytest.raises(ContextOverflow, match=r"500 tokens of prompt and 13 of reply.*512"):
        engine.generate([1] * 500, Sampling(max_tokens=13))
    assert (
        len(list(engine.generate([1] * 500, Sampling(max_tokens=12)))) == 12
    )  # the very last position is usable
    with pytest.raises(ContextOverflow):
        engine.score([1] * 510, [[1, 2, 3]])
    for bad in ([], [256], [-1]):
        with pytest.raises(ModelError):
            engine.generate(bad)
    with pytest.raises(UnsupportedModel, match="no chat template"):
        engine.prompt([{"role": "user", "content": "hi"}])


def test_a_foreign_chat_template_stops_chats_and_nothing_else(letters: Path) -> None:
    made = replace(loaded(letters), metadata={"chat_template": "[INST] {{ messages[0].content }} [/INST]"})
    engine = Engine.from_checkpoint(made, kernel="float32")
    assert engine.chat is None and len(list(engine.generate(PROMPT, Sampling(max_tokens=3)))) == 3
    with pytest.raises(UnsupportedModel, match=r"only ChatML.*INST"):
        engine.prompt([{"role": "user", "content": "hi"}])


def test_replies_may_be_drawn_in_other_threads_and_side_by_side(engine: Engine) -> None:
    sampling = Sampling(max_tokens=15, temperature=1.0, seed=3)
    expected = [token.id for token in engine.generate(PROMPT, sampling)]
    replies: list[Iterator[object]] = [engine.generate(PROMPT, sampling) for _ in range(3)]
    found: list[list[int]] = [[] for _ in replies]

    def draw(i: int) -> None:
        found[i] = [token.id for token in replies[i]]

    next(replies[0])  # begun here, continued there
    threads = [threading.Thread(target=draw, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected[1:], expected, expected]


def test_gpt2_generates_too(letters: Path) -> None:
    shape = {
        "n_kv_heads": 4,
        "positions": "learned",
        "norm": "layernorm",
        "mlp": "gelu_tanh",
        "tied_head": False,
    }
    biases = {"attention_bias": True, "output_bias": True, "mlp_bias": True}
    engine = Engine.from_checkpoint(loaded(letters, **shape, **biases), kernel="float32")
    assert [t.id for t in engine.generate(PROMPT, Sampling(max_tokens=9))] == plain_greedy(engine, PROMPT, 9)[
        0
    ]
    assert replace(engine.config, eos_ids=()) == engine.config
