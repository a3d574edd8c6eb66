"""What is sent to whom, as it is on the wire, when it is retried and where it ends,
against real web and mail servers.
"""

from __future__ import annotations

import contextlib
import datetime
import email
import hashlib
import hmac
import http.server
import inspect
import ipaddress
import itertools
import json
import re
import socket
import ssl
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import structlog
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.ports import closed_port, free_port
from tests.waiting import until

from headway.sensing import SensingError
from headway.service import dead_letters
from headway.service import notification as room
from headway.service.notification import (
    DeadLetters,
    Delivery,
    Mail,
    Notifier,
    Sender,
    Webhook,
    retry_delay_s,
)


class Hook:
    """A web server that answers as it is told to, 200 else. taken: (time, path, headers, body)."""

    def __init__(self):
        self.taken, self.answers, hook = [], [], self

        class Door(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.taken.append((time.monotonic(), self.path, dict(self.headers), body))
                answer = hook.answers.pop(0) if hook.answers else 200
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                    return
                self.send_response(answer)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def ids(self):
        return [json.loads(body)["id"] for _, _, _, body in self.taken]


@pytest.fixture(scope="module")
def route():
    one = Hook()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def hook(route):
    route.taken.clear()
    route.answers.clear()
    return route


def letters(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -- webhooks


def test_a_webhook_gets_the_event_signed_with_its_own_secret(hook):
    begun = int(time.time())
    notifier = Notifier((Webhook(hook.url + "/a?b=1", "first"), Webhook(hook.url + "/c", "second")))
    notifier.notify("violation.red_light", "id-7", {"device": "north", "speed_kmh": 31.5})
    until(lambda: notifier.sent == 2)
    notifier.close()
    ended = int(time.time())
    assert {path for _, path, _, _ in hook.taken} == {"/a?b=1", "/c"}
    for _, path, headers, body in hook.taken:
        note = json.loads(body)
        assert begun <= note.pop("at") <= ended + 1
        assert note == {
            "kind": "violation.red_light",
            "id": "id-7",
            "data": {"device": "north", "speed_kmh": 31.5},
        }
        assert (headers["Content-Type"], headers["X-Headway-Event"], headers["User-Agent"]) == (
            "application/json",
            "id-7",
            "headway",
        )
        at, sign = headers["X-Headway-Signature"].split(",")
        assert begun <= int(at.removeprefix("t=")) <= ended
        secret = b"first" if path == "/a?b=1" else b"second"
        assert (
            sign
            == "sha256="
            + hmac.new(secret, at[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
        )
    assert (notifier.sent, notifier.failed, notifier.lost, notifier.waiting) == (2, 0, 0, 0)


@pytest.mark.parametrize(("answer", "again"), [
    (500, True), (503, True), (399, True), (408, True), (425, True), (429, True), (400, False),
    (404, False), (407, False), (424, False), (430, False), (499, False),
    (b"no HTTP at all\r\n\r\n", True),
])  # fmt: skip
def test_what_is_refused_is_not_tried_again_and_all_else_is(hook, answer, again, tmp_path):
    hook.answers[:] = [answer]
    notifier = Notifier((Webhook(hook.url, "s", delay_s=0.01),), dead=tmp_path / "dead.jsonl")
    notifier.notify("alert", "1", {})
    until(lambda: notifier.sent + notifier.failed == 1)
    notifier.close()
    assert len(hook.taken) == (2 if again else 1)
    assert (notifier.sent, notifier.failed) == ((1, 0) if again else (0, 1))
    if not again:
        (letter,) = letters(tmp_path / "dead.jsonl")
        assert letter["why"].startswith(f"HTTP Error {answer}: ")
        assert (letter["to"], letter["note"]["id"], letter["note"]["kind"]) == (
            hook.url.removeprefix("http://"),
            "1",
            "alert",
        )


def test_dead_letters_do_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(dead_letters, "MOST_LETTER_BYTES", 1_000)
    dead = room.DeadLetters(tmp_path / "dead.jsonl")
    for number in range(100):
        dead.store("x.example", {"kind": "k", "id": number}, "refused")
    kept = letters(tmp_path / "dead.jsonl")
    assert 5 < len(kept) < 20
    assert (tmp_path / "dead.jsonl").stat().st_size <= 1_000
    assert [x["note"]["id"] for x in kept] == list(range(len(kept)))


@pytest.mark.parametrize("attempts", [1, 3])
def test_after_the_last_attempt_it_is_a_dead_letter(hook, attempts, tmp_path):
    hook.answers[:] = [500] * 9
    notifier = Notifier(
        (Webhook(hook.url, "s", attempts=attempts, delay_s=0.05),), dead=tmp_path / "dead.jsonl"
    )
    with structlog.testing.capture_logs() as log:
        notifier.notify("alert", "1", {"x": 2})
        until(lambda: notifier.failed == 1)
        notifier.close()
    assert len(hook.taken) == attempts
    times = [at for at, *_ in hook.taken]
    assert all(b - a >= pause for a, b, pause in zip(times, times[1:], (0.05, 0.1), strict=False))
    (letter,) = letters(tmp_path / "dead.jsonl")
    assert letter["note"]["data"] == {"x": 2}
    assert log == [
        {
            "event": "could not be delivered",
            "log_level": "error",
            "to": hook.url.removeprefix("http://"),
            "why": letter["why"],
            "kind": "alert",
        }
    ]


def test_the_pause_doubles():
    assert [retry_delay_s(Webhook("", "", delay_s=0.5), failed) for failed in range(4)] == [
        0.5,
        1.0,
        2.0,
        4.0,
    ]
    assert [retry_delay_s(Mail("", 1, "", ()), failed) for failed in range(3)] == [5.0, 10.0, 20.0]


def test_what_is_not_said_is_usual():
    hook, mail = Webhook("u", "s"), Mail("h", 25, "a", ("b",))
    assert (hook.attempts, hook.delay_s, hook.timeout_s) == (6, 1.0, 10.0)
    assert (
        mail.user,
        mail.password,
        mail.security,
        mail.attempts,
        mail.delay_s,
        mail.at_least_s,
        mail.timeout_s,
    ) == (
        "",
        "",
        "starttls",
        4,
        5.0,
        60.0,
        20.0,
    )
    usual = {k: p.default for k, p in inspect.signature(Notifier).parameters.items()}
    assert usual == {"webhooks": (), "mail": None, "dead": None, "most": 10_000}
    assert inspect.signature(Notifier.close).parameters["patience_s"].default == 5.0
    with pytest.raises(AttributeError):
        hook.url = "x"
    with pytest.raises(AttributeError):
        mail.host = "x"
    assert hook == Webhook("u", "s")


def test_one_that_waits_does_not_hold_up_the_others_and_at_the_end_it_is_a_dead_letter(
    hook, tmp_path
):
    hook.answers[:] = [500]
    notifier = Notifier((Webhook(hook.url, "s", delay_s=60.0),), dead=tmp_path / "dead.jsonl")
    notifier.notify("alert", "first", {})
    until(lambda: len(hook.taken) == 1 and notifier.waiting == 1)
    notifier.notify("alert", "second", {})
    until(lambda: notifier.sent == 1)
    assert hook.ids == ["first", "second"]
    assert notifier.waiting == 1
    begun = time.monotonic()
    notifier.close(patience_s=0.3)
    assert 0.3 <= time.monotonic() - begun < 5.0
    assert [(x["note"]["id"], x["why"]) for x in letters(tmp_path / "dead.jsonl")] == [
        ("first", "the service ended")
    ]
    assert not any(t.name == "notifier" for t in threading.enumerate())


def test_closing_waits_for_what_is_about_to_be_tried_again(hook, tmp_path):
    hook.answers[:] = [500]
    notifier = Notifier((Webhook(hook.url, "s", delay_s=0.3),), dead=tmp_path / "dead.jsonl")
    notifier.notify("alert", "1", {})
    until(lambda: len(hook.taken) == 1 and notifier.waiting == 1)
    (thread,) = [t for t in threading.enumerate() if t.name == "notifier"]
    assert thread.daemon
    notifier.close()
    assert (notifier.sent, letters(tmp_path / "dead.jsonl")) == (1, [])


def test_with_nothing_to_do_it_closes_at_once():
    notifier = Notifier()
    notifier.notify("alert", "1", {}, critical=True)  # to nobody
    begun = time.monotonic()
    notifier.close()
    assert time.monotonic() - begun < 4.0
    assert (notifier.sent, notifier.failed, notifier.waiting) == (0, 0, 0)


@pytest.mark.slow
def test_to_wait_costs_no_work(hook):
    """While one waits to be tried again, and while it is being closed:
    hardly any processor time, however long it takes.
    """
    hook.answers[:] = [500]
    notifier = Notifier((Webhook(hook.url, "s", delay_s=60.0),))
    notifier.notify("alert", "1", {})
    until(lambda: len(hook.taken) == 1 and notifier.waiting == 1)
    for wait in (lambda: time.sleep(0.5), lambda: notifier.close(0.5)):
        begun = time.process_time()
        wait()
        assert time.process_time() - begun < 0.05


def test_when_too_many_wait_the_oldest_is_lost(hook, tmp_path):
    hook.answers[:] = [500] * 3
    notifier = Notifier(
        (Webhook(hook.url, "s", delay_s=60.0),), dead=tmp_path / "dead.jsonl", most=2
    )
    for k, name in enumerate(("a", "b")):
        notifier.notify("alert", name, {})
        until(lambda k=k: len(hook.taken) == k + 1 and notifier.waiting == k + 1)
    assert (notifier.lost, letters(tmp_path / "dead.jsonl")) == (0, [])
    notifier.notify("alert", "c", {})
    until(lambda: len(hook.taken) == 3 and notifier.waiting == 2)
    assert notifier.lost == 1
    notifier.close(0.0)
    assert [(x["note"]["id"], x["why"]) for x in letters(tmp_path / "dead.jsonl")] == [
        ("a", "too many wait"), ("b", "the service ended"), ("c", "the service ended"),
    ]  # fmt: skip


def test_a_flood_of_dropped_messages_is_one_line(tmp_path):
    with socket.socket() as silent, structlog.testing.capture_logs() as lines:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}", "s", timeout_s=30.0)
        sender = Sender(mute, DeadLetters(tmp_path / "dead.jsonl"), 2)
        for number in range(50):
            sender.put(Delivery(0.0, 0, {"kind": "a", "id": str(number)}))
        assert sender.waiting == 2
        assert len(letters(tmp_path / "dead.jsonl")) == sender.lost >= 47
        assert [line["event"] for line in lines] == ["dropped: too many wait"]
        sender.stop()


def test_nobody_there_is_tried_again_and_what_cannot_be_sent_ends_nothing(hook, tmp_path):
    with closed_port() as port:
        nobody = f"http://127.0.0.1:{port}"
        notifier = Notifier(
            (Webhook(nobody, "s", attempts=2, delay_s=0.01), Webhook(hook.url, "s", attempts=1)),
            dead=tmp_path / "dead.jsonl",
        )
        notifier.notify("alert", "two\nlines", {})  # no header can hold it
        until(lambda: notifier.failed == 2)
        notifier.notify("alert", "1", {})
        until(lambda: notifier.failed == 3 and notifier.sent == 1)
        notifier.close()
    assert sorted(
        (x["to"] == f"127.0.0.1:{port}", x["note"]["id"]) for x in letters(tmp_path / "dead.jsonl")
    ) == [
        (False, "two\nlines"),
        (True, "1"),
        (True, "two\nlines"),
    ]
    assert hook.ids == ["1"]


def test_a_secret_in_the_address_is_in_no_log_and_no_dead_letter(hook, tmp_path):
    hook.answers[:] = [403]
    with structlog.testing.capture_logs() as lines:
        notifier = Notifier(
            (
                Webhook(hook.url + "/hooks/T0KEN?sig=T0KEN", "s", 1),
                Webhook("http://127.0.0.1:1/T0 KEN", "s", 1),  # http.client shows such a path
                Webhook("http://u:T0KEN@127.0.0.1:xT0KEN/", "s", 1),
            ),
            dead=tmp_path / "dead.jsonl",
        )
        notifier.notify("alert", "1", {})
        until(lambda: notifier.failed == 3)
        notifier.close()
    said = (tmp_path / "dead.jsonl").read_text() + str(lines)
    assert "T0" not in said
    assert "KEN" not in said
    assert sorted(x["to"] for x in letters(tmp_path / "dead.jsonl")) == sorted(
        ["127.0.0.1", "127.0.0.1:1", hook.url.removeprefix("http://")]
    )


def test_what_cannot_be_sent_at_all_is_a_dead_letter_and_the_next_one_is_sent(tmp_path):
    """Python's parser of addresses ends in IndexError for some, in AttributeError for others."""
    with Office() as office:
        for to in (("<",), ("a@[",)):
            notifier = Notifier(mail=replace(office.mail(), to=to), dead=tmp_path / "dead.jsonl")
            notifier.notify("a", "1", {}, critical=True)
            notifier.notify("b", "2", {}, critical=True)
            until(lambda n=notifier: n.failed == 2)
            notifier.close()
    assert [x["note"]["id"] for x in letters(tmp_path / "dead.jsonl")] == ["1", "2"] * 2
    assert office.letters == []


def test_numbers_of_numpy_and_missing_figures_are_sent_as_json_has_them(hook):
    circle = {}
    circle["again"] = circle
    notifier = Notifier((Webhook(hook.url, "s"),))
    body = {"n": np.int64(3), "rows": np.array([1.5, np.nan]), "x": np.float32("inf"), "c": circle}
    notifier.notify("alert", "1", body)
    until(lambda: notifier.sent == 1)
    notifier.close()
    data = json.loads(hook.taken[0][3])["data"]
    assert (data["n"], data["rows"], data["x"]) == (3, [1.5, None], None)


def test_a_recipient_that_never_answers_delays_no_other(hook):
    """Nine messages to one that accepts and says nothing, and the tenth is critical."""
    with socket.socket() as silent, Office() as office:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}", "s", timeout_s=30.0)
        notifier = Notifier((mute, Webhook(hook.url, "s")), office.mail())
        for number in range(10):
            notifier.notify("camera.dead", str(number), {}, number == 9)
        until(lambda: notifier.sent == 11)
        assert hook.ids == [str(number) for number in range(10)]
        assert [letter["Subject"] for _, _, letter, _, _ in office.letters] == [
            "Headway: camera.dead"
        ]
        for sender in notifier.senders:
            sender.stop()


def test_what_is_under_way_at_the_end_and_what_comes_after_it_are_dead_letters(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}", "s", timeout_s=30.0)
        sender = Sender(mute, DeadLetters(tmp_path / "dead.jsonl"), 10)
        sender.put(Delivery(0.0, 0, {"kind": "a", "id": "under way"}))
        connection, _ = silent.accept()
        sender.put(Delivery(0.0, 0, {"kind": "a", "id": "waits"}))
        sender.stop()
        sender.end(time.monotonic() + 0.1)
        sender.put(Delivery(0.0, 0, {"kind": "a", "id": "late"}))
        connection.close()
        until(lambda: not any(t.name == "notifier" for t in threading.enumerate()))
    assert [x["note"]["id"] for x in letters(tmp_path / "dead.jsonl")] == [
        "under way", "waits", "late",
    ]  # fmt: skip


def test_a_full_disk_or_no_file_for_dead_letters_ends_nothing(hook, tmp_path):
    for dead in (tmp_path / "no" / "such" / "folder", None):
        hook.answers[:] = [400]
        notifier = Notifier((Webhook(hook.url, "s"),), dead=dead)
        notifier.notify("alert", "1", {})
        until(lambda n=notifier: n.failed == 1)
        notifier.notify("alert", "2", {})
        until(lambda n=notifier: n.sent == 1)
        notifier.close()


def test_a_server_that_says_nothing_is_left_after_its_time(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        notifier = Notifier(
            (
                Webhook(
                    f"http://127.0.0.1:{silent.getsockname()[1]}", "s", attempts=1, timeout_s=0.2
                ),
            ),
            dead=tmp_path / "dead.jsonl",
        )
        notifier.notify("alert", "1", {})
        until(lambda: notifier.failed == 1, 8.0)
        notifier.close()
    assert re.search("timed out|no whole answer", letters(tmp_path / "dead.jsonl")[0]["why"])


@pytest.mark.parametrize(
    "hook",
    [
        Webhook("ftp://x.org/", "s"),
        Webhook("", "s"),
        Webhook("x.org", "s"),
        Webhook("http://x.org/", ""),
        Webhook("https://x.org/", ""),
    ],
)
def test_a_wrong_address_is_refused(hook):
    with pytest.raises(SensingError) as caught:
        Notifier((Webhook("https://fine.org/", "s"), hook))
    where = "x.org" if "//" in hook.url else "no host"
    assert str(caught.value) == (
        f"webhook 2 ({where}): give an http(s) address and a secret to sign with."
    )


# -- e-mail


class Office:
    """A mail server. letters: (sender, recipients, message, user who logged in, over TLS)."""

    def __init__(self, context=None, **how):
        self.letters, office = [], self

        class Box:
            async def handle_DATA(self, server, session, envelope):  # noqa: N802
                user = (
                    session.auth_data.login
                    if isinstance(session.auth_data, LoginPassword)
                    else None
                )
                safe = context is not None or session.ssl is not None
                office.letters.append(
                    (
                        envelope.mail_from,
                        envelope.rcpt_tos,
                        email.message_from_bytes(envelope.content),
                        user,
                        safe,
                    )
                )
                return "250 OK"

        def known(server, session, envelope, mechanism, login):
            return AuthResult(
                success=(login.login, login.password) == (b"duty", b"secret"),
                handled=False,
                auth_data=login,
            )

        self.port = free_port()
        self.post = Controller(
            Box(),
            hostname="127.0.0.1",
            port=self.port,
            authenticator=known,
            ssl_context=context,
            **how,
        )

    def __enter__(self):
        self.post.start()
        return self

    def __exit__(self, *_):
        self.post.stop()

    def mail(self, **how):
        return Mail(
            "127.0.0.1",
            self.port,
            "headway@example.org",
            ("a@example.org", "b@example.org"),
            **({"security": "none", "delay_s": 0.01} | how),
        )


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority;
    (context of a server, file to trust).
    """
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    day, address = datetime.timedelta(days=1), ipaddress.ip_address("127.0.0.1")
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, folder / "cert.pem"


def test_a_letter_says_what_happened():
    with Office() as office:
        notifier = Notifier(mail=office.mail())
        data = {"device": "north", "severity": "critical", "state": "open", "confidence": 0.75,
                "image_url": "https://h.example/i/1"}  # fmt: skip
        notifier.notify("violation.wrong_way", "1", data, critical=True)
        until(lambda: notifier.sent == 1)
        notifier.close()
    ((sender, to, letter, user, safe),) = office.letters
    assert (sender, to, user, safe) == (
        "headway@example.org",
        ["a@example.org", "b@example.org"],
        None,
        False,
    )
    assert (letter["Subject"], letter["From"], letter["To"]) == (
        "Headway: candidate violation.wrong_way at north (critical)",
        "headway@example.org",
        "a@example.org, b@example.org",
    )
    text = letter.get_payload(decode=True).decode().replace("\r\n", "\n")
    said, told = text.split("{", 1)
    assert said == (
        "violation.wrong_way\n\n"
        "This is a candidate for review by a person; nobody has confirmed it.\n"
        "severity: critical\nstate: open\nconfidence: 0.75\ndevice: north\n"
        "image_url: https://h.example/i/1\n\n"
    )
    assert json.loads("{" + told) == data


def test_a_letter_of_an_alert_says_where_what_and_how_bad():
    with Office() as office:
        notifier = Notifier(mail=office.mail())
        data = {"street": "system", "rule": "DiskFull", "path": "disk.free", "level": "critical"}
        notifier.notify("alert.opened", "1", data, critical=True)
        until(lambda: notifier.sent == 1)
        notifier.close()
    ((_, _, letter, _, _),) = office.letters
    assert letter["Subject"] == "Headway: alert.opened at system: DiskFull (critical)"
    text = letter.get_payload(decode=True).decode().replace("\r\n", "\n")
    assert "\nstreet: system\nrule: DiskFull\npath: disk.free\nlevel: critical\n" in text


def test_a_recipient_whom_the_mail_server_refuses_is_a_dead_letter_and_the_others_get_theirs(
    tmp_path,
):
    with Office() as office:

        async def only_a(_server, _session, envelope, address, _options):
            if not address.startswith("a@"):
                return "550 who is that"
            envelope.rcpt_tos.append(address)
            return "250 OK"

        office.post.handler.handle_RCPT = only_a
        notifier = Notifier(mail=office.mail(), dead=tmp_path / "dead.jsonl")
        notifier.notify("camera.dead", "1", {"camera": "d7"}, critical=True)
        until(lambda: notifier.sent == 1)
        notifier.close()
    assert [to for _, to, _, _, _ in office.letters] == [["a@example.org"]]
    (letter,) = letters(tmp_path / "dead.jsonl")
    assert (letter["to"], letter["why"]) == ("b@example.org", "refused: 550")


def test_a_name_with_a_line_break_makes_no_header():
    with Office() as office:
        notifier = Notifier(mail=office.mail())
        notifier.notify("camera.dead", "1", {"camera": "a\nBcc: x@example.org"}, critical=True)
        until(lambda: notifier.sent + notifier.failed == 1)
        notifier.close()
    ((_, to, letter, _, _),) = office.letters
    assert (to, letter["Bcc"]) == (["a@example.org", "b@example.org"], None)
    assert letter["Subject"] == "Headway: camera.dead at a Bcc: x@example.org"


def test_a_bearer_token_goes_to_its_webhook_alone_and_stands_in_no_log(hook, tmp_path):
    token = "token-of-the-back-end"
    hooks = (Webhook(hook.url + "/a", "s", 1, bearer_token=token), Webhook(hook.url + "/b", "s", 1))
    hook.answers[:] = [403, 403]
    with structlog.testing.capture_logs() as lines:
        notifier = Notifier(hooks, dead=tmp_path / "dead.jsonl")
        notifier.notify("camera.dead", "1", {})
        until(lambda: notifier.failed == 2)
        notifier.close()
    sent = {path: headers.get("Authorization") for _, path, headers, _ in hook.taken}
    assert sent == {"/a": f"Bearer {token}", "/b": None}
    assert token not in (tmp_path / "dead.jsonl").read_text() + str(lines) + repr(hooks)


def test_a_bearer_token_is_not_sent_in_the_clear_to_another_machine():
    for url, allowed in (
        ("http://back.example.org/a", False), ("https://back.example.org/a", True),
        ("http://localhost:9/a", True), ("http://127.0.0.1:9/a", True),
        ("http://127.evil.example/", False),
    ):  # fmt: skip
        if allowed:
            Notifier((Webhook(url, "s", bearer_token="t"),)).close(0.0)
            continue
        with pytest.raises(SensingError, match="Give an https address"):
            Notifier((Webhook(url, "s", bearer_token="t"),))


def test_a_redirection_is_not_followed(hook):
    """urllib would ask the other place, without the body but with the token."""
    hook.answers[:] = [302]
    notifier = Notifier((Webhook(hook.url, "s", 1, bearer_token="t"),))
    notifier.notify("a", "1", {})
    until(lambda: notifier.failed == 1)
    notifier.close()
    assert len(hook.taken) == 1


@pytest.mark.slow
def test_each_camera_has_its_own_time_between_mails():
    with Office() as office:
        notifier = Notifier(mail=office.mail(at_least_s=1000.0))
        for number, camera in enumerate(("a", "b", "a")):
            notifier.notify("camera.dead", str(number), {"camera": camera}, True, camera)
        until(lambda: notifier.sent == 2)
        notifier.close()
    assert [letter["Subject"] for _, _, letter, _, _ in office.letters] == [
        "Headway: camera.dead at a", "Headway: camera.dead at b",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "mailed"),
    [
        (("dead", "recovered", "dead"), ["dead", "recovered", "dead"]),
        (("dead", "recovered", "dead", "recovered"), ["dead", "recovered"]),
        (
            ("dead", "recovered", "dead", "recovered", "dead"),
            ["dead", "recovered", "dead"],
        ),
        (("dead", "dead"), ["dead"]),
    ],
)
def test_the_last_mail_about_a_camera_says_how_it_is_now(kinds, mailed):
    with Office() as office:
        notifier = Notifier(mail=office.mail(at_least_s=2.0))
        for number, kind in enumerate(kinds):
            notifier.notify(f"camera.{kind}", str(number), {"camera": "a"}, True, "a ")
        until(lambda: notifier.sent == len(mailed))
        until(lambda: notifier.waiting == 0)
        notifier.close()
        assert [letter["Subject"] for _, _, letter, _, _ in office.letters] == [
            f"Headway: camera.{kind} at a" for kind in mailed
        ]


@pytest.mark.slow
def test_only_critical_events_go_by_mail_and_each_kind_only_now_and_then(hook):
    with Office() as office:
        notifier = Notifier((Webhook(hook.url, "s"),), office.mail(at_least_s=1000.0))
        for number, (kind, critical) in enumerate(
            [("a", True), ("a", True), ("b", True), ("a", False), ("c", False), ("b", True)]
        ):
            notifier.notify(kind, str(number), {"n": number}, critical)
        notifier.notify("d", "6", {})
        until(lambda: notifier.sent == 7 + 2)
        notifier.close()
        assert [letter["Subject"] for _, _, letter, _, _ in office.letters] == [
            "Headway: a",
            "Headway: b",
        ]
        assert sorted(hook.ids) == [str(n) for n in range(7)]


@pytest.mark.slow
def test_when_its_time_is_over_a_kind_goes_by_mail_again(hook):
    with Office() as office:
        notifier = Notifier((), office.mail(at_least_s=0.3))
        for number in range(2):
            notifier.notify("a", str(number), {}, critical=True)
            until(lambda number=number: notifier.sent == number + 1)
            time.sleep(0.31)
        notifier.close()
        assert [letter["Subject"] for _, _, letter, _, _ in office.letters] == ["Headway: a"] * 2


@pytest.mark.parametrize(
    ("security", "user"), [("starttls", "duty"), ("tls", "duty"), ("starttls", ""), ("tls", "")]
)
def test_mail_goes_over_tls_and_logs_in_where_a_user_is_given(context, security, user, monkeypatch):
    server, trusted = context
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with Office(
        server if security == "tls" else None,
        tls_context=server if security == "starttls" else None,
        auth_require_tls=False,
    ) as office:
        notifier = Notifier(
            mail=office.mail(security=security, user=user, password="secret", attempts=1)
        )
        notifier.notify("alert", "1", {}, critical=True)
        until(lambda: notifier.sent + notifier.failed == 1)
        notifier.close()
    assert [(user, safe) for *_, user, safe in office.letters] == [(user.encode() or None, True)]


def test_without_tls_one_may_log_in_too_and_with_a_wrong_word_nothing_is_sent(tmp_path):
    with Office(auth_require_tls=False) as office:
        for password, sent in (("secret", 1), ("wrong", 0)):
            notifier = Notifier(
                mail=office.mail(user="duty", password=password, attempts=2),
                dead=tmp_path / "dead.jsonl",
            )
            notifier.notify("alert", "1", {"n": 1}, critical=True)
            until(lambda n=notifier: n.sent + n.failed == 1)
            notifier.close()
            assert notifier.sent == sent
    assert [user for *_, user, _ in office.letters] == [b"duty"]
    (letter,) = letters(tmp_path / "dead.jsonl")
    assert (letter["to"], "535" in letter["why"]) == ("a@example.org, b@example.org", True)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_without_tls_or_with_an_unknown_certificate_gets_no_letter(
    context, security, tmp_path
):
    server, _ = context
    for with_tls in (False, True):
        how = (
            {}
            if not with_tls
            else {"tls_context": server}
            if security == "starttls"
            else {"context": server}
        )
        with Office(**how) as office:
            notifier = Notifier(
                mail=office.mail(security=security, attempts=1), dead=tmp_path / "dead.jsonl"
            )
            notifier.notify("alert", "1", {}, critical=True)
            until(lambda n=notifier: n.sent + n.failed == 1)
            notifier.close()
            assert (notifier.failed, office.letters) == (1, [])
    assert len(letters(tmp_path / "dead.jsonl")) == 2


@contextlib.contextmanager
def dripping(line):
    """Address of a server that sends a byte of `line` each 50 ms, for ever; and who was there."""
    came, stop = [], threading.Event()

    def drip(link):
        with link, contextlib.suppress(OSError):
            for letter in itertools.cycle(line):
                if stop.wait(0.05):
                    return
                link.send(bytes([letter]))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                came.append(door.accept()[0])
                threading.Thread(target=drip, args=(came[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=accept, daemon=True).start()
        yield door.getsockname()[1], came
        stop.set()
        door.shutdown(socket.SHUT_RDWR)


TLS_RECORD = bytes.fromhex("1603033fff")  # of 16 KB; it has begun


@pytest.mark.parametrize(
    ("scheme", "line"),
    [
        ("http", b"X-Slow: yes\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nA: b\r\n"),
        ("https", TLS_RECORD),
    ],
)
def test_a_webhook_that_drips_its_answer_is_left_after_its_time(tmp_path, scheme, line):
    """Each byte comes within the time-out of the socket; the attempt has the same for all."""
    with dripping(line) as (port, came):
        slow = Webhook(f"{scheme}://127.0.0.1:{port}", "s", 2, delay_s=0.01, timeout_s=0.4)
        notifier = Notifier((slow,), dead=tmp_path / "dead.jsonl")
        notifier.notify("alert", "1", {})
        until(lambda: notifier.failed == 1, 8.0)
        notifier.close()
    assert len(came) == 2
    assert letters(tmp_path / "dead.jsonl")[0]["why"] == "no whole answer within 0.4 s"


@pytest.mark.parametrize(
    ("security", "line"),
    [("none", b"220-wait\r\n"), ("starttls", b"220"), ("tls", TLS_RECORD)],
)
def test_a_mail_server_that_drips_is_left_after_its_time(tmp_path, security, line):
    with dripping(line) as (port, _):
        mail = Mail(
            "127.0.0.1", port, "a@example.org", ("b@example.org",),
            security=security, attempts=1, timeout_s=5.0, whole_s=0.4,
        )  # fmt: skip
        notifier = Notifier(mail=mail, dead=tmp_path / "dead.jsonl")
        notifier.notify("alert", "1", {}, critical=True)
        until(lambda: notifier.failed == 1, 8.0)
        notifier.close()
    assert letters(tmp_path / "dead.jsonl")[0]["why"] == "no whole answer within 0.4 s"


@pytest.mark.slow
def test_a_mail_server_that_says_nothing_is_left_after_its_time(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for security in ("none", "tls"):
            mail = Mail(
                "127.0.0.1",
                silent.getsockname()[1],
                "a@example.org",
                ("b@example.org",),
                security=security,
                attempts=1,
                timeout_s=0.2,
            )
            notifier = Notifier(mail=mail, dead=tmp_path / "dead.jsonl")
            notifier.notify("alert", "1", {}, critical=True)
            until(lambda n=notifier: n.failed == 1, 8.0)
            notifier.close()
