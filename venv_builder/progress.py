"""Typed progress events; a renderer is any ``Callable[[Event], None]``.

One stream feeds terminal, log and (later) web. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage of a job or build begins; `stage` is its short name, `detail` one phrase."""

    stage: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded:
    """A stage is over after `seconds` of wall time."""

    stage: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """`done` of `total` units of a running stage; `total` is None while unknown."""

    stage: str
    done: int
    total: int | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """One sentence that the user should see whatever the stage."""

    sentence: str


Event = StageStarted | StageEnded | Advanced | Noted
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop the event: the listener of callers that show nothing."""


class Stages:
    """Wall seconds per stage, told to a listener as they pass.

    >>> stages = Stages(ignore)
    >>> with stages.stage("env"):
    ...     pass
    >>> list(stages.seconds)
    ['env']
    """

    def __init__(self, listener: Listener = ignore) -> None:
        self.listener = listener
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[None]:
        """Time the block as stage `name`; a stage entered twice adds up."""
        self.listener(StageStarted(stage=name, detail=detail))
        start = monotonic()
        try:
            yield
        finally:
            spent = monotonic() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            self.listener(StageEnded(stage=name, seconds=spent))


def where_it_stands(event: Event) -> str | None:
    """Where a job stands in a few words; None for an event that tells nothing of it."""
    match event:
        case StageStarted(stage=stage, detail=detail):
            return f"{stage} {detail}".strip()
        case Advanced(done=done, total=total) if total:
            return f"run {done} of {total} tests"
        case _:
            return None
