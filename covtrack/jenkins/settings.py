"""The settings of the Jenkins that measures, `[jenkins]` of covtrack.toml."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from covtrack.gerrit.settings import check_address
from jobs.project import Duration


def check_job(value: str) -> str:
    """Refuse what is no name or path of a job, such as "folder/covtrack"."""
    parts = value.split("/")
    if not all(part.strip() and part not in (".", "..") for part in parts):
        raise ValueError('must be a name, or a path such as "folder/covtrack"')
    if set(value) & set('?*\\%!@#$^&|<>[]:;"'):
        raise ValueError("has a character that Jenkins takes in no name")
    return value


class JenkinsServer(BaseModel):
    """The server, and the one job on it whose builds measure.

    The API token is never in the file: `token_env` names the variable that holds it. `tracker` is
    the address under which agents reach `covtrack serve` (default: `url` of covtrack.toml). At
    most `most_builds` are queued or run at once, `most_of_project` of them of one project. A build
    that has waited `queue_patience` is cancelled and tried again. `timeout` (seconds) is that of
    one request. `keep_builds` is how many builds Jenkins keeps. `command` starts covtrack on the
    agents, in a shell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(check_address)]
    user: str | None = None
    token_env: str | None = None
    job: Annotated[str, AfterValidator(check_job)] = "covtrack"
    label: str = "covtrack"
    tracker: Annotated[str, AfterValidator(check_address)] | None = None
    command: str = "covtrack step"
    most_builds: Annotated[int, Field(ge=1, le=1000)] = 8
    most_of_project: Annotated[int, Field(ge=1, le=1000)] = 2
    queue_patience: Duration = 21600.0
    every: Duration = 3.0
    timeout: Duration = 30.0
    keep_builds: Annotated[int, Field(ge=10, le=10000)] = 200

    @property
    def token(self) -> str | None:
        """The API token (or password) from the environment."""
        return os.environ.get(self.token_env) if self.token_env else None
