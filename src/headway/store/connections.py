"""Connections to PostgreSQL that do not wait for ever.

A server that answers late ends its statement itself (`statement_timeout`). One that was stopped, or
a network that drops packets, ends nothing: whoever waits gives up by this side's clock.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator
from typing import Any

import psycopg
import sqlalchemy as sa

PING_WITHIN_S = 10.0  # of a connection of the pool before it is used; a new one takes 5 s at most
# beyond the server's own limit, so that its answer comes first: the load of a busy machine
LATER_BY_S = 15.0
UNHURRIED = "headway_unhurried"  # execution option: upkeep, for which no limit of time is known
TCP = {  # where the network drops packets, for upkeep as well: a minute, in place of two hours
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection that is closed, with psycopg.OperationalError, where the server has said nothing
    for `patience_s` seconds; None: it waits.
    """

    patience_s: float | None = PING_WITHIN_S

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's own, for each exchange with the server."""
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, exchange: Any) -> Generator[Any, Any, Any]:
        """psycopg sends 0 (nothing to read or write) into an exchange every 0.1 s."""
        waited_from = time.monotonic()
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    waited_from = now
                elif self.patience_s is not None and now - waited_from > self.patience_s:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"PostgreSQL has not answered for {self.patience_s:g} s"
                    )
                wanted = exchange.send(ready)
        except StopIteration as end:
            return end.value


def limit_waiting(engine: sa.Engine, answer_within_s: float) -> None:
    """Give each transaction of the engine so long, and a little, unless its execution options say
    UNHURRIED.
    """

    def connect(_dialect: Any, _record: Any, words: Any, arguments: Any) -> Connection:
        try:
            return Connection.connect(*words, **arguments)
        except psycopg.Error as error:
            # psycopg leaves an attempt that timed out open, in a circle of references: a server
            # that stands still would find hundreds of them, as many as it takes, when it goes on
            traceback.clear_frames(error.__traceback__)
            raise

    def begin(held: sa.Connection) -> None:
        found = held.connection.driver_connection
        unhurried = held.get_execution_options().get(UNHURRIED, False)
        if isinstance(found, Connection):
            found.patience_s = None if unhurried else answer_within_s + LATER_BY_S

    def checkin(found: Any, _record: Any) -> None:
        """To what a ping has; None where the connection was lost."""
        if isinstance(found, Connection):
            found.patience_s = PING_WITHIN_S

    sa.event.listen(engine, "do_connect", connect)
    sa.event.listen(engine, "begin", begin)
    sa.event.listen(engine, "checkin", checkin)


def close_on_return(engine: sa.Engine) -> None:
    """A connection that is in use while the engine is disposed of is closed when it comes back:
    SQLAlchemy leaves it open until garbage is collected.
    """
    pools = [0]  # how many this engine has had

    def connect(_found: Any, record: Any) -> None:
        record.info["pool"] = pools[0]

    def disposed(_engine: sa.Engine) -> None:
        pools[0] += 1

    def checkin(_found: Any, record: Any) -> None:
        if record.info.get("pool") != pools[0]:
            record.invalidate()

    sa.event.listen(engine, "connect", connect)
    sa.event.listen(engine, "engine_disposed", disposed)
    sa.event.listen(engine, "checkin", checkin)
