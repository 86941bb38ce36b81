"""Tells stestr how long slow classes take, so that on a new machine its workers end together.

`stestr list | python -m tests.schedule` before the first run; `… --learn` puts the times of the
last run into SLOW, in seconds, by class.
"""

from __future__ import annotations

import dbm.dumb
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLOW = Path(__file__).with_name("slow_classes.txt")
TIMES = ROOT / ".stestr" / "times.dbm"
LEAST = 2.0


def class_of(test: str) -> str:
    """The test's class; what tells scenarios apart is no part of it."""
    return test.partition("(")[0].rpartition(".")[0]


def learn(tests: Iterable[str]) -> None:
    """Write down how long the classes took."""
    seconds: dict[str, float] = defaultdict(float)
    with dbm.dumb.open(str(TIMES), "r") as times:
        for test in tests:
            seconds[class_of(test)] += float(times.get(test.encode(), b"0"))
    slow = sorted(item for item in seconds.items() if item[1] >= LEAST)
    SLOW.write_text("".join(f"{name} {took:.0f}\n" for name, took in slow))


def tell(tests: Iterable[str]) -> None:
    """Give the first test of each class the time of all: stestr adds up what it knows of a class.

    A repository that knows times of its own is left as it is.
    """
    if TIMES.with_suffix(".dbm.dat").exists():
        return
    seconds = dict(line.split() for line in SLOW.read_text().splitlines())
    with dbm.dumb.open(str(TIMES), "c") as times:
        for test in tests:
            took = seconds.pop(class_of(test), None)
            if took is not None:
                times[test] = took


if __name__ == "__main__":
    (learn if sys.argv[1:] == ["--learn"] else tell)(map(str.strip, sys.stdin))
