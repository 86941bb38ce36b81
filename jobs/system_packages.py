"""Which system packages a project's bindep.txt names, read by bindep itself."""

from __future__ import annotations

import logging
from functools import cache


def packages_mentioning(word: str, bindep: str) -> tuple[str, ...]:
    """Packages of bindep.txt, for this platform, whose name mentions `word`."""
    return tuple(name for name in _packages(bindep) if word.lower() in name.lower())


@cache
def _packages(bindep: str) -> tuple[str, ...]:
    """All packages that the text asks for on this platform; () where it cannot be parsed."""
    from bindep.depends import Depends

    logging.getLogger("bindep").setLevel(logging.CRITICAL)
    try:
        depends = Depends(bindep)
        profiles = depends.platform_profiles()
        rules = depends.active_rules([*profiles, "test", "default"])
    except Exception:  # a grammar error, or a platform that bindep does not know
        return ()
    return tuple(sorted({str(rule[0]) for rule in rules}))
