"""The parser pool: what a file does to its parser stays with that file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest import sandbox
from ingest.errors import EmptyDocument, IngestError, ParseError, ParseTimeout, PasswordRequired
from ingest.parse import parse_file
from ingest.sandbox import ParserPool, _computed

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(__file__).parent / "samples"
MOST = 1 << 30
#: In the worker, before it serves: files with these names do to the parser what a hostile file would.
HOSTILE = """
import ctypes, json, os, sys, time
sys.path[:] = json.loads(sys.argv[1])
import ingest.parse
plain = ingest.parse.parse_file
def hostile(file, **named):
    what = file.stem
    if what == "loop":
        while True: pass
    if what == "deaf":
        import signal
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        while True: pass
    if what == "native":
        pow(3, 10 ** 9)  # one long native call that holds the interpreter
    if what == "crash":
        ctypes.string_at(0)
    if what == "abort":
        os.abort()
    if what == "exit":
        os._exit(7)
    if what == "eat":
        hoard = [bytearray(1 << 24) for _ in range(10_000)]
    if what == "late":
        time.sleep(4)
    if what == "prints":
        os.write(1, b"noise " * 100); print("more noise", flush=True)
    if what == "nonsense":
        body = b"[1, 2, 3]"
        for pipe in range(3, 10):  # one of them leads to the parent
            try: os.write(pipe, len(body).to_bytes(8, "big") + body)
            except OSError: pass
    return plain(file, **named)
ingest.parse.parse_file = hostile
from ingest.sandbox import serve
serve()
"""


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_START", HOSTILE)


@pytest.fixture
def pool() -> Iterator[ParserPool]:
    with ParserPool(1, 30, 1024) as one:
        yield one


def put(folder: Path, name: str, text: str = "good text") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_worker_gives_what_parse_file_gives(pool: ParserPool, tmp_path: Path) -> None:
    made = put(tmp_path, "a.md", "---\nauthor: Ada\n---\n# Ein Titel 標題 🚢\r\ntext\x00\n## Zwei\n\nmehr\n")
    for file in (made, *sorted(SAMPLES.glob("*.pdf"))):
        assert pool.parse(file, max_bytes=MOST) == parse_file(file, max_bytes=MOST)
    upload = put(tmp_path, "upload-1234", "<html><p>hi")
    assert pool.parse(upload, name="seite.html", max_bytes=MOST).parser.startswith("html/")


def test_errors_keep_their_type_and_message(pool: ParserPool, tmp_path: Path) -> None:
    for file, most, kind in (
        (put(tmp_path, "empty.txt", ""), MOST, EmptyDocument),
        (put(tmp_path, "large.txt"), 3, ParseError),
        (tmp_path / "missing.txt", MOST, ParseError),
    ):
        with pytest.raises(kind) as here:
            parse_file(file, max_bytes=most)
        with pytest.raises(kind) as there:
            pool.parse(file, max_bytes=most)
        assert str(there.value) == str(here.value) and type(there.value) is type(here.value)


def test_a_password_reaches_the_parser(pool: ParserPool, tmp_path: Path) -> None:
    import pypdf

    writer = pypdf.PdfWriter(clone_from=SAMPLES / "page_lost.pdf")
    writer.encrypt("ключ")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(PasswordRequired):
        pool.parse(tmp_path / "locked.pdf", max_bytes=MOST)
    assert "lighthouse" in pool.parse(tmp_path / "locked.pdf", password="ключ", max_bytes=MOST).text


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("name", "timeout_s", "kind", "told"),
    [
        ("loop", 3, ParseTimeout, "took longer than 3 s"),
        ("deaf", 3, ParseTimeout, "took longer than 3 s"),
        ("native", 3, ParseTimeout, "took longer than 3 s"),
        ("eat", 60, ParseTimeout, "needs more than 600 MiB"),
        ("crash", 60, ParseError, "SIGSEGV"),
        ("abort", 60, ParseError, "SIGABRT"),
        ("exit", 60, ParseError, "exit code 7"),
        ("nonsense", 60, ParseError, "nonsense"),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and memory limits are Linux's")
def test_a_hostile_file_costs_itself_only(
    tmp_path: Path, name: str, timeout_s: float, kind: type[IngestError], told: str
) -> None:
    good = put(tmp_path, "good.txt")
    with ParserPool(1, timeout_s, 600) as pool:
        assert pool.parse(good, max_bytes=MOST).text == "good text"
        with pytest.raises(kind, match=told) as caught:
            pool.parse(put(tmp_path, f"{name}.txt"), max_bytes=MOST)
        assert type(caught.value) is kind and str(caught.value).startswith(f"{name}.txt: ")
        assert pool.parse(good, max_bytes=MOST).text == "good text"


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(("had", "reads"), [(0.0, True), (9.0, False), (None, False)])
def test_who_had_no_processor_time_gets_the_deadline_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: float | None, reads: bool
) -> None:
    """A file that takes four seconds by the clock, three deadlines; `had`: processor time in each of them."""
    told = iter(range(100))

    def computed(pid: int, *, wanting: bool = False) -> float | None:
        return None if had is None else had * next(told)

    good = put(tmp_path, "good.txt")
    with ParserPool(1, 60, 1024) as pool:
        pool.parse(good, max_bytes=MOST)  # starts the worker: that has a time of its own
        monkeypatch.setattr("ingest.sandbox._computed", computed)
        pool._workers[0]._timeout_s = 1.5
        if reads:
            assert pool.parse(put(tmp_path, "late.txt"), max_bytes=MOST).text == "good text"
        else:
            with pytest.raises(ParseTimeout, match="took longer"):
                pool.parse(put(tmp_path, "late.txt"), max_bytes=MOST)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processor_time_is_that_of_the_process() -> None:
    loop = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.45 <= (_computed(process.pid) or 0) < 5
        time.sleep(0.2)
        assert _computed(process.pid, wanting=True) is None, "it sleeps: time would not help it"
        process.kill()
    assert _computed(process.pid) is None


@pytest.mark.usefixtures("hostile")
def test_what_a_library_prints_does_not_disturb_the_answers(tmp_path: Path) -> None:
    with ParserPool(1, 30, 1024) as pool:
        for _ in range(2):
            assert pool.parse(put(tmp_path, "prints.txt"), max_bytes=MOST).text == "good text"


def test_the_deadline_holds_for_a_real_file_that_takes_too_long(tmp_path: Path) -> None:
    slow = put(tmp_path, "slow.md", "# a\n" * 3_000_000)  # tens of seconds for the Markdown parser
    with ParserPool(1, 3, 2048) as pool:
        with pytest.raises(ParseTimeout, match=r"slow\.md: .*parse_timeout_s"):
            pool.parse(slow, max_bytes=MOST)
        assert pool.parse(put(tmp_path, "good.txt"), max_bytes=MOST).text == "good text"


def test_a_worker_killed_while_idle_is_replaced_unnoticed(pool: ParserPool, tmp_path: Path) -> None:
    good = put(tmp_path, "good.txt")
    pool.parse(good, max_bytes=MOST)
    process = pool._workers[0]._process
    assert process is not None
    process.kill()
    process.wait()
    assert pool.parse(good, max_bytes=MOST).text == "good text"


@pytest.mark.usefixtures("hostile")
def test_many_threads_and_few_workers(tmp_path: Path) -> None:
    files = [put(tmp_path, "abort.txt" if n % 5 == 0 else f"{n}.txt", f"text {n}") for n in range(25)]

    def outcome(file: Path) -> str:
        try:
            return pool.parse(file, max_bytes=MOST).text
        except ParseError as error:
            return type(error).__name__

    with ParserPool(2, 30, 1024) as pool, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(outcome, files))
    assert found == ["ParseError" if n % 5 == 0 else f"text {n}" for n in range(25)]


def test_workers_retire_and_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retiring = sandbox._START.replace("serve()", "import ingest.sandbox as s; s.FILES_A_WORKER = 2; serve()")
    monkeypatch.setattr(sandbox, "_START", retiring)
    with ParserPool(1, 30, 1024) as pool:
        for n in range(5):
            assert pool.parse(put(tmp_path, f"{n}.txt", f"text {n}"), max_bytes=MOST).text == f"text {n}"
            with pytest.raises(EmptyDocument):
                pool.parse(put(tmp_path, "empty.txt", ""), max_bytes=MOST)


@pytest.mark.usefixtures("hostile")
def test_closing_ends_the_processes_and_whoever_waits(tmp_path: Path) -> None:
    pool = ParserPool(1, 60, 1024)
    files = [put(tmp_path, "loop.txt"), put(tmp_path, "waits.txt")]
    raised: list[IngestError] = []

    def parse(file: Path) -> None:
        try:
            pool.parse(file, max_bytes=MOST)
        except IngestError as error:
            raised.append(error)

    with pool:
        threads = [threading.Thread(target=parse, args=(file,)) for file in files]
        threads[0].start()
        while pool._workers[0]._process is None or not pool._workers[0]._waiting:
            threads[0].join(0.01)
        process = pool._workers[0]._process
        threads[1].start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert process.poll() is not None
    assert len(raised) == 2 and all("run was stopped" in str(error) for error in raised)
    with pytest.raises(ParseError, match="run was stopped"):
        pool.parse(files[1], max_bytes=MOST)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="POSIX")
def test_a_worker_ends_by_itself_when_its_parent_is_gone(tmp_path: Path) -> None:
    """The parent is killed while its worker loops: the worker's own alarm ends it."""
    put(tmp_path, "loop.txt")
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from ingest import sandbox
sandbox._START = {HOSTILE.replace("serve()", "import ingest.sandbox as s; s._GRACE_S = 0.5; serve()")!r}
import threading, time
with sandbox.ParserPool(1, 1, 1024) as pool:
    worker = pool._workers[0]
    worker._expire = lambda *_: None  # this parent will not keep the deadline
    file = Path({str(tmp_path / "loop.txt")!r})
    threading.Thread(target=pool.parse, args=(file,), kwargs=dict(max_bytes=9**9), daemon=True).start()
    while worker._process is None or worker._exchanges < 2: time.sleep(0.01)
    print(worker._process.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return  # ended, and nobody is there to reap it
        threading.Event().wait(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def test_a_worker_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, ingest.sandbox, ingest.parse\n"
        "print([m for m in ('torch', 'numpy', 'faiss', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_mutilated_files_give_typed_errors(tmp_path: Path) -> None:
    """Bytes of real files changed: whatever the engines do, the pool answers with a document or an error."""
    import random

    dice = random.Random(7)
    sources = [path.read_bytes() for path in sorted(SAMPLES.glob("*.pdf"))]
    with ParserPool(2, 20, 1024) as pool:
        outcomes = set()
        for number in range(30):
            data = bytearray(dice.choice(sources))
            for _ in range(dice.choice((1, 4, 30))):
                data[dice.randrange(8, len(data))] = dice.randrange(256)
            path = tmp_path / f"{number}.pdf"
            path.write_bytes(data)
            try:
                outcomes.add(pool.parse(path, max_bytes=MOST).parser)
            except IngestError as error:
                assert str(error).startswith(path.name)
                outcomes.add(type(error).__name__)
    assert any(outcome.startswith("pdf/") for outcome in outcomes), "some come through as documents"
