"""What a project's tree declares that its tests need, gathered from all the files that may say so.

Reads only; resolves and installs nothing. The tree is other people's code: the only part of it
that may run is a toxfile.py, inside the subprocess that `run` starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from venv_builder.errors import UsageError
from venv_builder.interpreters import Interpreter
from venv_builder.processes import run_command
from venv_builder.project_files import Project, read_groups, read_project
from venv_builder.requirement_files import (
    Wanted,
    follow_file,
    follow_lines,
    read_constraints,
)
from venv_builder.requirement_lines import Says, in_order, name_of, read_line
from venv_builder.tox_settings import Runner, ToxSettings, find_tox_file, read_tox

NO_CONSTRAINTS = "none"
_TEST_FILES = (
    "test-requirements.txt",
    "requirements-test.txt",
    "requirements_test.txt",
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    "tools/test-requires",
)
_OWN_FILES = ("requirements.txt", "tools/pip-requires")
_TEST_EXTRAS = ("test", "tests", "testing", "dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a tree asks for: normalised requirement and constraint lines, sorted, no doubles.

    `source` is what the project's own coverage command measures, `tox_env` the environment that
    was read (None without tox), `notes` whole sentences for the user.
    """

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    extras: tuple[str, ...] = ()
    set_env: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    tox_env: str | None = None
    notes: tuple[str, ...] = ()


def read_declarations(
    tree: Path,
    *,
    interpreter: Interpreter,
    tox_env: str | None = None,
    constraints: str | None = None,
    also: Sequence[str] = (),
    extras: Sequence[str] = (),
    cache: Path | None = None,
    run: Runner = run_command,
) -> Declared:
    """Everything that the tests in `tree` need on `interpreter`.

    `also` are further lines as in a requirements file (`-r FILE` counts from the tree), `extras`
    further extras of the project.

    `constraints` is a path or address that replaces every constraints address the tree names, or
    "none" to drop all constraints. `cache` is the folder in which fetched ones are kept. Raises
    BuildError, in one sentence, for a file that is broken.
    """
    tree = tree.resolve()
    if not tree.is_dir():
        raise UsageError(f"{tree} is not a folder.", advice="Name the root of a source tree.")
    project = read_project(tree)
    tox = _ask_tox(tree, interpreter, run, tox_env, constraints)
    wanted = _follow_tox(tree, tox) if tox else _follow_files(tree, project)
    wanted += follow_lines(also, tree=tree, folder=tree)
    wanted += Wanted(extras=tuple(canonicalize_name(name) for name in extras))
    wanted = _add_own(tree, project, wanted)
    locations = choose_constraints(wanted.constraints, constraints)
    lines = [read_constraints(location, tree=tree, cache=cache) for location in locations]
    notes = [note for one in lines for note in one.notes]
    return Declared(
        requirements=in_order(_without_self(project, wanted.requirements)),
        constraints=in_order(line for one in lines for line in one.lines),
        extras=in_order(wanted.extras),
        set_env=tox.set_env if tox else {},
        source=tox.source if tox else None,
        tox_env=tox.tox_env if tox else None,
        notes=tuple(dict.fromkeys((*wanted.notes, *notes))),
    )


def choose_constraints(named: tuple[str, ...], given: str | None) -> tuple[str, ...]:
    """The locations to read: a given one replaces addresses, files of the tree stay.

    >>> choose_constraints(("https://a/upper", "/tree/c.txt"), "/u.txt")
    ('/tree/c.txt', '/u.txt')
    """
    if given == NO_CONSTRAINTS:
        return ()
    if given is None:
        return tuple(dict.fromkeys(named))
    location = given if "://" in given else str(Path(given).resolve())
    kept = tuple(name for name in named if "://" not in name)
    return tuple(dict.fromkeys((*kept, location)))


def _ask_tox(
    tree: Path,
    interpreter: Interpreter,
    run: Runner,
    tox_env: str | None,
    constraints: str | None,
) -> ToxSettings | None:
    file = find_tox_file(tree)
    if file is None:
        return None
    return read_tox(
        file, interpreter=interpreter, run=run, tox_env=tox_env, constraints=constraints
    )


def _follow_tox(tree: Path, tox: ToxSettings) -> Wanted:
    groups = read_groups(tree)
    lines = [line for name in tox.groups for line in groups.get(canonicalize_name(name), ())]
    lines += tox.deps
    wanted = follow_lines(lines, tree=tree, folder=tree)
    places = tuple(_place(tree, location) for location in tox.constraints)
    extras = tuple(canonicalize_name(name) for name in tox.extras)
    return wanted + Wanted(constraints=places, extras=extras)


def _place(tree: Path, location: str) -> str:
    """Tox prints constraints with or without `-c`, and paths as the file has them."""
    line = read_line(location) if location.startswith("-") else None
    text = line.text if line and line.says is Says.CONSTRAINTS else location
    return text if "://" in text else str((tree / text).resolve())


def _follow_files(tree: Path, project: Project) -> Wanted:
    present = [tree / name for name in _TEST_FILES if (tree / name).is_file()]
    wanted = sum((follow_file(path, tree=tree) for path in present), Wanted())
    groups = read_groups(tree)
    lines = [line for name in _TEST_EXTRAS for line in groups.get(name, ())]
    wanted += follow_lines(lines, tree=tree, folder=tree)
    return wanted + Wanted(extras=tuple(name for name in _TEST_EXTRAS if name in project.extras))


def _add_own(tree: Path, project: Project, wanted: Wanted) -> Wanted:
    """The project's own requirements and those of the chosen extras, extras of extras too."""
    wanted += follow_lines(project.requirements or (), tree=tree, folder=tree)
    if project.uses_pbr or project.requirements is None:
        for name in _OWN_FILES:
            if (tree / name).is_file():
                wanted += follow_file(tree / name, tree=tree)
                break
    return _add_extras(tree, project, wanted)


def _add_extras(tree: Path, project: Project, wanted: Wanted) -> Wanted:
    done: set[str] = set()
    while pending := _chosen_extras(project, wanted) - done:
        done |= pending
        for extra in sorted(pending):
            if extra not in project.extras:
                note = f"The project has no extra {extra}, though its tests ask for it."
                wanted += Wanted(notes=(note,))
                continue
            wanted += follow_lines(project.extras[extra], tree=tree, folder=tree)
    return wanted + Wanted(extras=tuple(done))


def _chosen_extras(project: Project, wanted: Wanted) -> set[str]:
    """Extras named by tox, and by requirements on the project itself (`name[extra]`)."""
    chosen = set(wanted.extras)
    for line in wanted.requirements:
        if _is_self(project, line) and "[" in line:
            inside = line.partition("[")[2].partition("]")[0]
            chosen |= {canonicalize_name(name.strip()) for name in inside.split(",")}
    return chosen


def _without_self(project: Project, lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line for line in lines if not _is_self(project, line))


def _is_self(project: Project, line: str) -> bool:
    return project.name is not None and name_of(line) == canonicalize_name(project.name)
