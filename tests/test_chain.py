"""The chain of `examples/chain.py` at a tiny size: dataset, LoRA, merge, export, other programs, service."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "chain.py"


@pytest.fixture
def script() -> Iterator[ModuleType]:
    pytest.importorskip(
        "xllamacpp", reason="llama.cpp is not installed: pip install 'lorebase[test]'", exc_type=ImportError
    )
    threads = torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("chain", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)


def test_a_set_becomes_a_model_that_others_and_the_service_run(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--tiny", "--home", str(tmp_path), "--name", "lore"]) == 0
    said = capsys.readouterr().out
    before, after = (said.split(f"    {when}", 1)[1].split("\n", 1)[0] for when in ("before:", "after:"))
    assert "Lore" in after and "Lore" not in before
    for program in ("transformers", "llama.cpp", "/ask"):
        assert f"holds: {program}" in said
    assert (tmp_path / "runs" / "lore" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "exports" / "lore-gguf" / "Modelfile").is_file()
