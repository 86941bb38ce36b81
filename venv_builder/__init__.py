"""Environments for measured projects: build, cache, restore, verify, repair.

Usable alone; knows nothing of coverage, jobs or Gerrit.
"""
