from __future__ import annotations

import threading
import time

import pytest

from curation.faults import DataError
from curation.limits import Limits, TooSlow, Watchdog
from curation.sample import Sample


def spin(seconds: float) -> None:
    """Work in Python."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def test_work_past_its_time_is_interrupted() -> None:
    begun = time.monotonic()
    with pytest.raises(DataError) as caught, Watchdog().watch(0.5, "a stage"):
        spin(30)
    assert caught.value.reason == "too_slow" and 0.5 <= time.monotonic() - begun < 3


def test_work_within_its_time_is_not() -> None:
    dog = Watchdog()
    for _ in range(20):
        with dog.watch(2.0, "a stage"):
            spin(0.05)
    with dog.watch(30, "a stage"):
        spin(2.5)  # and what is over raises nothing later


def test_what_catches_the_interruption_is_interrupted_again() -> None:
    caught = 0
    with pytest.raises(TooSlow), Watchdog().watch(0.1, "a stage"):
        while True:
            try:
                spin(30)
            except TooSlow:
                caught += 1
                if caught == 2:
                    raise
    assert caught == 2


def test_a_watch_within_a_watch_has_its_own_time() -> None:
    dog = Watchdog()
    with dog.watch(1.0, "a batch"):
        for _ in range(4):
            with dog.watch(2.0, "its part"):
                spin(0.5)
    with dog.watch(30, "a batch"), pytest.raises(TooSlow), dog.watch(0.1, "its part"):
        spin(30)


def test_each_thread_has_its_own() -> None:
    dog, ended = Watchdog(), []

    def work(seconds: float) -> None:
        try:
            with dog.watch(seconds, "a stage"):
                spin(1.5)
            ended.append((seconds, "done"))
        except TooSlow:
            ended.append((seconds, "too_slow"))

    threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.2, 30.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [(0.2, "too_slow"), (30.0, "done")]


def test_what_cannot_be_interrupted_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.limits.GRACE", (0.0, 0.5))
    dog, told = Watchdog(), []
    dog.stuck = lambda what, keys: told.append((what, keys))
    with pytest.raises(TooSlow), dog.watch(0.2, "a stage", ["a", "b"]):
        time.sleep(2)  # one call, in C
    assert told == [("a stage", ("a", "b"))]


def test_clips_share_what_they_have_left() -> None:
    limits = Limits(seconds_per_clip=10.0)
    assert limits.left([Sample("a"), Sample("b", seconds={"split_shots": 4.0, "crop_faces": 1.0})]) == 15
    assert limits.left([Sample("c", seconds={"split_shots": 50.0})]) == 1, "to say that it is too slow"
