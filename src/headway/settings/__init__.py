"""One typed tree of settings: built-in defaults, then a YAML file, then variables of the
environment: HEADWAY_SECTION__KEY, and the usual short ones (ALIASES).

An unknown key or a bad value is refused with its path, what it was, and what is allowed.
"""

from headway.settings.alerts import (
    SYSTEM_RULES,
    AlertSettings,
    MailSettings,
    NotifySettings,
    RuleSettings,
    WebhookSettings,
)
from headway.settings.base import (
    OLD_KEYS,
    OLD_SENSING,
)
from headway.settings.cameras import (
    CAMERA_METRICS,
    CameraRule,
    CameraSettings,
    MetricInfo,
)
from headway.settings.models import BusinessSettings, ModelWatchSettings
from headway.settings.reading import (
    ALIASES,
    SettingsError,
    Watched,
    checked,
    load,
    log_level,
    overridden,
    read_secret_files,
    read_tree,
    refuse_unknown_variables,
    use_aliases,
)
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
    SAFE_SUMO_OPTIONS,
    ControllerName,
    ControlSettings,
    ExternalSettings,
    FallbackName,
    LimitSettings,
    LoopSettings,
    MqttSettings,
    PlannerSettings,
    QLearningSettings,
    RecoverySettings,
    RewardSettings,
    SafetySettings,
    SourceSettings,
    StreetSettings,
    SumoSection,
    require_pace,
)
from headway.settings.tree import (
    RESTART_ONLY,
    Settings,
)

__all__ = [
    "ALIASES",
    "CAMERA_METRICS",
    "OLD_KEYS",
    "OLD_SENSING",
    "RESTART_ONLY",
    "SAFE_SUMO_OPTIONS",
    "SYSTEM_RULES",
    "AlertSettings",
    "ApiLimits",
    "BusinessSettings",
    "CameraRule",
    "CameraSettings",
    "ControlSettings",
    "ControllerName",
    "DatabaseSettings",
    "ExternalSettings",
    "FallbackName",
    "LimitSettings",
    "LogSettings",
    "LoopSettings",
    "MailSettings",
    "MetricInfo",
    "ModelWatchSettings",
    "MqttSettings",
    "NotifySettings",
    "OidcSettings",
    "PlannerSettings",
    "QLearningSettings",
    "RecoverySettings",
    "RewardSettings",
    "RuleSettings",
    "SafetySettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "SourceSettings",
    "SpoolSettings",
    "StreetSettings",
    "SumoSection",
    "UpkeepSettings",
    "Watched",
    "WebhookSettings",
    "checked",
    "load",
    "log_level",
    "overridden",
    "read_secret_files",
    "read_tree",
    "refuse_unknown_variables",
    "require_pace",
    "use_aliases",
]
