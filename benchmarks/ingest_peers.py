"""A folder into an index: we beside LangChain and Haystack, same embedder, equal passages, each a process of its own.

    python -m benchmarks.ingest_peers [--embedder all-minilm-l6-v2] [--rounds 3] [--systems lorebase langchain] [--limit 20]

The folder: the manual (docs/, with its PDF) and, of the public sets (`LOREBASE_DATA`), the PDF, Markdown and text files
whose text is meant to be read, and small FinanceBench filings. Claim: at least 3 times as fast as each peer, at no
more memory; exits with 1 where that is missed.

Seconds run from the start of a process to its end: interpreter, imports, model, reading, cutting, embedding, index on
the disk. CPU seconds are those of all its processes: they say more where the machine is shared. Memory is the highest
sum over a system's processes (we read files in processes of our own) of what is resident, looked at 20 times a second;
pages that processes share count for each. Passages have at most the tokens that ours have (LangChain; the prompt and
special tokens included), or the characters that LangChain's have on average (Haystack; fewer where one would be
truncated). So nothing is truncated on any side. Ours reads no pictures (`--ocr off`), since the peers do not.

Below: what share of the characters the peers' own splitters, as they come, never bring into the embedder's window,
and the files they fail on; both without white space, ours as `python -m ingest` reads the failed files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Rate, memory_mb, ratio
from ingest.embed import find_embedder
from ingest.parse import parse_file
from ingest.settings import IngestSettings, find_home

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
FILINGS = (
    "AMCOR_2022_8K_dated-2022-07-01.pdf",
    "AMCOR_2023Q4_EARNINGS.pdf",
    "FOOTLOCKER_2022_8K_dated-2022-05-20.pdf",
    "PEPSICO_2023Q1_EARNINGS.pdf",
    "PEPSICO_2023_8K_dated-2023-05-05.pdf",
)
SUFFIXES = {"pdf", "md", "txt"}
SYSTEMS = ("lorebase", "langchain", "haystack")
TIMES = 3
LOOKS_A_SECOND = 20


@dataclass(frozen=True)
class Cost:
    """One ingest."""

    seconds: float
    cpu_s: float  #: of all its processes
    peak_mb: float
    said: str


def gather(folder: Path, limit: int | None) -> str:
    """Copy the files, or only the smallest; returns what they are."""
    folder.mkdir()
    named = [file for file in sorted(Path("docs").iterdir()) if file.suffix in (".md", ".pdf")]
    parts = [f"{len(named)} files of the manual"]
    if (manifest := DATA / "documents" / "manifest.json").is_file():
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        wanted = [e["file"] for e in entries if e["format"] in SUFFIXES and e["expect"] == "text"]
        named += [DATA / "documents" / name for name in wanted]
        parts.append(f"{len(wanted)} of the documents")
    filings = [DATA / "financebench" / name for name in FILINGS if (DATA / "financebench" / name).is_file()]
    if filings:
        parts.append(f"FinanceBench: {', '.join(file.stem for file in filings)}")
    for file in sorted(named + filings, key=lambda file: file.stat().st_size)[:limit]:
        shutil.copyfile(file, folder / file.name)
    return "; ".join(parts) + (f" (of these the {limit} smallest)" if limit else "")


def processes_below(pid: int) -> list[int]:
    """The process and all that it started (Linux; proc(5))."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
        except (OSError, ValueError):
            continue
    return found


def run(command: list[str], environment: dict[str, str]) -> Cost:
    """Start it, wait for it, and watch its memory meanwhile."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=complaints)
        peak = 0.0
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(1 / LOOKS_A_SECOND):
                resident = 0.0
                for one in processes_below(process.pid):
                    try:
                        resident += memory_mb("VmRSS", one)
                    except OSError:
                        continue
                peak = max(peak, resident)

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        code = process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        watcher.join()
        output.seek(0)
        complaints.seek(0)
        if code:
            sys.exit(f"{' '.join(command[1:4])} ended with {code}: {complaints.read()[-2000:]}")
        return Cost(seconds, used.ru_utime + used.ru_stime, peak, output.read())


def look(system: str, folder: Path, model: Path, *options: object) -> dict[str, Any]:
    cost = run(
        [
            sys.executable,
            "-m",
            "benchmarks.peers",
            system,
            str(folder),
            str(model),
            "--look",
            *map(str, options),
        ],
        {},
    )
    said: dict[str, Any] = json.loads(cost.said.splitlines()[-1])
    return said


def equal_lengths(
    folder: Path, model: Path, settings: IngestSettings, systems: list[str]
) -> dict[str, list[str]]:
    """Options by peer, such that nothing is truncated; prints what passages they make."""
    options = {"langchain": ["--length", settings.chunk_tokens, "--overlap", settings.chunk_overlap_tokens]}
    cut = look("langchain", folder, model, *options["langchain"])
    cuts = {"langchain": cut}
    if "haystack" in systems:
        share = settings.chunk_overlap_tokens / settings.chunk_tokens
        characters = cut["mean_characters"]
        given = ["--length", round(characters), "--overlap", round(characters * share)]
        cut = cuts["haystack"] = look("haystack", folder, model, *given, "--fit")
        options["haystack"] = ["--length", cut["length"], "--overlap", cut["overlap"]]
    for peer in (p for p in SYSTEMS if p in cuts and p in systems):
        cut = cuts[peer]
        print(
            f"{peer:10} cuts {cut['passages']} passages, {cut['mean_tokens']:.0f} tokens on average, "
            f"{cut['longest_tokens']} at most, {cut['truncated']} truncated ({' '.join(map(str, options[peer]))})"
        )
    return {peer: list(map(str, given)) for peer, given in options.items()}


def command_of(
    system: str, folder: Path, model: Path, scratch: Path, options: dict[str, list[str]]
) -> tuple[list[str], dict[str, str]]:
    """A command that ingests the folder into a new place, and its environment."""
    into = Path(tempfile.mkdtemp(dir=scratch))
    if system != "lorebase":
        given = [system, str(folder), str(model), "--into", str(into / "index"), *options[system]]
        return [sys.executable, "-m", "benchmarks.peers", *given], {}
    (into / "models").symlink_to(model.parent)
    command = [
        sys.executable,
        "-m",
        "ingest",
        str(folder),
        "--embedder",
        model.name,
        "--ocr",
        "off",
        "--json",
    ]
    return command, {"LOREBASE_HOME": str(into)}


def left_out(folder: Path, model: Path, peers: list[str]) -> None:
    """Print what the peers' splitters, as they come, leave out."""
    for peer in peers:
        cut = look(peer, folder, model, "--defaults")
        failed = sum(
            len("".join(parse_file(folder / name, max_bytes=1 << 30, ocr="off").text.split()))
            for name in cut["failed"]
        )
        total = cut["characters"] + failed
        print(
            f"{peer}, as it comes: {(cut['never_embedded'] + failed) / total:.1%} of {total:,} characters are never "
            f"embedded: {cut['never_embedded']:,} behind the window of {model.name} (in {cut['truncated']} of "
            f"{cut['passages']} passages), {failed:,} in files it fails on: {', '.join(cut['failed']) or 'none'}"
        )


def spread(values: list[float], digits: int) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", default="multilingual-e5-small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="the smallest files only: a look, no claim")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    args = parser.parse_args()
    model = find_embedder(args.embedder, find_home()).folder
    peers = [system for system in args.systems if system != "lorebase"]
    costs: dict[str, list[Cost]] = {system: [] for system in args.systems}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "folder")
        print(f"{gather(folder, args.limit)}; embedder {model.name}")
        options = equal_lengths(folder, model, IngestSettings(), args.systems)
        for _ in range(args.rounds):
            for system in args.systems:
                costs[system].append(run(*command_of(system, folder, model, Path(scratch), options)))
        if "lorebase" in costs:
            said = json.loads(costs["lorebase"][0].said.splitlines()[-1])
            print(
                f"lorebase   embeds {said['embedded']} passages of {said['added']} files, {said['failed']} failed"
            )
        left_out(folder, model, peers)
    rates = {s: Rate(tuple(60 / cost.seconds for cost in found)) for s, found in costs.items()}
    print(f"\n{'':10} {'seconds (range)':26}{'CPU seconds':26}{'peak MB':26}lorebase is faster by")
    missed = []
    ours = max((cost.peak_mb for cost in costs.get("lorebase", [])), default=0.0)
    for system, found in costs.items():
        peaks = [cost.peak_mb for cost in found]
        times = ratio(rates["lorebase"], rates[system]) if "lorebase" in rates and system in peers else ""
        print(
            f"{system:10} {spread([c.seconds for c in found], 1):26}{spread([c.cpu_s for c in found], 1):26}"
            f"{spread(peaks, 0):26}{times}"
        )
        if times and float(times.split("x")[0]) < TIMES:
            missed.append(f"{times.split('x')[0]} times as fast as {system}, wanted {TIMES}")
        if times and ours > max(peaks):
            missed.append(f"{ours:.0f} MB against {max(peaks):.0f} MB of {system}")
    if missed and args.limit is None:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
