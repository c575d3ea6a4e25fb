"""How commands end: a line and a status where something went wrong, and what is no mishap stays a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.cli.ending import ended
from ingest.errors import IngestError


def raising(error: BaseException) -> int:
    def run() -> int:
        raise error

    return ended(run, (IngestError,), failed=2)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (IngestError("no such file"), 2, "error: no such file\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (RuntimeError("Could not determine home directory."), 2, "error: a path begins with ~"),
    ],
)
def test_a_mishap_is_a_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error) == status
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EIO, "broken")])
def test_what_is_no_mishap_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        raising(error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_the_output_is_said(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "model", "list", "--home", str(tmp_path)]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1 and run.stderr.startswith("error: no space is left on the disk"), run.stderr
