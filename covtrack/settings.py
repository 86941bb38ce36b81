"""covtrack.toml: read, checked and written; and the settings of a clone that has none."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from platformdirs import user_state_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from covtrack.gerrit.settings import GerritServer, ReviewSettings
from covtrack.jenkins.settings import JenkinsServer
from covtrack.retention import Keep
from covtrack.settings_template import TEMPLATE
from jobs.clone import inspect_clone
from jobs.project import Duration, ProjectSettings
from venv_builder.errors import UsageError
from venv_builder.uv_tool import Wheels

FILE_NAME = "covtrack.toml"
ExecutorKind = Literal["local", "jenkins"]


class TrackedProject(ProjectSettings):
    """A project's settings, and how it stands on a Gerrit server.

    `gerrit` names the server; `gerrit_project` is its name there, the project's own by default.
    `git_for_agents` is where steps on other machines fetch from, `git` by default.
    `executor` is that of the settings unless set.
    """

    executor: ExecutorKind | None = None
    gerrit: str | None = None
    gerrit_project: str | None = None
    git_for_agents: str | None = None
    review: ReviewSettings = Field(default_factory=ReviewSettings)

    @property
    def name_on_gerrit(self) -> str:
        """What the project is called on its server."""
        return self.gerrit_project or self.name


class Settings(BaseModel):
    """The whole of covtrack.toml; `defaults` fill in what a project does not say itself.

    `url` is where covtrack's own pages are to be seen, for links in what it posts; `listen` is
    the address and port of `covtrack serve`, `executors` its jobs side by side. Every
    `mirror_every` (seconds) each mirror fetches all that its server has. `wheels` is a folder or
    address of wheels for the environments; without `index` only these are taken.
    `mirror_every` (seconds) each mirror fetches all that its server has. `executor` says where the
    jobs run: here, or as builds on `jenkins`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Path = Field(default_factory=lambda: user_state_path("covtrack"))
    database: str | None = None
    url: str | None = None
    listen: str = "127.0.0.1:8080"
    executors: Annotated[int, Field(ge=1, le=64)] = 1
    mirror_every: Duration = 3600.0
    wheels: str | None = None
    index: bool = True
    executor: ExecutorKind = "local"
    jenkins: JenkinsServer | None = None
    keep: Keep = Field(default_factory=Keep)
    gerrit: dict[str, GerritServer] = Field(default_factory=dict)
    projects: Annotated[dict[str, TrackedProject], Field(default_factory=dict)]

    @property
    def database_url(self) -> str:
        """The database's URL; SQLite in the state folder unless set."""
        return self.database or f"sqlite:///{self.state / 'covtrack.sqlite'}"

    @model_validator(mode="after")
    def _need_a_source(self) -> Settings:
        if not self.index and not self.wheels:
            raise ValueError("index = false leaves nothing to install from; name wheels too")
        return self

    @property
    def wheel_source(self) -> Wheels | None:
        """Where wheels lie beside the index, or instead of it; None where nothing is said."""
        return Wheels(place=self.wheels, alone=not self.index) if self.wheels else None

    def projects_on(self, executor: ExecutorKind) -> frozenset[str]:
        """The projects whose jobs that executor runs."""
        return frozenset(
            name
            for name, project in self.projects.items()
            if (project.executor or self.executor) == executor
        )

    def measures_with_others(self, name: str) -> bool:
        """Whether another project measures the same changes of the same server."""
        if (own := self.projects.get(name)) is None or own.gerrit is None:
            return False
        return len(self.projects_of(own.gerrit, own.name_on_gerrit)) > 1

    def projects_of(self, server: str, name: str) -> tuple[TrackedProject, ...]:
        """The projects that measure the changes of a server's project of that name there."""
        known = self.projects.values()
        return tuple(one for one in known if (one.gerrit, one.name_on_gerrit) == (server, name))

    def folder(self, project: str) -> Path:
        """A project's own folder below the state folder."""
        return self.state / "projects" / project.replace("/", "%2F")

    def project(self, name: str) -> TrackedProject:
        """Settings of one project; UsageError, naming the known ones, if there is none."""
        if name not in self.projects:
            known = ", ".join(sorted(self.projects)) or "none"
            raise UsageError(
                f"Project {name} is not in the settings (known: {known}).",
                advice=f"Add it with: covtrack project add {name} --git URL",
            )
        return self.projects[name]


def find_settings(start: Path) -> Path | None:
    """covtrack.toml in `start` or the nearest folder above it."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def load_settings(path: Path | None) -> Settings:
    """The settings of a file, or the defaults (no project) where `path` is None.

    Relative paths count from the file's folder. Raises UsageError with every mistake named.
    """
    if path is None:
        return Settings(projects={})
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.", advice="Write one with: covtrack init"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid TOML: {error}.", advice="Mend that line.") from error
    return _check(path, raw)


def _check(path: Path, raw: Mapping[str, Any]) -> Settings:
    defaults = raw.get("defaults", {})
    tables = raw.get("projects", {})
    servers = raw.get("gerrit", {})
    if not all(isinstance(part, dict) for part in (defaults, tables, servers)):
        raise UsageError(f"In {path}, defaults, gerrit and projects must be tables.")
    _check_defaults(path, defaults)
    projects = {
        name: {**defaults, **table, "name": name} if isinstance(table, dict) else table
        for name, table in tables.items()
    }
    named = {
        name: {**table, "name": name} if isinstance(table, dict) else table
        for name, table in servers.items()
    }
    known = {k: v for k, v in raw.items() if k != "defaults"}
    try:
        settings = Settings.model_validate({**known, "gerrit": named, "projects": projects})
    except ValidationError as error:
        raise UsageError(
            f"{path}: {_explain(error)}.", advice="covtrack init writes a commented example."
        ) from error
    _check_servers(path, settings)
    _check_jenkins(path, settings)
    return _anchor(settings, path.parent)


def _check_servers(path: Path, settings: Settings) -> None:
    for project in settings.projects.values():
        if project.gerrit is not None and project.gerrit not in settings.gerrit:
            known = ", ".join(sorted(settings.gerrit)) or "none"
            raise UsageError(
                f"{path}: projects.{project.name}.gerrit: there is no server {project.gerrit} "
                f"(known: {known}).",
                advice=f"Add a table [gerrit.{project.gerrit}] with its url.",
            )


def _check_jenkins(path: Path, settings: Settings) -> None:
    used = settings.executor == "jenkins" or settings.projects_on("jenkins")
    if used and settings.jenkins is None:
        raise UsageError(
            f'{path}: the executor is "jenkins", and there is no table [jenkins].',
            advice="Add it, with the server's url.",
        )


def _check_defaults(path: Path, defaults: Mapping[str, Any]) -> None:
    """Refuse what no project could take, even while there is no project."""
    try:
        TrackedProject.model_validate({"git": ".", **defaults, "name": "defaults"})
    except ValidationError as error:
        raise UsageError(
            f"{path}: {_explain(error, 'defaults')}.",
            advice="covtrack init writes a commented example.",
        ) from error


def _explain(error: ValidationError, *within: str) -> str:
    parts = []
    for item in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in (*within, *item["loc"]))
        words = "is not a known setting" if item["type"] == "extra_forbidden" else item["msg"]
        parts.append(f"{place}: {words[0].lower()}{words[1:]}")
    return "; ".join(parts)


def _anchor(settings: Settings, folder: Path) -> Settings:
    """Make relative paths absolute, counted from the settings file's folder."""

    def absolute(text: str) -> str:
        local = "://" not in text and not _is_scp(text)
        return str((folder / Path(text).expanduser()).resolve()) if local else text

    projects = {}
    for name, project in settings.projects.items():
        constraints = project.constraints
        if constraints and constraints != "none":
            constraints = absolute(constraints)
        template = project.review.template
        review = {"template": Path(absolute(str(template))) if template else None}
        update = {
            "git": absolute(project.git),
            "constraints": constraints,
            "review": project.review.model_copy(update=review),
        }
        projects[name] = project.model_copy(update=update)
    state = (folder / settings.state.expanduser()).resolve()
    wheels = absolute(settings.wheels) if settings.wheels else None
    anchored = {"state": state, "projects": projects, "wheels": wheels}
    return settings.model_copy(update=anchored)


def _is_scp(text: str) -> bool:
    """user@host:path, git's other way to name a server."""
    return ":" in text.partition("/")[0]


def settings_of_clone(root: Path) -> ProjectSettings:
    """The settings of a clone that no covtrack.toml names: all from what the clone itself says."""
    clone = inspect_clone(root)
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", root.name).strip("-._") or "clone"
    return ProjectSettings(name=name, git=str(root), branch=clone.branch)


def write_template(path: Path) -> None:
    """Write a commented covtrack.toml; UsageError if there is one already."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists already.", advice="Edit it, or add to it: covtrack project add"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def add_project(path: Path, name: str, values: Mapping[str, Any]) -> None:
    """Add a project's table to the file, keeping its comments; UsageError if it is no good."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        document = tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise UsageError(f"{path} is no valid TOML: {error}.") from error
    _check(path, document.unwrap())
    tables = document.setdefault("projects", tomlkit.table(is_super_table=True))
    if name in tables:
        raise UsageError(f"{path} has a project {name} already.", advice="Edit its table there.")
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    tables.add(name, table)
    new = tomlkit.dumps(document)
    _check(path, tomllib.loads(new))
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(new, encoding="utf-8")
    temporary.replace(path)
