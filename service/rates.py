"""How fast one caller may send requests: a token bucket for each key, or address where no key is brought.

A bucket holds a minute's worth and fills steadily, so a burst is served and a flood is not. What was refused
costs nothing but the look into its bucket.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Callers that are remembered; the one that was silent longest is forgotten, and starts with a full bucket.
MOST_CALLERS = 10_000


class Rates:
    """Buckets by caller; safe from several threads."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the rate; `clock` gives seconds."""
        self._most = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, caller: str) -> int:
        """Take one token; returns 0, or where there is none after how many whole seconds there will be."""
        now = self._clock()
        with self._lock:
            tokens, then = self._buckets.pop(caller, (self._most, now))
            tokens = min(self._most, tokens + (now - then) * self._per_second)
            taken = tokens >= 1
            self._buckets[caller] = (tokens - 1 if taken else tokens, now)
            if len(self._buckets) > MOST_CALLERS:
                self._buckets.popitem(last=False)
        return 0 if taken else max(1, math.ceil((1 - tokens) / self._per_second))
