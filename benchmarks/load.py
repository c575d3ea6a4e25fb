"""What the service does under load, on loopback, with its own engine replaced by one of a known pace.

    python -m benchmarks.load [--minutes 30] [--only NAME ...] [--models FOLDER] [--curve FILE.png]

Claims, each printed with its figure and whether it holds:

    refusals   1 slot, a queue of 4, 20 asks at once: 5 served, 15 refused within 200 ms, no connection reset
    dropped    a client that leaves, streaming or not, frees its slot within 1 s
    health     p99 of /healthz under 100 ms while every slot generates and an ingest runs
    uploads    uploads of 200 MB do not block asks: the slowest ask beside them against the slowest alone
    soak       N minutes of mixed load: memory, descriptors and threads do not grow

The service runs in a process of its own over real collections and the real pipeline. Its generator sleeps
20 ms a word in place of computing, and its embedder hashes words: what is measured is the service, not the
models, and the figures do not depend on the processor's speed more than they must. With `--models`, a folder
of installed models such as `.lorebase/models`, it is `python -m service` with the real ones instead. Exit
status 1: a claim does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benchmarks.load_service import Service

QUESTION = {"question": "How tall is the Eiffel Tower?"}
WORDS = ("tower", "bridge", "river", "iron", "paint", "steps", "Paris", "metres", "tall", "old", "1889")
#: What a soak measures of the service, and how much each may grow between its first and its last quarter. Its
#: children come and go: parsers, and the process for large uploads, which ends when it has nothing to do.
MEASURED = ("resident MB", "children MB", "descriptors", "threads")
MOST_GROWTH = (48, None, 8, 4)


async def ready(client: httpx.AsyncClient) -> None:
    for _ in range(6000):
        with contextlib.suppress(httpx.ConnectError):  # it has its port before it listens
            if (await client.get("/readyz")).status_code == 200:
                break
        await asyncio.sleep(0.1)
    await upload(client, "tower.md", b"The Eiffel Tower is 330 metres tall. It stands in Paris.")


async def upload(client: httpx.AsyncClient, name: str, data: bytes) -> None:
    """Send a file and wait until it is in."""
    while (reply := await client.post("/documents", files={"files": (name, data)})).status_code == 429:
        await asyncio.sleep(0.5)
    reply.raise_for_status()
    while (await client.get(f"/jobs/{reply.json()['id']}")).json()["finished_at"] is None:
        await asyncio.sleep(0.1)


def text(size: int, seed: int) -> bytes:
    drawn = random.Random(seed)
    words: list[str] = []
    length = 0
    while length < size:
        sentence = " ".join(drawn.choices(WORDS, k=12)) + ".\n\n"
        words.append(sentence)
        length += len(sentence)
    return "".join(words).encode()[:size]


async def idle(client: httpx.AsyncClient) -> None:
    """Wait until no slot is taken."""
    for _ in range(600):
        if busy(await client.get("/metrics")) == 0:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError("a slot was never freed")


def busy(metrics: httpx.Response) -> int:
    lines = metrics.text.splitlines()
    names = ("lorebase_slots_busy", "lorebase_queue_waiting")
    return int(
        sum(float(line.split()[-1]) for line in lines if line.startswith(names) and '"answers"' in line)
    )


async def refusals(service: Service, report: Report) -> None:
    async with service.client() as client:
        await ready(client)
        await idle(client)
        for round_ in range(5):
            took: list[float] = []

            async def one(took: list[float] = took) -> int:
                began = time.perf_counter()
                reply = await client.post("/ask", json=QUESTION)
                if reply.status_code == 429:
                    assert reply.headers["retry-after"]
                    took.append(1000 * (time.perf_counter() - began))
                return reply.status_code

            found = await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)
            counts = Counter(str(f) if isinstance(f, int) else type(f).__name__ for f in found)
            report.claim(
                f"refusals, round {round_ + 1}",
                f"{dict(counts)}, slowest refusal {max(took, default=0):.0f} ms",
                counts == {"200": 5, "429": 15} and max(took) < 200,
            )


async def dropped(service: Service, report: Report) -> None:
    async with service.client() as client:
        await ready(client)
        for stream in (False, True):
            took = []
            for _ in range(10):
                await idle(client)
                async with service.client() as leaver:
                    asked = asyncio.create_task(leaver.post("/ask", json=QUESTION | {"stream": stream}))
                    while busy(await client.get("/metrics")) == 0:
                        await asyncio.sleep(0.01)
                    began = time.perf_counter()
                    asked.cancel()
                    await asyncio.gather(asked, return_exceptions=True)
                await idle(client)
                took.append(time.perf_counter() - began)
            kind = "streamed" if stream else "whole"
            report.claim(
                f"dropped, {kind}", f"slowest of {len(took)}: {1000 * max(took):.0f} ms", max(took) < 1
            )


async def health(service: Service, report: Report) -> None:
    async with service.client() as client:
        await ready(client)
        stop = asyncio.Event()

        async def asks() -> None:
            while not stop.is_set():
                if (await client.post("/ask", json=QUESTION)).status_code == 429:
                    await asyncio.sleep(0.05)

        async def ingests() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                await upload(client, f"ingest{n % 3}.md", text(2_000_000, n))

        busy_tasks = [asyncio.create_task(t) for t in (asks(), asks(), asks(), ingests())]
        took = []
        async with service.client() as prober:
            end = time.monotonic() + 20
            while time.monotonic() < end:
                began = time.perf_counter()
                (await prober.get("/healthz")).raise_for_status()
                took.append(1000 * (time.perf_counter() - began))
                await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*busy_tasks)
        p99 = statistics.quantiles(took, n=100)[98]
        shown = f"p50 {statistics.median(took):.1f}, p99 {p99:.1f}, most {max(took):.1f} ms, n = {len(took)}"
        report.claim("health", shown, p99 < 100)


async def uploads(service: Service, report: Report) -> None:
    async with service.client() as client:
        await ready(client)

        async def asks(until: Callable[[], bool]) -> list[float]:
            took = []
            while not until():
                began = time.perf_counter()
                reply = await client.post("/ask", json=QUESTION)
                assert reply.status_code == 200, reply.text
                took.append(time.perf_counter() - began)
            return took

        count = iter(range(20))
        alone = await asks(lambda: next(count, None) is None)
        big = text(4_000_000, 1) * 48  # below the limit of 200 MB

        async def sends() -> int:
            async with service.client() as sender:
                job = (await sender.post("/documents", files={"files": ("big.md", big)})).json()
                await sender.delete(f"/jobs/{job['id']}")  # what counts here is taking it in
                return int(job["total"])

        sending = asyncio.create_task(sends())
        beside = await asks(sending.done)
        assert await sending == 1
        shown = f"slowest ask {max(alone):.2f} s alone, {max(beside):.2f} s beside {len(big) // 10**6} MB (n = {len(beside)})"
        report.claim("uploads", shown, max(beside) < 2 * max(alone) + 1)


async def soak(service: Service, report: Report, minutes: float, curve: Path | None = None) -> None:
    async with service.client() as client:
        await ready(client)
        stop = time.monotonic() + 60 * minutes
        done: Counter[str] = Counter()
        drawn = random.Random(7)

        async def ask() -> None:
            body = QUESTION | {"session_id": f"s{drawn.randrange(20)}", "stream": drawn.random() < 0.5}
            done[f"ask {(await client.post('/ask', json=body)).status_code}"] += 1

        async def search() -> None:
            reply = await client.post("/search", json={"query": " ".join(drawn.choices(WORDS, k=3))})
            done[f"search {reply.status_code}"] += 1

        async def change() -> None:
            await upload(client, f"soak{drawn.randrange(10)}.md", text(20_000, drawn.randrange(10**6)))
            done["upload"] += 1

        async def leave() -> None:
            async with service.client() as leaver:
                asked = asyncio.create_task(leaver.post("/ask", json=QUESTION | {"stream": True}))
                await asyncio.sleep(drawn.random() * 0.2)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            done["left"] += 1

        async def wrong() -> None:
            reply = await client.post("/ask", json={"question": "x", "k": -1})
            done[f"wrong {reply.status_code}"] += 1

        async def works(kinds: list[Callable[[], Awaitable[None]]]) -> None:
            while time.monotonic() < stop:
                await drawn.choice(kinds)()

        samples: list[tuple[float, float, int, int]] = []

        async def samples_() -> None:
            while time.monotonic() < stop:
                samples.append(service.measured())
                await asyncio.sleep(min(5.0, minutes * 60 / 40))

        mixed: list[Callable[[], Awaitable[None]]] = [ask, ask, search, search, leave, wrong]
        await asyncio.gather(*(works(mixed) for _ in range(6)), works([change]), samples_())
        await idle(client)
        # the first eighth fills caches and pools
        kept = samples[len(samples) // 8 :]
        quarter = max(1, len(kept) // 4)
        first = [statistics.median(s[i] for s in kept[:quarter]) for i in range(4)]
        last = [statistics.median(s[i] for s in kept[-quarter:]) for i in range(4)]
        print(f"    {json.dumps(dict(sorted(done.items())))}")
        for at in range(4):
            shown = samples[min(len(samples) - 1, at * len(samples) // 3)]
            told = ", ".join(f"{name} {value:.0f}" for name, value in zip(MEASURED, shown, strict=True))
            print(f"    after {at * minutes / 3:4.1f} min: {told}")
        if curve is not None:
            draw(samples, minutes, curve)
        for name, before, after, most in zip(MEASURED, first, last, MOST_GROWTH, strict=True):
            if most is None:
                continue
            report.claim(
                f"soak {minutes:g} min, {name}", f"{before:.0f} -> {after:.0f}", after - before <= most
            )
        odd = [
            name for name in done if name.split()[-1] not in ("200", "429", "422", "504", "upload", "left")
        ]
        report.claim("soak, statuses", "only 200, 422, 429 and 504" if not odd else str(odd), not odd)


def draw(samples: list[tuple[float, float, int, int]], minutes: float, file: Path) -> None:
    """What was measured, over the time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(len(MEASURED), 1, sharex=True, figsize=(8, 8), layout="constrained")
    times = [minutes * at / max(1, len(samples) - 1) for at in range(len(samples))]
    for place, name, values in zip(places, MEASURED, zip(*samples, strict=True), strict=True):
        place.plot(times, values, linewidth=1.2)
        place.set_ylabel(name)
        place.set_ylim(bottom=0)
        place.grid(alpha=0.3)
    places[-1].set_xlabel("minutes of mixed load")
    figure.savefig(file, dpi=110)


class Report:
    """Prints claims and remembers whether all hold."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def claim(self, name: str, shown: str, holds: bool) -> None:
        """Print one claim."""
        print(f"{'holds' if holds else 'FAILS':6} {name:30} {shown}", flush=True)
        if not holds:
            self.failed.append(name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of the soak (default: 30)")
    parser.add_argument("--only", nargs="+", choices=("refusals", "dropped", "health", "uploads", "soak"))
    parser.add_argument("--models", type=Path, help="run the real service with the models of this folder")
    parser.add_argument("--curve", type=Path, help="draw what the soak measured into this file")
    given = parser.parse_args()
    report = Report()
    checks: dict[str, Callable[[Service], Awaitable[None]]] = {
        "refusals": lambda s: refusals(s, report),
        "dropped": lambda s: dropped(s, report),
        "health": lambda s: health(s, report),
        "uploads": lambda s: uploads(s, report),
        "soak": lambda s: soak(s, report, given.minutes, given.curve),
    }
    for name in given.only or checks:
        with tempfile.TemporaryDirectory() as home, Service(Path(home), given.models) as service:
            asyncio.run(checks[name](service))  # type: ignore[arg-type]
    if report.failed:
        sys.exit(f"does not hold: {', '.join(report.failed)}")


if __name__ == "__main__":
    main()
