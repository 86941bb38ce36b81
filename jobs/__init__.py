"""One coverage job: project settings, mirror, commit and baseline in; snapshot and evidence out.

Runs on an agent: needs no database and no secret.
"""
