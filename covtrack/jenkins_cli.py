"""The commands of the job on Jenkins: install, update, diff, remove, check, xml."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from covtrack.cli import Chosen, cli
from covtrack.jenkins.settings import JenkinsServer
from venv_builder.errors import InfrastructureError, PolicyError, UsageError

if TYPE_CHECKING:
    from covtrack.jenkins.installing import Installer


@cli.group()
def jenkins() -> None:
    """Make the job on Jenkins whose builds measure, and keep it as it should be."""


@jenkins.command("install")
@click.pass_obj
def install(chosen: Chosen) -> None:
    """Make the job, and the folders that it is in. It needs no plugin but for folders."""
    installer = _installer(chosen)
    made = installer.install()
    click.echo(f"{_place(installer)} {'is made' if made else 'is as it should be'}")


@jenkins.command("update")
@click.pass_obj
def update(chosen: Chosen) -> None:
    """Give the job the settings that it should have; its builds stay."""
    installer = _installer(chosen)
    _tell(installer.update())
    click.echo(f"{_place(installer)} is as it should be")


@jenkins.command("diff")
@click.pass_obj
def diff(chosen: Chosen) -> None:
    """Show what update would change; status 1 where that is anything."""
    installer = _installer(chosen)
    changed = installer.differences()
    if changed is None:
        click.echo(f"{_place(installer)} is not there")
        sys.exit(PolicyError.exit_status)
    _tell(changed)
    if changed:
        sys.exit(PolicyError.exit_status)
    click.echo(f"{_place(installer)} is as it should be")


@jenkins.command("remove")
@click.pass_obj
def remove(chosen: Chosen) -> None:
    """Delete the job with all its builds."""
    installer = _installer(chosen)
    click.echo(f"{_place(installer)} {'is removed' if installer.remove() else 'is not there'}")


@jenkins.command("check")
@click.pass_obj
def check(chosen: Chosen) -> None:
    """Try all that is needed of Jenkins, and say what to do where it lacks."""
    from covtrack.gerrit.doctor import Health
    from covtrack.grids import clean

    failed = 0
    for found in _installer(chosen).examine():
        failed += found.health is Health.FAILED
        click.echo(f"{found.health.value:<6}  {found.place}: {clean(found.sentence)}")
        if found.advice:
            click.echo(f"        {clean(found.advice)}")
    if failed:
        sys.exit(InfrastructureError.exit_status)


@jenkins.command("xml")
@click.pass_obj
def xml(chosen: Chosen) -> None:
    """Print the job's config.xml, for those who make their jobs otherwise."""
    from covtrack.jenkins.job_xml import render_job

    click.echo(render_job(_server(chosen)))


def _server(chosen: Chosen) -> JenkinsServer:
    if chosen.settings.jenkins is None:
        raise UsageError(
            "The settings name no Jenkins.",
            advice="Add a table [jenkins] with its url to covtrack.toml.",
        )
    return chosen.settings.jenkins


def _installer(chosen: Chosen) -> Installer:
    from covtrack.jenkins.installing import Installer

    return Installer(_server(chosen))


def _place(installer: Installer) -> str:
    return f"job {installer.job} on {installer.server.url}"


def _tell(lines: tuple[str, ...]) -> None:
    from covtrack.grids import clean

    for line in lines:
        click.echo(clean(line))
