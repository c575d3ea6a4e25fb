"""How soon a started service is ready, how much memory it holds after answering, and how long an answer takes.

    python -m benchmarks.serving [--port 8123]

Needs a collection (`python -m ingest ./docs`). Claims: ready in under 20 seconds, under 1.5 GB with generator and
embedder resident (Linux: the resident set of the service's process, children included).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.measure import memory_mb

QUESTIONS = (
    "How do I ingest a folder of documents?",
    "What does Lorebase do when the answer is not in the documents?",
    "Which embedder is used by default?",
    "How can I remove a document from a collection?",
    "Who won the football world cup in 1998?",
)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def ask(url: str, question: str) -> dict[str, object]:
    body = json.dumps({"question": question}).encode()
    request = urllib.request.Request(url + "/ask", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.load(reply)


def family(pid: int) -> list[int]:
    """The process and its descendants (Linux)."""
    children = [
        int(p)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for p in (task / "children").read_text().split()
    ]
    return [pid, *(p for child in children for p in family(child))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    url = f"http://127.0.0.1:{args.port}"
    start = time.perf_counter()
    service = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(args.port)], stdout=subprocess.DEVNULL
    )
    try:
        while not ready(url):
            if service.poll() is not None or time.perf_counter() - start > 120:
                sys.exit("the service did not become ready")
            time.sleep(0.1)
        print(f"ready after                 {time.perf_counter() - start:.1f} s")
        print(f"resident, ready             {sum(memory_mb('VmRSS', p) for p in family(service.pid)):.0f} MB")
        first: list[float] = []
        total: list[float] = []
        for _ in range(args.rounds):
            for question in QUESTIONS:
                reply = ask(url, question)
                if reply["refusal_reason"] == "nothing_ingested":
                    sys.exit("nothing has been ingested: run `python -m ingest ./docs` first")
                timings = reply["timings"]
                assert isinstance(timings, dict)
                total.append(timings["total_ms"])
                if timings.get("first_token_ms") is not None:
                    first.append(timings["first_token_ms"])
        for name, values in (("first token", first), ("whole answer", total)):
            if values:
                print(
                    f"{name:27} median {statistics.median(values) / 1000:.2f} s  ({min(values) / 1000:.2f} to {max(values) / 1000:.2f}, n = {len(values)})"
                )
        print(
            f"resident after {len(total)} answers   {sum(memory_mb('VmRSS', p) for p in family(service.pid)):.0f} MB (peak {memory_mb('VmHWM', service.pid):.0f} MB)"
        )
    finally:
        service.terminate()
        service.wait(30)


if __name__ == "__main__":
    main()
