"""Folders of a moment are gone with their process, however it ended, and nobody's living folder is touched."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.temporary import LOCK_NAME, Temporary

KILLED = """
import os, signal, sys
from pathlib import Path
from service.temporary import Temporary
room = Temporary(Path(sys.argv[1]), ".export-")
(room.path / "half.zip").write_bytes(b"half an export")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    living = Temporary(tmp_path, ".export-")
    (living.path / "whole.zip").touch()
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, check=False)
    assert done.returncode != 0 and len(list(tmp_path.iterdir())) == 2
    strange, young, old = (tmp_path / name for name in ("other", ".export-young", ".export-old"))
    for folder in (strange, young, old):
        folder.mkdir()
    os.utime(old, (1e9, 1e9))
    new = Temporary(tmp_path, ".export-")
    assert set(tmp_path.iterdir()) == {living.path, new.path, strange, young}
    assert (living.path / "whole.zip").exists()
    thread = threading.Thread(target=new.remove)  # by another thread than made it
    thread.start()
    thread.join()
    living.remove()
    Temporary(tmp_path, ".export-").remove()
    assert set(tmp_path.iterdir()) == {strange, young}


def test_one_that_another_process_sweeps_while_it_is_being_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the making of its file and the locking of it, the other one takes the lock and removes it all."""
    flock, sweeping = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not sweeping:
            (folder,) = tmp_path.iterdir()
            sweeping.append((folder / LOCK_NAME).open("rb"))
            flock(sweeping[0], how)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    room = Temporary(tmp_path, ".export-")
    assert sweeping and room.path.is_dir() and len(list(tmp_path.iterdir())) == 2
    Temporary(tmp_path, ".export-").remove()  # the other one goes on where it was
    assert room.path.is_dir()
    sweeping[0].close()
    room.remove()
    Temporary(tmp_path, ".export-").remove()
    assert not list(tmp_path.iterdir())
