"""Folders of a moment are gone with their process, however it ended, and nobody's living folder is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from service.temporary import Temporary

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
