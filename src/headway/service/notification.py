"""Violations and alerts sent to others: signed webhooks, retried and kept as dead letters; e-mail.
Callers never wait, and no recipient waits for another.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import math
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
from typing import Any, Protocol
from urllib.parse import urlsplit

from headway.sensing import SensingError
from headway.service.dead_letters import DeadLetters, Letter
from headway.service.deadline import (
    Deadline,
    MailConnection,
    SafeMailConnection,
    SafeWebHandler,
    WebHandler,
)
from headway.settings import NotifySettings
from headway.telemetry.bursts import Burst
from headway.telemetry.plain import plain

SIGNATURE = "X-Headway-Signature"
EVENT_ID = "X-Headway-Event"

REPLAYED_AT_ONCE = 1000  # letters
WAITING_LETTERS = 10_000  # deliveries of one recipient; some KB each
MAILS_REMEMBERED = 10_000  # kinds of events, and what they were about
RETRIED_REFUSALS = (408, 425, 429)  # HTTP 4xx that may pass: time-out, too early, too many
THREAD_ENDS_WITHIN_S = 12.0
CLOSE_POLL_S = 0.05
ANSWER_BYTES = 1024  # read of a webhook's answer
# what begins and ends something: the last e-mail about it must not say the opposite of what is
STATES = ("camera.dead", "camera.recovered", "alert.opened", "alert.closed")
CANDIDATE = "This is a candidate for review by a person; nobody has confirmed it."
MAILED = (  # what an e-mail says in words, before all of it as JSON
    "severity", "state", "confidence", "device", "camera", "street", "rule", "path", "level",
    "reason", "since", "at",
    "metric", "value", "operator", "threshold", "image_url",
)  # fmt: skip


class RecipientError(LookupError):
    """The recipient of a letter is not in the settings; the message says so."""


class Notify(Protocol):
    """Sends one event to webhooks, and by e-mail where it is critical; see `Notifier.notify`.

    number: the same for the retries of this event, and for no other event.
    """

    def __call__(
        self, kind: str, number: str, body: dict[str, Any], critical: bool = ..., about: str = ...
    ) -> None: ...


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
        """Its host, for logs and dead letters: path and query may hold secrets."""
        return host_of(self.url)

    @property
    def key(self) -> str:
        """Identifies the address among those of one host, and says nothing of it."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server and its recipients.

    security:   tls, starttls or none.
    at_least_s: between two e-mails about the same kind of event.
    timeout_s:  of one answer; whole_s: of one attempt.
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
    whole_s: float = 60.0

    @property
    def name(self) -> str:
        """Where it goes, for logs and dead letters."""
        return ", ".join(self.to)

    @property
    def key(self) -> str:
        return "mail"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A note on its way. due: monotonic seconds; tried: attempts that failed; letter: id of the
    dead letter that it is, if it is sent anew.
    """

    due: float
    tried: int
    note: Mapping[str, Any]
    letter: str = ""


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


class Sender:
    """Sends to one recipient from a thread of its own, so that one that is slow, or never answers,
    delays nobody else.

    most: deliveries that may wait; beyond, the oldest becomes a dead letter.
    sent, failed, lost: deliveries made, given up and dropped.
    """

    def __init__(self, to: Webhook | Mail, dead: DeadLetters, most: int) -> None:
        self.to = to
        self.sent = 0
        self.failed = 0
        self.lost = 0
        self._dead = dead
        self._most = most
        self._waiting: deque[Delivery] = deque()
        self._under_way: Delivery | None = None
        self._drops = Burst()  # a flood is one line a minute
        self._stopped = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True, name="notifier")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Deliveries that are to be tried, or tried again."""
        return len(self._waiting)

    def put(self, delivery: Delivery) -> None:
        """Send it when it is due. Once stopped, it is a dead letter."""
        with self._wake:
            is_late = self._stopped
            dropped = None
            if not is_late:
                dropped = self._waiting.popleft() if len(self._waiting) >= self._most else None
                self._waiting.append(delivery)
                self._wake.notify_all()
        if is_late:
            self._give_up(delivery, "the service ended")
        if dropped is not None:
            self.lost += 1
            why, to = "too many wait", self.to
            self._dead.store(to.name, dropped.note, why, to.key, dropped.letter)
            if count := self._drops.add():
                self._dead.log.error("dropped: too many wait", to=self.to.name, count=count)

    def withdraw(self, delivery: Delivery) -> bool:
        """Whether it was still waiting; then it is not sent."""
        with self._wake:
            is_waiting = delivery in self._waiting
            if is_waiting:
                self._waiting.remove(delivery)
            return is_waiting

    def stop(self) -> None:
        """Begin nothing more; see `end`."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    def end(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic seconds) for the attempt under way; what was not
        delivered then is a dead letter.
        """
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        with self._wake:
            left = [*([self._under_way] if self._under_way else []), *self._waiting]
            self._under_way = None
            self._waiting.clear()
        for delivery in left:
            self._give_up(delivery, "the service ended")

    # --- in the sender's thread ---

    def _work(self) -> None:
        while (delivery := self._take_due()) is not None:
            self._attempt(delivery)
            self._under_way = None

    def _take_due(self) -> Delivery | None:
        """Waits for the first delivery that is due; None once stopped."""
        with self._wake:
            while not self._stopped:
                now = time.monotonic()
                due = next((d for d in self._waiting if d.due <= now), None)
                if due is not None:
                    self._waiting.remove(due)
                    self._under_way = due
                    return due
                self._wake.wait(min((d.due - now for d in self._waiting), default=None))
        return None

    def _attempt(self, delivery: Delivery) -> None:
        to, tried = self.to, delivery.tried + 1
        try:
            if isinstance(to, Webhook):
                _post(to, delivery.note)
            elif refused := _send_mail(to, delivery.note):  # the others have it
                why = "; ".join(sorted({f"refused: {code}" for code, _ in refused.values()}))
                self._dead.add(", ".join(refused), delivery.note, why)
            self.sent += 1
            if delivery.letter:
                self._dead.settle(delivery.letter)
        except Exception as error:  # of whatever kind: it must not end the thread
            if self._under_way is None:  # `end` has given it up
                return
            if _is_final(error) or tried >= to.attempts:
                self.failed += 1
                self._give_up(delivery, _reason(error))
            else:
                due = time.monotonic() + retry_delay_s(to, delivery.tried)
                self.put(replace(delivery, due=due, tried=tried))

    def _give_up(self, delivery: Delivery, why: str) -> None:
        self._dead.add(self.to.name, delivery.note, why, self.to.key, delivery.letter)


@dataclass(frozen=True, slots=True)
class _Deferred:
    """A state whose e-mail waits for its time. told: the state of the e-mail before. mailed_s: when
    one of its own kind was sent last.
    """

    delivery: Delivery
    told: str | None
    mailed_s: float


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """As the newest; the oldest, which stands first, is forgotten beyond MAILS_REMEMBERED."""
    known.pop(key, None)
    known[key] = value
    if len(known) > MAILS_REMEMBERED:
        del known[next(iter(known))]


class Notifier:
    """Sends to each recipient from a thread of its own.

    dead:   file of what could not be delivered, one JSON object a line.
    most:   deliveries that may wait for one recipient; beyond, its oldest is dropped.
    Raises SensingError for a wrong address.
    """

    def __init__(
        self,
        webhooks: tuple[Webhook, ...] = (),
        mail: Mail | None = None,
        dead: Path | None = None,
        most: int = WAITING_LETTERS,
    ) -> None:
        for number, hook in enumerate(webhooks, 1):
            _check(f"webhook {number} ({hook.name or 'no host'})", hook)
        self._letters = DeadLetters(dead)
        self._hooks = [Sender(hook, self._letters, most) for hook in webhooks]
        self._mail = mail
        self._mailer = Sender(mail, self._letters, most) if mail is not None else None
        self._mailed_at: dict[tuple[str, str], float] = {}  # by kind of event and what it is about
        self._told: dict[str, str | None] = {}  # the last state, by what it is about
        self._deferred: dict[str, _Deferred] = {}  # by what it is about
        self._guard = threading.Lock()  # of these three

    def notify(
        self,
        kind: str,
        number: str,
        body: dict[str, Any],
        critical: bool = False,
        about: str = "",
    ) -> None:
        """Send one event to all webhooks; a `critical` one by e-mail too, each kind at most
        once in `Mail.at_least_s` for each thing that it is `about`. Of STATES the newest is sent
        when that time is over, where the last e-mail says the opposite.
        """
        now = time.monotonic()
        note = {"kind": kind, "id": number, "at": time.time(), "data": plain(body)}
        delivery = Delivery(due=now, tried=0, note=note)
        for sender in self._hooks:
            sender.put(delivery)
        if critical and self._mailer is not None and self._mail is not None:
            with self._guard:
                self._put_mail(self._mailer, self._mail.at_least_s, delivery, about)

    def _put_mail(self, mailer: Sender, at_least_s: float, delivery: Delivery, about: str) -> None:
        """Now, later or not at all."""
        kind, now = str(delivery.note["kind"]), delivery.due
        is_state = kind in STATES
        if is_state:
            self._withdraw(mailer, about)
        mailed_s, told = self._mailed_at.get((kind, about), -math.inf), self._told.get(about)
        due = max(now, mailed_s + at_least_s)
        if due > now and (not is_state or told == kind):
            return
        later = replace(delivery, due=due)
        _remember(self._mailed_at, (kind, about), due)
        if is_state:
            _remember(self._told, about, kind)
        if due > now:
            _remember(self._deferred, about, _Deferred(later, told, mailed_s))
        mailer.put(later)

    def _withdraw(self, mailer: Sender, about: str) -> None:
        """The state that still waits for its time, since there is a newer one."""
        deferred = self._deferred.pop(about, None)
        if deferred is None or not mailer.withdraw(deferred.delivery):
            return
        self._mailed_at[str(deferred.delivery.note["kind"]), about] = deferred.mailed_s
        _remember(self._told, about, deferred.told)

    def undelivered(self, most: int) -> list[Letter]:
        """Dead letters, newest first. Raises OSError."""
        return self._letters.newest(most)

    def replay(self, letter_id: str) -> None:
        """Send a dead letter anew to whom it is for, with the id of its event. Raises KeyError
        where it is not there, RecipientError where the settings do not have its recipient any more,
        OSError.
        """
        for letter in self._letters.claim(
            lambda one: one.id == letter_id and self._is_known(one), 1
        ):
            self._put_again(letter)
            return
        if any(letter.id == letter_id for letter in self.undelivered(WAITING_LETTERS)):
            raise RecipientError("the settings do not have the recipient of this letter any more")
        raise KeyError(letter_id)

    def replay_all(self) -> int:
        """The same for the oldest REPLAYED_AT_ONCE whose recipients are known; how many that were.
        Raises OSError.
        """
        taken = self._letters.claim(self._is_known, REPLAYED_AT_ONCE)
        for letter in taken:
            self._put_again(letter)
        return len(taken)

    def _put_again(self, letter: Letter) -> None:
        if (sender := self._sender_of(letter)) is not None:
            sender.put(Delivery(time.monotonic(), tried=0, note=letter.note, letter=letter.id))

    def _is_known(self, letter: Letter) -> bool:
        return self._sender_of(letter) is not None

    def _sender_of(self, letter: Letter) -> Sender | None:
        """Letters of before have no recipient but a host, of which there may be several."""
        if letter.recipient:
            return next((s for s in self.senders if s.to.key == letter.recipient), None)
        named = [sender for sender in self.senders if sender.to.name == letter.to]
        return named[0] if len(named) == 1 else None

    @property
    def senders(self) -> list[Sender]:
        """Of each recipient, e-mail last."""
        return [*self._hooks, *([self._mailer] if self._mailer is not None else [])]

    @property
    def waiting(self) -> int:
        """Deliveries that are to be tried, or tried again."""
        return sum(sender.waiting for sender in self.senders)

    @property
    def sent(self) -> int:
        """Deliveries made."""
        return sum(sender.sent for sender in self.senders)

    @property
    def failed(self) -> int:
        """Deliveries given up."""
        return sum(sender.failed for sender in self.senders)

    @property
    def lost(self) -> int:
        """Deliveries dropped, since too many waited."""
        return sum(sender.lost for sender in self.senders)

    def close(self, patience_s: float = 5.0) -> None:
        """Go on for `patience_s`; what still waits then becomes dead letters."""
        deadline = time.monotonic() + patience_s
        while self.waiting and time.monotonic() < deadline:
            time.sleep(CLOSE_POLL_S)
        for sender in self.senders:
            sender.stop()
        deadline = time.monotonic() + THREAD_ENDS_WITHIN_S
        for sender in self.senders:
            sender.end(deadline)


def _check(name: str, hook: Webhook) -> None:
    """Raises SensingError."""
    if urlsplit(hook.url).scheme not in ("http", "https") or not hook.secret:
        raise SensingError(f"{name}: give an http(s) address and a secret to sign with.")
    if hook.bearer_token and not keeps_secrets(hook.url):
        raise SensingError(
            f"{name}: a bearer token is sent to https:// alone, or to this machine. Give an https "
            "address, or no token."
        )


def host_of(url: str) -> str:
    """Host and port, without credentials, path and query; empty where there is none."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    with contextlib.suppress(ValueError):  # the port is none
        return f"{host}:{parts.port}" if parts.port else host
    return host


def _is_final(error: Exception) -> bool:
    """Another attempt would end the same: it was refused, or cannot be sent at all. Errors of
    smtplib and urllib are OSErrors.
    """
    return _is_refused(error) or not isinstance(error, OSError | http.client.HTTPException)


def _reason(error: Exception) -> str:
    """For the log. http.client shows an address that it refuses, with its secrets."""
    if isinstance(error, http.client.InvalidURL):
        return "the address is not valid"
    return str(error) or repr(error)


def _is_refused(error: Exception) -> bool:
    """The same request would be refused again."""
    if not isinstance(error, urllib.error.HTTPError):
        return False
    return 400 <= error.code < 500 and error.code not in RETRIED_REFUSALS


def _post(hook: Webhook, note: Mapping[str, Any]) -> None:
    """Raises OSError, HTTPException or ValueError; others for what cannot be sent."""
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
    with Deadline(hook.timeout_s) as deadline:
        opener = urllib.request.build_opener(
            WebHandler(deadline), SafeWebHandler(deadline), _NoRedirect
        )
        with opener.open(request, timeout=hook.timeout_s) as answer:
            answer.read(ANSWER_BYTES)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is a refusal: urllib would follow it without the body, but with the token."""

    def redirect_request(self, *_: Any) -> None:
        return None


def keeps_secrets(url: str) -> bool:
    """Whether what is sent there can be read by its receiver alone."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _send_mail(mail: Mail, note: Mapping[str, Any]) -> dict[str, tuple[int, bytes]]:
    """Returns the recipients whom the server refused, with its code and words. Raises OSError,
    where it refused all of them too, or ValueError.
    """
    message, context = _message(mail, note), ssl.create_default_context()
    with Deadline(mail.whole_s) as deadline, _connect(mail, context, deadline) as server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user:
            server.login(mail.user, mail.password)
        return server.send_message(message)


def _connect(mail: Mail, context: ssl.SSLContext, deadline: Deadline) -> MailConnection:
    if mail.security == "tls":
        return SafeMailConnection(mail.host, mail.port, mail.timeout_s, deadline, context)
    return MailConnection(mail.host, mail.port, mail.timeout_s, deadline)


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
    """Of a candidate, that it is one; of anything with a place, rule and severity, these."""
    where = data.get("device") or data.get("camera") or data.get("street")
    severity = data.get("severity") or data.get("level")
    parts = ["candidate " if "state" in data else "", kind, f" at {where}" if where else ""]
    parts.append(f": {data['rule']}" if data.get("rule") else "")
    parts.append(f" ({severity})" if severity else "")
    # a line break in a name would be a header of its own
    return " ".join("".join(parts).split())
