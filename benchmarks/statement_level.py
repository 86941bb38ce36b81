"""What it spares to ask who came to the changed statements, and not just to the changed functions.

Replays a project's merges as `covtrack replay` does; for each, what the change reaches is asked
twice, of the same base: as the engine does, and with every changed function as a whole. Written:
results/statement_level_PROJECT.json, beside what the replay itself found.

    PYTHONPATH=. python -P benchmarks/statement_level.py --config covtrack.toml PROJECT --last 60
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Set
from pathlib import Path
from typing import Any

import click

from covtrack.replay import Replayer, Walk
from covtrack.replay_results import ReplayedCommit
from covtrack.settings import load_settings
from covtrack.store.database import Database
from covtrack.tracking import Tracker
from jobs.affected import Reached
from jobs.comparison import Span
from jobs.question import Question
from jobs.readers import Readers
from jobs.selection import tests_around
from jobs.uses import BaseUses
from venv_builder.progress import Event, Noted

RESULTS = Path(__file__).parent / "results"
ROWS: dict[frozenset[tuple[str, str]], dict[str, Any]] = {}  # by the new tree's blobs
_reached = Question.reached


class ByFunction:
    """Answers as `uses`, but knows of no file which lines of a function ran."""

    def __init__(self, uses: BaseUses) -> None:
        self.uses = uses

    def is_exact(self, path: str) -> bool:
        return False

    def running(self, path: str, spans: Collection[Span]) -> set[str]:
        return self.uses.running(path, spans)

    def reading(self, readers: Readers, words: frozenset[str], own: Set[str]) -> set[str]:
        return self.uses.reading(readers, words, own)

    def using(self, paths: Collection[str]) -> set[str]:
        return self.uses.using(paths)

    def importing(self, paths: Set[str]) -> set[str]:
        return self.uses.importing(paths)

    def named(self, path: str, prefix: str) -> set[str]:
        return self.uses.named(path, prefix)


def ask_twice(question: Question, wanted: Set[str] | None = None) -> Reached:
    """What the change reaches; notes how many tests, and their seconds, both ways."""
    if wanted is not None:
        return _reached(question, wanted)
    uses, asked = question.uses, dict(question.uses.asked)
    question.uses = ByFunction(uses)  # type: ignore[assignment]
    by_function = _tests(question, _reached(question).contexts)
    question.uses, uses.asked = uses, asked
    found = _reached(question)
    by_statement = _tests(question, found.contexts)
    ROWS[frozenset(question.ground.blobs.items())] = {
        "by_statement": _told(question, by_statement),
        "by_function": _told(question, by_function),
    }
    return found


def _tests(question: Question, contexts: Iterable[str]) -> set[str]:
    around = (tests_around(context, question.modules) for context in contexts)
    return {test for tests in around for test in tests} & question.known.keys()


def _told(question: Question, tests: Collection[str]) -> dict[str, float]:
    seconds = sum(question.known[test].seconds for test in tests)
    return {"tests": len(tests), "seconds": round(seconds, 3)}


def _say(event: Event) -> None:
    if isinstance(event, Noted):
        click.echo(event.sentence, err=True)


def _say_commit(number: int, row: ReplayedCommit) -> None:
    click.echo(f"{number} {row.commit[:10]}: {row.tests_run} tests", err=True)


@click.command()
@click.option("--config", type=click.Path(path_type=Path, exists=True), required=True)
@click.argument("project")
@click.option("--last", type=int, default=60)
@click.option("--rev")
@click.option("--verify", type=int, help="How many merges; all unless named.")
def main(config: Path, project: str, last: int, rev: str | None, verify: int | None) -> None:
    """Replay, and write what was found."""
    Question.reached = ask_twice  # type: ignore[method-assign]
    settings = load_settings(config)
    walk = Walk(last=last, method="affected", verify=verify, revision=rev, fresh=True)
    with Database.open(settings.database_url) as database:
        tracker = Tracker(settings, database, _say)
        replay = Replayer(tracker, settings.project(project), walk).run(_say_commit)
    sums = {
        way: {what: sum(row[way][what] for row in ROWS.values()) for what in ("tests", "seconds")}
        for way in ("by_statement", "by_function")
    }
    fewer = sum(
        row["by_statement"]["tests"] < row["by_function"]["tests"] for row in ROWS.values()
    )
    told = {
        "project": project,
        "merges": len(ROWS),
        "fewer_tests": fewer,
        **sums,
        "rows": [*ROWS.values()],
        "replay": replay.model_dump(mode="json")["summary"],
    }
    target = RESULTS / f"statement_level_{project}.json"
    target.write_text(json.dumps(told, indent=1) + "\n")
    click.echo(json.dumps({key: told[key] for key in told if key != "rows"}, indent=1))


if __name__ == "__main__":
    main()
