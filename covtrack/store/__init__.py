"""The database: frozen values go in and come out, rows never leave this package.

Kept free of imports, so that `covtrack.store.values` costs no SQLAlchemy.
"""
