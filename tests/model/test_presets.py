"""The published shapes: against the families' own `config.json`, and their sizes against transformers."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.errors import UnknownModel
from model.formats.hf.families import FAMILIES, Values, describe
from model.gpt import GPT
from model.layout import tensor_shapes
from model.presets import NANO, PRESETS, PUBLISHED, preset

FIXTURES = Path(__file__).parent / "fixtures"
#: Parameters as published (the tied head counted once).
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
}
#: Of the published files, where their hash is on record: these fixtures are those very bytes.
SHA256 = {
    "qwen2.5-0.5b": "479dcf0c5286339e41ad3992cd08ae88a467c4187587936248e2b7c96283484b",
    "smollm2-360m": "34f7801487078de7e434e19162c497e5cc6ff397080e40e8586627cb68a5168a",
}
#: The same as a git blob.
SHA1 = {"gpt2": "10c66461e4c109db5a2196bff4bb59be30396ed8"}


def fixture(name: str) -> Path:
    return FIXTURES / f"{name}.config.json"


def test_there_is_one_fixture_a_preset() -> None:
    assert {path.name.removesuffix(".config.json") for path in FIXTURES.glob("*.config.json")} == set(
        PUBLISHED
    )
    assert set(PARAMETERS) == set(PUBLISHED) == set(PRESETS) - set(NANO)


@pytest.mark.parametrize("name", SHA256 | SHA1)
def test_a_fixture_is_the_published_file(name: str) -> None:
    content = fixture(name).read_bytes()
    if name in SHA256:
        assert hashlib.sha256(content).hexdigest() == SHA256[name]
    else:
        assert hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == SHA1[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_what_the_published_config_says(name: str) -> None:
    values = json.loads(fixture(name).read_text())
    family = FAMILIES[values["architectures"][0]]
    read = family.config(Values(fixture(name), values, values["eos_token_id"]))
    assert PRESETS[name] == read
    # And written again, every key of ours says what the publisher's says, where the publisher has it.
    described = describe(read)[1] | {"use_cache": True}
    for key in ("attn_pdrop", "embd_pdrop", "resid_pdrop"):  # no dropout: it is a setting of training
        described.pop(key, None)
    assert {key: value for key, value in described.items() if key in values and values[key] != value} == {}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    ours = sum(math.prod(shape) for shape in tensor_shapes(PRESETS[name]).values())
    config = transformers.AutoConfig.for_model(**json.loads(fixture(name).read_text()))
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config)
        decoder = GPT(PRESETS[name])
    assert ours == theirs.num_parameters() == PARAMETERS[name]
    assert sum(parameter.numel() for parameter in decoder.parameters()) == ours


def test_an_unknown_preset_is_named() -> None:
    assert preset("gpt2") == PRESETS["gpt2"]
    assert replace(preset("gpt2"), context_length=64).context_length == 64
    with pytest.raises(UnknownModel, match=r"gpt3.*gpt2-xl"):
        preset("gpt3")
