"""Queries of the database. Every figure comes with the number that it rests on; units stand in the
names.
"""

from headway.analytics.records import MissingError, Scope

__all__ = ["MissingError", "Scope"]
