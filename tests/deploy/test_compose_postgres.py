"""PostgreSQL as compose sets it up: its settings, its users, and an archive of all changes, from
which the database is restored to any moment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from headway.store.embedded import package, programs
from tests.ports import free_port
from tests.waiting import until

POSTGRES = Path(__file__).parents[2] / "deploy" / "compose" / "postgres"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "HEADWAY_TEST_DEPLOY" not in os.environ, reason="NOT ASKED FOR: `make test-deploy`"
    ),
]
PASSWORDS = {"headway_password": "of-headway", "replication_password": "of-archive"}
RECOVERY = """
restore_command = 'gunzip < {archive}/wal/%f.gz > %p'
recovery_target_time = '{moment}'
recovery_target_action = promote
"""


class Cluster:
    """In a folder that another user may enter: PostgreSQL does not run as root."""

    def __init__(self, folder):
        self.folder, self.archive, self.port = folder, folder / "archive", free_port()
        self.bin = programs(Path(package().__file__).parent / "pginstall" / "bin")
        self.user = "nobody" if os.getuid() == 0 else None
        self.archive.mkdir(parents=True)
        (folder / "secrets").mkdir()
        for name, password in PASSWORDS.items():
            (folder / "secrets" / name).write_text(password)
        for name in ("init.sh", "archive-wal", "postgresql.conf"):
            text = (POSTGRES / name).read_text()
            for old, new in (
                ("/run/secrets", folder / "secrets"),
                ("/var/lib/postgresql", self.archive),
                ("PGHOST=postgres", "PGHOST=127.0.0.1"),
            ):
                text = text.replace(old, str(new))
            (folder / name).write_text(text)
        for path in (folder, *folder.rglob("*")) if self.user else ():
            shutil.chown(path, self.user)

    def run(self, *words, data="data", **more):
        with self.begin(*words, data=data, **more) as process:
            assert process.wait(120) == 0, words

    def begin(self, *words, data="data", **more):
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "PGDATA": str(self.folder / data), "PGHOST": str(self.folder), "PGPORT": str(self.port),
        }  # fmt: skip
        return subprocess.Popen(
            [str(word) for word in words], cwd=self.folder, env=environment, user=self.user,
            stdout=subprocess.DEVNULL, start_new_session=True, **more,
        )  # fmt: skip

    def start(self, data):
        place = self.folder / data
        options = {
            "config_file": self.folder / "postgresql.conf", "port": self.port,
            "unix_socket_directories": self.folder, "hba_file": place / "pg_hba.conf",
            "ident_file": place / "pg_ident.conf",
        }  # fmt: skip
        told = " ".join(f"-c {name}={value}" for name, value in options.items())
        self.run("pg_ctl", "start", "--wait", "--options", told, "--log", f"{data}.log", data=data)

    def stop(self, data, how):
        with contextlib.suppress(AssertionError):  # it does not run
            self.run("pg_ctl", "stop", "--mode", how, data=data, stderr=subprocess.DEVNULL)

    def connect(self, user="postgres", database="postgres", password=""):
        return psycopg.connect(
            host="127.0.0.1" if password else str(self.folder), port=self.port, user=user,
            dbname=database, password=password, autocommit=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def cluster(state):
    found = Cluster(state / "compose")
    try:
        found.run(
            "initdb", "--auth-local=trust", "--auth-host=scram-sha-256", "--data-checksums",
            "--username=postgres",
        )  # fmt: skip
        found.start("data")
        found.run("bash", "init.sh")
        found.run("pg_ctl", "reload")
        yield found
    finally:
        for data in ("data", "restored"):
            found.stop(data, "immediate")


def value(link, question):
    return link.execute(question).fetchone()[0]


def test_headway_has_its_database_and_no_more(cluster):
    with cluster.connect("headway", "headway", "of-headway") as link:
        link.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")  # as a restore does
        link.execute("CREATE DATABASE headway_drill_1")  # as a drill does
        link.execute("DROP DATABASE headway_drill_1")
        assert value(link, "SHOW shared_buffers") == "512MB"
        for forbidden in ("CREATE ROLE x", "SELECT pg_read_file('/etc/passwd')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                link.execute(forbidden)
    for user, database, password in (
        ("headway", "headway", "guessed"),
        ("postgres", "postgres", "guessed"),
        ("archive", "headway", "of-archive"),  # reads the log of changes, and no database
    ):
        with pytest.raises(psycopg.OperationalError):
            cluster.connect(user, database, password)


def test_without_its_passwords_no_user_is_made(cluster):
    secret = cluster.folder / "secrets" / "replication_password"
    secret.write_text("")
    ran = cluster.begin("bash", "init.sh", stderr=subprocess.PIPE)
    said = ran.communicate(timeout=60)[1].decode()
    secret.write_text(PASSWORDS["replication_password"])
    assert (ran.returncode, "a password is empty" in said) == (1, True)


def test_the_database_is_restored_to_the_moment_before_a_mistake(cluster):
    def put_away(link):
        """What was written until now is in the archive."""
        name = value(link, "SELECT pg_walfile_name(pg_switch_wal())")
        until(lambda: (cluster.archive / "wal" / f"{name}.gz").exists())

    keeping = cluster.begin("bash", "archive-wal")
    try:
        until(lambda: list((cluster.archive / "base").glob("*-W*")))
        with cluster.connect(database="headway") as link:
            link.execute("CREATE TABLE kept AS SELECT generate_series(1, 5000) AS n")
            moment = value(link, "SELECT clock_timestamp()::text")
            link.execute("DROP TABLE kept")
            put_away(link)
    finally:
        os.killpg(keeping.pid, signal.SIGTERM)
        keeping.wait(60)
    cluster.stop("data", "immediate")
    (copy,) = (cluster.archive / "base").iterdir()
    cluster.run("mkdir", "--mode=700", "restored")
    cluster.run("tar", "--directory", "restored", "--extract", "--file", copy / "base.tar.gz")
    text = RECOVERY.format(archive=cluster.archive, moment=moment)
    with (cluster.folder / "postgresql.conf").open("a") as settings:
        settings.write(text)
    cluster.run("touch", "restored/recovery.signal")
    cluster.start("restored")
    with cluster.connect(database="headway") as link:
        until(lambda: not value(link, "SELECT pg_is_in_recovery()"))
        assert value(link, "SELECT count(*) FROM kept") == 5000
