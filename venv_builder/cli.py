"""The command line `venv-builder`: look at, build, verify and mend environments by hand.

Results go to standard output, progress and errors to standard error. Holds no logic of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time

import click
import platformdirs

from venv_builder.audit import Damage
from venv_builder.cache import EnvironmentCache
from venv_builder.declarations import Declared, read_declarations
from venv_builder.errors import CovtrackError
from venv_builder.interpreters import Interpreter, find_interpreters, pick_interpreter
from venv_builder.progress import Event, Noted, StageEnded, StageStarted
from venv_builder.project_files import read_project
from venv_builder.sharing import Need
from venv_builder.uv_tool import Wheels
from venv_builder.wheelhouse import fill_wheels

Source = click.Path(path_type=Path)


@click.group(name="venv-builder", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--cache",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="VENV_BUILDER_CACHE",
    help="Folder of the environments (default: in the user's cache folder).",
)
@click.option(
    "--wheels",
    "place",
    metavar="FOLDER",
    envvar="VENV_BUILDER_WHEELS",
    help="Folder (or address) of wheels that is asked beside the index.",
)
@click.option(
    "--no-index", is_flag=True, envvar="VENV_BUILDER_NO_INDEX", help="Ask --wheels alone."
)
@click.pass_context
def venv_builder(
    context: click.Context, root: Path | None, place: str | None, no_index: bool
) -> None:
    """Build, cache, verify and mend environments for measured projects."""
    default = Path(platformdirs.user_cache_dir("covtrack")) / "environments"
    wheels = Wheels(place=place, alone=no_index) if place else None
    context.obj = EnvironmentCache(root or default, wheels=wheels)


def _of_trees(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of commands that read what trees declare."""
    command = click.option("--tox-env", help="Tox environment to read (default: pyXY).")(command)
    command = click.option("--constraints", help='File or address, or "none".')(command)
    command = click.option("--python", "wanted", help='"3.12", "3.12.1" or a path.')(command)
    return click.argument("trees", nargs=-1, required=True, type=Source)(command)


@venv_builder.command()
@click.pass_obj
def doctor(cache: EnvironmentCache) -> None:
    """Show the interpreters found, uv's version and the state of the cache."""
    for one in find_interpreters():
        click.echo(f"Python {one.label}  {one.path}")
    click.echo(f"uv {cache.uv.version}  {cache.uv.binary}")
    environments = cache.environments()
    hurt = [one.key for one in environments if cache.verify(one)]
    click.echo(f"Environments: {len(environments)} in {cache.root}, {len(hurt)} damaged")
    for key in hurt:
        click.echo(f"Damaged: {key}; mend it by `venv-builder repair {key}`")


@venv_builder.command()
@_of_trees
@click.pass_obj
def build(
    cache: EnvironmentCache,
    trees: Sequence[Path],
    wanted: str | None,
    constraints: str | None,
    tox_env: str | None,
) -> None:
    """Build one environment for the tests of all TREES and print its path."""
    interpreter = pick_interpreter(wanted)
    needs = _read_needs(cache, trees, interpreter, constraints, tox_env)
    environment = cache.obtain(needs[0], beside=needs[1:], interpreter=interpreter, listener=_tell)
    _tell_all(environment.notes)
    click.echo(environment.path)


@venv_builder.command()
@_of_trees
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to fill; it is created where there is none.",
)
@click.pass_obj
def wheels(
    cache: EnvironmentCache,
    trees: Sequence[Path],
    folder: Path,
    wanted: str | None,
    constraints: str | None,
    tox_env: str | None,
) -> None:
    """Put a wheel of all that the tests of TREES need into a folder for other machines.

    They build from it by --wheels FOLDER --no-index, or the variables VENV_BUILDER_WHEELS and
    VENV_BUILDER_NO_INDEX, without any network.
    """
    interpreter = pick_interpreter(wanted)
    needs = _read_needs(cache, trees, interpreter, constraints, tox_env)
    filled = fill_wheels(
        folder.resolve(),
        cache.locks(needs, interpreter=interpreter, listener=_tell),
        interpreter=interpreter,
        uv=cache.uv,
        listener=_tell,
    )
    click.echo(f"{len(filled.new)} new wheels in {folder}, {filled.known} were there already.")


@venv_builder.command(name="list")
@click.pass_obj
def list_environments(cache: EnvironmentCache) -> None:
    """List the environments: key, number of distributions, projects, path."""
    for one in cache.environments():
        projects = ", ".join(one.projects)
        click.echo(f"{one.key}  {len(one.distributions):4}  {projects}  {one.path}")


@venv_builder.command()
@click.argument("key", required=False)
@click.option("--full", is_flag=True, help="Compare contents by sha256, not sizes alone.")
@click.pass_obj
def verify(cache: EnvironmentCache, key: str | None, full: bool) -> None:
    """Compare one environment, or all, with what was installed; status 3 if one is damaged."""
    found: list[Damage] = []
    for one in [key] if key else cache.keys():
        damage = cache.verify(one, full=full)
        click.echo(f"{one}  {'damaged' if damage else 'whole'}")
        for hurt in damage:
            click.echo(f"  {hurt.sentence}")
        found += damage
    if found:
        raise SystemExit(CovtrackError.exit_status)


@venv_builder.command()
@click.argument("key")
@click.pass_obj
def repair(cache: EnvironmentCache, key: str) -> None:
    """Verify KEY fully and rebuild it if anything is damaged; prints its path."""
    click.echo(cache.repair(key, listener=_tell).path)


@venv_builder.command()
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=14,
    show_default=True,
    help="How long an environment may be unused.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.pass_obj
def prune(cache: EnvironmentCache, days: int, dry_run: bool) -> None:
    """Remove environments that nobody used for long; they are built again where needed."""
    found = cache.generations.forget_unused(time() - days * 86_400, dry=dry_run)
    verb = "would go" if dry_run else "removed"
    click.echo(f"{found.kept} kept, {found.removed} {verb}, {found.bytes_removed:,} bytes")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and end the process: 0 fine, 2 usage, 3 infrastructure."""
    try:
        venv_builder(list(argv) if argv is not None else None, prog_name="venv-builder")
    except CovtrackError as error:
        click.echo(f"venv-builder: {error}", err=True)
        sys.exit(error.exit_status)


def _read_needs(
    cache: EnvironmentCache,
    trees: Sequence[Path],
    interpreter: Interpreter,
    constraints: str | None,
    tox_env: str | None,
) -> list[Need]:
    needs = []
    for tree in trees:
        declared = read_declarations(
            tree,
            interpreter=interpreter,
            tox_env=tox_env,
            constraints=constraints,
            cache=cache.constraints_folder,
        )
        _tell_all(declared.notes)
        needs.append(_need(tree, declared))
    return needs


def _need(tree: Path, declared: Declared) -> Need:
    return Need(
        project=read_project(tree).name or tree.resolve().name,
        requirements=declared.requirements,
        constraints=declared.constraints,
    )


def _tell(event: Event) -> None:
    match event:
        case Noted(sentence=sentence):
            click.echo(sentence, err=True)
        case StageStarted(stage=stage, detail=detail):
            click.echo(f"{stage} {detail}".strip() + " …", err=True)
        case StageEnded(stage=stage, seconds=seconds):
            click.echo(f"{stage}: {seconds:.1f} s", err=True)


def _tell_all(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        click.echo(sentence, err=True)
