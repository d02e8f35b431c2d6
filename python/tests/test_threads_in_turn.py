"""Threads are woken one after another, and nobody waits for one that does not come back: decision 0020."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import southbridge

THREADS = 12
REQUESTS = 40
# As many as make a thread known as one that comes back at once.
QUICK = 10
PATIENCE = 30.0


@contextmanager
def threads(work: Callable[[int], int]) -> Generator[list[int]]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield list(pool.map(work, range(THREADS)))


def test_all_of_many_threads_are_answered(peer: str) -> None:
    client = southbridge.Client()
    begin = threading.Barrier(THREADS)

    def ask(_number: int) -> int:
        begin.wait(PATIENCE)
        return sum(client.get(f"{peer}/echo").status == 200 for _ in range(REQUESTS))

    with threads(ask) as answered:
        assert answered == [REQUESTS] * THREADS


def test_nobody_waits_for_a_thread_that_does_not_come_back(peer: str) -> None:
    """Each third thread has been quick, and after an answer waits, without the lock, until all others are done."""
    client = southbridge.Client()
    begin = threading.Barrier(THREADS)
    left = [number for number in range(THREADS) if number % 3]
    all_done = threading.Event()
    lock = threading.Lock()

    def ask(number: int) -> int:
        begin.wait(PATIENCE)
        asked = 0
        for asked in range(1, REQUESTS + 1):
            assert client.get(f"{peer}/echo").status == 200
            if number % 3 == 0 and asked == QUICK:
                assert all_done.wait(PATIENCE), "the others wait for who has the turn"
        with lock:
            if number in left:
                left.remove(number)
            if not left:
                all_done.set()
        return asked

    with threads(ask) as answered:
        assert answered == [REQUESTS] * THREADS


def test_a_thread_that_ends_with_its_answer_ends_its_turn(peer: str) -> None:
    """Threads of one request each, new ones all the time, beside those that come back."""
    client = southbridge.Client()

    def ask_thrice() -> list[int]:
        return [client.get(f"{peer}/echo").status for _ in range(3)]

    def ask(number: int) -> int:
        answered = 0
        for _ in range(QUICK):
            if number % 2:
                answered += client.get(f"{peer}/echo").status == 200
                continue
            with ThreadPoolExecutor(1) as once:
                answered += once.submit(ask_thrice).result(PATIENCE) == [200] * 3
        return answered

    with threads(ask) as answered:
        assert answered == [QUICK] * THREADS
