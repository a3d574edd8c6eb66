"""Violations and alerts told to others: signed webhooks, retried, with dead letters; e-mail.
Nothing waits for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import math
import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headway import telemetry
from headway.sensing import SensingError

SIGNATURE = "X-Headway-Signature"
EVENT_ID = "X-Headway-Event"


@dataclass(frozen=True, slots=True)
class Webhook:
    """url: https, or http. secret: signs each body, HMAC-SHA256, as `sha256=<hex>` of
    "<seconds>.<body>" in X-Headway-Signature.
    """

    url: str
    secret: str
    attempts: int = 6
    delay_s: float = 1.0
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server. security: tls, starttls or none."""

    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    user: str = ""
    password: str = ""
    security: str = "starttls"
    attempts: int = 4
    delay_s: float = 5.0
    at_least_s: float = 60.0
    timeout_s: float = 20.0


def pause_s(to: Webhook | Mail, failed: int) -> float:
    """Seconds until it is tried again, after the first attempt (0) or a later one has failed: twice
    as long each time.
    """
    return to.delay_s * 2.0**failed


@dataclass
class Notifier:
    """Sends from a thread of its own. dead: file of what could not be delivered, one JSON object a
    line. Raises SensingError for a wrong address.
    """

    webhooks: tuple[Webhook, ...] = ()
    mail: Mail | None = None
    dead: Path | None = None
    most: int = 10_000
    sent: int = 0
    failed: int = 0
    lost: int = 0
    _waiting: deque[tuple[float, int, Any, dict[str, Any]]] = field(default_factory=deque)
    _stop: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _mailed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for hook in self.webhooks:
            if urlsplit(hook.url).scheme not in ("http", "https") or not hook.secret:
                raise SensingError(
                    f"webhook {hook.url!r}: give an http(s) address and a secret to sign with."
                )
        self._log = telemetry.log("sensing")
        self._thread = threading.Thread(target=self._work, daemon=True, name="notifier")
        self._thread.start()

    def tell(self, kind: str, number: str, body: dict[str, Any], critical: bool = False) -> None:
        """Hand over one event; `critical` ones go by e-mail too, each kind at most once in
        `at_least_s`.
        """
        note = {"kind": kind, "id": number, "at": time.time(), "data": body}
        for hook in self.webhooks:
            self._put(time.monotonic(), 0, hook, note)
        if (
            critical
            and self.mail is not None
            and time.monotonic() - self._mailed.get(kind, -math.inf) >= self.mail.at_least_s
        ):
            self._mailed[kind] = time.monotonic()
            self._put(time.monotonic(), 0, self.mail, note)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self, patience_s: float = 5.0) -> None:
        """Try what waits for some seconds more; what is left are dead letters."""
        deadline = time.monotonic() + patience_s
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.05)
        self._stop.set()
        with self._news:
            self._news.notify_all()
        self._thread.join(12.0)
        for _, _, to, note in self._waiting:
            self._bury(to, note, "the service ended")

    def _put(self, due: float, tried: int, to: Any, note: dict[str, Any]) -> None:
        with self._news:
            if len(self._waiting) >= self.most:
                old = self._waiting.popleft()
                self.lost += 1
                self._bury(old[2], old[3], "too many wait")
            self._waiting.append((due, tried, to, note))
            self._news.notify_all()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._news:
                now = time.monotonic()
                due = next((x for x in self._waiting if x[0] <= now), None)
                if due is None:
                    self._news.wait(min((x[0] - now for x in self._waiting), default=None))
                    continue
                self._waiting.remove(due)
            self._send(*due)

    def _send(self, _: float, tried: int, to: Webhook | Mail, note: dict[str, Any]) -> None:
        try:
            self._post(to, note) if isinstance(to, Webhook) else self._write(to, note)
            self.sent += 1
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
        ) as error:  # those of smtplib and urllib are OSErrors
            refused = (
                isinstance(error, urllib.error.HTTPError)
                and 400 <= error.code < 500
                and error.code not in (408, 425, 429)
            )
            if refused or tried + 1 >= to.attempts:
                self.failed += 1
                self._bury(to, note, str(error))
            else:
                self._put(time.monotonic() + pause_s(to, tried), tried + 1, to, note)

    def _post(self, hook: Webhook, note: dict[str, Any]) -> None:
        body, at = json.dumps(note).encode(), str(int(time.time()))
        sign = hmac.new(hook.secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            SIGNATURE: f"t={at},sha256={sign}",
            EVENT_ID: note["id"],
            "User-Agent": "headway",
        }
        request = urllib.request.Request(hook.url, data=body, headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=hook.timeout_s) as answer:
            answer.read(1024)

    def _write(self, mail: Mail, note: dict[str, Any]) -> None:
        message = EmailMessage()
        message["Subject"] = f"Headway: {note['kind']}"
        message["From"], message["To"] = mail.sender, ", ".join(mail.to)
        message.set_content(f"{note['kind']}\n\n{json.dumps(note['data'], indent=1)}\n")
        context = ssl.create_default_context()
        link = (
            smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout_s, context=context)
            if mail.security == "tls"
            else smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout_s)
        )
        with link:
            if mail.security == "starttls":
                link.starttls(context=context)
            if mail.user:
                link.login(mail.user, mail.password)
            link.send_message(message)

    def _bury(self, to: Webhook | Mail, note: dict[str, Any], why: str) -> None:
        where = to.url if isinstance(to, Webhook) else ", ".join(to.to)
        self._log.error("could not be delivered", to=where, why=why, kind=note["kind"])
        if self.dead is not None:
            with (
                contextlib.suppress(OSError),
                self.dead.open("a", encoding="utf-8") as stream,
            ):  # a full disk must not end the notifier
                stream.write(json.dumps({"to": where, "why": why, "note": note}) + "\n")
