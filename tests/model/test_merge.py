"""Merging: equal to the adapter, rounded once, heads still tied, and both origins named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import checkpoint, lora
from model.config import GPTConfig, LoRAConfig
from model.errors import AdapterError
from model.formats import peft
from model.gpt import GPT
from model.identity import identity
from model.lora import Adapter, LowRank
from model.merge import merge, merge_folder
from model.quantized import Q4_1, Weight, dense
from model.shelf import KNOWN, TRAINED_ON
from tests.model import tiny


def loaded(config: GPTConfig, weights: dict[str, Weight]) -> GPT:
    model = GPT(config)
    model.load_state_dict({name: dense(weight) for name, weight in weights.items()})
    return model.eval()


def some_adapter(config: GPTConfig, weights: dict[str, Weight], knobs: LoRAConfig) -> Adapter:
    """As after training: no part of it is zero."""
    model = loaded(config, weights)
    lora.inject(model, knobs, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for correction in (m for m in model.modules() if isinstance(m, lora.Correction)):
            correction.b.normal_(0, 0.05, generator=generator)
            if correction.magnitude is not None:
                correction.magnitude.mul_(
                    1 + 0.2 * torch.rand(correction.magnitude.shape, generator=generator)
                )
    return lora.extract(model, knobs, base=identity(weights))


@pytest.mark.parametrize(
    "knobs", [LoRAConfig(), LoRAConfig(use_dora=True), LoRAConfig(use_rslora=True)], ids=str
)
@pytest.mark.parametrize("kinds", [("f32",), ("q4_1", "q8_0")], ids=str)
def test_merged_equals_adapter_and_differs_from_base(
    knobs: LoRAConfig, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny.config()
    weights = {
        n: w if not isinstance(w, torch.Tensor) else w * 0.1
        for n, w in tiny.weights(config, kinds=kinds).items()
    }
    checkpoint.save(
        tmp_path / "base", config, weights, tiny.tokenizer(), {"license": "x", "sha256": "of the base"}
    )
    base = checkpoint.load(tmp_path / "base")
    adapter = some_adapter(config, base.weights, knobs)
    (tmp_path / "adapter").mkdir()
    peft.write(tmp_path / "adapter", adapter, config, base_name="base")

    merge_folder(base, tmp_path / "adapter", tmp_path / "merged", dtype=torch.float32)
    merged = checkpoint.load(tmp_path / "merged")
    assert merged.config == config
    assert merged.metadata["merged"]["base"] == "base"
    assert merged.metadata["license"] == "x"
    assert "sha256" not in merged.metadata
    assert config.tied_head
    assert "head.weight" not in merged.weights
    assert tiny.same(merged.weights["embed.weight"], base.weights["embed.weight"])

    ids = torch.arange(24).view(2, 12) * 9 % 256
    adapted = loaded(config, base.weights)
    lora.attach(adapted, adapter, name="it")
    with torch.no_grad():
        plain = adapted.logits(adapted(ids))
        lora.set_active(adapted, "it")
        expected = adapted.logits(adapted(ids))
        model = loaded(config, merged.weights)
        found = model.logits(model(ids))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert (expected - plain).norm() > 0.01 * plain.norm()


def test_a_model_knows_the_collections_of_every_adapter_that_was_folded_into_it(tmp_path: Path) -> None:
    config = tiny.config()
    checkpoint.save(tmp_path / "base", config, tiny.weights(config), tiny.tokenizer(), {})
    base = checkpoint.load(tmp_path / "base")
    for number, (told, known) in enumerate(
        (
            (None, None),
            ('{"collection": "b"}', ["b"]),
            ('{"collection": "a"}', ["a", "b"]),
            ("damaged", ["", "a", "b"]),
        )
    ):
        folder = tmp_path / f"adapter-{number}"
        folder.mkdir()
        peft.write(folder, some_adapter(config, base.weights, LoRAConfig()), config, base_name="base")
        if told is not None:
            (folder / TRAINED_ON).write_text(told)
        merge_folder(base, folder, tmp_path / f"merged-{number}")
        base = checkpoint.load(tmp_path / f"merged-{number}")
        assert base.metadata.get(KNOWN) == known


def test_the_sum_is_made_in_float32_and_rounded_once() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(64, 64, generator=generator).bfloat16()
    part = LowRank(
        torch.randn(4, 64, generator=generator), torch.randn(64, 4, generator=generator) * 0.01, 1.0
    )
    merged = merge({"m.weight": weight}, Adapter(LoRAConfig(lora_rank=4), {"m": part}))["m.weight"]
    assert isinstance(merged, torch.Tensor)
    exact = (weight.double() + part.b.double() @ part.a.double()).bfloat16()
    rounded_twice = weight + (part.b @ part.a).bfloat16()
    assert merged.dtype == torch.bfloat16
    assert (merged != exact).sum() <= 2  # float32 and float64 may fall on either side of a tie
    assert (rounded_twice != exact).sum() > 50


def test_a_quantized_projection_becomes_dense_and_the_others_stay() -> None:
    config = tiny.config()
    weights = tiny.weights(config, kinds=("q4_1",))
    adapter = some_adapter(config, weights, LoRAConfig(lora_target=("q",)))
    merged = merge(weights, adapter)
    assert isinstance(merged["blocks.0.attn.q.weight"], torch.Tensor)
    assert isinstance(weights["blocks.0.attn.q.weight"], Q4_1)
    untouched = [name for name in weights if ".attn.q." not in name]
    assert all(merged[name] is weights[name] for name in untouched)


def test_broken_and_foreign_adapters_are_refused(tmp_path: Path) -> None:
    config = tiny.config()
    weights = tiny.weights(config)
    adapter = some_adapter(config, weights, LoRAConfig(lora_target=("v",)))
    adapter.modules["blocks.0.attn.v"].b[0, 0] = torch.nan
    with pytest.raises(AdapterError, match="not finite"):
        merge(weights, adapter)
    checkpoint.save(tmp_path / "base", config, tiny.weights(config, seed=5), tiny.tokenizer(), {})
    (tmp_path / "adapter").mkdir()
    peft.write(tmp_path / "adapter", adapter, config, base_name="other")
    with pytest.raises(AdapterError, match="trained on other"):
        merge_folder(checkpoint.load(tmp_path / "base"), tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_identity_sees_every_bit() -> None:
    weights = tiny.weights(tiny.config(), kinds=("f32", "q4_1", "bf16", "q8_0"))
    first = identity(weights)
    assert first == identity(dict(reversed(weights.items())))
    for name, weight in weights.items():
        if isinstance(weight, torch.Tensor):
            other: Weight = weight.clone()
            other.view(-1)[-1] += 1
        elif isinstance(weight, Q4_1):
            other = Q4_1(weight.codes, weight.scale, weight.minimum + 1)
        else:
            continue
        assert identity(weights | {name: other}) != first, name
