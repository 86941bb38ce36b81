"""The `uv` program: where it is, what environment it gets, and the three commands used of it.

Knows no keys and no caches of ours. uv never downloads an interpreter, and never links to files
of its own cache: a job that writes through a hardlink would poison every later environment.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uv

from venv_builder.errors import BuildError
from venv_builder.processes import Completed, run_command

INDEX_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX_STRATEGY",
    "UV_EXCLUDE_NEWER",
    "UV_PRERELEASE",
)
_KEPT = (
    *INDEX_VARIABLES,
    "UV_CACHE_DIR",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_REQUEST_TIMEOUT",
    "UV_KEYRING_PROVIDER",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_INSECURE_HOST",
    "UV_OFFLINE",
)
_DROPPED = re.compile(r"(UV_|PIP_|PYTHON|CONDA_|VIRTUAL_ENV\Z)")
_RESOLVE_SECONDS = 900.0
_SYNC_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """Where wheels lie beside the index: a folder, or the address of a page of links to them.

    With `alone` the index is not asked at all.
    """

    place: str
    alone: bool = False

    def options(self) -> list[str]:
        """What uv is told. Raises BuildError for a folder that is not there."""
        if "://" not in self.place and not Path(self.place).is_dir():
            raise BuildError(
                f"The folder of wheels {self.place} is not there.",
                advice="Mount it, or fill it by: venv-builder wheels TREE --to FOLDER",
            )
        return ["--find-links", self.place, *(["--no-index"] if self.alone else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """uv with a scrubbed environment; `cache` is its own cache folder, None for its default."""

    binary: Path
    cache: Path | None = None
    wheels: Wheels | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """uv's version: of the resolution's inputs."""
        return run_command([self.binary, "--version"]).stdout.split()[1]

    def compile(self, asked: Path, constraints: Path, *, python: Path, folder: Path) -> Completed:
        """Resolve the lines in `asked`; the lock with hashes is on standard output."""
        argv = ["pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        argv += ["--python", str(python), "--constraints", str(constraints), str(asked)]
        argv += self._sources()
        return self.run(argv, folder=folder, timeout=_RESOLVE_SECONDS)

    def create(self, target: Path, *, python: Path, with_pip: bool = False) -> None:
        """An environment, empty or with pip alone, whose scripts survive a move of its folder."""
        argv = ["venv", "--quiet", "--relocatable", "--no-project", "--python", str(python)]
        if with_pip:
            argv += ["--seed", *self._sources()]
        completed = self.run([*argv, str(target)], folder=target.parent, timeout=60)
        if completed.status:
            raise BuildError(
                f"uv cannot make an environment of {python}: {shorten(completed)}",
                advice="Try `venv-builder doctor`.",
            )

    def sync(self, lock: Path, *, python: Path) -> Completed:
        """Install exactly the lock, without bytecode, from uv's cache alone if it holds all."""
        argv = ["pip", "sync", "--quiet", "--link-mode", "copy"]
        argv += ["--python", str(python), "--allow-empty-requirements", str(lock)]
        argv += self._sources()
        offline = self.run([*argv, "--offline"], folder=lock.parent, timeout=_SYNC_SECONDS)
        if offline.status == 0:
            return offline
        return self.run(argv, folder=lock.parent, timeout=_SYNC_SECONDS)

    def forget(self, names: Sequence[str], *, folder: Path) -> None:
        """Drop distributions from uv's cache, so that they are fetched again."""
        self.run(["cache", "clean", "--quiet", *names], folder=folder, timeout=120)

    def _sources(self) -> list[str]:
        return self.wheels.options() if self.wheels else []

    def run(self, argv: Sequence[str], *, folder: Path, timeout: float) -> Completed:
        """One uv command in `folder`, where no project of anybody's is configured."""
        options = ["--color", "never", "--no-progress", "--no-python-downloads"]
        if self.cache is not None:
            options += ["--cache-dir", str(self.cache)]
        words = [str(self.binary), *argv, *options]
        return run_command(words, cwd=folder, env=self.variables, timeout=timeout)


def find_uv(cache: Path | None = None, wheels: Wheels | None = None) -> Uv:
    """The uv that is installed beside covtrack. Raises BuildError if there is none.

    Without `wheels` the machine's own variables may name some: see `read_wheels`.
    """
    try:
        binary = Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise BuildError(
            "The program uv is missing.", advice="Reinstall covtrack, or `pip install uv`."
        ) from error
    wheels = wheels or read_wheels(os.environ)
    return Uv(binary=binary, cache=cache, wheels=wheels, variables=scrub(os.environ))


def read_wheels(environ: Mapping[str, str]) -> Wheels | None:
    """What VENV_BUILDER_WHEELS and VENV_BUILDER_NO_INDEX say of this machine.

    >>> read_wheels({"VENV_BUILDER_WHEELS": "/srv/wheels", "VENV_BUILDER_NO_INDEX": "1"})
    Wheels(place='/srv/wheels', alone=True)
    """
    place = environ.get("VENV_BUILDER_WHEELS")
    alone = environ.get("VENV_BUILDER_NO_INDEX", "") not in ("", "0", "false", "no")
    return Wheels(place=place, alone=alone) if place else None


def scrub(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables uv gets: its index and network settings stay, others' settings go."""
    return {k: v for k, v in environ.items() if k in _KEPT or not _DROPPED.match(k)}


def describe_index(uv_tool: Uv) -> dict[str, str]:
    """The settings that decide where distributions come from, by name; files by their hash."""
    found = {
        name: uv_tool.variables[name] for name in INDEX_VARIABLES if name in uv_tool.variables
    }
    if uv_tool.wheels is not None:
        found["wheels"] = f"{uv_tool.wheels.place} {'alone' if uv_tool.wheels.alone else ''}"
    home = Path(uv_tool.variables.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")):
        if path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def shorten(completed: Completed, limit: int = 400) -> str:
    """uv's explanation as one sentence; its hints and continuation marks are cut off."""
    text = (completed.stderr or completed.stdout).partition("\nhint:")[0]
    words = " ".join(re.sub(r"[^\x00-\x7f]+", " ", text).split())
    words = re.sub(r"^error: ", "", words).replace(" cause: ", ": ")
    if completed.status == -9:
        words = "it took too long and was stopped"
    return (words[:limit].rstrip(". ") or "it said nothing") + "."
