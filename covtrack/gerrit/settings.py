"""The settings of one Gerrit server and of what is said on a project's changes."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from jobs.project import Duration, Percent


def check_address(value: str) -> str:
    """Refuse what is no http(s) address; a slash at its end is dropped."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return value.rstrip("/")


def check_ssh(value: str) -> str:
    """Refuse what is no ssh address."""
    if not value.startswith("ssh://"):
        raise ValueError('must look like "ssh://user@host:29418"')
    return value.rstrip("/")


class GerritServer(BaseModel):
    """One server, `[gerrit.NAME]`: `url` is its web address, `ssh` where events stream.

    The HTTP password is never in the file: `password_env` names the variable that holds it, and
    without one ~/.netrc is asked. `ssh_options` go to ssh as they are. `webhook_secret_env` names
    the variable with the secret part of the webhook's path. After `silence` without an event it
    is asked for what was missed. Projects whose names match a pattern of `mirror` (*, ?, [abc])
    are mirrored, measured or not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: Annotated[str, AfterValidator(check_address)]
    ssh: Annotated[str, AfterValidator(check_ssh)] | None = None
    ssh_options: tuple[str, ...] = ()
    user: str | None = None
    password_env: str | None = None
    webhook_secret_env: str | None = None
    silence: Duration = 600.0
    ref_wait: Duration = 300.0
    mirror: tuple[str, ...] = ()

    @property
    def password(self) -> str | None:
        """The HTTP password from the environment; None to ask ~/.netrc."""
        return os.environ.get(self.password_env) if self.password_env else None

    @property
    def webhook_secret(self) -> str | None:
        """The secret part of the webhook's path; None where webhooks are not taken."""
        found = os.environ.get(self.webhook_secret_env) if self.webhook_secret_env else None
        return found or None


class ReviewSettings(BaseModel):
    """What is said on changes of one project, `[projects.X.review]`.

    `label` is voted on where it is set: +1 or -1 by `patch_threshold` (percent of the change's
    own statements that have to be covered, not asked of changes with at most `small` statements)
    and `allowed_drop` (statements of the project that may become uncovered). `comments` is the
    most inline comments; `quiet` posts nothing where there is nothing to say; `template` is a
    Jinja2 file for the message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    post: bool = True
    quiet: bool = False
    label: str | None = None
    patch_threshold: Percent = Fraction(80)
    small: Annotated[int, Field(ge=0)] = 5
    allowed_drop: Annotated[int, Field(ge=0)] = 0
    comments: Annotated[int, Field(ge=0, le=500)] = 20
    notify: Literal["NONE", "OWNER", "OWNER_REVIEWERS", "ALL"] = "OWNER"
    template: Path | None = None
