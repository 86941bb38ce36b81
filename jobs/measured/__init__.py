"""Scripts that run beside or inside the measured interpreter; never imported by the tracker.

They use the standard library and (inside the measured interpreter) coverage.py and stestr of the
measured environment, and must work on every Python from 3.9.
"""
