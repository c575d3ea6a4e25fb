"""Two servers with one model: one dies, falls silent, refuses or breaks off, and the other goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from model.config import Sampling
from model.errors import Cancelled
from service.errors import ModelNotServed, UpstreamError, UpstreamRefused, UpstreamUnreachable
from service.generators import failover
from service.generators.failover import Failover
from service.generators.openai import OpenAIServer
from tests.service.openai_stand_in import OpenAIStandIn, standing_in

MESSAGES = [{"role": "user", "content": "How tall?"}]


@pytest.fixture
def two() -> Iterator[tuple[OpenAIStandIn, OpenAIStandIn]]:
    with standing_in() as one, standing_in() as other:
        one.words, other.words = ["one"], ["other"]
        yield one, other


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(failover.time, "monotonic", lambda: now[0])
    return now


def pool_of(*stand_ins: OpenAIStandIn) -> Failover:
    return Failover([OpenAIServer(s.address, 4096) for s in stand_ins])


def ask(pool: Failover, model: str = "tiny", cancel: threading.Event | None = None) -> str:
    pieces = pool.generator(model).stream(MESSAGES, Sampling(max_tokens=9), cancel or threading.Event())  # type: ignore[arg-type]
    return "".join(piece.text for piece in pieces)


def settled(pool: Failover) -> None:
    """Looks at servers happen beside the questions; wait until the present ones are over."""
    for thread in threading.enumerate():
        if thread.name == "upstream-health":
            thread.join()


def test_a_server_that_dies_is_replaced_at_once_left_alone_and_taken_back(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with standing_in() as other, ExitStack() as dying:
        one = dying.enter_context(standing_in())
        one.words, other.words = ["one"], ["other"]
        pool = pool_of(one, other)
        assert ask(pool) == "one"
        one.script = "500"
        with caplog.at_level(logging.WARNING):
            assert ask(pool) == "other"  # nothing of it is seen but a line in the log
        assert one.address in caplog.text and "told 500" in caplog.text
        asked = len(one.asked)
        assert ask(pool) == "other" and len(one.asked) == asked  # it rests
        clock[0] += 1.1
        one.script = "answer"
        assert ask(pool) == "other"  # a look at it begins
        settled(pool)
        assert ask(pool) == "one"  # it is back
        dying.close()  # now for good: nothing listens there
        assert ask(pool) == "other"
        other.script = "500"
        with pytest.raises(UpstreamUnreachable, match="none of 2 servers answers") as told:
            ask(pool)
        assert one.address in str(told.value) and other.address in str(told.value)
        other.script = "answer"
        assert ask(pool) == "other"  # where all rest, all are tried


def test_pauses_grow_and_end(clock: list[float], two: tuple[OpenAIStandIn, OpenAIStandIn]) -> None:
    pool = pool_of(*two)
    first = pool._known[0]
    pauses = []
    for _ in range(9):
        pool._ill(first, UpstreamError("x"))
        pauses.append(first.rests_until - clock[0])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    pool._well(first)  # it lists its models: it may be asked, but has not answered yet
    assert first.rests_until < clock[0] and first.failures > 0
    with pool.asking(first.server):
        pass
    assert first.failures == 0


def test_one_that_lists_its_models_and_cannot_answer_rests_longer_each_time(
    clock: list[float], two: tuple[OpenAIStandIn, OpenAIStandIn]
) -> None:
    pool = pool_of(*two)
    ask(pool)
    two[0].script = "500"
    first, pauses = pool._known[0], []
    for _ in range(4):
        assert ask(pool) == "other"
        pauses.append(first.rests_until - clock[0])
        clock[0] = first.rests_until + 0.1
        ask(pool)  # a look at it begins, and finds its models
        settled(pool)
    assert pauses == [1, 2, 4, 8]
    two[0].script = "answer"
    assert ask(pool) == "one" and first.failures == 0


def test_an_answer_that_began_before_a_failure_does_not_end_the_rest(
    clock: list[float], two: tuple[OpenAIStandIn, OpenAIStandIn]
) -> None:
    pool = pool_of(*two)
    first = pool._known[0]
    with pool.asking(first.server):
        pool._ill(first, UpstreamError("a later question"))
    assert first.failures == 1 and first.rests_until > clock[0]


def test_a_reply_that_broke_off_is_told_and_not_begun_again(two: tuple[OpenAIStandIn, OpenAIStandIn]) -> None:
    pool = pool_of(*two)
    two[0].script = "breaks"
    with pytest.raises(UpstreamError, match="broke off"):
        ask(pool)
    assert len(two[1].asked) == 0
    assert ask(pool) == "other"


def test_what_is_wrong_with_the_request_is_asked_of_nobody_else(
    two: tuple[OpenAIStandIn, OpenAIStandIn],
) -> None:
    pool = pool_of(*two)
    two[0].script = "400"
    with pytest.raises(UpstreamRefused):
        ask(pool)
    assert two[1].asked == []
    two[0].script = "answer"
    assert ask(pool) == "one"  # and it counts as healthy


def test_the_one_that_has_the_model_is_asked(two: tuple[OpenAIStandIn, OpenAIStandIn]) -> None:
    two[1].serves = ["large"]
    pool = pool_of(*two)
    assert ask(pool, "large") == "other" and two[0].asked == []
    with pytest.raises(ModelNotServed, match="nothing-of-the-kind"):
        ask(pool, "nothing-of-the-kind")
    assert ask(pool) == "one"


def test_the_less_busy_one_is_asked(two: tuple[OpenAIStandIn, OpenAIStandIn]) -> None:
    pool = pool_of(*two)
    ask(pool)
    with pool.asking(pool.order("tiny")[0]):
        assert ask(pool) == "other"
    assert ask(pool) == "one"


def test_a_withdrawn_question_ends_and_is_asked_of_nobody_else(
    two: tuple[OpenAIStandIn, OpenAIStandIn],
) -> None:
    pool = pool_of(*two)
    two[0].script = "hangs"
    cancel = threading.Event()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            ask(pool, cancel=cancel)
        except Cancelled as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert two[0].answering.wait(20)
    cancel.set()
    thread.join(20)
    assert ended and two[0].hung_up.wait(20) and two[1].asked == []
    assert pool._known[0].busy == 0 and pool._known[0].failures == 0
