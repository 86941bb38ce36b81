"""What Jenkins tells of its queue and builds, checked: frozen values. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

RUN_ID = "COVTRACK_RUN_ID"


class _Told(BaseModel):
    """Fields that are not named are dropped: Jenkins tells more with every plugin."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _parameters(actions: object) -> dict[str, str]:
    """The build's parameters that are shown; password parameters never are."""
    found: dict[str, str] = {}
    for action in actions if isinstance(actions, list) else []:
        shown = action.get("parameters") if isinstance(action, dict) else None
        for one in shown if isinstance(shown, list) else []:
            if isinstance(one, dict) and isinstance(one.get("value"), str):
                found[str(one.get("name"))] = one["value"]
    return found


def _word(value: object) -> object:
    return "" if value is None else value


def _moment(value: object) -> object:
    return datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int | float) else value


Parameters = Annotated[dict[str, str], BeforeValidator(_parameters)]


class Executable(_Told):
    """The build that a queue item became."""

    number: int
    url: str = ""


class QueueItem(_Told):
    """A build that waits; `why` in Jenkins' own words. Old servers tell no id."""

    id: int | None = None
    why: str | None = None
    cancelled: bool = False
    executable: Executable | None = None
    parameters: Parameters = Field(default_factory=dict, alias="actions")

    @property
    def run_id(self) -> str | None:
        """The run that it was asked for."""
        return self.parameters.get(RUN_ID)


class Artifact(_Told):
    """A file that a build left; the path is relative."""

    path: str = Field(alias="relativePath")
    name: str = Field(alias="fileName")


class BuildInfo(_Told):
    """A build that has begun. Its result may be told while it still archives its artifacts.

    In its first moments it has no node yet: null, told as "".
    """

    number: int
    building: bool
    result: str | None = None
    url: str = ""
    node: Annotated[str, BeforeValidator(_word)] = Field(default="", alias="builtOn")
    began: Annotated[datetime, BeforeValidator(_moment)] = Field(alias="timestamp")
    artifacts: tuple[Artifact, ...] = ()
    parameters: Parameters = Field(default_factory=dict, alias="actions")

    @property
    def run_id(self) -> str | None:
        """The run that it was asked for."""
        return self.parameters.get(RUN_ID)

    def artifact(self, name: str) -> Artifact | None:
        """The artifact whose file has that name."""
        return next((one for one in self.artifacts if one.name == name), None)


class Agent(_Told):
    """A machine that builds; `executors` is how many builds it takes at once."""

    name: str = Field(alias="displayName")
    offline: bool
    executors: int = Field(default=0, alias="numExecutors")


def read_items(answer: Any) -> tuple[QueueItem, ...]:
    """The items of a queue; ValueError where it is none."""
    return tuple(QueueItem.model_validate(one) for one in _list(answer, "items"))


def read_builds(answer: Any) -> tuple[BuildInfo, ...]:
    """The builds of a job, newest first; ValueError where it is none."""
    shown = "builds" if "builds" in answer else "allBuilds"
    return tuple(BuildInfo.model_validate(one) for one in _list(answer, shown))


def read_agents(answer: Any) -> tuple[Agent, ...]:
    """All agents, the server itself among them; ValueError where it is none."""
    return tuple(Agent.model_validate(one) for one in _list(answer, "computer"))


def by_run(builds: tuple[BuildInfo, ...]) -> Mapping[str, BuildInfo]:
    """The build of each run: of several the one that runs, else the newest."""
    found: dict[str, BuildInfo] = {}
    for build in sorted(builds, key=lambda one: (one.building, one.number)):
        if build.run_id:
            found[build.run_id] = build
    return found


def _list(answer: Any, key: str) -> Iterator[Any]:
    if not isinstance(answer, dict) or not isinstance(answer.get(key, []), list):
        raise ValueError(f"no list of {key}")
    return iter(answer.get(key, []))
