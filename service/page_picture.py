"""One page of a PDF as a picture, by a process of its own: `python -m service.page_picture FILE PAGE OUT`.

PDFs come from strangers, and what draws them is a large library in C: whatever one does to it ends with that
process, at the latest when its time or its memory is used up. The parent writes nothing and reads a file that
the child has finished.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from service.errors import UnknownName, UnreadablePage

#: Longest side in pixels, and the finest grid.
MOST_PIXELS, MOST_SCALE = 1600, 2.0
TIMEOUT_S = 20
MEMORY_BYTES = 1 << 30
#: Exit statuses of the child.
_NO_SUCH_PAGE, _NO_PDF = 3, 4


def draw(file: Path, page: int, out: Path) -> None:
    """The page (from 1) as a PNG at `out`, whole or not at all.

    Raises:
        UnknownName: the document has fewer pages.
        UnreadablePage: it is no PDF, is protected by a password, or could not be drawn in time.
    """
    beside = out.with_name(f".{os.getpid()}-{id(file)}-{out.name}")
    command = [sys.executable, "-m", "service.page_picture", str(file), str(page), str(beside)]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
            cwd=Path(__file__).resolve().parent.parent,
        )
        if ended.returncode == _NO_SUCH_PAGE:
            raise UnknownName(f"the document has no page {page}")
        if ended.returncode or not beside.is_file():
            raise UnreadablePage(f"page {page} cannot be drawn; the document's text can still be read")
        beside.replace(out)
    except subprocess.TimeoutExpired as error:
        raise UnreadablePage(f"page {page} was not drawn within {TIMEOUT_S} s") from error
    finally:
        beside.unlink(missing_ok=True)


def main() -> int:
    """The child."""
    file, page, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
        os.nice(5)
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(file)
        if not 1 <= page <= len(document):
            return _NO_SUCH_PAGE
        found = document[page - 1]
        width, height = found.get_size()
        scale = min(MOST_SCALE, MOST_PIXELS / max(width, height, 1.0))
        found.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB").save(
            out, "PNG", optimize=True
        )
    except (pypdfium2.PdfiumError, OSError, ValueError, MemoryError):
        return _NO_PDF
    return 0


if __name__ == "__main__":
    sys.exit(main())
