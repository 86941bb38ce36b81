"""The commands of the server side: serve, listen, work, doctor, gerrit-plugin."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack

import click

from covtrack.cli import Chosen, cli
from covtrack.settings import Settings
from venv_builder.errors import InfrastructureError, UsageError

SOLE_SECONDS = 5.0


@cli.command()
@click.pass_obj
def serve(chosen: Chosen) -> None:
    """Listen to Gerrit, measure what is uploaded and merged, say what was found.

    Everything in one process, until SIGTERM or Ctrl-C; killed, it goes on where it was.
    """
    _serve(chosen, listen_only=False)


@cli.command()
@click.pass_obj
def listen(chosen: Chosen) -> None:
    """Only put Gerrit's events into the database; `covtrack serve` acts on them later."""
    _serve(chosen, listen_only=True)


def _serve(chosen: Chosen, *, listen_only: bool) -> None:
    from covtrack.serving import Service, alone
    from covtrack.store.database import Database
    from covtrack.store.soleness import Sole

    settings = chosen.settings
    _require_server(settings)
    with ExitStack() as held:
        held.enter_context(alone(settings.state))
        database = held.enter_context(Database.open(settings.database_url))
        sole = None if listen_only else held.enter_context(Sole(settings.database_url))
        service = Service(settings, chosen.path, database, listen_only=listen_only)
        done = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: done.set())
        with service.answering():
            held.callback(service.shut_down)
            service.start()
            service.say(f"covtrack serves {len(settings.projects)} projects.")
            while not done.wait(SOLE_SECONDS):
                if sole and not service.is_sole(sole):
                    break
            service.say("Stopping; what runs here is queued again, builds on Jenkins go on.")


def _require_server(settings: Settings) -> None:
    if not settings.gerrit:
        raise UsageError(
            "The settings name no Gerrit server.",
            advice="Add a table such as [gerrit.review] with its url to covtrack.toml.",
        )


@cli.command(hidden=True)
@click.argument("job_id", type=int)
@click.pass_obj
def work(chosen: Chosen, job_id: int) -> None:
    """Do one job of the queue: what the executor starts."""
    from covtrack.store.database import Database
    from covtrack.tracking import Tracker
    from covtrack.working import Progress
    from covtrack.working import work as do_job

    with Database.open(chosen.settings.database_url) as database:
        progress = Progress(database, job_id)
        tracker = Tracker(chosen.settings, database, progress.tell)
        complete = do_job(tracker, database, job_id)
    if not complete:
        sys.exit(InfrastructureError.exit_status)


@cli.command()
@click.option("--url", help="Where browsers find covtrack; default: `url` of covtrack.toml.")
@click.pass_obj
def gerrit_plugin(chosen: Chosen, url: str | None) -> None:
    """Print the plugin for Gerrit's pages: the file plugins/covtrack.js of a Gerrit site."""
    from covtrack.gerrit.js_plugin import render_plugin

    click.echo(render_plugin(url or chosen.settings.url or ""), nl=False)


@cli.command()
@click.pass_obj
def doctor(chosen: Chosen) -> None:
    """Try all that is needed of each Gerrit server, and say what to do where it lacks."""
    from covtrack.gerrit.doctor import Health, examine
    from covtrack.grids import clean
    from covtrack.store.database import Database
    from covtrack.tracking import Tracker
    from venv_builder.progress import ignore

    settings = chosen.settings
    _require_server(settings)
    failed = 0
    with Database.open(settings.database_url) as database:
        for found in examine(settings, Tracker(settings, database, ignore)):
            failed += found.health is Health.FAILED
            click.echo(f"{found.health.value:<6}  {found.place}: {clean(found.sentence)}")
            if found.advice:
                click.echo(f"        {clean(found.advice)}")
    if failed:
        sys.exit(InfrastructureError.exit_status)
