"""Real clones, covtrack runs and independent coverage runs that the benchmarks share.

Independent means: the checkout is git's, the metadata the project's own build backend's, the
test run stestr's and the lines coverage.py's; of covtrack only its environment's folder is used.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from venv_builder.processes import Completed, run_command

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
COVTRACK: tuple[str, ...] = (sys.executable, "-P", "-m", "covtrack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A command that ended, with its wall seconds and the CPU seconds of all its processes."""

    completed: Completed
    wall: float
    cpu: float


def say(text: str) -> None:
    """One line of progress, with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def run_timed(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], timeout: float = 3600.0
) -> Timed:
    """Run one command to its end and tell what it cost."""
    before, start = _children_cpu(), time.monotonic()
    completed = run_command(argv, cwd=cwd, env=env, timeout=timeout)
    return Timed(completed=completed, wall=time.monotonic() - start, cpu=_children_cpu() - before)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def git(repository: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Standard output of one git command; SystemExit with git's own words if it fails."""
    variables = {**os.environ, **(env or {})}
    done = run_command(["git", "-C", repository, *words], env=variables)
    if done.status:
        raise SystemExit(f"git {' '.join(words)}: {done.last_words}")
    return done.stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where a benchmark works: its folder, where repositories come from, the constraints file.

    `repositories` is a pattern in which `{}` stands for a project's name.
    """

    work: Path
    repositories: str
    constraints: Path
    python: str

    @staticmethod
    def add_options(parser: ArgumentParser) -> None:
        """The options of a benchmark's command line that say where it works."""
        parser.add_argument("--work", type=Path, required=True, help="folder to work in, not /tmp")
        parser.add_argument(
            "--repositories", required=True, help="pattern, {} for the project's name"
        )
        parser.add_argument("--constraints", type=Path, required=True)
        parser.add_argument("--python", default="3.13")

    @classmethod
    def from_options(cls, options: Namespace) -> Scene:
        """The scene that the command line names; its folder is made."""
        work = options.work.resolve()
        (work / "state").mkdir(parents=True, exist_ok=True)
        return cls(
            work=work,
            repositories=options.repositories,
            constraints=options.constraints.resolve(),
            python=options.python,
        )

    def clone(self, name: str, label: str) -> Path:
        """A fresh clone of the project, with branch `master` at its tip."""
        target = self.work / "clones" / label
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        git(self.work, "clone", "--quiet", self.repositories.format(name), str(target))
        git(target, "config", "user.name", "Benchmark")
        git(target, "config", "user.email", "benchmark@localhost")
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """One project under covtrack, with a state folder of its own."""

    scene: Scene
    name: str
    label: str
    clone: Path
    config: Path

    @classmethod
    def begin(
        cls, scene: Scene, name: str, label: str, clone: Path, **settings: object
    ) -> Tracked:
        """Write covtrack.toml and start with empty state, but with the environments there are."""
        state = scene.work / "state" / label
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        environments = scene.work / "state" / "environments"
        environments.mkdir(exist_ok=True)
        (state / "environments").symlink_to(environments)
        config = scene.work / f"{label}.toml"
        values = {
            "git": str(clone),
            "branch": "master",
            "python": scene.python,
            "constraints": str(scene.constraints),
            **settings,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        config.write_text("\n".join([f'state = "{state}"', f'[projects."{name}"]', *lines, ""]))
        return cls(scene=scene, name=name, label=label, clone=clone, config=config)

    def run(self, sha: str, select: str, *words: str) -> tuple[dict[str, Any], Timed]:
        """`covtrack run` of one commit: its report and what it cost."""
        argv: list[str | Path] = [*COVTRACK, "-c", self.config, "run", self.name, "--rev", sha]
        argv += ["--select", select, "--format", "json", *words]
        env = {**os.environ, "XDG_STATE_HOME": str(self.scene.work / "state")}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed covtrack has its bytecode
        timed = run_timed(argv, cwd=self.scene.work, env=env)
        try:
            return json.loads(timed.completed.stdout), timed
        except ValueError:
            text = timed.completed.stderr[-2000:]
            raise SystemExit(f"covtrack run {self.name} {sha} printed no report: {text}") from None

    def python(self, report: Mapping[str, Any]) -> Path:
        """The interpreter of the environment that a report names."""
        key = str(report["environment"])
        folder = self.scene.work / "state" / "environments" / "envs" / key
        return (folder / "venv" / "bin" / "python").absolute()


@dataclass(slots=True, kw_only=True)
class Checkout:
    """A git work tree of its own, and the metadata that the project's build backend makes."""

    clone: Path
    root: Path
    python: Path
    variables: Mapping[str, str]

    @property
    def overlay(self) -> Path:
        return self.root.with_name(self.root.name + "-metadata")

    def go_to(self, sha: str) -> None:
        """Lay commit `sha` out, clean, and build its metadata."""
        if not self.root.exists():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            git(self.clone, "worktree", "prune")
            git(self.clone, "worktree", "add", "--force", "--detach", str(self.root), sha)
        git(self.root, "checkout", "--quiet", "--force", "--detach", sha)
        git(self.root, "clean", "-qfdx")
        self._build_metadata()

    def _build_metadata(self) -> None:
        shutil.rmtree(self.overlay, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        words: list[str | Path] = ["pip", "install", "-q", "--no-deps", "--python", self.python]
        done = run_command([uv, *words, "--target", self.overlay, self.root], cwd=self.root)
        if done.status:
            raise SystemExit(f"The metadata of {self.root} cannot be built: {done.last_words}")
        for path in self.overlay.iterdir():
            if path.is_dir() and not path.name.endswith((".dist-info", ".egg-info")):
                shutil.rmtree(path)
        git(self.root, "clean", "-qfdx")

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of a test process in this checkout; its home and temporary folder are new."""
        place = self.root.with_name(self.root.name + "-home")
        (place / "tmp").mkdir(parents=True, exist_ok=True)
        return {
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(place),
            "TMPDIR": str(place / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": f"{self.overlay}:{self.root}",
            "COVERAGE_CORE": "ctrace",
            **self.variables,
            **more,
        }

    def run_under_coverage(self, *words: str, rcfile: str | None = None, seed: str = "0") -> Timed:
        """`stestr run` with coverage.py in each worker, as OpenStack's cover jobs do it."""
        self.forget_runs()
        rc = f" --rcfile={rcfile}" if rcfile else ""
        env = self.environment(PYTHON=f"coverage run -p{rc}", PYTHONHASHSEED=seed)
        stestr = self.python.with_name("stestr")
        return run_timed([stestr, "run", "--concurrency", "2", *words], cwd=self.root, env=env)

    def forget_runs(self) -> None:
        """Delete data files and stestr's repository of earlier runs."""
        for path in self.root.glob(".coverage.*"):
            path.unlink()
        for name in (".coverage", "coverage.json"):
            (self.root / name).unlink(missing_ok=True)
        shutil.rmtree(self.root / ".stestr", ignore_errors=True)

    def count_tests(self) -> int:
        """How many tests the last `stestr run` ran."""
        stestr = self.python.with_name("stestr")
        done = run_command([stestr, "last"], cwd=self.root, env=self.environment())
        found = re.search(r"(?m)^Ran: (\d+) tests", done.stdout)
        return int(found[1]) if found else 0

    def read_coverage(self, rcfile: str | None = None) -> dict[str, Any]:
        """What coverage.py itself reports of the last run, by its JSON writer."""
        coverage = self.python.with_name("coverage")
        rc = [f"--rcfile={rcfile}"] if rcfile else []
        for words in (["combine", "-q"], ["json", "-q", "-o", "coverage.json"]):
            done = run_command([coverage, *words, *rc], cwd=self.root, env=self.environment())
            if done.status:
                raise SystemExit(f"coverage {words[0]} failed: {done.stdout}{done.stderr}")
        report: dict[str, Any] = json.loads((self.root / "coverage.json").read_text())
        return report


def about(python: str) -> dict[str, Any]:
    """When and on what a benchmark ran."""
    head = git(HERE, "rev-parse", "HEAD")
    edited = git(HERE, "status", "--porcelain", "--", "../jobs", "../covtrack", "../venv_builder")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "covtrack": head + (" with uncommitted edits" if edited else ""),
        "covtrack_python": platform.python_version(),
        "measured_python": python,
        "coverage": version("coverage"),
        "stestr": version("stestr"),
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def keep(name: str, result: Mapping[str, Any]) -> Path:
    """Write a benchmark's result to results/NAME.json, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    new.replace(path)
    return path


def load_kept(name: str) -> dict[str, Any]:
    """The last result, an empty one if there is none."""
    with suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
        return kept
    return {}


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table on standard output: first two columns to the left, figures to the right."""
    texts = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(heads))]
    for row in texts:
        cells = [
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
