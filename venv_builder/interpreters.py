"""Finds the CPython interpreters of the machine, on PATH or off it.

`uv` sees only interpreters on PATH and its own; pyenv's versions are missed unless its shims are
active. A version is read from the folder's name where it stands there; only interpreters with
unreadable versions, and the one finally chosen, are started. Downloads nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from venv_builder.errors import InfrastructureError, UsageError
from venv_builder.processes import run_command

OLDEST = (3, 9)
Version = tuple[int, int, int]

_NAME = re.compile(r"python(3(\.\d+)?)?\Z")
_PYENV = re.compile(r"/versions/(\d+)\.(\d+)\.(\d+)/bin/")
_UV = re.compile(r"/cpython-(\d+)\.(\d+)\.(\d+)[-+][^/]*/bin/")
_WANTED = re.compile(r"\d+(\.\d+){0,2}\Z")
_PROBE = """
import json, platform, sys, sysconfig
print(json.dumps({
    "base": getattr(sys, "_base_executable", sys.executable),
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "identity": [sys.version, sysconfig.get_config_var("SOABI"), sys.prefix == sys.base_prefix,
                 sysconfig.get_config_var("INSTSONAME"), platform.machine(), platform.libc_ver()],
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python on this machine: real path, (major, minor, micro), implementation's name.

    `identity` (build date, ABI, library, platform) is empty until the interpreter was started.
    """

    path: Path
    version: Version
    implementation: str = "cpython"
    identity: str = ""

    @property
    def label(self) -> str:
        """The version as "3.12.1"."""
        return ".".join(map(str, self.version))

    @property
    def short(self) -> str:
        """Major and minor as "3.12"."""
        return ".".join(map(str, self.version[:2]))

    @property
    def factor(self) -> str:
        """Tox's name of the interpreter: "py312"."""
        return f"py{self.version[0]}{self.version[1]}"

    @property
    def suitable(self) -> bool:
        """Whether covtrack can measure on it: CPython from 3.9."""
        return self.implementation == "cpython" and self.version[:2] >= OLDEST


def find_interpreters() -> tuple[Interpreter, ...]:
    """Every suitable interpreter found, newest first; the same real path only once."""
    found: dict[Path, Interpreter] = {}
    for path in _candidate_paths():
        if path not in found and (interpreter := _identify(path)) and interpreter.suitable:
            found.setdefault(interpreter.path, interpreter)
    return tuple(
        sorted(found.values(), key=lambda one: (one.version, str(one.path)), reverse=True)
    )


def pick_interpreter(wanted: str | None = None) -> Interpreter:
    """The started and verified interpreter for "3.12", "3.12.1", a path, or None for our own.

    Of several micro versions the newest that starts is taken. Raises UsageError, naming what was
    found, if there is none.
    """
    if wanted is None:
        return start_interpreter(_running_path())
    if not _WANTED.match(wanted):
        return _pick_path(wanted)
    found = find_interpreters()
    for candidate in matching(found, wanted):
        try:
            started = start_interpreter(candidate.path)
        except UsageError:
            continue
        if started.version[:2] == candidate.version[:2]:
            return started
    raise UsageError(
        f"No CPython {wanted} was found on this machine.",
        advice=f"Found: {name_all(found)}. Install it, or name another in the setting python.",
    )


def matching(found: Iterable[Interpreter], wanted: str) -> tuple[Interpreter, ...]:
    """Those whose version begins with the numbers of `wanted` ("3.12" takes 3.12.1)."""
    numbers = tuple(map(int, wanted.split(".")))
    return tuple(one for one in found if one.version[: len(numbers)] == numbers)


def name_all(found: Iterable[Interpreter]) -> str:
    """The interpreters as one phrase for a sentence."""
    return ", ".join(f"{one.label} ({one.path})" for one in found) or "none"


def start_interpreter(path: Path) -> Interpreter:
    """Start `path` and tell what it says of itself; for a venv, of its base interpreter.

    Asked once per file and process. Raises UsageError if it does not start or is unsuitable.
    """
    try:
        stat = path.stat()
    except OSError:
        return _start(path, ())
    return _start(path, (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size))


@cache
def _start(path: Path, identity: tuple[int, ...]) -> Interpreter:
    """Start `path`; `identity` tells one file at that path from the next."""
    try:
        completed = run_command([path, "-I", "-c", _PROBE], timeout=20)
        said = json.loads(completed.stdout)
        version = (int(said["version"][0]), int(said["version"][1]), int(said["version"][2]))
    except (InfrastructureError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path} is not a Python interpreter that starts.", advice="Check the path."
        ) from error
    interpreter = Interpreter(
        path=Path(said["base"]).resolve(),
        version=version,
        implementation=said["implementation"],
        identity=json.dumps(said["identity"]),
    )
    if not interpreter.suitable:
        raise UsageError(
            f"{path} is {interpreter.implementation} {interpreter.label}.",
            advice="Measured projects need CPython 3.9 or newer.",
        )
    return interpreter


def _pick_path(wanted: str) -> Interpreter:
    path = Path(wanted).expanduser()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise UsageError(
            f"There is no interpreter {wanted}.",
            advice=f"Found: {name_all(find_interpreters())}.",
        )
    return start_interpreter(path)


def _running_path() -> Path:
    return Path(getattr(sys, "_base_executable", None) or sys.executable)


def _identify(path: Path) -> Interpreter | None:
    """The version from the path, from our own process, or by starting it."""
    if path == _running_path().resolve():
        version = (sys.version_info.major, sys.version_info.minor, sys.version_info.micro)
        return Interpreter(path=path, version=version, implementation=sys.implementation.name)
    if read := (_PYENV.search(str(path)) or _UV.search(str(path))):
        return Interpreter(path=path, version=(int(read[1]), int(read[2]), int(read[3])))
    try:
        return start_interpreter(path)
    except UsageError:
        return None


def _candidate_paths() -> Iterator[Path]:
    yield _running_path().resolve()
    shims = _pyenv_root() / "shims"
    for folder in _folders():
        if folder == shims or not folder.is_dir():
            continue
        for path in sorted(folder.glob("python*")):
            if _NAME.match(path.name) and os.access(path, os.X_OK) and path.is_file():
                yield path.resolve()


def _folders() -> Iterator[Path]:
    yield from (Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part)
    yield from sorted((_pyenv_root() / "versions").glob("*/bin"))
    yield from sorted(_uv_pythons().glob("cpython-*/bin"))
    yield from (Path("/usr/bin"), Path("/usr/local/bin"))
    yield from sorted(Path("/opt").glob("python*/bin"))
    yield from sorted(Path("/opt").glob("python*/*/bin"))


def _pyenv_root() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def _uv_pythons() -> Path:
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
