"""Environments for measured projects: build, cache, restore, verify, repair.

Usable alone; knows nothing of coverage, jobs or Gerrit.
"""

from venv_builder.audit import Damage, DamageKind
from venv_builder.cache import Environment, EnvironmentCache
from venv_builder.declarations import Declared, read_declarations
from venv_builder.interpreters import Interpreter, find_interpreters, pick_interpreter
from venv_builder.overlay import Overlay, write_overlay
from venv_builder.sharing import Need

__all__ = [
    "Damage",
    "DamageKind",
    "Declared",
    "Environment",
    "EnvironmentCache",
    "Interpreter",
    "Need",
    "Overlay",
    "find_interpreters",
    "pick_interpreter",
    "read_declarations",
    "write_overlay",
]
