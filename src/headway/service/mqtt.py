"""Observations from an MQTT broker. Needs the extra `mqtt`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway import telemetry
from headway.runtime import WorkerError
from headway.service.observations import NotStartedError, ObservationService, RateError
from headway.service.streets import StreetService
from headway.settings import MqttSettings
from headway.telemetry import metrics

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

LONGEST_PAUSE_S = 30  # between two attempts to reach the broker
LOG_EVERY_S = 10.0  # of one holder's refused messages
MOST_LOGGED = 20  # holders in that time: a name costs nothing where a broker lets anybody publish
LONGEST_HOLDER = 200  # letters
TOO_LONG = f"the last level of its topic has more than {LONGEST_HOLDER} letters"


class MqttListener:
    """Takes every message of the topic to the street. The topic's last level is the holder: the
    broker knows who may publish there.

    Raises RuntimeError where the extra is missing.
    """

    def __init__(
        self,
        settings: MqttSettings,
        observations: ObservationService,
        streets: StreetService,
        usual_street: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._usual_street = usual_street
        self._observations = observations
        self._streets = streets
        self._log = telemetry.log("api")
        self._logged = set[str]()  # holders, since `_logging_since_s`
        self._logging_since_s = -math.inf
        self._untold = 0
        self._client = self._make_client()

    def _make_client(self) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise RuntimeError(
                f"external.mqtt: {error}. Install it: pip install paho-mqtt"
            ) from error
        s = self._settings
        client = Client(CallbackAPIVersion.VERSION2)
        if s.user:
            client.username_pw_set(s.user, s.password)
        if s.tls:
            client.tls_set(ca_certs=s.ca_file or None)
        client.reconnect_delay_set(max_delay=LONGEST_PAUSE_S)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def start(self) -> None:
        """Connect, and again after each break, until `stop`."""
        metrics.degraded.labels("mqtt").set(1)
        self._client.connect_async(self._settings.host, self._settings.port)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, more: Any) -> None:
        if reason.is_failure:
            self._log.error("the MQTT broker refuses", why=str(reason), host=self._settings.host)
            return
        client.subscribe(self._settings.topic)

    def _on_subscribe(self, client: Client, data: Any, mid: int, reasons: Any, more: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._log.error(
                "the MQTT broker refuses the subscription",
                why=str(reasons[0]),
                topic=self._settings.topic,
                host=self._settings.host,
            )
            return
        metrics.degraded.labels("mqtt").set(0)

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, more: Any) -> None:
        metrics.degraded.labels("mqtt").set(1)
        if reason.is_failure:  # else it was `stop`
            self._log.warning("the MQTT broker is away", why=str(reason), host=self._settings.host)

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        received_ns = time.monotonic_ns()
        holder = message.topic.rsplit("/", 1)[-1]
        if len(holder) > LONGEST_HOLDER:
            self._say(f"{holder[:LONGEST_HOLDER]}...", TOO_LONG)
            return
        name = self._settings.street or self._usual_street()
        street = self._streets.streets.get(name)
        try:
            if street is None:
                raise NotStartedError(f"no street {name!r} runs here (external.mqtt.street)")
            found = self._observations.take(street, holder, bytes(message.payload), received_ns)
        except (ValueError, NotStartedError, RateError, WorkerError) as error:
            self._say(holder, str(error))
            return
        if found.refused:
            first = found.refused[0]
            self._say(holder, f"row {first.number}{first.fault.place}: {first.fault.message}")

    def _say(self, holder: str, why: str) -> None:
        """Log what was refused, once in LOG_EVERY_S for each of MOST_LOGGED holders."""
        now_s = time.monotonic()
        if now_s - self._logging_since_s >= LOG_EVERY_S:
            if self._untold:
                self._log.warning("more MQTT messages were refused", messages=self._untold)
            self._logged.clear()
            self._logging_since_s, self._untold = now_s, 0
        if holder in self._logged or len(self._logged) >= MOST_LOGGED:
            self._untold += 1
            return
        self._logged.add(holder)
        self._log.warning("an MQTT message was refused", holder=holder, why=why)
