"""`examples/from_scratch.py` at a tiny size: a text becomes a model that one can chat with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "from_scratch.py"


@pytest.mark.usefixtures("one_thread")
def test_a_text_becomes_a_model_to_chat_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("from_scratch", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--tiny", "--home", str(tmp_path), "--name", "mine"]) == 0
    said = capsys.readouterr().out
    assert "holds: the validation loss" in said and "holds: it answers otherwise" in said
    assert "Lore" in said.split("at the end:")[1], "it has learned its name"
    for run in ("mine-base", "mine-chat", "mine-dpo"):
        assert (tmp_path / "runs" / run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "models" / "mine" / "model.safetensors").is_file()
