"""Gerrit: events in, verdicts out."""
