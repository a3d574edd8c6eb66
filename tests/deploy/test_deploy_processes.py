"""What compose starts, as plain processes with the same files: nginx, PostgreSQL, Valkey, two
processes of the API, Prometheus and Alertmanager. Only addresses, folders and waits are others.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import threading
import time
import warnings
from pathlib import Path

import httpx
import psycopg
import pytest
import websockets.sync.client

from tests.api.service import record
from tests.deploy.site import Site, changed
from tests.waiting import until

NEEDED = ("nginx", "prometheus", "prometheus-alertmanager")
WANTED = "HEADWAY_TEST_DEPLOY"
MISSING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("deploy"),
    pytest.mark.skipif(WANTED not in os.environ, reason="NOT ASKED FOR: `make test-deploy`"),
    pytest.mark.skipif(bool(MISSING), reason=f"NOT HERE: Debian's {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory, new_record):
    folder = tmp_path_factory.mktemp("site")
    found = Site(folder, new_record())
    try:
        start(found)
        yield found
    finally:
        for name in list(found.running):
            found.stop(name)


def start(site):
    folder = site.folder
    site.start_services()
    (folder / "nginx.conf").write_text(
        changed(
            "nginx/nginx.conf",
            {
                "/tmp/": f"{folder}/",
                "/dev/stdout": f"{folder}/access.log",
                "/etc/nginx/tls": site.secrets,
                "listen 8080": f"listen 127.0.0.1:{site.ports['http']}",
                "listen 8443": f"listen 127.0.0.1:{site.ports['https']}",
            },
        )
    )
    (folder / "upstreams.conf").write_text(
        f"upstream api {{ server {site.at('a')} max_fails=1 fail_timeout=1s; "
        f"server {site.at('b')} backup; }}\n"
        f"upstream ingest {{ server {site.at('b')} max_fails=1 fail_timeout=5s; "
        f"server {site.at('a')} max_fails=1 fail_timeout=5s; }}\n"
        "upstream grafana { server 127.0.0.1:9; }\n"
    )
    user = "user root;" if os.getuid() == 0 else ""  # pytest's folders are closed to others
    site.start("nginx", "nginx", "-c", folder / "nginx.conf", "-g", f"daemon off; {user}")
    sooner = {"for: 1m": "for: 0s", "for: 5m": "for: 0s"}
    (folder / "alerts.yml").write_text(changed("prometheus/alerts.yml", sooner))
    (folder / "prometheus.yml").write_text(
        changed(
            "prometheus/prometheus.yml",
            {
                "scrape_interval: 15s": "scrape_interval: 1s",
                "scrape_timeout: 10s": "scrape_timeout: 1s",
                "evaluation_interval: 15s": "evaluation_interval: 1s",
                "api:8000": site.at("a"),
                "ingest:8000": site.at("b"),
                "alertmanager:9093": site.at("alertmanager"),
                "localhost:9090": site.at("prometheus"),
            },
        )
    )
    site.start(
        "prometheus", "prometheus", "--config.file=prometheus.yml",
        f"--web.listen-address={site.at('prometheus')}", f"--storage.tsdb.path={folder}/figures",
    )  # fmt: skip
    (folder / "alertmanager.yml").write_text(
        changed("prometheus/alertmanager.yml", {"group_wait: 10s": "group_wait: 0s"})
    )
    site.start(
        "alertmanager", "prometheus-alertmanager", "--config.file=alertmanager.yml",
        f"--web.listen-address={site.at('alertmanager')}", "--cluster.listen-address=",
        f"--storage.path={folder}/alerts",
    )  # fmt: skip
    for name in ("a", "b"):
        until(lambda name=name: site.is_ready(name))
    with site.client() as client:
        until(lambda: client.get("/health/ready").status_code == 200)


class Listener:
    """Reads an event stream in a thread: `messages`, each as its object."""

    def __init__(self, site, last_id=""):
        self.messages, self.opened = [], threading.Event()
        self._site, self._headers = site, {"Last-Event-ID": last_id} if last_id else {}
        self._token = site.headers()["Authorization"].split()[1]
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.opened.wait(60)

    def _read(self):
        with (
            contextlib.suppress(httpx.TransportError),
            self._site.client(headers=self._headers) as client,
            client.stream("GET", f"/stream/monitoring?token={self._token}") as events,
        ):
            for line in events.iter_lines():
                self.opened.set()
                if line.startswith("data: "):
                    self.messages.append(json.loads(line[6:]))

    def has_ended(self):
        return not self._thread.is_alive()

    def backups(self):
        return [m["data"]["data"]["file"] for m in self.messages if "data" in m.get("data", {})]


def back_up(client):
    answer = client.post("/api/v1/admin/upkeep/backup")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["file"]


def test_the_page_comes_over_tls_and_nothing_that_is_for_within(site):
    with site.client() as client:
        page = client.get("/", headers={"Accept": "text/html"})
        assert (page.status_code, "<!doctype html>" in page.text.lower()) == (200, True)
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        assert "nginx/" not in page.headers["server"]
        assert client.get("/metrics").status_code == 404
        assert client.get("/system/info").status_code == 401
    plain = httpx.get(f"http://{site.at('http')}/a?b=c", headers={"Host": "city.example"})
    assert (plain.status_code, plain.headers["location"]) == (308, "https://city.example/a?b=c")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://localhost:{site.ports['https']}/")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://localhost:{site.ports['https']}/", verify=old)


def test_a_socket_and_an_event_stream_come_through(site):
    """The backup is told on the process that made it, and over Valkey on the other."""
    events = Listener(site)
    at = f"wss://localhost:{site.ports['https']}/ws/monitoring"
    with (
        websockets.sync.client.connect(
            at, ssl=site.trust(), additional_headers=site.headers()
        ) as socket,
        httpx.Client(
            base_url=f"http://{site.at('b')}", headers=site.headers(), timeout=60.0
        ) as other,
    ):
        made = back_up(other)
        assert any(made in message for message in iter(lambda: socket.recv(60), None))
        until(lambda: made in events.backups())


def test_a_process_that_is_killed_loses_no_stream(site):
    """nginx goes on with the other process; what that one heard comes, with a note of the gap."""
    first = Listener(site)
    with site.client(headers=site.headers()) as client:
        before = back_up(client)
        until(lambda: before in first.backups())
        last = first.messages[-1]["id"]
        site.stop("a", signal.SIGKILL)
        until(first.has_ended)
        after = back_up(client)
        second = Listener(site, last)
        until(lambda: {before, after} <= set(second.backups()))
        assert second.messages[0]["topic"] == "gap"
        site.start_api("a")
        until(lambda: site.is_ready("a"))


def test_every_process_shows_and_operates_the_street_and_none_takes_it_along(site):
    """The street is a process of its own: what one process is asked is known to the other, and the
    street goes on when the first is killed.
    """
    site.start_street()
    street = "/api/v1/engine/streets/headway"

    def state(client):
        time.sleep(1.0)  # of the 100 requests a minute
        answer = client.get(street)
        return answer.json() if answer.status_code == 200 else {}

    def order(client, what):
        client.post(f"{street}/{what}").raise_for_status()

    with contextlib.ExitStack() as at_end:
        a, b = (
            at_end.enter_context(
                httpx.Client(base_url=f"http://{site.at(name)}", headers=site.headers(), timeout=60)
            )
            for name in ("a", "b")
        )
        for client in (a, b):
            until(lambda client=client: state(client).get("status") == "running", 300.0)
        assert state(a)["scenario"] == "cologne8"
        order(b, "pause")
        until(lambda: state(a).get("status") == "paused")
        order(a, "resume")
        until(lambda: state(b).get("status") == "running")
        site.stop("a", signal.SIGKILL)
        before = state(b)
        until(lambda: state(b).get("time_s", 0.0) > before["time_s"] + 20.0)
        assert state(b)["run"] == before["run"]
        site.start_api("a")
        until(lambda: site.is_ready("a"))
        site.stop("street")
        until(lambda: state(b).get("status") == "away")


def counts(site):
    with psycopg.connect(site.database_url) as link:
        return {
            table: link.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("simulation_record", "run", "violation")
        }


def test_what_was_backed_up_is_restored_and_never_onto_what_runs(site):
    rows = [record(second=second) for second in range(9)]
    with site.client(headers=site.headers()) as client:
        answer = client.post("/api/v1/ingest/batch", json=rows)
        assert answer.status_code == 201, answer.text
        taken = back_up(client)
    before = counts(site)
    assert before["simulation_record"] == 9
    restore = ("db", "restore", site.folder / "backups" / Path(taken).name)
    restore += ("--key", site.secrets / "backup_key", "--data", site.folder / "a")
    status, said = site.headway(*restore)
    assert (status, counts(site)) == (1, before), said
    for name in ("a", "b"):
        site.stop(name)
    with psycopg.connect(site.database_url, autocommit=True) as link:
        link.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    status, said = site.headway(*restore)
    assert (status, counts(site)) == (0, before), said
    for name in ("a", "b"):
        site.start_api(name)
        until(lambda name=name: site.is_ready(name))


def test_figures_are_scraped_and_a_process_that_is_away_is_told(site):
    at = f"http://{site.at('prometheus')}/api/v1"

    def value(query):
        found = httpx.get(f"{at}/query", params={"query": query}).json()["data"]["result"]
        return {r["metric"].get("instance", ""): float(r["value"][1]) for r in found}

    both = {site.at("a"), site.at("b")}
    until(lambda: value('up{job="headway"} == 1').keys() == both)
    until(lambda: value("headway_up_seconds").keys() == both)
    site.stop("b")

    def told():
        alerts = httpx.get(f"http://{site.at('alertmanager')}/api/v2/alerts").json()
        return [a["labels"] for a in alerts if a["labels"]["alertname"] == "ServiceAway"]

    until(told)
    assert [(a["instance"], a["severity"]) for a in told()] == [(site.at("b"), "critical")]
    assert re.match(r"127\.0\.0\.1:\d+$", told()[0]["instance"])


def test_who_has_no_credentials_is_known_by_the_address_alone(site):
    """And not by what they say of it: their requests of a minute are counted together."""
    with site.client() as client:
        asked = [
            client.get("/api/v1/runs", headers={"X-Forwarded-For": f"6.6.6.{n}"}).status_code
            for n in range(101)
        ]
    assert set(asked) == {401, 429}
    assert asked[-1] == 429


def test_no_log_has_a_token_or_a_secret(site):
    """One of the tokens stood in the address of a stream that broke off."""
    names = ("valkey_password", "secret_key", "backup_key")
    hidden = [(site.secrets / name).read_text().strip() for name in names]
    logs = [*site.folder.glob("*.log")]
    assert {"a.log", "b.log", "nginx.log", "access.log"} <= {log.name for log in logs}
    for log in logs:
        text = log.read_text(errors="replace")
        assert [secret for secret in hidden if secret in text] == [], log
        assert "token=" not in text, log
