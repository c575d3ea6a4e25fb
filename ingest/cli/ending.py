"""How a command ends: what went wrong in a line on stderr, and an exit status; no traceback for a mishap."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

#: Interrupted by Ctrl-C, as shells count it; the reader of our output has gone.
INTERRUPTED, UNHEARD = 130, 1


def ended(run: Callable[[], int], errors: tuple[type[Exception], ...], failed: int) -> int:
    """Run a command; returns its exit status.

    Args:
        run: the command.
        errors: those that say in words what is wrong.
        failed: the status where one of them was raised, or the disk is full.
    """
    try:
        return run()
    except errors as error:
        _say(f"error: {error}")
        return failed
    except RuntimeError as error:
        if "home directory" not in str(error):  # what pathlib says of ~name
            raise
        _say("error: a path begins with ~ and the name of a user that this machine does not know")
        return failed
    except KeyboardInterrupt:
        _say("\ninterrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _discard()
        return UNHEARD
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _discard()
        where = f" for {error.filename}" if error.filename else ", perhaps for the output itself"
        _say(f"error: no space is left on the disk{where}. Free some and run the command again")
        return failed


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _discard() -> None:
    """Let go what is still to be written to stdout: else Python complains once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
