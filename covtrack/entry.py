"""Where the console script begins: says "stopped" even if Ctrl-C comes during the imports."""

from __future__ import annotations

import sys
from types import ModuleType


def load() -> ModuleType:
    """The module of the command line, with every command registered."""
    import covtrack.cli
    import covtrack.db_cli
    import covtrack.gc_cli
    import covtrack.history_cli
    import covtrack.jenkins_cli
    import covtrack.ledger_cli
    import covtrack.mirror_cli
    import covtrack.next_cli
    import covtrack.prospect_cli
    import covtrack.serve_cli
    import covtrack.step_cli

    return covtrack.cli


def main() -> None:
    """Load the command line and run it."""
    try:
        module = load()
    except KeyboardInterrupt:
        sys.stderr.write("covtrack: Stopped; nothing stored was changed.\n")
        sys.exit(130)
    module.main()
