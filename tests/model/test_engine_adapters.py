"""An attached adapter computes what the injected and the merged one do; switched off, nothing has happened."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import lora
from model.checkpoint import Checkpoint
from model.config import GPTConfig, LoRAConfig, Sampling
from model.engine import Engine
from model.engine.probe import NAMED
from model.errors import AdapterError
from model.gpt import GPT
from model.identity import identity
from model.lora import Adapter, LowRank
from model.merge import merge
from model.quantized import Q4_1, Q8_0, Weight, dense
from tests.model import tiny

BIASES = {"attention_bias": True, "output_bias": True, "mlp_bias": True}
CONFIGS = {
    "llama": tiny.config(context_length=256),
    "qwen2": tiny.config(context_length=256, attention_bias=True),
    "gpt2": tiny.config(
        context_length=256, n_kv_heads=4, positions="learned", norm="layernorm", mlp="gelu_tanh",
        tied_head=False, **BIASES,
    ),
}  # fmt: skip
PROMPT = [int(i) for i in torch.randint(1, 256, (40,), generator=torch.Generator().manual_seed(5))]


pytestmark = pytest.mark.usefixtures("one_thread")


def checkpoint(folder: Path, config: GPTConfig, kinds: tuple[str, ...] = ("f32",)) -> Checkpoint:
    """Weights scaled so that activations stay of order 1."""
    weights: dict[str, Weight] = {
        n: 0.2 * w if isinstance(w, Tensor)
        else Q4_1(w.codes, w.scale / 64, (-7.5 * w.scale / 64).half()) if isinstance(w, Q4_1)
        else Q8_0(w.codes, w.scale / 1024)
        for n, w in tiny.weights(config, kinds=kinds).items()
    }  # fmt: skip
    (folder / "tokenizer.json").write_bytes(tiny.tokenizer())
    return Checkpoint(folder, config, weights, folder / "tokenizer.json", {})


def adapter(found: Checkpoint, *, dora: bool = False, skip: tuple[str, ...] = (), seed: int = 0) -> Adapter:
    """Random corrections, about half as large as the weights, of ranks 1, 2 and 3 in turn."""
    generator = torch.Generator().manual_seed(seed)
    modules = {}
    for i, (name, module) in enumerate(lora.projections(GPT(found.config)).items()):
        out, width = module.weight.shape
        if name.endswith(skip or "-"):
            continue
        rank = 1 + i % 3
        a = torch.randn(rank, width, generator=generator) / 8
        b = torch.randn(out, rank, generator=generator) / 8
        weight = dense(found.weights[f"{name}.weight"])
        magnitude = weight.norm(dim=1) * (0.5 + torch.rand(out, generator=generator)) if dora else None
        modules[name] = LowRank(a, b, 1.5, magnitude)
    return Adapter(LoRAConfig(lora_rank=3, use_dora=dora), modules, identity(found.weights))


def logits(engine: Engine) -> Tensor:
    """The last prompt token's and, step by step from the cache, those behind six more."""
    first, cache = engine.prefill([PROMPT])
    return torch.cat([first, *(engine.step([token], cache) for token in (3, 141, 5, 92, 6, 53))])


def apart(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("skip", [(), ("attn.k", "mlp.up", "attn.o")], ids=["all", "some"])
@pytest.mark.parametrize("dora", [False, True], ids=["plain", "dora"])
@pytest.mark.parametrize("name", CONFIGS)
def test_attached_is_injected_is_merged(name: str, dora: bool, skip: tuple[str, ...], tmp_path: Path) -> None:
    base = checkpoint(tmp_path, CONFIGS[name])
    trained = adapter(base, dora=dora, skip=skip)
    engine = Engine.from_checkpoint(base, kernel="float32")
    before = logits(engine)
    engine.attach("law", trained)
    spoken = logits(engine.use("law"))
    assert apart(spoken, before) > 0.05, "the adapter must say something"

    injected = GPT(base.config)
    injected.load_state_dict({n: dense(w) for n, w in base.weights.items()})
    lora.attach(injected.eval(), trained)
    lora.set_active(injected, lora.DEFAULT)
    with torch.no_grad():
        whole = injected(torch.tensor([[*PROMPT, 3, 141, 5, 92, 6, 53]]))[0, len(PROMPT) - 1 :]
        torch.testing.assert_close(spoken, injected.logits(whole), rtol=1e-4, atol=1e-4)

    merged = replace(base, weights=merge(base.weights, trained, torch.float32))
    torch.testing.assert_close(
        spoken, logits(Engine.from_checkpoint(merged, kernel="float32")), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(logits(engine), before) and torch.equal(logits(engine.use("law").use(None)), before)
    engine.detach("law")
    assert engine.adapters == [] and torch.equal(logits(engine), before)


@pytest.mark.parametrize("dora", [False, True], ids=["plain", "dora"])
@pytest.mark.parametrize("kinds", [("q4_1", "q8_0"), ("f32",)], ids=["blocks", "dense"])
@pytest.mark.parametrize("kernel", NAMED)
def test_every_kernel_computes_the_corrected_product(
    kernel: str, kinds: tuple[str, ...], dora: bool, tmp_path: Path
) -> None:
    """Against float32; narrower kernels round each of some ten results a layer, as they do without one."""
    base = checkpoint(tmp_path, CONFIGS["qwen2"], kinds)
    trained = adapter(base, dora=dora)
    exact = Engine.from_checkpoint(base, kernel="float32")
    engine = Engine.from_checkpoint(base, kernel=kernel)
    plain = apart(logits(engine), logits(exact))
    for each in (exact, engine):
        each.attach("law", trained)
    found, wanted = logits(engine.use("law")), logits(exact.use("law"))
    assert apart(found, wanted) <= max(2 * plain, 1e-5) < 0.1
    assert apart(logits(engine), wanted) > 0.1


def test_cached_is_uncached_and_rows_are_alone(tmp_path: Path) -> None:
    base = checkpoint(tmp_path, CONFIGS["llama"])
    engine = Engine.from_checkpoint(base, kernel="float32")
    engine.attach("law", adapter(base))
    law = engine.use("law")
    _, half = law.prefill([PROMPT[:17]])
    cached, _ = law.prefill([PROMPT], cache=half)
    together, _ = law.prefill([PROMPT[:9], PROMPT])
    alone, _ = law.prefill([PROMPT])
    torch.testing.assert_close(cached, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together[1:], alone, rtol=1e-5, atol=1e-5)
    scores = law.score(PROMPT[:30], [PROMPT[30:], PROMPT[30:33]])
    assert scores[1] == pytest.approx(scores[0][:3], abs=1e-4)
    assert scores != engine.score(PROMPT[:30], [PROMPT[30:], PROMPT[30:33]])


def test_a_cache_is_not_shared_between_adapters(tmp_path: Path) -> None:
    base = checkpoint(tmp_path, CONFIGS["llama"])
    engine = Engine.from_checkpoint(base, kernel="float32")
    engine.attach("law", adapter(base))
    engine.attach("tax", adapter(base, seed=1))
    _, cache = engine.use("law").prefill([PROMPT])
    assert cache.adapter is not None and cache.adapter.startswith("law (")
    for other, said in ((engine, "no adapter"), (engine.use("tax"), "tax")):
        with pytest.raises(AdapterError, match=f"law.*{said}"):
            other.step([1], cache.copy())
        with pytest.raises(AdapterError, match="read the prompt again"):
            other.prefill([PROMPT], cache=cache.copy())
    with pytest.raises(AdapterError, match=r"no adapter and cannot go on with the adapter law \("):
        engine.use("law").step([1], engine.prefill([PROMPT])[1])
    law = engine.use("law")
    kept = law.step([1], cache.copy())
    engine.detach("law")
    assert torch.equal(law.step([1], cache.copy()), kept)  # a reply that has begun is not cut off
    with pytest.raises(AdapterError, match="no adapter 'law' is attached; there are tax"):
        engine.use("law")
    engine.attach("law", adapter(base))  # the same again: what it has read is as good as before
    assert torch.equal(engine.use("law").step([1], cache.copy()), kept)
    assert engine.use("law").voice == law.voice != engine.use("tax").voice
    engine.detach("law")
    engine.attach("law", adapter(base, seed=2))  # the same name, another adapter
    assert engine.use("law").voice != law.voice
    with pytest.raises(AdapterError, match=r"read with the adapter law \(.*cannot go on with .*law \("):
        engine.use("law").step([1], cache)


def test_replies_in_turn_and_in_threads_keep_their_adapters(tmp_path: Path) -> None:
    base = checkpoint(tmp_path, CONFIGS["llama"])
    engine = Engine.from_checkpoint(base, kernel="float32")
    engine.attach("law", adapter(base))
    engine.attach("tax", adapter(base, seed=1))
    names = [None, "law", "tax"]
    drawn = Sampling(max_tokens=12, temperature=1.0, seed=3)
    alone = [[t.id for t in engine.use(name).generate(PROMPT, drawn)] for name in names]
    assert alone[0] != alone[1] != alone[2]

    turns = [engine.use(name).generate(PROMPT, drawn) for name in names]
    taken: list[list[int]] = [[] for _ in names]
    for _ in range(12):
        for reply, tokens in zip(turns, taken, strict=True):
            tokens += [token.id for token in [next(reply, None)] if token is not None]
    assert taken == alone

    found: dict[int, list[int]] = {}

    def run(i: int) -> None:
        found[i] = [t.id for t in engine.use(names[i % 3]).generate(PROMPT, drawn)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == alone * 2


def test_what_does_not_belong_here_is_refused(tmp_path: Path) -> None:
    base = checkpoint(tmp_path, CONFIGS["llama"])
    engine = Engine.from_checkpoint(base, kernel="float32")
    fitting = adapter(base)
    with pytest.raises(AdapterError, match="trained on weights 000000000000, not on") as refusal:
        engine.attach("law", replace(fitting, base="0" * 64))
    assert engine.name in str(refusal.value)
    wide = {name: replace(m, b=m.b[:-1]) for name, m in fitting.modules.items()}
    with pytest.raises(AdapterError, match="it is for another base"):
        engine.attach("law", replace(fitting, base=None, modules=wide))
    assert engine.adapters == []
    engine.attach("law", replace(fitting, base=None))  # an adapter from elsewhere does not say
    with pytest.raises(AdapterError, match="attached already"):
        engine.attach("law", fitting)
    with pytest.raises(AdapterError, match="no adapter 'tax' is attached; there are law"):
        engine.use("tax")
    with pytest.raises(AdapterError, match="needs a name"):
        engine.attach("", fitting)
