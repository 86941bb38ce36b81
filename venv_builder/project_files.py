"""What a project says of itself in setup.cfg, pyproject.toml, setup.py and PKG-INFO.

Static reading only: nothing of the tree is imported or run.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, cast

from packaging.utils import canonicalize_name

from venv_builder.errors import BuildError
from venv_builder.requirement_lines import join_continued

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A source tree's own metadata; requirement lines are as written.

    `requirements` is None where no file states them. `extras` maps canonical names to lines,
    `entry_points` a group to its "name = target" lines.
    """

    name: str | None = None
    version: str | None = None
    requirements: tuple[str, ...] | None = None
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    entry_points: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    uses_pbr: bool = False


def read_project(tree: Path) -> Project:
    """The tree's metadata: pyproject.toml before setup.cfg before setup.py before PKG-INFO.

    Raises BuildError for a file that is broken.
    """
    toml, cfg = read_toml(tree / "pyproject.toml"), read_cfg(tree / "setup.cfg")
    parts = [_from_pyproject(tree, toml), _from_cfg(tree, cfg)]
    call = _setup_call(tree / "setup.py")
    parts.append(_from_call(call))
    merged = _merge(parts, uses_pbr=_uses_pbr(toml, cfg, call))
    version = merged.version or read_pkg_info(tree).get("Version")
    name = merged.name or read_pkg_info(tree).get("Name")
    return _merge([Project(name=name, version=version), merged], uses_pbr=merged.uses_pbr)


def read_groups(tree: Path) -> Mapping[str, tuple[str, ...]]:
    """PEP 735 dependency groups by canonical name, `include-group` expanded."""
    table = read_toml(tree / "pyproject.toml").get("dependency-groups", {})
    groups: dict[str, Any] = {canonicalize_name(name): table[name] for name in table}
    return {name: tuple(_expand_group(groups, name, frozenset())) for name in groups}


def read_toml(path: Path) -> Table:
    """The parsed file; empty where there is none. Raises BuildError for a broken one."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} is broken: {error}.", advice="Correct the file.") from error


def read_cfg(path: Path) -> Mapping[str, Mapping[str, str]]:
    """The sections of an ini file; empty where there is none. Raises BuildError if broken."""
    parser = ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except (ConfigError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise BuildError(f"{path} is broken: {reason}.", advice="Correct the file.") from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def read_pkg_info(tree: Path) -> Mapping[str, str]:
    """The headers of PKG-INFO, which source archives carry; empty where there is none."""
    try:
        text = (tree / "PKG-INFO").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return dict(HeaderParser().parsestr(text).items())


def _merge(parts: Iterable[Project], *, uses_pbr: bool) -> Project:
    """Single values from the first part that has them, tables joined."""
    parts = list(parts)
    stated = [part.requirements for part in parts if part.requirements is not None]
    return Project(
        name=next((part.name for part in parts if part.name), None),
        version=next((part.version for part in parts if part.version), None),
        requirements=sum(stated, ()) if stated else None,
        extras=_join_tables(part.extras for part in parts),
        entry_points=_join_tables(part.entry_points for part in parts),
        packages=next((part.packages for part in parts if part.packages), ()),
        uses_pbr=uses_pbr,
    )


def _join_tables(tables: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    joined: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for name, lines in table.items():
            joined[name] = tuple(dict.fromkeys(joined.get(name, ()) + lines))
    return joined


def _from_pyproject(tree: Path, toml: Table) -> Project:
    project = _table(toml, "project")
    dynamic = _table(_table(_table(toml, "tool"), "setuptools"), "dynamic")
    requirements = project.get("dependencies")
    if requirements is None and "dependencies" in dynamic:
        requirements = _dynamic_lines(tree, dynamic["dependencies"])
    extras = {
        **_table(project, "optional-dependencies"),
        **{name: _dynamic_lines(tree, value) for name, value in _extras_of(dynamic).items()},
    }
    return Project(
        name=project.get("name"),
        version=project.get("version"),
        requirements=tuple(requirements) if requirements is not None else None,
        extras={canonicalize_name(name): tuple(lines) for name, lines in extras.items()},
        entry_points=_project_entry_points(project),
    )


def _extras_of(dynamic: Table) -> Table:
    return _table(dynamic, "optional-dependencies")


def _project_entry_points(project: Table) -> dict[str, tuple[str, ...]]:
    groups = dict(_table(project, "entry-points"))
    groups["console_scripts"] = project.get("scripts", {})
    groups["gui_scripts"] = project.get("gui-scripts", {})
    return {
        group: tuple(f"{name} = {target}" for name, target in table.items())
        for group, table in groups.items()
        if table
    }


def _dynamic_lines(tree: Path, value: Any) -> list[str]:
    names = value.get("file", []) if isinstance(value, dict) else []
    return _lines_of_files(tree, [names] if isinstance(names, str) else names)


def _from_cfg(tree: Path, cfg: Mapping[str, Mapping[str, str]]) -> Project:
    metadata, options = cfg.get("metadata", {}), cfg.get("options", {})
    requires = options.get("install_requires")
    version = metadata.get("version")
    extras = {**cfg.get("extras", {}), **cfg.get("options.extras_require", {})}
    points = cfg.get("entry_points") or cfg.get("options.entry_points", {})
    return Project(
        name=metadata.get("name"),
        version=None if version and version.startswith(("attr:", "file:")) else version,
        requirements=_value_lines(tree, requires) if requires is not None else None,
        extras={canonicalize_name(k): _value_lines(tree, v) for k, v in extras.items()},
        entry_points={group: _text_lines(text) for group, text in points.items()},
        packages=_text_lines(cfg.get("files", {}).get("packages", "")),
    )


def _value_lines(tree: Path, text: str) -> tuple[str, ...]:
    if text.strip().startswith("file:"):
        names = text.strip().removeprefix("file:").split(",")
        return tuple(_lines_of_files(tree, [name.strip() for name in names]))
    return tuple(line.replace(";\n", ";") for line in _text_lines(text))


def _text_lines(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _lines_of_files(tree: Path, names: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for name in names:
        try:
            lines += join_continued((tree / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(
                f"{tree / name} cannot be read, though the project's metadata names it.",
                advice="Correct setup.cfg or pyproject.toml.",
            ) from error
    return lines


def _setup_call(path: Path) -> dict[str, Any]:
    """The literal keyword arguments of the setup() call; empty where there is none."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, SyntaxError, ValueError):
        return {}
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and _is_setup(node.func):
            return {word.arg: _literal(word.value) for word in node.keywords if word.arg}
    return {}


def _is_setup(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "setup"


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _from_call(call: Mapping[str, Any]) -> Project:
    requires, points = call.get("install_requires"), call.get("entry_points")
    extras = call.get("extras_require")
    return Project(
        name=call.get("name"),
        version=call.get("version"),
        requirements=tuple(requires) if isinstance(requires, list | tuple) else None,
        extras=_tuples({canonicalize_name(k): v for k, v in extras.items()}) if extras else {},
        entry_points=_tuples(points) if isinstance(points, dict) else {},
    )


def _tuples(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {k: _text_lines(v) if isinstance(v, str) else tuple(v) for k, v in table.items()}


def _uses_pbr(toml: Table, cfg: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    requires = _table(toml, "build-system").get("requires", [])
    named = any(str(line).lower().startswith("pbr") for line in requires)
    return (
        named or bool(call.get("pbr")) or "pbr" in cfg or "files" in cfg or "entry_points" in cfg
    )


def _table(table: Table, name: str) -> Table:
    value = table.get(name)
    return cast(Table, value) if isinstance(value, dict) else {}


def _expand_group(groups: Mapping[str, Any], name: str, seen: frozenset[str]) -> list[str]:
    lines: list[str] = []
    if name in seen:
        return lines
    for line in groups.get(name, ()):
        if isinstance(line, str):
            lines.append(line)
        elif isinstance(line, dict) and "include-group" in line:
            inner = canonicalize_name(line["include-group"])
            lines += _expand_group(groups, inner, seen | {name})
    return lines
