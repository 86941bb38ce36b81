"""The tracker: what happened, what it means, who is told."""

__version__ = "0.1.0"
