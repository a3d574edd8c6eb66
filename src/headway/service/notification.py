"""Violations and alerts sent to others: signed webhooks, retried and kept as dead letters; e-mail.
Callers never wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import math
import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headway import telemetry
from headway.sensing import SensingError
from headway.settings import NotifySettings

SIGNATURE = "X-Headway-Signature"
EVENT_ID = "X-Headway-Event"


RETRIED_REFUSALS = (408, 425, 429)  # HTTP 4xx that may pass: time-out, too early, too many
THREAD_ENDS_WITHIN_S = 12.0
CLOSE_POLL_S = 0.05
ANSWER_BYTES = 1024  # read of a webhook's answer
CANDIDATE = "This is a candidate for review by a person; nobody has confirmed it."
MAILED = (  # what an e-mail says in words, before all of it as JSON
    "severity", "state", "confidence", "device", "camera", "reason", "since", "at",
    "metric", "value", "operator", "threshold", "image_url",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Webhook:
    """A web address that takes events.

    url:       https, or http.
    secret:    signs each body: X-Headway-Signature is `t=<seconds>,sha256=<hex>`, HMAC-SHA256 of
        "<seconds>.<body>".
    bearer_token: sent as `Authorization: Bearer ...` where it is not empty; to https, or to this
        machine, alone.
    delay_s:   until the first retry, see `retry_delay_s`.
    timeout_s: of one attempt.
    """

    url: str
    secret: str = field(repr=False)
    attempts: int = 6
    delay_s: float = 1.0
    timeout_s: float = 10.0
    bearer_token: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Where it goes, for logs and dead letters."""
        return self.url


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server and its recipients.

    security:   tls, starttls or none.
    at_least_s: between two e-mails about the same kind of event.
    """

    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    security: str = "starttls"
    attempts: int = 4
    delay_s: float = 5.0
    at_least_s: float = 60.0
    timeout_s: float = 20.0

    @property
    def name(self) -> str:
        """Where it goes, for logs and dead letters."""
        return ", ".join(self.to)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A note on its way to one recipient. due: monotonic seconds; tried: attempts that failed."""

    due: float
    tried: int
    to: Webhook | Mail
    note: Mapping[str, Any]


def recipients(settings: NotifySettings) -> tuple[tuple[Webhook, ...], Mail | None]:
    """The webhooks and the mail server of the settings."""
    hooks = tuple(
        Webhook(h.url, h.secret, h.attempts, bearer_token=h.bearer_token) for h in settings.webhooks
    )
    mail = Mail(**settings.mail.model_dump()) if settings.mail is not None else None
    return hooks, mail


def retry_delay_s(to: Webhook | Mail, failed: int) -> float:
    """Seconds until the next attempt, after the first attempt (0) or a later one has failed: twice
    as long each time.
    """
    return to.delay_s * 2.0**failed


class Notifier:
    """Sends from a thread of its own.

    dead:   file of what could not be delivered, one JSON object a line.
    most:   deliveries that may wait; beyond, the oldest is dropped.
    sent, failed, lost: deliveries made, given up and dropped.
    Raises SensingError for a wrong address.
    """

    def __init__(
        self,
        webhooks: tuple[Webhook, ...] = (),
        mail: Mail | None = None,
        dead: Path | None = None,
        most: int = 10_000,
    ) -> None:
        for hook in webhooks:
            if urlsplit(hook.url).scheme not in ("http", "https") or not hook.secret:
                raise SensingError(
                    f"webhook {hook.url!r}: give an http(s) address and a secret to sign with."
                )
            if hook.bearer_token and not _keeps_secrets(hook.url):
                raise SensingError(
                    f"webhook {hook.url!r}: a bearer token is sent to https:// alone, or to this "
                    "machine. Give an https address, or no token."
                )
        self._webhooks = webhooks
        self._mail = mail
        self._dead = dead
        self._most = most
        self.sent = 0
        self.failed = 0
        self.lost = 0
        self._waiting: deque[Delivery] = deque()
        self._mailed_at: dict[tuple[str, str], float] = {}  # by kind of event and what it is about
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._log = telemetry.log("sensing")
        self._thread = threading.Thread(target=self._work, daemon=True, name="notifier")
        self._thread.start()

    def notify(
        self,
        kind: str,
        number: str,
        body: dict[str, Any],
        critical: bool = False,
        about: str = "",
    ) -> None:
        """Send one event to all webhooks; a `critical` one by e-mail too, each kind at most
        once in `Mail.at_least_s` for each thing that it is `about`.
        """
        now = time.monotonic()
        note = {"kind": kind, "id": number, "at": time.time(), "data": body}
        for hook in self._webhooks:
            self._put(Delivery(due=now, tried=0, to=hook, note=note))
        if critical and self._mail is not None:
            if now - self._mailed_at.get((kind, about), -math.inf) < self._mail.at_least_s:
                return
            self._mailed_at[kind, about] = now
            self._put(Delivery(due=now, tried=0, to=self._mail, note=note))

    @property
    def waiting(self) -> int:
        """Deliveries that are to be tried, or tried again."""
        return len(self._waiting)

    def close(self, patience_s: float = 5.0) -> None:
        """Go on for `patience_s`; what still waits then becomes dead letters."""
        deadline = time.monotonic() + patience_s
        while self._waiting and time.monotonic() < deadline:
            time.sleep(CLOSE_POLL_S)
        self._stop.set()
        with self._wake:
            self._wake.notify_all()
        self._thread.join(THREAD_ENDS_WITHIN_S)
        for delivery in self._waiting:
            self._give_up(delivery, "the service ended")

    def _put(self, delivery: Delivery) -> None:
        with self._wake:
            if len(self._waiting) >= self._most:
                self.lost += 1
                self._give_up(self._waiting.popleft(), "too many wait")
            self._waiting.append(delivery)
            self._wake.notify_all()

    # --- in the notifier's thread ---

    def _work(self) -> None:
        while not self._stop.is_set():
            delivery = self._take_due()
            if delivery is not None:
                self._attempt(delivery)

    def _take_due(self) -> Delivery | None:
        """The first delivery that is due. Without one, waits until one may be, and returns None."""
        with self._wake:
            now = time.monotonic()
            due = next((d for d in self._waiting if d.due <= now), None)
            if due is None:
                self._wake.wait(min((d.due - now for d in self._waiting), default=None))
            else:
                self._waiting.remove(due)
            return due

    def _attempt(self, delivery: Delivery) -> None:
        to, tried = delivery.to, delivery.tried + 1
        try:
            if isinstance(to, Webhook):
                _post(to, delivery.note)
            else:
                _send_mail(to, delivery.note)
            self.sent += 1
        except (OSError, http.client.HTTPException, ValueError) as error:
            # errors of smtplib and urllib are OSErrors
            if _is_refused(error) or tried >= to.attempts:
                self.failed += 1
                self._give_up(delivery, str(error))
            else:
                due = time.monotonic() + retry_delay_s(to, delivery.tried)
                self._put(replace(delivery, due=due, tried=tried))

    def _give_up(self, delivery: Delivery, why: str) -> None:
        """Into the log and the file of dead letters."""
        to, note = delivery.to.name, delivery.note
        self._log.error("could not be delivered", to=to, why=why, kind=note["kind"])
        if self._dead is None:
            return
        letter = json.dumps({"to": to, "why": why, "note": note})
        # a full disk must not end the notifier
        with contextlib.suppress(OSError), self._dead.open("a", encoding="utf-8") as stream:
            stream.write(letter + "\n")


def _is_refused(error: Exception) -> bool:
    """The same request would be refused again."""
    if not isinstance(error, urllib.error.HTTPError):
        return False
    return 400 <= error.code < 500 and error.code not in RETRIED_REFUSALS


def _post(hook: Webhook, note: Mapping[str, Any]) -> None:
    """Raises OSError, HTTPException or ValueError."""
    body, at = json.dumps(note).encode(), str(int(time.time()))
    signature = hmac.new(hook.secret.encode(), at.encode() + b"." + body, hashlib.sha256)
    headers = {
        "Content-Type": "application/json",
        SIGNATURE: f"t={at},sha256={signature.hexdigest()}",
        EVENT_ID: note["id"],
        "User-Agent": "headway",
    }
    if hook.bearer_token:
        headers["Authorization"] = f"Bearer {hook.bearer_token}"
    request = urllib.request.Request(hook.url, data=body, headers=headers, method="POST")
    with OPENER.open(request, timeout=hook.timeout_s) as answer:
        answer.read(ANSWER_BYTES)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is a refusal: urllib would follow it without the body, but with the token."""

    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


def _keeps_secrets(url: str) -> bool:
    """Whether what is sent there can be read by its receiver alone."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _send_mail(mail: Mail, note: Mapping[str, Any]) -> None:
    """Raises OSError or ValueError."""
    message, context = _message(mail, note), ssl.create_default_context()
    with _connect(mail, context) as server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user:
            server.login(mail.user, mail.password)
        server.send_message(message)


def _connect(mail: Mail, context: ssl.SSLContext) -> smtplib.SMTP:
    if mail.security == "tls":
        return smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout_s, context=context)
    return smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout_s)


def _message(mail: Mail, note: Mapping[str, Any]) -> EmailMessage:
    data = note["data"]
    message = EmailMessage()
    message["Subject"] = f"Headway: {_title(note['kind'], data)}"
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    facts = [CANDIDATE] if "state" in data else []
    facts += [f"{name}: {data[name]}" for name in MAILED if data.get(name) not in (None, "")]
    text = "\n".join(facts)
    message.set_content(f"{note['kind']}\n\n{text}\n\n{json.dumps(data, indent=1)}\n")
    return message


def _title(kind: str, data: Mapping[str, Any]) -> str:
    """Of a candidate, that it is one; of anything with a place and a severity, these."""
    where = data.get("device") or data.get("camera")
    parts = ["candidate " if "state" in data else "", kind, f" at {where}" if where else ""]
    parts.append(f" ({data['severity']})" if "severity" in data else "")
    # a line break in a name would be a header of its own
    return " ".join("".join(parts).split())
