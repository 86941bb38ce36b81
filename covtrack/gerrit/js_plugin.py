"""The plugin for Gerrit's pages, `covtrack.js` beside this module, with its address filled in.

Gerrit gives a plugin that is one .js file no settings, so the file itself says where covtrack is.
"""

from __future__ import annotations

import json
from importlib import resources

from venv_builder.errors import UsageError

PLACE = 'const ADDRESS = "";'


def render_plugin(address: str) -> str:
    """The plugin's text for a covtrack at `address`; UsageError for what is no web address."""
    if not address.startswith(("http://", "https://")):
        raise UsageError(
            f"{address} is no address that a browser can ask."
            if address
            else "covtrack does not know where browsers find it.",
            advice='Set url = "https://..." in covtrack.toml: where browsers find covtrack.',
        )
    source = resources.files("covtrack.gerrit").joinpath("covtrack.js").read_text("utf-8")
    assert source.count(PLACE) == 1
    quoted = json.dumps(address.rstrip("/")).replace("<", "\\u003c")
    return source.replace(PLACE, PLACE.replace('""', quoted))
