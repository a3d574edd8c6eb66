"""Who runs a street: one process, by two witnesses, each of which forgets a holder that is silent.

- Valkey: a key that expires. It also gives the token, a number that only grows.
- PostgreSQL: an advisory lock of a session that the server ends when it was idle for too long.

Whoever wants to begin needs both; whoever runs the street goes on while it has one of them. So it
goes on while one of the two is away, and nobody else can begin meanwhile. Times are of the
holder's own clock, from before it asked: they end here before they end there. A witness that does
not answer takes nothing back: what it promised holds until its time.

Who has both does not drive at once, unless one that could drive has said that it ended: for
SETTLE_S both have to stay its own, and then to say so once more. A witness that has forgotten it
meanwhile ends that, since another one may have renewed there. So nobody else has renewed anything
for so long that his time is over, also where a witness was started anew and has forgotten him.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import select
import socket
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Protocol

import psycopg
import redis
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from headway import telemetry
from headway.service.wire import key_of
from headway.store import connections
from headway.street.permit import clock_s
from headway.telemetry import metrics
from headway.telemetry.threads import keep_running

LEASE_S = 6.0  # after which a witness forgets a holder that is silent
RENEW_S = 1.0
MARGIN_S = 1.0  # the holder stops so long before
SETTLE_S = LEASE_S - MARGIN_S
ANSWER_WITHIN_S = 1.0
LONGEST_HOLDER = 200  # characters of a name that others have written
LOCKS = 0x48575354  # first half of the keys of the advisory locks

TAKE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return {'', held} end
local known, now = tonumber(redis.call('GET', KEYS[2]) or '0'), redis.call('TIME')
if not known or not (known < 9e15) then
    return redis.error_reply('ERR ' .. KEYS[2] .. ' holds no token; delete this key')
end
local token = string.format('%.0f', math.max(known + 1, now[1] * 1000000 + now[2]))
local freed = redis.call('GET', KEYS[3])
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if known > 0 and freed and tonumber(freed) == known then return {token, 'free'} end
return {token, ''}
"""
# where the key has expired, and nobody else has had it since, it is set again, if that is asked
RENEW = """
local held, known = redis.call('GET', KEYS[1]), tonumber(redis.call('GET', KEYS[2]) or '0')
if not held and ARGV[4] ~= 'again' then return 0 end
if (held and held ~= ARGV[1]) or known > tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return 1
"""
FREE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
END = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[3], ARGV[3], 'PX', 60000) end
"""


class LeaseError(RuntimeError):
    """Another process runs the street; the message says which."""


class Answer(Enum):
    """Of a witness that is asked for more time."""

    OURS = "ours"
    LOST = "lost"  # somebody else has it, or it was forgotten
    NONE = "none"  # in time


class Witness(Protocol):
    """What of a holder it knows. Its methods raise nothing."""

    def take(self) -> bool:
        """Whether it is ours now; False also where there is no answer."""

    def renew(self, again: bool) -> Answer:
        """Whether it is ours still; again: or is, where it was forgotten."""

    def free(self) -> None: ...


class TokenWitness(Witness, Protocol):
    """token: of the newest take; was_freed: the holder before said that it drives no more; holder:
    who has it, where it is not ours, and left_s: for how long, unless it renews it.
    """

    token: int
    was_freed: bool
    holder: str
    left_s: float

    def look(self) -> None:
        """Who has it."""

    def end(self) -> None:
        """Say to whoever takes it next that nobody drives."""


def own_name() -> str:
    """Of this process, for whoever is refused; another one at each call."""
    return f"{socket.gethostname()} process {os.getpid()} {secrets.token_hex(4)}"


class InValkey:
    """trouble: why it does not answer."""

    def __init__(self, url: str, street: str, name: str, lease_s: float = LEASE_S) -> None:
        self._link = connect(url, ANSWER_WITHIN_S)
        self._keys = [key_of(street, what) for what in ("lease", "token", "freed")]
        self._name = name
        self._lease_ms = round(1e3 * lease_s)
        self.token = 0
        self.was_freed = False
        self.holder = ""
        self.left_s = 0.0
        self.trouble = ""

    def look(self) -> None:
        """Who has it."""
        try:
            held: Any = self._link.get(self._keys[0])
            left_ms: Any = self._link.pttl(self._keys[0])
            self.holder = _in_a_line(held or b"")
            self.left_s = max(left_ms, 0) / 1e3
            self.trouble = ""
        except redis.RedisError as error:
            self.holder, self.trouble = "", str(error) or type(error).__name__

    def take(self) -> bool:
        found = self._ask(TAKE)
        if not isinstance(found, list):
            self.holder = ""
            return False
        token, said = (part.decode(errors="replace") for part in found)
        if not token:
            self.look()
        else:
            self.holder = ""
            self.token, self.was_freed = int(token), said == "free"
        return bool(token)

    def renew(self, again: bool) -> Answer:
        found = self._ask(RENEW, "again" if again else "")
        if found is None:
            return Answer.NONE
        return Answer.OURS if found == 1 else Answer.LOST

    def free(self) -> None:
        self._ask(FREE)

    def end(self) -> None:
        self._ask(END)

    def _ask(self, script: str, *more: str) -> Any:
        """None where there is no answer."""
        about: tuple[str | int, ...] = (self._name, self._lease_ms, self.token, *more)
        try:
            found: Any = self._link.eval(script, len(self._keys), *self._keys, *about)
            self.trouble = ""
            return found
        except redis.RedisError as error:
            self.trouble = str(error) or type(error).__name__
            return None


class InPostgres:
    """trouble: why it does not answer; empty where another one has it."""

    def __init__(self, url: str, street: str, lease_s: float = LEASE_S) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._lock = zlib.crc32(street.encode()) - (1 << 31)
        self._lease_s = lease_s
        self._link: connections.Connection | None = None
        self._is_asked = False  # a question is under way, whose answer has not come yet
        self._silent_from_s = 0.0  # it has answered what was asked then, and nothing since
        self.trouble = ""

    def take(self) -> bool:
        self.trouble = ""
        try:
            if self._link is None:
                self._link = connections.Connection.connect(
                    self._url, autocommit=True, connect_timeout=2, application_name="headway lease"
                )
                self._link.patience_s = ANSWER_WITHIN_S
                self._link.execute(f"SET idle_session_timeout = {round(1e3 * self._lease_s)}")
            asked_s = clock_s()
            row = self._link.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCKS, self._lock))
            is_ours = bool(row.fetchone() == (True,))
            self._silent_from_s = asked_s
        except (psycopg.Error, OSError) as error:
            self.trouble = str(error) or type(error).__name__
            is_ours = False
        if not is_ours:
            self.free()
        return is_ours

    def renew(self, again: bool) -> Answer:
        """A session that is gone, or silent for as long as a lease, has lost the lock; the next
        call takes it by another one.
        """
        if self._link is None:
            if self.take():
                return Answer.OURS
            return Answer.NONE if self.trouble else Answer.LOST
        try:
            if self._answers(self._link):
                self.trouble = ""
                return Answer.OURS
            self.trouble = f"no answer for {ANSWER_WITHIN_S:g} s"
        except (psycopg.Error, OSError) as error:
            self.trouble = str(error) or type(error).__name__
            self.free()
            return Answer.LOST
        if clock_s() - self._silent_from_s < self._lease_s:
            return Answer.NONE
        self.free()
        return Answer.LOST

    def _answers(self, link: connections.Connection) -> bool:
        """Whether a question of now is answered in time; one that is not stays under way, since to
        give it up is to end the session, and the lock with it. Raises psycopg.Error, OSError.
        """
        asked_s = clock_s()
        end_s = asked_s + ANSWER_WITHIN_S
        if self._is_asked and not self._has_answered(link.pgconn, end_s):
            return False
        asked_s = clock_s()
        link.pgconn.send_query(b"SELECT 1")
        link.pgconn.flush()
        self._is_asked = True
        if not self._has_answered(link.pgconn, end_s):
            return False
        self._silent_from_s = asked_s
        return True

    def _has_answered(self, server: PGconn, end_s: float) -> bool:
        """What was asked last. Raises psycopg.Error, OSError where the session is gone."""
        readable = select.poll()
        readable.register(server.socket, select.POLLIN)
        while server.is_busy():
            left_s = end_s - clock_s()
            if left_s <= 0.0 or not readable.poll(1e3 * left_s):
                return False
            server.consume_input()
        while (result := server.get_result()) is not None:
            if result.status != ExecStatus.TUPLES_OK:
                raise psycopg.OperationalError(result.get_error_message())
        self._is_asked = False
        return True

    def free(self) -> None:
        if self._link is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                self._link.close()
        self._link, self._is_asked = None, False


@dataclass
class Held:
    """A witness, and until when it is ours: seconds of the monotonic clock; 0 where it is not."""

    witness: Witness
    name: str
    until_s: float = 0.0


class Lease:
    """The right to run a street. on_renewed: called each time that `until_s` moves on.
    from_s, until_s: when it may drive, by the clock, which is `permit.clock_s`.
    """

    def __init__(
        self,
        valkey: TokenWitness,
        postgres: Witness,
        on_renewed: Callable[[], None],
        clock: Callable[[], float] = clock_s,
    ) -> None:
        self._valkey = valkey
        self.held = (Held(postgres, "postgres"), Held(valkey, "valkey"))
        self._on_renewed = on_renewed
        self.from_s = math.inf
        self._confirm_s = math.inf  # from then on, whoever says that it is ours has confirmed it
        self._unconfirmed = set[str]()
        self._is_void = False
        self._clock = clock
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._log = telemetry.log("street")

    @property
    def token(self) -> int:
        return self._valkey.token

    @property
    def until_s(self) -> float:
        return max(held.until_s for held in self.held)

    @property
    def is_valid(self) -> bool:
        """Whether it may drive now."""
        return self.from_s <= self._clock() < self.until_s

    @property
    def is_lost(self) -> bool:
        """Whether it may not drive, now or later."""
        return self._is_void or self._clock() >= self.until_s

    @property
    def loss(self) -> str:
        """Why it is lost, where it is."""
        if self._is_void:
            return (
                "before it could drive, Valkey or the database did not answer, or had forgotten it"
            )
        return "neither Valkey nor the database answered in time"

    def take(self) -> bool:
        """Whether it is ours, and renewed until `free`."""
        if not self.ask():
            return False
        self._threads = [
            keep_running(f"lease {held.name}", partial(self._renew, held), self._stop)
            for held in self.held
        ]
        return True

    def ask(self) -> bool:
        """Whether both witnesses are ours now."""
        taken = list[Held]()
        for held in self.held:
            asked_s = self._clock()
            if not held.witness.take():
                self._give_back(taken)
                if held.witness is not self._valkey:
                    self._valkey.look()
                return False
            held.until_s = asked_s + LEASE_S - MARGIN_S
            taken.append(held)
        self._stop.clear()
        now_s, self._is_void = self._clock(), False
        self._unconfirmed = set() if self._valkey.was_freed else {h.name for h in self.held}
        self._confirm_s = now_s + SETTLE_S
        self.from_s = math.inf if self._unconfirmed else now_s
        return True

    def free(self) -> None:
        """Nothing of the street may run here any more. Whoever waits may begin at once, if it could
        drive here: who has it, but may not drive yet, does not know about the one before.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join(2.0 * (ANSWER_WITHIN_S + RENEW_S))
        if self._clock() >= self.from_s:
            self._valkey.end()
        self._give_back(list(self.held))

    def _give_back(self, taken: list[Held]) -> None:
        self.from_s = math.inf
        for held in reversed(taken):
            held.until_s = 0.0
            held.witness.free()

    @property
    def left_s(self) -> float:
        """For how long another one has it, unless it renews it; 0 where that is not known."""
        return self._valkey.left_s if self._valkey.holder else 0.0

    def refusal(self) -> str:
        """Why `take` was refused."""
        if self._valkey.holder:
            return f"{self._valkey.holder} runs it"
        for held in self.held:
            trouble = getattr(held.witness, "trouble", "")
            if trouble:
                return f"{held.name} does not answer ({trouble})"
        return "another process runs it, as the database knows"

    def _renew(self, held: Held) -> None:
        asked_s, was_ours = self._clock(), True
        while not self._stop.wait(self._pause_s(asked_s)):
            asked_s = self._clock()
            self.renew(held)
            is_ours = held.until_s > self._clock()
            metrics.degraded.labels(f"lease {held.name}").set(float(not is_ours))
            if is_ours != was_ours:
                about = {"witness": held.name, "is_ours": is_ours, "is_valid": self.is_valid}
                self._log.warning("the lease has changed", **about)
            was_ours = is_ours

    def _pause_s(self, asked_s: float) -> float:
        """Until the next renewal: none after one that was not answered in time; not late for what
        it can confirm.
        """
        now_s, due_s = self._clock(), asked_s + RENEW_S
        if now_s < self._confirm_s < due_s:
            due_s = self._confirm_s
        return max(due_s - now_s, 0.0)

    def renew(self, held: Held) -> None:
        """Once, with one of `held`. What has passed is not ours again: somebody else may have begun
        meanwhile.
        """
        asked_s = self._clock()
        answer = held.witness.renew(again=not self._unconfirmed)
        with self._lock:
            if self._stop.is_set() or self._clock() >= self.until_s:
                return
            if answer is Answer.OURS:
                held.until_s = asked_s + LEASE_S - MARGIN_S
            elif answer is Answer.LOST:
                held.until_s = 0.0
            if self._unconfirmed:
                self._settle(held, answer, asked_s)
            self._on_renewed()

    def _settle(self, held: Held, answer: Answer, asked_s: float) -> None:
        """What a witness said before it may drive."""
        if self._clock() >= held.until_s:
            self._is_void = True  # somebody else may have renewed it
        elif answer is Answer.OURS and asked_s >= self._confirm_s:
            self._unconfirmed.discard(held.name)
        if not self._unconfirmed and not self._is_void:
            self.from_s = self._clock()


def _in_a_line(name: bytes) -> str:
    text = name[: 4 * LONGEST_HOLDER].decode(errors="replace")[:LONGEST_HOLDER]
    return "".join(c if c.isprintable() else "?" for c in text)


def connect(url: str, within_s: float) -> redis.Redis:
    """It connects when it is first used, and anew where a connection was lost."""
    return redis.Redis.from_url(url, socket_timeout=within_s, socket_connect_timeout=within_s)
