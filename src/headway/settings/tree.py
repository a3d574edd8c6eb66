"""The tree of all sections, from a file and the variables of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from headway.settings.alerts import AlertSettings, NotifySettings
from headway.settings.base import with_new_keys
from headway.settings.cameras import CameraSettings
from headway.settings.models import BusinessSettings, ModelWatchSettings
from headway.settings.service import (
    ApiLimits,
    DatabaseSettings,
    LogSettings,
    OidcSettings,
    ServerSettings,
    SpoolSettings,
    UpkeepSettings,
)
from headway.settings.street import (
    ControlSettings,
    ExternalSettings,
    LoopSettings,
    PlannerSettings,
    QLearningSettings,
    RecoverySettings,
    SafetySettings,
    StreetSettings,
    SumoSection,
)


class BothNamesError(Exception):
    """source: as in `_Renamed`; text: what is given twice."""

    def __init__(self, source: str, text: str) -> None:
        super().__init__(source, text)
        self.source = source
        self.text = text


class _Renamed(PydanticBaseSettingsSource):
    """The values of another source under their new keys. name: of that source, for errors; empty
    for the file.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], source: PydanticBaseSettingsSource, name: str
    ) -> None:
        super().__init__(settings_cls)
        self._source = source
        self._name = name

    def __call__(self) -> dict[str, Any]:
        """Raises BothNamesError where the old and the new key of one thing are both given."""
        found = dict(self._source())
        for section, values in found.items():
            try:
                if isinstance(values, Mapping):
                    found[section] = with_new_keys(section, values)
            except PydanticCustomError as error:
                raise BothNamesError(self._name, f"{section}: {error}.") from error
        return found

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._source.get_field_value(field, field_name)


class Settings(BaseSettings):
    """All settings of Headway."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="HEADWAY_",
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )

    environment: Literal["local", "development", "production", "test"] = "local"
    loop: LoopSettings = LoopSettings()
    control: ControlSettings = ControlSettings()
    street: StreetSettings = StreetSettings()
    safety: SafetySettings = SafetySettings()
    external: ExternalSettings = ExternalSettings()
    recovery: RecoverySettings = RecoverySettings()
    alerts: AlertSettings = AlertSettings()
    log: LogSettings = LogSettings()
    notify: NotifySettings = NotifySettings()
    cameras: CameraSettings = CameraSettings()
    api: ApiLimits = ApiLimits()
    database: DatabaseSettings = DatabaseSettings()
    spool: SpoolSettings = SpoolSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    sumo: SumoSection = SumoSection()
    planner: PlannerSettings = PlannerSettings()
    q_learning: QLearningSettings = QLearningSettings()
    server: ServerSettings = ServerSettings()
    oidc: OidcSettings = OidcSettings()
    model_watch: ModelWatchSettings = ModelWatchSettings()
    business: BusinessSettings = BusinessSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables of the environment stand over what the file says, under whichever names."""
        return (
            _Renamed(settings_cls, env_settings, "the variables HEADWAY_..."),
            _Renamed(settings_cls, init_settings, ""),
        )


RESTART_ONLY = (
    "environment",
    "street",
    "safety",
    "external",
    "recovery",
    "notify",
    "cameras",
    "api",
    "database",
    "spool",
    "upkeep",
    "sumo",
    "server",
    "oidc",
    "model_watch",
    "business",
)
