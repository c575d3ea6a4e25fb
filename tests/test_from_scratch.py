"""`examples/from_scratch.py` at a tiny size: a text becomes a model that one can chat with."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from model.train.session import Progress

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "from_scratch.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("from_scratch", SCRIPT)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.usefixtures("one_thread")
def test_a_text_becomes_a_model_to_chat_with_though_it_is_stopped_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = ["--tiny", "--home", str(tmp_path), "--name", "mine"]
    told = Progress.__call__

    def interrupted(self: Progress, event: dict[str, Any]) -> None:
        told(self, event)
        if self.run.name == "mine-chat" and event["step"] == 40:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "__call__", interrupted)
        with pytest.raises(SystemExit, match="the same command goes on from here"):
            script().main(walk)
    said = capsys.readouterr().out
    assert "holds: the validation loss" in said and "holds: it answers otherwise" not in said

    assert script().main(walk) == 0
    said = capsys.readouterr().out
    assert "done: mine-words is in tokenizers" in said and "done: the run mine-base has finished" in said
    assert "sft --resume mine-chat" in said and "holds: it answers otherwise" in said
    assert "Lore" in said.split("at the end:")[1], "it has learned its name"
    for run in ("mine-base", "mine-chat", "mine-dpo"):
        assert (tmp_path / "runs" / run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "models" / "mine" / "model.safetensors").is_file()

    with pytest.raises(SystemExit, match="begun with other texts or settings"):
        script().main([*walk, "--steps", "7"])
