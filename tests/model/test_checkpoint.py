"""Native checkpoints: saved and loaded bit for bit, damage has a name, a crash leaves the old or the new."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import checkpoint, folder
from model.config import GPTConfig
from model.errors import CheckpointError, ModelError
from model.formats.header import read_header
from model.gpt import GPT
from model.layout import tensor_shapes
from tests.model import tiny

configs = st.builds(
    lambda groups, kv, dim, **rest: tiny.config(n_heads=groups * kv, n_kv_heads=kv, head_dim=2 * dim, **rest),
    groups=st.integers(1, 3),
    kv=st.integers(1, 2),
    dim=st.integers(1, 4),
    vocab_size=st.integers(1, 9),
    context_length=st.integers(1, 5),
    n_layers=st.integers(1, 3),
    d_model=st.sampled_from([1, 7, 32, 64]),
    d_mlp=st.sampled_from([1, 32]),
    positions=st.sampled_from(["learned", "rotary"]),
    norm=st.sampled_from(["layernorm", "rmsnorm"]),
    mlp=st.sampled_from(["gelu", "gelu_tanh", "swiglu"]),
    attention_bias=st.booleans(),
    output_bias=st.booleans(),
    mlp_bias=st.booleans(),
    tied_head=st.booleans(),
)
kinds = st.lists(st.sampled_from(["f32", "f16", "bf16", "q4_1", "q8_0"]), min_size=1, max_size=5).map(tuple)


@given(configs)
@settings(max_examples=60, deadline=None)
def test_the_list_of_tensors_is_the_decoder_s_own(config: GPTConfig) -> None:
    with torch.device("meta"):
        parameters = dict(GPT(config).named_parameters())
    assert tensor_shapes(config) == {name: tuple(p.shape) for name, p in parameters.items()}


@given(configs, kinds, st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, config: GPTConfig, kinds: tuple[str, ...], seed: int
) -> None:
    path = tmp_path_factory.mktemp("home") / "models" / "tiny"
    weights = tiny.weights(config, seed, kinds)
    metadata = {"source": "here", "chat_template": "{{ 'ü' }}"}
    checkpoint.save(path, config, weights, tiny.tokenizer(), metadata)
    loaded = checkpoint.load(path)
    assert (loaded.config, loaded.metadata) == (config, metadata)
    assert loaded.tokenizer_file.read_bytes() == tiny.tokenizer()
    assert loaded.weights.keys() == weights.keys()
    assert all(tiny.same(loaded.weights[name], weights[name]) for name in weights)
    assert folder.damage(path, hashes=True) == []


def test_codes_are_packed_in_ggml_s_order() -> None:
    codes = torch.arange(64, dtype=torch.uint8).remainder(16).view(1, 64).flip(1).contiguous()
    packed = checkpoint.pack_codes(codes)
    for j in range(16):  # byte j of a block: element j low, element j + 16 high
        assert packed[0, j] == codes[0, j] | codes[0, j + 16] << 4
        assert packed[0, 16 + j] == codes[0, 32 + j] | codes[0, 48 + j] << 4
    assert torch.equal(checkpoint.unpack_codes(packed), codes)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "tiny"
    checkpoint.save(
        path, tiny.config(), tiny.weights(tiny.config(), 1, ("q4_1", "f32", "q8_0")), tiny.tokenizer(), {}
    )
    return path


def rewrite_header(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def entry(header: dict[str, Any]) -> dict[str, Any]:
    return header["norm.weight"]  # type: ignore[no-any-return]


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "offset past the end": lambda h: entry(h).update(data_offsets=[0, 2**40]),
    "negative": lambda h: entry(h).update(data_offsets=[-256, 0]),
    "shape larger than the data": lambda h: entry(h).update(shape=[2**40]),
    "shape that overflows": lambda h: entry(h).update(shape=[2**33, 2**33]),
    "another shape": lambda h: entry(h).update(shape=[8, 8]),
    "unknown dtype": lambda h: entry(h).update(dtype="F12"),
    "another dtype of the size": lambda h: entry(h).update(dtype="I32"),
    "no shape": lambda h: entry(h).pop("shape"),
    "tensor missing": lambda h: h.pop("norm.weight"),
    "tensor renamed": lambda h: h.update(extra=h.pop("norm.weight")),
    "codes without scale": lambda h: h.update(extra=h.pop("embed.weight.q4_1.scale")),
    "codes of another width": lambda h: h["embed.weight.q4_1.codes"].update(shape=[512, 16]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(saved: Path, lie: str) -> None:
    rewrite_header(saved / "model.safetensors", LIES[lie])
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: f.write_bytes(b""),
        lambda f: f.write_bytes(f.read_bytes()[:-2]),
        lambda f: f.write_bytes(f.read_bytes()[:100]),
        lambda f: f.write_bytes(struct.pack("<Q", 2**63) + f.read_bytes()[8:]),
        lambda f: f.write_bytes(b"\xff" * 4096),
        lambda f: f.unlink(),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_named(saved: Path, name: str, damage: Callable[[Path], Any]) -> None:
    damage(saved / name)
    assert any(name in line for line in folder.damage(saved, hashes=True))
    if name != "tokenizer.json" or not (saved / name).exists():  # model.tokenizer judges its content
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(saved)
    if name == "model.safetensors":
        with pytest.raises(CheckpointError, match=name):
            read_header(saved / name)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_no_damaged_byte_of_a_header_escapes_the_error_tree(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("home") / "tiny"
    config = tiny.config(n_layers=1)
    checkpoint.save(path, config, tiny.weights(config, 1, ("q4_1", "f32")), tiny.tokenizer(), {})
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    for at, value in changes:
        data[at] = value
    file.write_bytes(bytes(data))
    for read in (lambda: checkpoint.load(path), lambda: read_header(file)):
        with suppress(ModelError):
            read()


def test_missing_and_unexpected_tensors_are_named(saved: Path) -> None:
    whole = checkpoint.load(saved)
    for changed, name in (
        ({k: v for k, v in whole.weights.items() if k != "blocks.1.attn.k.weight"}, "blocks.1.attn.k.weight"),
        (whole.weights | {"blocks.2.attn.k.weight": torch.zeros(2, 2)}, "blocks.2.attn.k.weight"),
        (whole.weights | {"norm.weight": torch.zeros(63)}, "norm.weight"),
        (whole.weights | {"norm.weight": torch.zeros(64, dtype=torch.float64)}, "norm.weight"),
    ):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            checkpoint.save(saved.parent / "other", whole.config, changed, b"{}", {})
    assert not (saved.parent / "other").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"config": None},
        {"config": {"n_layers": 2}},
        {"config": tiny.config().to_dict() | {"n_layers": 10**12}},
        {"config": tiny.config().to_dict() | {"n_layers": "2"}},
        {"config": tiny.config().to_dict() | {"d_model": 64.5}},
        {"config": tiny.config().to_dict() | {"wings": 2}},
        {"metadata": []},
    ],
)
def test_a_config_that_does_not_fit_is_refused(saved: Path, change: dict[str, Any]) -> None:
    file = saved / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


class Crash(BaseException):
    """The machine stopped: nothing below runs any more."""


@contextmanager
def crash_after(steps: int) -> Iterator[list[str]]:
    """Let `steps` operations on the disk happen, then let none happen, `finally` blocks included."""
    done: list[str] = []
    stopped = [False]

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if stopped[0] or len(done) >= steps:
                stopped[0] = True
                raise Crash(name)
            done.append(name)
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (Path, "rename"),
            (Path, "mkdir"),
            (Path, "write_text"),
            (Path, "write_bytes"),
            (Path, "chmod"),
            (checkpoint, "save_file"),
            (shutil, "rmtree"),
            (os, "fsync"),
        ):
            patch.setattr(owner, name, guarded(name, getattr(owner, name)))
        yield done


def test_a_crash_after_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "models" / "tiny"
    config = tiny.config(n_layers=1)
    old, new = tiny.weights(config, 1), tiny.weights(config, 2)
    outcomes = []
    for steps in range(100):
        checkpoint.save(path, config, old, tiny.tokenizer(), {"source": "old"})
        try:
            with crash_after(steps) as done:
                checkpoint.save(path, config, new, tiny.tokenizer(), {"source": "new"})
        except Crash:
            finished = False
        else:
            finished = True
        found = checkpoint.load(path)
        expected = {"old": old, "new": new}[found.metadata["source"]]
        assert all(tiny.same(found.weights[name], expected[name]) for name in expected), done
        assert folder.damage(path, hashes=True) == [], done
        outcomes.append(found.metadata["source"])
        checkpoint.save(path, config, old, tiny.tokenizer(), {"source": "old"})
        names = {p.name for p in path.parent.iterdir()} - {".tiny.lock"}
        assert names == {"tiny"}, f"leftovers after {done}"
        if finished:
            break
    assert finished, "the save never came to its end"
    assert outcomes == sorted(outcomes, reverse=True), "once the new one is there it stays"
    assert outcomes.count("old") > 5, "the crash came too late to mean anything"


WRITER = """
import sys
from pathlib import Path
from model import checkpoint
from tests.model import tiny
config = tiny.config(n_layers=8, vocab_size=4096)
sets = [tiny.weights(config, seed) for seed in (0, 1)]
n = 0
while True:
    checkpoint.save(Path(sys.argv[1]), config, sets[n % 2], tiny.tokenizer(), {"source": str(n % 2)})
    n += 1
    print(n, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "tiny"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.stdout.readline()
        time.sleep(0.013)  # some way into the next save; any moment will do
        os.kill(writer.pid, signal.SIGKILL)
    found = checkpoint.load(path)
    expected = tiny.weights(found.config, int(found.metadata["source"]))
    assert all(tiny.same(found.weights[name], expected[name]) for name in expected)
    assert folder.damage(path, hashes=True) == []


@pytest.mark.skipif(os.name == "nt", reason="no limit on file sizes to set on Windows")
def test_a_full_disk_has_a_name_and_leaves_the_old(saved: Path) -> None:
    import resource

    config = tiny.config(vocab_size=4096)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="could not be written"):
            checkpoint.save(saved, config, tiny.weights(config), tiny.tokenizer(), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load(saved).config == tiny.config()
    assert {p.name for p in saved.parent.iterdir()} <= {"tiny", ".tiny.lock"}


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with (
        folder.replaced(tmp_path / "one", {}),
        pytest.raises(CheckpointError, match="another process"),
        folder.replaced(tmp_path / "one", {}, lock_timeout_s=0.05),
    ):
        pass


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), folder.replaced(tmp_path / "one", {}) as new:
        (new / "half").write_text("x")
        raise RuntimeError
    assert {p.name for p in tmp_path.iterdir()} <= {".one.lock"}
