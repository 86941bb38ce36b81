"""What tox says of a project's test environment, asked of tox itself.

`python -m tox config` runs in a subprocess with a scrubbed environment and a time limit, since a
tree may hold a toxfile.py of other people. It never provisions, creates no environment and
writes nothing into the tree.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import site
import sys
from collections.abc import Iterable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from venv_builder.errors import BuildError
from venv_builder.interpreters import Interpreter
from venv_builder.processes import Completed
from venv_builder.project_files import read_toml

SECONDS = 60.0
_KEYS = ("deps", "extras", "set_env", "constraints", "commands", "install_command")
_LATER_KEYS = ("dependency_groups",)
_OWN = re.compile(r"(PIP_|TOX_)|(PYTHONHASHSEED|VIRTUAL_ENV|PYTHONIOENCODING|__TOX_\w*)\Z")
_SOURCE = re.compile(r"coverage(?:3)?['\"]?\s+run\b[^;&|]*?--source(?:=|\s+)['\"]?([\w./,-]+)")
_SETUP_SOURCE = re.compile(r"--coverage-package-name(?:=|\s+)([\w.-]+)")
_INLINE = re.compile(r"-c\s*(\S+)")


class Runner(Protocol):
    """Runs a command to its end: processes.run_command, or a caller's confinement of it."""

    def __call__(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Completed: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxSettings:
    """One tox environment: deps lines, extras, constraint locations, groups, variables."""

    tox_env: str
    deps: tuple[str, ...]
    extras: tuple[str, ...]
    constraints: tuple[str, ...]
    groups: tuple[str, ...]
    set_env: Mapping[str, str]
    source: str | None


def find_tox_file(tree: Path) -> Path | None:
    """The file that tox would read, or None where the project does not use tox."""
    for name in ("tox.ini", "tox.toml"):
        if (tree / name).is_file():
            return tree / name
    if "[tox:tox]" in _text(tree / "setup.cfg"):
        return tree / "setup.cfg"
    tool = read_toml(tree / "pyproject.toml").get("tool", {})
    return tree / "pyproject.toml" if "tox" in tool else None


def read_tox(
    file: Path,
    *,
    interpreter: Interpreter,
    run: Runner,
    tox_env: str | None = None,
    constraints: str | None = None,
) -> ToxSettings:
    """The settings of `tox_env` (default: pyXY of the interpreter) and the cover env's source.

    `constraints` goes into the variables by which OpenStack's files name their constraints.
    Raises BuildError with one sentence if tox cannot read the file.
    """
    chosen = tox_env or choose_env(_text(file), interpreter.factor)
    covers = _cover_envs(_text(file))
    with TemporaryDirectory(prefix="covtrack-tox-") as folder:
        ask = _Question(file=file, folder=Path(folder), interpreter=interpreter, run=run)
        envs = ask.answer((chosen, *covers), _scrub(Path(folder), constraints))
        if chosen not in envs and covers:
            envs = ask.answer((chosen,), _scrub(Path(folder), constraints))
    if chosen not in envs:
        raise BuildError(f"tox names no environment {chosen} in {file}.", advice=_ADVICE)
    return _settle(file, chosen, envs, Path(folder))


_ADVICE = "Correct the file, or name the tox environment in the setting tox_env."


def choose_env(text: str, factor: str) -> str:
    """`factor`, unless the file has a section for py3 and none for it."""
    names = set(re.findall(r"\[(?:testenv:|env\.)([^\]]+)\]", text))
    return "py3" if "py3" in names and factor not in names else factor


def find_source(set_env: Mapping[str, str], commands: Iterable[str]) -> str | None:
    """The argument of `--source` of a coverage command among variables and commands."""
    for text in (*set_env.values(), *commands):
        if match := (_SOURCE.search(text) or _SETUP_SOURCE.search(text)):
            return match[1]
    return None


def keep_own(set_env: Mapping[str, str]) -> dict[str, str]:
    """The variables that the project sets; those that tox itself adds are dropped."""
    return {name: str(value) for name, value in set_env.items() if not _OWN.match(name)}


def parse_answer(stdout: str) -> dict[str, dict[str, Any]]:
    """Tox's settings per environment from its output in JSON or ini form.

    Log lines before the answer are skipped. Raises ValueError if there is no answer in it.
    """
    start = re.search(r"^\{", stdout, re.MULTILINE)
    if start:
        envs = json.loads(stdout[start.start() :]).get("env", {})
        return {str(name): dict(values) for name, values in envs.items()}
    begin = re.search(r"^\[testenv:", stdout, re.MULTILINE)
    if not begin:
        raise ValueError("no answer of tox")
    return _parse_ini(stdout[begin.start() :])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """`tox config` on one file, put in the form that the installed tox understands."""

    file: Path
    folder: Path
    interpreter: Interpreter
    run: Runner

    def answer(self, envs: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
        """Settings per environment; empty if tox does not know one of `envs`."""
        completed = self._ask(envs, variables, (*_KEYS, *_LATER_KEYS), ("--format", "json"))
        if completed.status and "unrecognized arguments" in completed.stderr:
            completed = self._ask(envs, variables, _KEYS, ())
        if completed.status == 0:
            try:
                return parse_answer(completed.stdout)
            except (ValueError, ConfigError, AttributeError):
                pass
        elif "environments not found" in completed.stdout + completed.stderr and len(envs) > 1:
            return {}
        raise BuildError(_explain(self.file, completed), advice=_ADVICE)

    def _ask(
        self,
        envs: Sequence[str],
        variables: Mapping[str, str],
        keys: Sequence[str],
        form: Sequence[str],
    ) -> Completed:
        # -P: a tree's own tox.py or json.py must not stand in for the real one.
        argv = [sys.executable, "-P", "-B", "-m", "tox", "config", "-c", str(self.file)]
        argv += ["--workdir", str(self.folder / "work"), "--colored", "no", "--no-provision"]
        argv += ["-e", ",".join(envs), *form, "-k", *keys]
        argv += ["-x", "tox.requires=", "-x", "tox.min_version=1"]
        for env in envs:
            argv += ["-x", f"testenv:{env}.base_python={self.interpreter.path}"]
        return self.run(argv, cwd=self.file.parent, env=variables, timeout=SECONDS)


def _scrub(folder: Path, constraints: str | None) -> dict[str, str]:
    """A small environment of our own: no secret of ours reaches a toxfile.py."""
    variables = {
        "HOME": str(folder),
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "TOX_USER_CONFIG_FILE": str(folder / "none.ini"),
        "PYTHONUSERBASE": site.getuserbase(),
    }
    if constraints and constraints != "none":
        location = constraints if "://" in constraints else str(Path(constraints).resolve())
        variables |= {"TOX_CONSTRAINTS_FILE": location, "UPPER_CONSTRAINTS_FILE": location}
    return variables


def _settle(file: Path, chosen: str, envs: Mapping[str, Any], folder: Path) -> ToxSettings:
    values = envs[chosen]
    for key in ("deps", "set_env"):
        if isinstance(values.get(key), dict) and set(values[key]) == {"error"}:
            raise BuildError(
                f"tox cannot tell {key} of {chosen} in {file}: {values[key]['error']}.",
                advice=_ADVICE,
            )
    sources = (_source_of(envs[name]) for name in (*_others(envs, chosen), chosen))
    work, stands = str(folder / "work"), str(file.parent / ".tox")
    own = keep_own(_mapping(values.get("set_env")))
    inline = _INLINE.findall(_joined(values.get("install_command")))
    return ToxSettings(
        tox_env=chosen,
        deps=_texts(values.get("deps")),
        extras=_texts(values.get("extras")),
        constraints=_texts(values.get("constraints")) + tuple(inline),
        groups=_texts(values.get("dependency_groups")),
        set_env={name: value.replace(work, stands) for name, value in own.items()},
        source=next((source for source in sources if source), None),
    )


def _others(envs: Mapping[str, Any], chosen: str) -> list[str]:
    return [name for name in envs if name != chosen]


def _source_of(values: Mapping[str, Any]) -> str | None:
    return find_source(_mapping(values.get("set_env")), _texts(values.get("commands")))


def _cover_envs(text: str) -> tuple[str, ...]:
    heads = " ".join(re.findall(r"^\[(?:tool\.tox\.)?(?:testenv:|env\.)([^\]]+)\]", text, re.M))
    return tuple(name for name in ("cover", "coverage") if re.search(rf"\b{name}\b", heads))


def _explain(file: Path, completed: Completed) -> str:
    if completed.status == -9:
        return f"tox took more than {SECONDS:.0f} s to read {file}, and was stopped."
    said = f"{completed.stdout}\n{completed.stderr}"
    _, found, handled = said.partition("HandledError|")
    lines = [line.strip() for line in (handled if found else said).splitlines() if line.strip()]
    shown = lines[:3] if found else lines[-1:]
    reason = " ".join(shown)[:300].rstrip(".") or "it said nothing"
    return f"tox cannot read {file}: {reason}."


def _parse_ini(text: str) -> dict[str, dict[str, Any]]:
    parser = ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {
        section.removeprefix("testenv:"): {
            key: [line for line in value.splitlines() if line.strip()]
            for key, value in parser.items(section)
            if not value.startswith("# Exception")
        }
        for section in parser.sections()
    }


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.splitlines())
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _mapping(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(name): str(one) for name, one in value.items() if name != "error"}
    pairs = (line.partition("=") for line in _texts(value))
    return {name.strip(): one.strip() for name, _, one in pairs}


def _joined(value: Any) -> str:
    text = " ".join(_texts(value))
    try:
        return " ".join(shlex.split(text))
    except ValueError:
        return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
