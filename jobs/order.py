"""What a step is asked to measure: a frozen value with a JSON form, the same for any sender.

`covtrack schema order` prints its schema. Keys are added over time; `format` changes only when a
key changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from jobs.holding import Held, Unproven, hold
from jobs.project import ProjectSettings
from jobs.results import Before, JobResult, Kind, Select
from venv_builder.errors import DataError

LARGEST_ORDER = 4 * 2**20
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Ref = Annotated[str, Field(pattern=r"^refs/[^\s:*?\[\\^~]+$", max_length=500)]
Branch = Annotated[str, Field(pattern=r"^[^\s:*?\[\\^~-][^\s:*?\[\\^~]*$", max_length=500)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class OrderedCommit(_Model):
    """A commit to be measured, what kind of result it will be, and how its tests are chosen."""

    sha: Sha
    kind: Kind
    select: Select


class OrderedBase(_Model):
    """The snapshot that the first commit rests on: of `commit`, compared with `compared`."""

    commit: Sha
    compared: Sha | None = None
    """The commit that `before` are the counts of, where that is not `commit` itself."""
    before: Before | None
    sha256: Sha256
    size: Annotated[int, Field(ge=1)]
    """Bytes of the snapshot."""


class Against(_Model):
    """A stored result, to be held against full runs of its commit."""

    run: Annotated[int, Field(ge=0)]
    """The tracker's id of the result."""
    ours: Unproven
    known: dict[str, tuple[int, ...]] = {}
    """First lines of statements, by path, that are known to run or not by chance."""

    def hold(self, full: JobResult, rerun: Callable[[int | None], JobResult] | None) -> Held:
        """How the result differs from a full run; `rerun` makes the others that tell why."""
        again = None if rerun is None else lambda number: Unproven.of(rerun(number).measurement)
        return hold(self.ours, Unproven.of(full.measurement), again, self.known)


class StepOrder(_Model):
    """All that a step needs to know; without a tracker the step writes it for itself."""

    format: Literal[1] = 1
    run_id: RunId
    settings: ProjectSettings
    branch: Branch
    refs: tuple[Ref, ...] = ()
    """Refs to fetch beside branches and tags, such as refs/changes/NN/CHANGE/PATCHSET."""
    commits: Annotated[tuple[OrderedCommit, ...], Field(min_length=1, max_length=1000)]
    """Measured one after the other, each on the one before."""
    base: OrderedBase | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    """Seconds of tests, by their durations, after which a change's result is provisional."""
    against: Against | None = None
    """Set where the one commit is to run in full, by coverage.py itself, for the ledger."""

    @field_validator("settings", mode="before")
    @classmethod
    def _no_options(cls, value: Any) -> Any:
        """Git takes an address that begins with a dash for an option."""
        address = value.get("git", "") if isinstance(value, dict) else getattr(value, "git", "")
        if not isinstance(address, str) or not address or address.startswith("-"):
            raise ValueError("git must be an address or a path")
        return value


def parse_order(text: str | bytes, place: str) -> StepOrder:
    """The order of a JSON text; DataError, naming `place`, for anything else."""
    if len(text) > LARGEST_ORDER:
        raise DataError(f"The order of {place} is too large ({len(text)} bytes).")
    try:
        return StepOrder.model_validate_json(text)
    except (ValidationError, RecursionError) as error:
        raise DataError(
            f"{place} is no order that this covtrack understands: {explain(error)}.",
            advice="Use the same version of covtrack on the agent and on the tracker.",
        ) from error


def explain(error: Exception) -> str:
    """The first mistake that pydantic found, as one phrase."""
    if not isinstance(error, ValidationError):
        return "it is nested too deeply"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part)[:60] for part in first["loc"][:8])
    words = first["msg"][:1].lower() + first["msg"][1:200]
    return f"{place}: {words}" if place else words
