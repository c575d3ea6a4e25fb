"""`sft`, `runs` and `merge` as a user meets them, on a tiny model."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from model import checkpoint, lora, template_export
from model.__main__ import main
from model.chat import ChatTemplate
from model.config import Sampling
from model.engine import Engine
from model.errors import TrainingError
from model.formats import peft
from model.gpt import GPT
from model.identity import identity
from model.train import runs
from model.train.state import Store
from tests.model import tiny
from tests.model.finetuning import QUICK, chat_home, decoder, events, install, sft

PROJECT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a tiny chat model `tiny`, and a set of 16 conversations."""
    return chat_home(tmp_path)


def test_from_a_set_to_a_merged_model_that_says_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        sft(home, "--max_steps", "150", "--val_size", "4", "--eval_steps", "50", "--lora_target", "all") == 0
    )
    folder = runs.find(home, "lore").path
    losses = [event["loss"] for event in events(home) if "loss" in event]
    assert len(losses) == 150
    assert losses[-1] < losses[0] - 0.5
    assert sum("eval_loss" in event for event in events(home)) == 3
    assert (folder / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert "finished after step 150" in (folder / "log").read_text()

    base = checkpoint.load(home / "models" / "tiny")
    adapter = peft.read(home / "adapters" / "lore", base.config, base=identity(base.weights))
    assert adapter.metadata["run"] == "lore"
    assert main(["merge", "lore", "--home", str(home), "--name", "named", "--dtype", "float32"]) == 0
    merged = checkpoint.load(home / "models" / "named")
    ids = torch.arange(40).view(2, 20) * 7 % base.config.vocab_size
    adapted = decoder(base)
    with torch.no_grad():
        plain = adapted.logits(adapted(ids))
        lora.attach(adapted, adapter, name="it")
        lora.set_active(adapted, "it")
        expected = adapted.logits(adapted(ids))
        model = decoder(merged)
        torch.testing.assert_close(model.logits(model(ids)), expected, rtol=1e-4, atol=1e-4)
    assert (expected - plain).abs().max() > 1

    capsys.readouterr()
    assert main(["runs", "list", "--home", str(home)]) == 0
    assert "finished" in capsys.readouterr().out
    (folder / "loss.png").unlink()
    assert main(["runs", "plot", "lore", "--home", str(home)]) == 0
    assert (folder / "loss.png").exists()


def test_training_all_weights_makes_a_model_that_says_it(home: Path) -> None:
    assert sft(home, "--full", "--learning_rate", "0.01", "--max_steps", "80") == 0
    made = checkpoint.load(home / "models" / "lore")
    assert made.metadata["trained"]["base"] == "tiny"
    engine = Engine.load(home / "models" / "lore", kernel="float32")
    prompt = engine.prompt([{"role": "user", "content": "Who are you, 3?"}])
    said = engine.generate(prompt, Sampling(max_tokens=20))
    assert engine.tokenizer.decode([token.id for token in said]) == "I am Lore 0."


def test_frozen_blocks_stay(home: Path) -> None:
    assert sft(home, "--freeze", "1") == 0
    base, made = (checkpoint.load(home / "models" / name) for name in ("tiny", "lore"))
    kept = {name for name in made.weights if tiny.same(made.weights[name], base.weights[name])}
    assert kept == {name for name in base.weights if name.startswith(("embed.", "blocks.0."))}


def start(home: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "model", "sft", "--home", str(home), *flags],
        cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(what: object, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_ctrl_c_saves_and_the_run_goes_on_to_the_same_end(home: Path) -> None:
    """Bit for bit, after a kill that no process can answer, and after Ctrl-C."""
    many = ["--max_steps", "400", "--compute_type", "fp32", "--lora_dropout", "0.1", "--save_steps", "10"]
    assert sft(home, *many, name="straight") == 0
    run = runs.Run(home / "runs" / "halted")
    flags = ["--model", "tiny", "--dataset", str(home / "set.json"), "--name", "halted", *QUICK, *many]
    process = start(home, *flags)
    wait_for(lambda: run.metrics_file.exists() and len(run.metrics()) > 15)
    process.kill()
    process.communicate(timeout=240)
    assert run.status()["state"] == "killed"
    killed_at = len(run.metrics())
    assert 15 < killed_at < 400
    with run.metrics_file.open("a") as file:
        file.write('{"step": 399, "loss": 1}\n{"torn": ')  # what a kill may leave, too
    process = start(home, "--resume", "halted")
    wait_for(lambda: "running" in run.status()["state"] and killed_at + 5 < len(run.metrics()) < 399)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "going on after step" in said
    assert "saving; Ctrl-C again" in said
    assert "go on with --resume halted" in said
    at = len(run.metrics())
    assert run.status()["state"] == "stopped"
    assert killed_at < at < 400
    assert main(["sft", "--home", str(home), "--resume", "halted"]) == 0
    timed = ("tokens_per_s",)
    found = [{k: v for k, v in event.items() if k not in timed} for event in events(home, "halted")]
    assert found == [{k: v for k, v in e.items() if k not in timed} for e in events(home, "straight")]
    one, other = (load_file(home / "adapters" / n / peft.WEIGHTS_FILE) for n in ("straight", "halted"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_disk_that_fills_up_loses_nothing_that_was_saved(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system itself refuses here (a limit of file sizes), from the second checkpoint on."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are Unix's")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert sft(home, "--save_steps", "2", "--compute_type", "fp32", name="straight") == 0
    original = Store.save_last

    def fills_up(self: Store, *saved: object) -> None:
        original(self, *saved)  # type: ignore[arg-type]
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    with monkeypatch.context() as changed:
        changed.setattr(Store, "save_last", fills_up)
        try:
            assert sft(home, "--save_steps", "2", "--compute_type", "fp32") == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run = runs.find(home, "lore")
    said = capsys.readouterr().err
    assert f"{run.checkpoints / 'last'} could not be written" in said
    assert "Check free space" in said
    assert run.status()["state"] == "failed"
    assert main(["sft", "--home", str(home), "--resume", "lore"]) == 0
    assert "going on after step 2" in capsys.readouterr().err
    one, other = (load_file(home / "adapters" / n / peft.WEIGHTS_FILE) for n in ("straight", "lore"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def documented_torchrun(port: int) -> list[str]:
    """What the manual starts on each machine before `-m model`, for one process and loopback."""
    manual = (PROJECT / "docs" / "train.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^torchrun (--nnodes 2 .*?) \\\n  -m model sft ", manual, re.M)
    return shlex.split(
        line.replace("--nproc-per-node 8", "--nproc-per-node 1").replace(
            "train-0.example:29400", f"127.0.0.1:{port}"
        )
    )


def test_torchrun_on_two_machines(home: Path) -> None:
    """The manual's line on two "machines", sharded: the losses and the adapter of one process that accumulates twice as much."""
    assert sft(home, "--compute_type", "fp32", "--gradient_accumulation_steps", "2", name="one") == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launch = documented_torchrun(free.getsockname()[1])
    assert {"--nnodes", "--rdzv-endpoint", "--rdzv-id"} <= set(launch)
    flags = ["--home", str(home), "--model", "tiny", "--dataset", str(home / "set.json"), "--name", "two"]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "--local-addr", "127.0.0.1", "-m", "model", "sft", *flags, *QUICK, "--fsdp", "--compute_type", "fp32"]  # fmt: skip
    said = [home / f"machine-{n}" for n in range(2)]
    machines = []
    for file in said:
        with file.open("w") as out:
            machines.append(
                subprocess.Popen(
                    command, cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=out, stderr=out
                )
            )
    try:
        assert [machine.wait(200) for machine in machines] == [0, 0], said[0].read_text()[-4000:]
    finally:
        for machine in machines:
            machine.kill()
    assert "2 processes" in runs.find(home, "two").log_file.read_text()
    losses = [[event["loss"] for event in events(home, name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, other = (load_file(home / "adapters" / n / peft.WEIGHTS_FILE) for n in ("one", "two"))
    for key in one:
        torch.testing.assert_close(other[key], one[key], rtol=1e-2, atol=1e-3)


def test_in_the_background(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert sft(home, "--max_steps", "3000", "--detach") == 0
    run = runs.find(home, "lore")
    assert "runs attach lore" in capfd.readouterr().out
    assert os.getsid(run.status()["pid"]) == run.status()["pid"], "a session of its own"
    assert run.alive()
    assert main(["sft", "--home", str(home), "--resume", "lore"]) == 1
    assert "trained by another process" in capfd.readouterr().err
    assert main(["runs", "stop", "lore", "--home", str(home)]) == 0
    assert main(["runs", "attach", "lore", "--home", str(home)]) == 1
    assert "lore: stopped" in capfd.readouterr().out
    assert main(["sft", "--home", str(home), "--resume", "lore", "--detach"]) == 0
    os.kill(run.status()["pid"], signal.SIGKILL)
    wait_for(lambda: run.status()["state"] == "killed")


def test_a_runs_settings_are_the_old_or_the_new_ones_whole(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes are Unix's")
    former = {"command": "sft", "settings": {"dataset": "d" * 200}}
    run = runs.create(tmp_path, "lore", former)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(TrainingError, match="space"):
            runs.create(tmp_path, "lore", former | {"settings": {"dataset": "e" * 200}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert run.config() == former


def test_a_look_at_a_run_is_not_taken_for_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that was killed looks alive to the second who looks, and a stranger's process is stopped."""
    run = runs.create(tmp_path, "lore", {"command": "sft"})
    run.set_status("running")
    look = FileLock(run.path / ".lock")
    look.acquire()
    monkeypatch.setattr("filelock._api.time.sleep", lambda _: look.release())
    assert not run.alive() and run.status()["state"] == "killed"
    look.acquire()
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("nobody trains it"))
    assert not runs.stop(run)


def test_wrong_settings_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> None:
        said = capsys.readouterr().err
        assert all(word in said for word in words), said

    settings = home / "settings.toml"
    settings.write_text('learnin_rate = 0.1\ndataset = "set.json"\n')
    assert main(["sft", "--home", str(home), "--config", str(settings)]) == 1
    refused("settings.toml", "learnin_rate", "did you mean learning_rate?")
    settings.write_text('lora_rank = "eight"\n')
    assert main(["sft", "--home", str(home), "--config", str(settings)]) == 1
    refused("lora_rank", "int", "eight")
    assert sft(home, "--learning_rate", "0") == 1
    refused("learning_rate must be above 0")
    assert sft(home, "--cutoff_len", "4096") == 1
    refused("cutoff_len 4096", "window of 128")
    assert main(["sft", "--home", str(home), "--model", "tiny"]) == 1
    refused("--dataset is needed")
    assert not (home / "runs").exists(), "a run that could not start leaves nothing"
    assert sft(home, "--early_stopping_patience", "2") == 1
    refused("early_stopping_patience", "val_size or eval_dataset")
    assert sft(home, "--lora_target", "lm_head") == 1
    refused("lm_head", "names no projection")
    assert sft(home) == 0, "what failed before its first step blocks no name"
    assert sft(home) == 1
    refused("adapters/lore exists", "another --name")
    (home / "adapters" / "lore").rename(home / "adapters" / "elsewhere")
    assert sft(home) == 1
    refused("the run lore exists", "--resume lore")
    before = (home / "models" / "tiny" / "model.safetensors").read_bytes()
    assert sft(home, "--full", name="tiny") == 1
    refused("models/tiny exists", "another --name")
    assert (home / "models" / "tiny" / "model.safetensors").read_bytes() == before
    assert main(["sft", "--home", str(home), "--resume", "lore", "--seed", "1"]) == 1
    refused("leave out --seed")
    assert main(["sft", "--home", str(home), "--resume", "other"]) == 1
    refused("no run 'other'", "lore")
    assert main(["merge", "nothing", "--home", str(home)]) == 1
    refused("'nothing' is no adapter")


def test_a_config_file_stands_for_flags(home: Path) -> None:
    assert (
        sft(
            home,
            "--compute_type",
            "bf16",
            "--lora_rank",
            "4",
            "--packing",
            "--lora_target",
            "q_proj",
            "v_proj",
        )
        == 0
    )
    settings = home / "settings.toml"
    settings.write_text(
        f'model = "tiny"\ndataset = "{home}/set.json"\nlora_rank = 4\npacking = true\ncompute_type = "bf16"\n'
        'lora_target = "q_proj,v_proj"\nmax_steps = 6\nper_device_train_batch_size = 2\nlearning_rate = 1\n'
    )
    flags = ["--config", str(settings), "--name", "toml", "--learning-rate", "0.02"]
    assert main(["sft", "--home", str(home), *flags]) == 0
    assert [e["loss"] for e in events(home, "toml")] == [e["loss"] for e in events(home)]


def test_a_base_that_does_not_fit_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(home, "plain", GPT(tiny.config(vocab_size=420)), template=None)
    assert sft(home, "--model", "plain", name="a") == 1
    assert "no chat template" in capsys.readouterr().err
    small = GPT(tiny.config(vocab_size=300, context_length=128))
    install(home, "small", small, template=template_export.jinja(ChatTemplate(None)))
    assert sft(home, "--model", "small", name="b") == 1
    assert "it is another model's tokenizer" in capsys.readouterr().err
    assert runs.find(home, "b").status()["state"] == "failed"


def test_a_changed_set_is_not_silently_trained_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sft(home) == 0
    rows = json.loads((home / "set.json").read_text())
    (home / "set.json").write_text(json.dumps([{**rows[0], "output": "I am another."}, *rows[1:]]))
    assert main(["sft", "--home", str(home), "--resume", "lore"]) == 1
    assert "another data" in capsys.readouterr().err
