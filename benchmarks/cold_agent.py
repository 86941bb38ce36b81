"""What a new agent's first environment costs: from the index, shared wheels, or what it has.

Four ways side by side in each round, each a process of its own: cold with the package index, cold
with a folder of wheels alone (network led nowhere), a new environment on an agent whose uv has
seen the wheels before, and the environment that is there already. Wall and CPU seconds.

    python benchmarks/cold_agent.py TREE... --constraints FILE [--python 3.13] [--rounds 3]
"""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import click

from venv_builder.files import remove_folder
from venv_builder.processes import check_command, start_group

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "cold_agent.json"
NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
_STAGE = re.compile(r"^(resolve|install|audit|bytecode|build|wheels): ([\d.]+) s$", re.MULTILINE)


class Bench:
    """One tree's measurements; everything lies below `folder`."""

    def __init__(self, folder: Path, tree: Path, words: list[str], python: list[str]) -> None:
        self.folder = folder
        self.tree = tree
        self.words = [str(tree), *words, *python]
        self.wheels = folder / "wheels"

    def run(
        self, root: str, uv_cache: str, *words: str | Path, command: str, **variables: str
    ) -> dict[str, Any]:
        """One venv-builder process: its wall and CPU seconds, and those of its stages."""
        out, err = self.folder / "out", self.folder / "err"
        argv: list[str | Path] = [
            sys.executable,
            "-P",
            "-m",
            "venv_builder",
            "--cache",
            self.folder / root,
            *words,
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "VENV_BUILDER"))}
        more = {"PYTHONPATH": str(ROOT), "UV_CACHE_DIR": str(self.folder / uv_cache)}
        to: list[str | Path] = ["--to", self.wheels] if command == "wheels" else []
        begun = monotonic()
        group = start_group(
            [*argv, command, *self.words, *to],
            cwd=ROOT,
            env=kept | more | variables,
            stdout=out,
            stderr=err,
        )
        while group.poll() is None:
            sleep(0.005)
        wall = monotonic() - begun
        if group.status:
            raise SystemExit(f"{command} of {self.tree} failed:\n{err.read_text()}")
        stages = {name: float(seconds) for name, seconds in _STAGE.findall(err.read_text())}
        return {"wall": round(wall, 3), "cpu": round(group.cpu_seconds, 3), "stages": stages}

    def round(self, number: int) -> dict[str, dict[str, Any]]:
        """All ways once, on caches of their own."""
        index, alone = f"index-{number}", f"alone-{number}"
        offline = ("--wheels", self.wheels, "--no-index")
        found = {
            "cold, index": self.run(index, f"uv-{index}", command="build"),
            "cold, wheels alone": self.run(
                alone, f"uv-{alone}", *offline, command="build", **NOWHERE
            ),
            "new environment, uv's cache": self.run(
                f"new-{number}", f"uv-{index}", command="build"
            ),
            "warm": self.run(alone, f"uv-{alone}", *offline, command="build", **NOWHERE),
        }
        for name in (index, alone, f"new-{number}", f"uv-{index}", f"uv-{alone}"):
            remove_folder(self.folder / name)
        return found


def measure(tree: Path, words: list[str], python: list[str], rounds: int) -> dict[str, Any]:
    """The tree's figures; the folder of wheels is filled first, on a cold machine too."""
    with TemporaryDirectory(prefix="cold-agent-", ignore_cleanup_errors=True) as name:
        bench = Bench(Path(name), tree, words, python)
        filling = bench.run("fill", "uv-fill", command="wheels")
        remove_folder(bench.folder / "fill")
        files = list(bench.wheels.glob("*.whl"))
        found = []
        for number in range(rounds):
            found.append(bench.round(number))
            click.echo(f"{tree.name} round {number + 1}: {_walls(found[-1])}", err=True)
        return {
            "commit": check_command(["git", "rev-parse", "HEAD"], cwd=tree).stdout.strip(),
            "wheels": {"files": len(files), "bytes": sum(path.stat().st_size for path in files)},
            "filling": filling,
            "rounds": found,
            "median_wall": _medians(found, "wall"),
            "median_cpu": _medians(found, "cpu"),
        }


def _walls(ways: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{name} {one['wall']:.1f} s" for name, one in ways.items())


def _medians(rounds: list[dict[str, dict[str, Any]]], what: str) -> dict[str, float]:
    return {name: round(median(one[name][what] for one in rounds), 3) for name in rounds[0]}


@click.command()
@click.argument("trees", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--constraints", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--python", "wanted")
@click.option("--rounds", default=3, show_default=True)
def main(trees: tuple[Path, ...], constraints: Path, wanted: str | None, rounds: int) -> None:
    """Measure each tree and write results/cold_agent.json."""
    python = ["--python", wanted] if wanted else []
    words = ["--constraints", str(constraints.resolve())]
    found: dict[str, Any] = {}
    about: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "machine": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
        "python": wanted or "covtrack's own",
        "covtrack": check_command(["git", "rev-parse", "HEAD"], cwd=ROOT).stdout.strip(),
    }
    for tree in trees:
        found[tree.resolve().name] = measure(tree.resolve(), words, python, rounds)
        about["load_at_end"] = [round(one, 2) for one in os.getloadavg()]
        RESULTS.write_text(json.dumps({"about": about, "projects": found}, indent=1) + "\n")
        click.echo(f"wrote {RESULTS}", err=True)


if __name__ == "__main__":
    main()
