"""The record: a PostgreSQL database, given by its address or embedded; written in batches, through outages, exactly once."""

from headway.store.database import Database, DatabaseError, open_database
from headway.store.intake import REFUSED, Intake, Outcome
from headway.store.spool import Spool

__all__ = ["REFUSED", "Database", "DatabaseError", "Intake", "Outcome", "Spool", "open_database"]
