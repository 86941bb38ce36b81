"""A folder of wheels that machines share: filled where there is an index, read where none is.

uv cannot download wheels without installing them, so pip fills the folder, in an environment
that is thrown away, from a lock of ours whose hashes it checks. What has no wheel is built here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from venv_builder.construction import explain_failure
from venv_builder.errors import BuildError, InfrastructureError
from venv_builder.interpreters import Interpreter
from venv_builder.processes import run_command
from venv_builder.progress import Listener, Stages
from venv_builder.resolution import Lock
from venv_builder.uv_tool import Uv

_SECONDS = 3600.0
# The variables of uv that say where distributions come from, and pip's options for them.
_PIP_OPTIONS = {
    "UV_DEFAULT_INDEX": "--index-url",
    "UV_INDEX_URL": "--index-url",
    "UV_INDEX": "--extra-index-url",
    "UV_EXTRA_INDEX_URL": "--extra-index-url",
    "UV_FIND_LINKS": "--find-links",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a call put into the folder: names of new wheels, and how many were there already."""

    new: tuple[str, ...]
    known: int


def fill_wheels(
    folder: Path,
    locks: Iterable[Lock],
    *,
    interpreter: Interpreter,
    uv: Uv,
    listener: Listener,
) -> Filled:
    """Put a wheel of all that the locks name into `folder`, each whole or not at all.

    A wheel that is there already is left as it is: locks elsewhere have its hash. Raises
    BuildError if something cannot be had or built, InfrastructureError if the disk refuses.
    """
    new: list[str] = []
    known = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".new-", dir=folder) as name:
            draft = Path(name)
            for number, lock in enumerate(locks):
                found = draft / str(number)
                with Stages(listener).stage("wheels", f"{lock.text.count('==')} distributions"):
                    _make_wheels(found, lock, interpreter=interpreter, uv=uv)
                for wheel in sorted(found.glob("*.whl")):
                    if (folder / wheel.name).exists():
                        known += 1
                        continue
                    wheel.chmod(0o644)
                    wheel.replace(folder / wheel.name)
                    new.append(wheel.name)
    except OSError as error:
        raise InfrastructureError(
            f"The wheels could not be written to {folder}: {error.strerror}.",
            advice="Make room there, or name another folder.",
        ) from error
    return Filled(new=tuple(new), known=known)


def _make_wheels(target: Path, lock: Lock, *, interpreter: Interpreter, uv: Uv) -> None:
    target.mkdir()
    asked, venv = target / "lock.txt", target / "pip"
    asked.write_text(lock.text, encoding="utf-8")
    uv.create(venv, python=interpreter.path, with_pip=True)
    argv: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "wheel", "--quiet"]
    argv += ["--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    argv += [*pip_options(uv.variables), "--wheel-dir", target, "--requirement", asked]
    completed = run_command(argv, cwd=target, env=uv.variables, timeout=_SECONDS)
    if completed.status:
        raise BuildError(
            f"pip could not make the wheels: {explain_failure(completed).sentence}",
            advice="Check the network, the package index and the system libraries.",
        )


def pip_options(variables: Mapping[str, str]) -> tuple[str, ...]:
    """What pip is told so that it asks where uv asks.

    >>> pip_options({"UV_INDEX_URL": "https://mirror/simple", "HOME": "/root"})
    ('--index-url', 'https://mirror/simple')
    """
    words: list[str] = []
    for name, option in _PIP_OPTIONS.items():
        for value in variables.get(name, "").replace(",", " ").split():
            words += [option, value]
    return tuple(words)
