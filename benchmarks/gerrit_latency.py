"""Times the way from an upload to the posted verdict, on a real Gerrit and a real project.

Changes of one module are pushed one after another; each is measured by `covtrack serve`. Beside
it stands the job's own time, and `covtrack run` of the same commits in another state folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from covtrack.gerrit.client import GerritClient
from tests.gerrit_fixture import RealGerrit
from tests.integration.test_serving import TAG
from tests.scratch_git import ScratchRepository
from venv_builder.processes import check_command, start_group

ROOT = Path(__file__).parents[1]
SETTINGS = """
state = "{state}"
listen = "127.0.0.1:0"
{server}
[projects.measured]
git = "{git}"
gerrit = "real"
branch = "master"
python = "3.13"
branch_coverage = false
constraints = "{constraints}"
"""
COMMAND = [sys.executable, "-P", "-m", "covtrack", "--config"]
MEASURED = re.compile(r"change (\d+),(\d+) is measured, ([\d.]+) s")


def main() -> None:
    """Push, wait, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument("--module", default="novaclient/utils.py")
    parser.add_argument("--old", default="""return ', '.join("'%s'" % x for x in values)""")
    parser.add_argument("--changes", type=int, default=10)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        gerrit = RealGerrit(Path(name))
        try:
            gerrit.start()
            print(json.dumps(measure(gerrit, Path(name), words), indent=1))
        finally:
            gerrit.kill()


def measure(gerrit: RealGerrit, folder: Path, words: argparse.Namespace) -> dict[str, object]:
    """Seconds per change, and their medians."""
    gerrit.request("PUT", "projects/measured", {"create_empty_commit": False})
    url = gerrit.clone_url("measured")
    clone = ScratchRepository(folder / "clone")
    clone.git("fetch", "-q", str(words.repository), "HEAD")
    clone.git("checkout", "-q", "--detach", "FETCH_HEAD")
    clone.git("push", "-q", url, "HEAD:refs/heads/master")
    start = clone.git("rev-parse", "HEAD")
    configs = [write_settings(gerrit, folder, part, url, words) for part in ("serve", "run")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for config in configs:
        run_covtrack(config, "advance", env)
    log = folder / "serve.log"
    serving = start_group(
        [*COMMAND, str(configs[0]), "serve"],
        cwd=ROOT,
        env=env,
        stdout=folder / "serve.out",
        stderr=log,
    )
    client = GerritClient(gerrit.server)
    rows = []
    for number in range(words.changes):
        change_id = f"I{secrets.token_hex(20)}"
        clone.git("checkout", "-q", "--detach", start)
        path = clone.root / words.module
        text = path.read_text()
        assert words.old in text
        path.write_text(text.replace(words.old, f"number = {number}\n    {words.old}"))
        clone.git("commit", "-aq", "-m", f"Change {number}\n\nChange-Id: {change_id}")
        sha = clone.git("rev-parse", "HEAD")
        begun = monotonic()
        clone.git("push", "-q", url, "HEAD:refs/for/master")
        pushed = monotonic()
        (info,) = client.changes(f"change:{change_id}")
        while not any((m.tag or "").startswith(TAG) for m in client.messages(info.number)):
            sleep(0.05)
        posted = monotonic()
        run = monotonic()
        run_covtrack(configs[1], "run", env, "--rev", info.ref)
        alone = monotonic() - run
        told = {m[1]: float(m[3]) for m in MEASURED.finditer(log.read_text())}
        rows.append(
            {
                "commit": sha,
                "push": round(pushed - begun, 2),
                "push_to_verdict": round(posted - pushed, 2),
                "job": told.get(str(info.number)),
                "covtrack_run": round(alone, 2),
            }
        )
    serving.kill(20.0)
    over = [row["push_to_verdict"] - row["covtrack_run"] for row in rows]  # type: ignore[operator]
    return {
        "changes": rows,
        "median_push_to_verdict": statistics.median(r["push_to_verdict"] for r in rows),  # type: ignore[type-var]
        "median_covtrack_run": statistics.median(r["covtrack_run"] for r in rows),  # type: ignore[type-var]
        "median_overhead": round(statistics.median(over), 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_settings(
    gerrit: RealGerrit, folder: Path, part: str, url: str, words: argparse.Namespace
) -> Path:
    """covtrack.toml of one of the two state folders."""
    config = folder / f"{part}.toml"
    config.write_text(
        SETTINGS.format(
            state=folder / part,
            server=gerrit.table(),
            git=url,
            constraints=words.constraints,
        )
    )
    return config


def run_covtrack(config: Path, command: str, env: dict[str, str], *words: str) -> None:
    """One command on the project, to its end."""
    check_command([*COMMAND, str(config), command, "measured", *words], cwd=ROOT, env=env)


if __name__ == "__main__":
    main()
