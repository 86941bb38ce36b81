"""Which system packages a project's bindep.txt names, read by bindep itself."""

from __future__ import annotations

import logging


def packages_mentioning(word: str, bindep: str) -> tuple[str, ...]:
    """Packages of bindep.txt, for this platform, whose name mentions `word`.

    Returns () where the text is empty or cannot be parsed.
    """
    from bindep.depends import Depends

    logging.getLogger("bindep").setLevel(logging.CRITICAL)
    try:
        depends = Depends(bindep)
        profiles = depends.platform_profiles()
        rules = depends.active_rules([*profiles, "test", "default"])
    except Exception:  # a grammar error, or a platform that bindep does not know
        return ()
    names = sorted({str(rule[0]) for rule in rules})
    return tuple(name for name in names if word.lower() in name.lower())
