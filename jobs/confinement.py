"""What other people's code may do: the launcher's limits and a scrubbed environment.

Values only; jobs/measured/launch.py enforces them. No variable of the tracker's own environment
passes, but those that say where the machine's certificates, proxies and locale are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from venv_builder.processes import Completed, run_command

MEASURED = Path(__file__).with_name("measured")
PASSED = (
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Limits of one command: bytes of address space, and the folders it may write below.

    `scratch` is the command's own folder, holding its home and temporary files.
    """

    scratch: Path
    memory: int | None
    writable: tuple[str, ...] = ()

    def argv(self, command: Sequence[str | Path]) -> tuple[str, ...]:
        """The command line that runs `command` under these limits."""
        limits = self.scratch / "limits.json"
        paths = [str(self.scratch), *self.writable]
        limits.write_text(json.dumps({"memory": self.memory, "writable": paths}))
        launcher = MEASURED / "launch.py"
        words = (sys.executable, "-I", "-S", launcher, limits, *command)
        return tuple(str(word) for word in words)

    def environment(self, path: Sequence[Path], extra: Mapping[str, str]) -> dict[str, str]:
        """A fresh environment: `path` in front of the system's folders, `extra` on top."""
        for name in ("home", "tmp"):
            (self.scratch / name).mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in PASSED if name in os.environ}
        system = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
        return {
            "LANG": "C.UTF-8",
            **kept,
            "PATH": os.pathsep.join([*map(str, path), *system]),
            "HOME": str(self.scratch / "home"),
            "TMPDIR": str(self.scratch / "tmp"),
            **extra,
        }

    def run(
        self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> Completed:
        """Run one command confined, to its end, and return what it did."""
        return run_command(self.argv(command), cwd=cwd, env=env, timeout=timeout)
