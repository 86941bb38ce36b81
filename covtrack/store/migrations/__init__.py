"""Alembic's script folder: each schema change is one revision, written by hand."""
