"""Addresses of repositories as they may be shown. Pure."""

from __future__ import annotations

import re

ACCOUNT = re.compile(r"://[^/\s]*@")


def without_password(text: str) -> str:
    """The text with its addresses, without what stands before their hosts."""
    return ACCOUNT.sub("://", text)
