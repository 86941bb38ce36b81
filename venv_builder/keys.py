"""Pure keys of resolutions and environments: hashes of inputs, never of times or places.

Two levels: a resolution key stands for what was asked, an environment key for what is installed.
A workspace's path and the measured project's own source never enter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from venv_builder.interpreters import Interpreter

FORMAT = "1"
_LENGTH = 20


def make_key(*parts: object) -> str:
    """20 hex digits over the parts' JSON; differently split parts give different keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def resolution_key(
    requirements: Iterable[str],
    constraints: Iterable[str],
    *,
    interpreter: Interpreter,
    index: Mapping[str, str],
    resolver: str,
) -> str:
    """What was asked: sorted lines, the interpreter as markers see it, index and resolver."""
    lines = [sorted(set(requirements)), sorted(set(constraints))]
    return make_key(FORMAT, "resolution", lines, _markers(interpreter), dict(index), resolver)


def environment_key(lock: Sequence[str], *, interpreter: Interpreter) -> str:
    """What is installed: every locked line with its hashes, and the interpreter's identity."""
    identity = [str(interpreter.path), interpreter.identity]
    return make_key(FORMAT, "environment", sorted(set(lock)), identity)


def group_key(chosen: str, members: Mapping[str, str]) -> str:
    """Which projects were asked to share: the project that must be in, resolution keys of all."""
    return make_key(FORMAT, "group", chosen, dict(members))


def _markers(interpreter: Interpreter) -> list[str]:
    identity = json.loads(interpreter.identity)[1:] if interpreter.identity else []
    return [interpreter.label, interpreter.implementation, json.dumps(identity)]
