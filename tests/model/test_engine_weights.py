"""The engine on the real weights: transformers' logits and tokens, the kernels against float32."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.generation import as_transformers
from model import checkpoint
from model.chat import Message
from model.checkpoint import Checkpoint
from model.config import Sampling
from model.engine import Cache, Engine
from model.gpt import GPT
from model.quantized import dense

pytestmark = pytest.mark.weights
pytest.importorskip("transformers")

TEXT = (
    "The Eiffel Tower was built from 1887 to 1889 by Gustave Eiffel's company.\n\n"
    "def area(r):\n    return 3.14159 * r ** 2\n\n知识库根据文档回答问题。"
)
CONVERSATION: list[Message] = [{"role": "user", "content": "Who built the Eiffel Tower, and how tall is it?"}]


@pytest.fixture(scope="module")
def loaded(weights_of: Callable[[str], Path]) -> Checkpoint:
    return checkpoint.load(weights_of("smollm2-135m-instruct"))


@pytest.fixture(scope="module")
def engine(loaded: Checkpoint) -> Engine:
    return Engine.from_checkpoint(loaded, kernel="float32")


@pytest.fixture(scope="module")
def packed(loaded: Checkpoint) -> Engine:
    return Engine.from_checkpoint(loaded, kernel="bfloat16+packed")


@pytest.fixture(scope="module")
def exact(engine: Engine) -> torch.Tensor:
    """Log-probabilities (n, vocab_size) of the next token all along the text, in float32."""
    return along(engine, engine.tokenizer.encode(TEXT))


def along(engine: Engine, ids: list[int], stepped_from: int | None = None) -> torch.Tensor:
    """Log-probabilities (n, vocab_size) of the next token; from some position on read one token at a time."""
    with torch.inference_mode():
        first = ids[:stepped_from] if stepped_from is not None else ids
        cache = Cache(engine.config, dtype=engine.dtype)
        parts = [engine.model.logits(engine.model(torch.tensor([first]), cache=cache))[0]]
        parts += [engine.step([token], cache) for token in ids[len(first) :]]
        return torch.cat(parts).float().log_softmax(-1)


def divergence(exact: torch.Tensor, found: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence, in nats a token."""
    return float((exact.exp() * (exact - found)).sum(-1).mean())


def test_logits_and_greedy_tokens_are_those_of_transformers(loaded: Checkpoint, engine: Engine) -> None:
    theirs = as_transformers(loaded)
    ids = torch.tensor([engine.tokenizer.encode(TEXT)])
    plain = GPT(loaded.config)
    plain.load_state_dict({n: dense(w) for n, w in loaded.weights.items()})
    prompt = engine.prompt(CONVERSATION)
    with torch.no_grad():
        expected = theirs(ids).logits
        assert (plain.logits(plain(ids)) - expected).abs().max() < 1e-3
        assert (engine.model.logits(engine.model(ids)) - expected).abs().max() < 1e-3
        reply = theirs.generate(torch.tensor([prompt]), max_new_tokens=32, do_sample=False)
        greedy = reply[0, len(prompt) :].tolist()
    assert [token.id for token in engine.generate(prompt, Sampling(max_tokens=32))] == greedy
    del theirs, plain
    gc.collect()


def test_packed_steps_come_closer_to_float32_than_plain_bf16_does(
    loaded: Checkpoint, engine: Engine, packed: Engine, exact: torch.Tensor
) -> None:
    ids = engine.tokenizer.encode(TEXT)
    plain = GPT(loaded.config)
    plain.load_state_dict({n: dense(w, torch.bfloat16) for n, w in loaded.weights.items()}, assign=True)
    with torch.no_grad():
        usual = plain.logits(plain(torch.tensor([ids])))[0].float().log_softmax(-1)
    stepped, whole = along(packed, ids, stepped_from=len(ids) - 16), along(packed, ids)
    assert divergence(exact, whole) < divergence(exact, usual)
    assert divergence(exact, stepped) < 1.2 * divergence(exact, usual)
    # Cached equals uncached within the kernels' own rounding: closer to each other than 2e-3 nats.
    assert divergence(whole, stepped) < 2e-3


@pytest.mark.parametrize("kernel", ["engine", "packed"])
def test_replies_make_sense_and_repeat(kernel: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(kernel)
    prompt = engine.tokenizer.encode("The capital of France is")
    reply = engine.generate(prompt, Sampling(max_tokens=20, stop=(".", "\n")))
    text = "".join(token.text for token in reply)
    assert text.startswith(" Paris") and reply.finish_reason == "stop"
    sampling = Sampling(max_tokens=12, temperature=0.8, top_p=0.9, seed=5)
    drawn = ["".join(token.text for token in engine.generate(prompt, sampling)) for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kernel", ["engine", "packed"])
def test_an_unequal_batch_is_each_alone(kernel: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(kernel)
    ids = engine.tokenizer.encode(TEXT)
    prompts = [ids[:50], ids[:9], ids[:33]]
    batch, cache = engine.prefill(prompts)
    more = engine.step([11, 12, 13], cache)
    for row, prompt in enumerate(prompts):
        alone, one = engine.prefill([prompt])
        allowed = 1e-4 if kernel == "engine" else 5e-3
        assert divergence(alone.log_softmax(-1), batch[row : row + 1].log_softmax(-1)) < allowed
        again = engine.step([11 + row], one)
        assert divergence(again.log_softmax(-1), more[row : row + 1].log_softmax(-1)) < allowed


def test_likelihood_knows_the_capital(packed: Engine) -> None:
    encode = packed.tokenizer.encode
    scores = packed.score(
        encode("The capital of France is"), [encode(c) for c in (" Paris", " London", " Seine")]
    )
    totals = [sum(score) for score in scores]
    assert totals[0] > max(totals[1:]) + 2
