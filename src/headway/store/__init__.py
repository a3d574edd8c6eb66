"""The database: PostgreSQL, given by its address or embedded; written in batches, through
outages, exactly once.
"""

from headway.store.database import Database, DatabaseError, open_database
from headway.store.intake import Intake, Outcome
from headway.store.recorder import Recorder
from headway.store.spool import Spool

__all__ = [
    "Database",
    "DatabaseError",
    "Intake",
    "Outcome",
    "Recorder",
    "Spool",
    "open_database",
]
