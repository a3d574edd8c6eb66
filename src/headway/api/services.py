"""What the routes of one application work with, and how it is started and stopped."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from headway import telemetry
from headway.api.audit import Audit, AuditRecorder
from headway.api.cache import Cache
from headway.api.health import Lookout
from headway.api.hub import TOPICS, Hub
from headway.api.identity import Identity
from headway.api.keys import Keys, RevokedTokens
from headway.api.oidc import Provider
from headway.api.relay import Relay
from headway.api.seal import Seal
from headway.api.security import Keyring
from headway.api.turns import (
    KEYS_AT_ONCE,
    OF_ONE,
    PREDICTED_AT_ONCE,
    PREDICTED_OF_ONE,
    PROBES_AT_ONCE,
    Turns,
)
from headway.learning.aliases import AliasKeeper
from headway.learning.registry import Registry, signing_key
from headway.sensing import MISSING
from headway.service.cameras import NOTIFIER_ENDS_WITHIN_S, CameraService
from headway.service.following import Follower
from headway.service.monitoring import MonitoringService
from headway.service.mqtt import MqttListener
from headway.service.notification import Notifier, recipients
from headway.service.observations import ObservationService
from headway.service.predictions import Predictions
from headway.service.selfwatch import SelfWatch
from headway.service.silences import Silences
from headway.service.streets import StreetService
from headway.service.upkeep import UpkeepService
from headway.settings import (
    AlertSettings,
    CameraSettings,
    ExternalSettings,
    ModelWatchSettings,
    NotifySettings,
    OidcSettings,
    SpoolSettings,
    UpkeepSettings,
    Watched,
)
from headway.store import Database, DatabaseError, Intake
from headway.store.revocations import Revocations
from headway.telemetry.metrics import Scraped
from headway.telemetry.threads import keep_running

STALE_SHARE = 0.5  # of cache_s: for so long an answer is given while a new one is made
REPLAY_ENDS_WITHIN_S = 5.0
SPOOL_EVERY_S = 2.0  # how often batches that wait on disk are offered to the database again
REVIVE_EVERY_S = 5.0  # how often an embedded database is looked after
SCRAPED_S = 1.0  # for which metrics are the same, whoever asks
SILENCES_EVERY_S = 2.0  # how often it is looked whether one has ended
INGEST_THREADS = 16  # of the 40 that routes have: a database that hangs must not take all


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Settings of the API.

    folder:     data folder: keys, spool, cameras.
    per_minute: requests of one client, 0 for no limit.
    origins:    web origins elsewhere whose pages may call (CORS).
    redis_url:  Valkey or Redis, shared by several processes; empty for none.
    cache_s:    seconds for which answers of analytics are kept.
    oldest_days, ahead_s: how old a record may be that is taken, and how far ahead of the clock.
    secret_key: signs tokens; empty for one of the data folder's own.
    alerts:     rules on the program itself.
    oidc:       the provider whose tokens are taken beside our own; none without an issuer.
    watched:    the settings file that is followed; None for none.
    follow:     streets that are processes of their own are found over Valkey, and shown here.
    street:     whose name stands in the settings.
    """

    folder: Path
    per_minute: int = 100
    origins: tuple[str, ...] = ()
    redis_url: str = ""
    cache_s: float = 10.0
    oldest_days: float = 3653.0
    ahead_s: float = 300.0
    notify: NotifySettings = field(default_factory=NotifySettings)
    upkeep: UpkeepSettings = field(default_factory=UpkeepSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    external: ExternalSettings = field(default_factory=ExternalSettings)
    secret_key: str = field(default="", repr=False)
    cameras: CameraSettings = field(default_factory=CameraSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    oidc: OidcSettings = field(default_factory=OidcSettings)
    model_watch: ModelWatchSettings = field(default_factory=ModelWatchSettings)
    watched: Watched | None = None
    follow: bool = False
    street: str = "headway"


@dataclass(eq=False)
class Services:
    """All parts behind the routes; street_service, camera_service, observations, notifier and
    monitoring are None until they run; selfwatch is there from `start` on.
    """

    settings: ApiSettings
    database: Database
    intake: Intake
    hub: Hub
    keyring: Keyring
    keys: Keys
    audit: Audit
    cache: Cache
    relay: Relay | None = None
    street_service: StreetService | None = None
    follower: Follower | None = None
    camera_service: CameraService | None = None
    observations: ObservationService | None = None
    observation_sockets: Counter[str] = field(default_factory=Counter)  # that are open, by holder
    mqtt: MqttListener | None = None
    revocations: Revocations = field(default_factory=Revocations)
    revoked: RevokedTokens = field(init=False)
    identity: Identity = field(init=False)
    lookout: Lookout = field(init=False)
    recorder: AuditRecorder = field(init=False)
    upkeep: UpkeepService = field(init=False)
    aliases: AliasKeeper = field(init=False)
    predictions: Predictions = field(default_factory=Predictions)
    scraped: Scraped = field(init=False)
    selfwatch: SelfWatch = field(init=False)
    notifier: Notifier | None = None
    silences: Silences = field(init=False)
    monitoring: MonitoringService | None = None
    _cameras_lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _replay: threading.Thread | None = None
    _reviver: threading.Thread | None = None
    _releaser: threading.Thread | None = None
    ingest_turns: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(INGEST_THREADS)
    )
    turns: Turns = field(default_factory=lambda: Turns(of_one=OF_ONE))
    key_turns: Turns = field(default_factory=lambda: Turns(KEYS_AT_ONCE, "keys are looked up"))
    probe_turns: Turns = field(default_factory=lambda: Turns(PROBES_AT_ONCE))
    prediction_turns: Turns = field(
        default_factory=lambda: Turns(
            PREDICTED_AT_ONCE, "predictions are under way", PREDICTED_OF_ONE
        )
    )

    def __post_init__(self) -> None:
        self.revoked = RevokedTokens(self.database, self.revocations)
        provider = Provider(self.settings.oidc) if self.settings.oidc.issuer else None
        self.identity = Identity(
            self.keyring, self.keys, self.revoked, self.key_turns, provider,
            lambda: self.usual_street,
        )  # fmt: skip
        self.scraped = Scraped(min(self.settings.cache_s, SCRAPED_S))
        self.lookout = Lookout(self)
        self.aliases = AliasKeeper(lambda: self.registry)
        self.recorder = AuditRecorder(self.audit, self.intake, self.folder)
        self.upkeep = UpkeepService(
            self.database,
            self.folder,
            self.settings.upkeep,
            self.hub.publish,
            under_way=self._runs_under_way,
        )

    def _runs_under_way(self) -> set[int]:
        """Raises DatabaseError while rows of runs wait on disk."""
        if self.intake.spool.waiting:
            raise DatabaseError("rows wait on disk for the database: nothing is deleted before")
        service = self.street_service
        return {s.run for s in list(service.streets.values())} if service is not None else set()

    @classmethod
    def create(cls, settings: ApiSettings, database: Database) -> Services:
        hub = Hub()
        revocations = Revocations(settings.folder / "revoked.json")
        revocations.are_untold = True  # told with the first look, for which nobody waits
        return cls(
            settings=settings,
            database=database,
            intake=Intake(database, settings.folder, settings.spool),
            hub=hub,
            keyring=Keyring(settings.folder / "keys.json", settings.secret_key),
            keys=Keys(database, revocations),
            revocations=revocations,
            audit=Audit(database, Seal(settings.folder, settings.secret_key)),
            cache=Cache(
                settings.redis_url, settings.cache_s, stale_s=STALE_SHARE * settings.cache_s
            ),
            relay=Relay(settings.redis_url, hub) if settings.redis_url else None,
        )

    @property
    def folder(self) -> Path:
        return self.settings.folder

    @cached_property
    def registry(self) -> Registry:
        """Raises ValueError where its key on disk is damaged, OSError."""
        key = signing_key(self.folder, self.settings.secret_key)
        return Registry(self.database, self.folder, key)

    def make_camera_service(self) -> CameraService:
        """Raises SensingError where the extra `vision` is missing."""
        return CameraService(
            self.folder,
            self.hub.publish,
            self.intake,
            self.settings.notify,
            self.street_service,
            notifier=self.notifier,
            defaults=self.settings.cameras,
        )

    def need_camera_service(self) -> CameraService:
        """The cameras, made when they are first needed. Raises SensingError."""
        with self._cameras_lock:
            if self.camera_service is None:
                self.camera_service = self.make_camera_service()
            return self.camera_service

    async def start(self, streets: Callable[[Intake], StreetService] | None) -> None:
        """streets: makes the street service; None for a server without streets."""
        self.hub.begin(asyncio.get_running_loop())
        if self.relay is not None:
            self.relay.begin()
        hooks, mail = recipients(self.settings.notify)
        self.notifier = Notifier(hooks, mail, self.folder / "undelivered.jsonl")
        self.silences = Silences(self.folder / "silences.json", self.notifier.notify)
        self.selfwatch = self._make_selfwatch(self.silences)
        await run_in_threadpool(self.selfwatch.desk.close_left_over)
        self.upkeep.newest_run = self.selfwatch.desk.take_upkeep
        if streets is not None:
            self.street_service = await run_in_threadpool(streets, self.intake)
            self._take_observations(self.street_service)
            if self.settings.follow:
                self.follower = Follower(
                    self.settings.redis_url, self.street_service, self.folder, self._tell_gap
                )
                await run_in_threadpool(self.follower.begin)
        if (self.folder / "cameras.json").exists() and not MISSING:
            self.camera_service = await run_in_threadpool(self.make_camera_service)
        self.monitoring = MonitoringService(
            self.folder,
            self.hub.publish,
            self.silences.notify,
            lambda: self.camera_service,
            self.settings.cameras,
            program=self.selfwatch.figures,
        )
        self._replay = keep_running("spool", self._replay_spool, self._stop)
        self._releaser = keep_running("silences", self._end_silences, self._stop)
        if self.database.embedded is not None:
            self._reviver = keep_running("database", self._revive_database, self._stop)
        await run_in_threadpool(self.revoked.refresh)
        await run_in_threadpool(self.lookout.begin)
        self.upkeep.begin()
        self.aliases.begin()
        self.selfwatch.begin()

    @property
    def usual_street(self) -> str:
        """Of whoever names none: that of the settings, or else the only one; empty where there are
        several others.
        """
        streets = list(self.street_service.streets) if self.street_service is not None else []
        own = self.settings.street
        if own in streets or not streets:
            return own
        return streets[0] if len(streets) == 1 else ""

    def is_followed(self, street: str) -> bool:
        """Whether it is a process of its own elsewhere, heard by every process that follows it."""
        found = self.street_service.streets.get(street) if self.street_service else None
        return found is not None and found.remote is not None

    def speaks_for(self, street: str) -> bool:
        """Whether this process is to do what is done once of what a street reports."""
        return self.follower is None or self.follower.speaks_for(street)

    def _tell_gap(self, missed: int, why: str) -> None:
        """Nobody knows of which topic they were."""
        for topic in TOPICS:
            self.hub.publish_gap(topic, None, f"{missed} messages {why}")

    def _make_selfwatch(self, silences: Silences) -> SelfWatch:
        return SelfWatch(
            folder=self.folder,
            database=self.database,
            intake=self.intake,
            streets=lambda: self.street_service,
            alerts=self.settings.alerts,
            publish=self.hub.publish,
            notify=silences.notify,
            model_watch=self.settings.model_watch,
            watched=self.settings.watched,
            speaks_for=self.speaks_for,
        )

    def _take_observations(self, streets: StreetService) -> None:
        """From the API, and from a broker where there is one."""
        external = self.settings.external
        self.observations = ObservationService(streets, external)
        if external.mqtt is not None:
            self.mqtt = MqttListener(
                external.mqtt, self.observations, streets, lambda: self.usual_street
            )
            self.mqtt.start()

    async def stop(self) -> None:
        """Cameras before streets, whose signals they see; the relay last."""
        self._stop.set()
        if self.mqtt is not None:
            await run_in_threadpool(self.mqtt.stop)
        for part in (self.lookout, self.upkeep, self.selfwatch, self.aliases):
            await run_in_threadpool(part.close)
        for thread in (self._replay, self._reviver, self._releaser):
            if thread is not None:
                await run_in_threadpool(thread.join, REPLAY_ENDS_WITHIN_S)
        if self.monitoring is not None:
            await run_in_threadpool(self.monitoring.close)
        if self.camera_service is not None:
            await run_in_threadpool(self.camera_service.close)
        if self.notifier is not None:
            await run_in_threadpool(self.notifier.close, NOTIFIER_ENDS_WITHIN_S)
        if self.follower is not None:
            await run_in_threadpool(self.follower.close)
        if self.street_service is not None:
            await run_in_threadpool(self.street_service.stop)
        if self.relay is not None:
            await run_in_threadpool(self.relay.close)

    def _end_silences(self) -> None:
        while not self._stop.wait(SILENCES_EVERY_S):
            self.silences.release()

    def _revive_database(self) -> None:
        """Nobody else starts an embedded server anew."""
        log, trouble = telemetry.log("store"), ""
        while not self._stop.wait(REVIVE_EVERY_S):
            try:
                if self.database.revive():
                    log.warning("the embedded database had died, and was started anew")
                trouble = ""
            except DatabaseError as error:
                if not trouble:  # it is tried again and again; /health says so meanwhile
                    log.error("the embedded database is away", error=str(error))
                trouble = str(error)

    def _replay_spool(self) -> None:
        troubled = set[str]()  # of whichever the log has it already: a link may be down for days
        rows, audit = ("rows", self.intake), ("audit", self.recorder)
        while not self._stop.wait(SPOOL_EVERY_S):
            for name, part in (rows, audit):
                try:
                    if part.spool.waiting or part is self.recorder:  # which knows of more
                        part.catch_up()
                    troubled.discard(name)
                except Exception as error:
                    if name not in troubled:
                        telemetry.log("store").error(
                            "spool not replayed", spool=name, error=str(error)
                        )
                    troubled.add(name)
