"""Where the console script begins: says "stopped" even if Ctrl-C comes during the imports."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        import covtrack.db_cli
        import covtrack.gc_cli
        import covtrack.history_cli
        import covtrack.jenkins_cli
        import covtrack.ledger_cli
        import covtrack.mirror_cli
        import covtrack.next_cli
        import covtrack.prospect_cli
        import covtrack.serve_cli
        import covtrack.step_cli  # noqa: F401 (they register their commands)
        from covtrack.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("covtrack: Stopped; nothing stored was changed.\n")
        sys.exit(130)
    run()
