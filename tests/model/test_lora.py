"""Adapters: exact identity at first, peft's numbers on the same weights, both ways through peft's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from model import lora
from model.config import GPTConfig, LoRAConfig
from model.errors import AdapterError
from model.formats import hf, peft
from model.gpt import GPT
from model.quantized import dense

LLAMA = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
FAMILIES = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**LLAMA)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    ),
}
KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
}


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[transformers.PreTrainedModel, GPT]:
    """A tiny random Hugging Face model and ours with its weights."""
    torch.manual_seed(0)
    theirs = FAMILIES[request.param]().eval()
    for parameter in theirs.parameters():  # biases and norms start at 0 and 1, where mistakes do not show
        parameter.data += 0.05 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    read = hf.read(tmp_path / "hf")
    ours = GPT(read.config)
    ours.load_state_dict({name: dense(weight) for name, weight in read.weights.items()})
    return theirs, ours.eval()


def train_a_little(parameters: list[nn.Parameter], logits: object, steps: int = 3) -> None:
    """Moves every parameter a good way off its start."""
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    for step in range(steps):
        optimiser.zero_grad()
        ids = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(step))
        torch.nn.functional.cross_entropy(logits(ids).flatten(0, 1), ids.flatten()).backward()  # type: ignore[operator]
        optimiser.step()


def our_logits(model: GPT, ids: Tensor) -> Tensor:
    return model.logits(model(ids))


IDS = torch.arange(20).view(2, 10) * 4 % 97


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing_and_a_trained_one_goes_through_peft(
    pair: tuple[transformers.PreTrainedModel, GPT], kind: str, tmp_path: Path
) -> None:
    theirs, ours = pair
    with torch.no_grad():
        before = our_logits(ours, IDS)
    config = LoRAConfig(lora_rank=3, lora_alpha=7, **KINDS[kind])
    lora.inject(ours, config)
    ours.train()
    with torch.no_grad():
        fresh = our_logits(ours, IDS)
    # DoRA multiplies by m / |W|, which is 1 up to rounding
    assert torch.allclose(fresh, before, atol=1e-5) if kind == "dora" else torch.equal(fresh, before)

    trained = [parameter for parameter in ours.parameters() if parameter.requires_grad]
    assert {p for n, p in ours.named_parameters() if ".adapters." in n} == set(trained)
    train_a_little(trained, lambda ids: our_logits(ours, ids))
    ours.eval()
    with torch.no_grad():
        after = our_logits(ours, IDS)
    assert (after - before).abs().max() > 0.1

    folder = tmp_path / "adapter"
    folder.mkdir()
    peft.write(folder, lora.extract(ours, config, base="abc"), ours.config, base_name="tiny")
    with torch.no_grad():
        by_peft = PeftModel.from_pretrained(theirs, folder).eval()(IDS).logits
    torch.testing.assert_close(by_peft, after, rtol=1e-4, atol=1e-4)

    lora.set_active(ours, None)
    with torch.no_grad():
        assert torch.equal(our_logits(ours, IDS), before)
    lora.attach(ours, peft.read(folder, ours.config, base="abc"), name="again")
    lora.set_active(ours, "again")
    with torch.no_grad():
        torch.testing.assert_close(our_logits(ours, IDS), after, rtol=1e-5, atol=1e-5)
    read = peft.read(folder, ours.config, base="abc")
    assert {part.a.shape[0] for part in read.modules.values()} == {
        3
    }  # GPT-2's joined q, k and v are parted again
    lora.go_on(ours, read, config, name="more")
    with torch.no_grad():
        torch.testing.assert_close(our_logits(ours, IDS), after, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in ours.parameters() if p.requires_grad) == sum(p.numel() for p in trained)
    for name in ("again", "more", lora.DEFAULT):
        lora.detach(ours, name)
    assert not any(isinstance(module, lora.LoRALinear) for module in ours.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_peft_trained_computes_the_same_here(
    pair: tuple[transformers.PreTrainedModel, GPT], kind: str, tmp_path: Path
) -> None:
    theirs, ours = pair
    wrapped = get_peft_model(
        theirs,
        PeftConfig(r=3, lora_alpha=7, target_modules="all-linear", task_type="CAUSAL_LM", **KINDS[kind]),
    )
    train_a_little([p for p in wrapped.parameters() if p.requires_grad], lambda ids: wrapped(ids).logits)
    wrapped.save_pretrained(tmp_path / "peft")
    with torch.no_grad():
        expected = wrapped.eval()(IDS).logits
        plain = our_logits(ours, IDS)
    lora.attach(ours, peft.read(tmp_path / "peft", ours.config), name="theirs")
    lora.set_active(ours, "theirs")
    with torch.no_grad():
        found = our_logits(ours, IDS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.1


@given(
    rank=st.integers(1, 5),
    rows=st.integers(1, 3),
    bias=st.booleans(),
    needs=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_the_written_backward_pass_is_that_of_autograd(
    rank: int, rows: int, bias: bool, needs: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int, wanted: bool = True) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(wanted)

    x, weight = drawn(rows, 4, 6, wanted=needs), drawn(5, 6, wanted=False)
    b = drawn(5, wanted=False) if bias else None
    small_a, small_b = drawn(rank, 6), drawn(5, rank)
    plain = nn.functional.linear(x, weight, b) + 0.7 * (x @ small_a.T @ small_b.T)
    ours = lora.FrozenProduct.apply(x, weight, b, small_a, small_b, 0.7)
    torch.testing.assert_close(ours, plain)
    wanted = [small_a, small_b, *([x] if needs else [])]
    pull = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(ours, wanted, pull), torch.autograd.grad(plain, wanted, pull)
    )


def tiny() -> GPT:
    config = GPTConfig(
        vocab_size=50,
        context_length=16,
        n_layers=2,
        n_heads=2,
        n_kv_heads=1,
        d_model=8,
        head_dim=4,
        d_mlp=12,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        norm_eps=1e-5,
    )
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(1))
    return model


def test_targets_take_native_and_hugging_face_names() -> None:
    model = tiny()
    assert lora.targets(model, ["q_proj", "mlp.down"]) == [
        "blocks.0.attn.q", "blocks.0.mlp.down", "blocks.1.attn.q", "blocks.1.mlp.down",
    ]  # fmt: skip
    assert len(lora.targets(model, ["all"])) == 14
    with pytest.raises(AdapterError, match=r"names no projection.*gate_proj"):
        lora.targets(model, ["lm_head"])


def test_several_adapters_take_turns() -> None:
    model = tiny().eval()
    ids = torch.arange(6)[None]
    config = LoRAConfig(lora_rank=2)
    outputs = {None: model(ids)}
    for name in ("one", "two"):
        lora.inject(model, config, name=name)
        with torch.no_grad():
            for correction in (m for m in model.modules() if isinstance(m, lora.Correction)):
                correction.b.normal_() if correction.b.abs().sum() == 0 else None
        outputs[name] = model(ids)
    for name in ("two", None, "one", None, "two"):
        lora.set_active(model, name)
        assert lora.active(model) == name
        assert torch.equal(model(ids), outputs[name])
    assert not torch.equal(outputs["one"], outputs["two"])
    with pytest.raises(AdapterError, match=r"no adapter 'three'.*one, two"):
        lora.set_active(model, "three")


def test_an_adapter_for_another_base_is_refused(tmp_path: Path) -> None:
    model = tiny()
    lora.inject(model, LoRAConfig(lora_rank=2))
    adapter = lora.extract(model, LoRAConfig(lora_rank=2), base="a" * 64)
    peft.write(tmp_path, adapter, model.config, base_name="tiny-chat")
    peft.read(tmp_path, model.config, base="a" * 64)
    with pytest.raises(AdapterError, match=r"trained on tiny-chat .*aaaa.*not on this base .*bbbb"):
        peft.read(tmp_path, model.config, base="b" * 64)
    wider = GPTConfig.from_dict(model.config.to_dict() | {"d_mlp": 16})
    with pytest.raises(AdapterError, match=r"mlp\.gate of 12 x 8, this model's is 16 x 8"):
        peft.read(tmp_path, wider)
    shallow = GPTConfig.from_dict(model.config.to_dict() | {"n_layers": 1})
    with pytest.raises(AdapterError, match=r"has no place in this decoder"):
        peft.read(tmp_path, shallow)
    described = json.loads((tmp_path / peft.CONFIG_FILE).read_text())
    for patterns in ({"(": 3}, {"q_proj": "x"}, [1]):
        (tmp_path / peft.CONFIG_FILE).write_text(json.dumps(described | {"alpha_pattern": patterns}))
        with pytest.raises(AdapterError, match=r"alpha_pattern must map"):
            peft.read(tmp_path, model.config)
    (tmp_path / peft.CONFIG_FILE).write_text(json.dumps(described))
    (tmp_path / peft.WEIGHTS_FILE).write_bytes(b"torn")
    with pytest.raises(AdapterError, match=r"damaged"):
        peft.read(tmp_path, model.config)


def test_bf16_activations_leave_the_adapter_in_float32() -> None:
    model = tiny()
    reference = tiny()
    for one in (model, reference):
        lora.inject(one, LoRAConfig(lora_rank=2), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            generator = torch.Generator().manual_seed(3)
            for correction in (m for m in one.modules() if isinstance(m, lora.Correction)):
                correction.b.normal_(0, 0.1, generator=generator)
    for module in model.modules():  # the frozen part only
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                setattr(module, name, nn.Parameter(parameter.bfloat16(), requires_grad=False))
    ids = torch.arange(12).view(2, 6)
    for one in (model, reference):
        nn.functional.cross_entropy(one.logits(one(ids)).float().flatten(0, 1), ids.flatten()).backward()
    pairs = [
        (low.grad, exact.grad)
        for low, exact in zip(model.parameters(), reference.parameters(), strict=True)
        if low.requires_grad
    ]
    assert {low.dtype for low, _ in pairs} == {torch.float32}
    low, exact = (torch.cat([grad.flatten() for grad in side]) for side in zip(*pairs, strict=True))
    assert (low - exact).norm() < 0.05 * exact.norm()
