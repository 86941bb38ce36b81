"""The command line `venv-builder`: look at, build, verify and mend environments by hand.

Results go to standard output, progress and errors to standard error. Holds no logic of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import platformdirs

from venv_builder.audit import Damage
from venv_builder.cache import EnvironmentCache
from venv_builder.declarations import Declared, read_declarations
from venv_builder.errors import CovtrackError
from venv_builder.interpreters import find_interpreters, pick_interpreter
from venv_builder.progress import Event, Noted, StageEnded, StageStarted
from venv_builder.project_files import read_project
from venv_builder.sharing import Need

Source = click.Path(path_type=Path)


@click.group(name="venv-builder", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--cache",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="VENV_BUILDER_CACHE",
    help="Folder of the environments (default: in the user's cache folder).",
)
@click.pass_context
def venv_builder(context: click.Context, root: Path | None) -> None:
    """Build, cache, verify and mend environments for measured projects."""
    default = Path(platformdirs.user_cache_dir("covtrack")) / "environments"
    context.obj = EnvironmentCache(root or default)


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
@click.argument("trees", nargs=-1, required=True, type=Source)
@click.option("--python", "wanted", help='"3.12", "3.12.1" or a path.')
@click.option("--constraints", help='File or address, or "none".')
@click.option("--tox-env", help="Tox environment to read (default: pyXY).")
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
    environment = cache.obtain(needs[0], beside=needs[1:], interpreter=interpreter, listener=_tell)
    _tell_all(environment.notes)
    click.echo(environment.path)


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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and end the process: 0 fine, 2 usage, 3 infrastructure."""
    try:
        venv_builder(list(argv) if argv is not None else None, prog_name="venv-builder")
    except CovtrackError as error:
        click.echo(f"venv-builder: {error}", err=True)
        sys.exit(error.exit_status)


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
