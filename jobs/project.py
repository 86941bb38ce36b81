"""One project's settings, as a frozen value that a job can be handed on any machine."""

from __future__ import annotations

import re
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from jobs.results import Select

SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$", re.IGNORECASE)
DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|min|h)?$", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def parse_size(value: Any) -> Any:
    """Bytes from 4096, "512M" or "4 GiB"; anything else is left for pydantic to refuse."""
    if isinstance(value, str) and (match := SIZE.match(value.strip())):
        return int(float(match[1]) * _UNITS[match[2].lower()])
    return value


def parse_duration(value: Any) -> Any:
    """Seconds from 90, "90 s", "30 min" or "2h"."""
    if isinstance(value, str) and (match := DURATION.match(value.strip())):
        return float(match[1]) * _SECONDS[match[2] and match[2].lower()]
    return value


def parse_target(value: Any) -> Any:
    """An exact percentage from 80, 82.5 or "82.5 %"."""
    if isinstance(value, str):
        value = value.strip().removesuffix("%").strip()
    if isinstance(value, int | float | str):
        try:
            return Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            return value
    return value


def parse_fraction(value: Any) -> Any:
    """An exact share from "1/20", "5 %", 0.05 or 0."""
    text = str(value).strip() if isinstance(value, int | float | str) else value
    try:
        if isinstance(text, str):
            percent = text.endswith("%")
            return Fraction(text.removesuffix("%").strip()) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        pass
    return value


def check_pattern(value: str) -> str:
    """Refuse what is no regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=64 * 2**20)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Percent = Annotated[Fraction, BeforeValidator(parse_target), Field(ge=0, le=100)]
Part = Annotated[Fraction, BeforeValidator(parse_fraction), Field(ge=0, le=1)]
Pattern = Annotated[str, AfterValidator(check_pattern)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", max_length=200)]


class Recorder(StrEnum):
    """What records lines per test: the quickest that the interpreter allows, or coverage.py.

    PLAIN is coverage.py without contexts on its quickest core, NONE records nothing: both are
    for comparison, and their snapshots are no base for anything.
    """

    AUTO = "auto"
    COVERAGE = "coverage"
    PLAIN = "plain"
    NONE = "none"


def check_recorder(value: Recorder) -> Recorder:
    """Refuse what leaves no data per test."""
    if value in (Recorder.PLAIN, Recorder.NONE):
        raise ValueError('must be "auto" or "coverage"')
    return value


class ProjectSettings(BaseModel):
    """Settings of one project; each has the key of the same name in covtrack.toml.

    `target` is a percentage, `ledger` the share of jobs that are held against a full run;
    `memory` is bytes of address space per test process, `timeout`
    seconds of wall time for all tests of a job; `budget` is seconds of tests, by their recorded
    durations, after which a change's result is provisional.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Name
    git: str
    branch: str | None = None
    target: Percent = Fraction(80)
    python: str | None = None
    test_path: str | None = None
    top_dir: str | None = None
    tox_env: str | None = None
    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    extra_packages: tuple[str, ...] = ()
    constraints: str | None = None
    source: tuple[str, ...] = ()
    branch_coverage: bool | None = None
    recorder: Annotated[Recorder, AfterValidator(check_recorder)] = Recorder.AUTO
    vendored: tuple[str, ...] = ()
    select: Select = Select.AFFECTED
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    serial: tuple[Pattern, ...] = ()
    timeout: Duration = 3600.0
    budget: Duration | None = None
    memory: Size = 8 * 2**30
    writable: tuple[str, ...] = ()
    ledger: Part = Fraction(0)
    set_env: dict[str, str] = Field(default_factory=dict)

    @property
    def share(self) -> Fraction:
        """The target as a share in 0..1."""
        return self.target / 100

    def in_full(self, workers: int | None = None) -> ProjectSettings:
        """The settings of a full run to compare with; `workers` None are the project's."""
        changes: dict[str, object] = {"recorder": Recorder.PLAIN}
        if workers:
            changes["workers"] = workers
        return self.model_copy(update=changes)
