"""Beam search against transformers on tiny models, and what holds for any."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import torch

from model import checkpoint
from model.config import Sampling
from model.engine import Engine
from model.errors import Cancelled, InvalidSampling
from model.formats import hf
from model.quantized import dense
from tests.model import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ([5, 9, 33, 70, 12], [40], list(range(4, 44)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Any]:
    """One tiny model here and in transformers, whose end tokens are likely enough to be met."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("beams")
    tokenizer = tiny.trained_tokenizer()
    config = tiny.family("llama", tokenizer.get_vocab_size(), eos_ids=(2, 7), bos_id=None)
    made = tiny.saved(path / "native", config, tokenizer.to_str().encode())
    weights = dict(made.weights)
    raised = 3.0 * dense(weights["embed.weight"])
    raised[[2, 7]] *= 1.6
    weights["embed.weight"] = raised
    checkpoint.save(path / "sharp", config, weights, tokenizer.to_str().encode(), {})
    folder = hf.write(checkpoint.load(path / "sharp"), path / "hf", dtype="fp32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    return Engine.load(path / "sharp", kernel="float32"), theirs


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
def test_the_reply_is_that_of_transformers(
    pair: tuple[Engine, Any], early_stopping: Any, length_penalty: float
) -> None:
    engine, theirs = pair
    lengths = set()
    for prompt, beams, most, penalty in itertools.product(PROMPTS, (2, 5), (1, 12), (1.0, 1.3)):
        expected = theirs.generate(
            torch.tensor([prompt]),
            max_new_tokens=most,
            num_beams=beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            repetition_penalty=penalty,
            do_sample=False,
            eos_token_id=[2, 7],
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        reply = engine.generate(
            prompt,
            Sampling(
                max_tokens=most,
                num_beams=beams,
                length_penalty=length_penalty,
                early_stopping=early_stopping,
                repetition_penalty=penalty,
            ),
        )
        found = [token.id for token in reply]
        assert found == expected, (prompt, beams, most, penalty)
        assert reply.finish_reason == ("stop" if found[-1] in (2, 7) else "length")
        lengths.add(len(found))
    assert len(lengths) > 2 or length_penalty not in (0.0, 1.0)  # replies ended at several places


def test_beams_find_what_greedy_decoding_misses(pair: tuple[Engine, Any]) -> None:
    engine, _ = pair
    gained = []
    for prompt in PROMPTS:
        greedy = [t.id for t in engine.generate(prompt, Sampling(max_tokens=6))]
        reply = engine.generate(prompt, Sampling(max_tokens=6, num_beams=8, length_penalty=0.0))
        tokens = list(reply)
        (of_greedy, of_beams) = engine.score(prompt, [greedy, [t.id for t in tokens]])
        torch.testing.assert_close([t.logprob for t in tokens], of_beams, rtol=1e-3, atol=1e-3)
        gained.append(sum(of_beams) - sum(of_greedy))
    assert min(gained) > -1e-4 and max(gained) > 1e-3


def test_a_stop_string_ends_a_beam_and_the_text_before_it(pair: tuple[Engine, Any]) -> None:
    engine, _ = pair
    whole = "".join(t.text for t in engine.generate(PROMPTS[0], Sampling(max_tokens=12, num_beams=3)))
    stop = whole[len(whole) // 2 :][:2]
    reply = engine.generate(PROMPTS[0], Sampling(max_tokens=12, num_beams=3, stop=(stop,)))
    said = "".join(token.text for token in reply)
    assert stop not in said
    assert reply.finish_reason in ("stop", "length")


def test_the_cache_goes_on_and_cancelling_ends_a_search(pair: tuple[Engine, Any]) -> None:
    engine, _ = pair
    reply = engine.generate(PROMPTS[2], Sampling(max_tokens=5, num_beams=3))
    tokens = [token.id for token in reply]
    longer = [*PROMPTS[2], *tokens, 9]
    assert reply.cache is not None and reply.cache.lengths == [len(PROMPTS[2])]
    sampling = Sampling(max_tokens=4)
    again = [t.id for t in engine.generate(longer, sampling, cache=reply.cache)]
    assert again == [t.id for t in engine.generate(longer, sampling)]
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        next(engine.generate(PROMPTS[0], Sampling(num_beams=2, max_tokens=20), stop))


def test_what_beams_do_not_go_with_is_refused(pair: tuple[Engine, Any]) -> None:
    for wrong, said in (
        ({"num_beams": 0}, "num_beams must be between 1 and 16"),
        ({"num_beams": 17}, "num_beams"),
        ({"num_beams": 2, "temperature": 0.5}, "temperature 0"),
        ({"early_stopping": "soon"}, "early_stopping"),
        ({"length_penalty": float("inf")}, "length_penalty"),
        ({"prompt_lookup": -1}, "prompt_lookup"),
    ):
        with pytest.raises(InvalidSampling, match=said):
            Sampling(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidSampling, match="one beam"):
        pair[0].generate([5], Sampling(num_beams=2, max_tokens=2), constraint=object())  # type: ignore[arg-type]
