"""Environment variables of every step that runs on this machine."""

from __future__ import annotations

from kfp_lifecycle.local.state import STATE

# Libraries that write settings below the home folder write them here: all state is in one place, and the home folder
# may be read-only.
_SETTINGS_FOLDERS = {
    "KERAS_HOME": str(STATE / "cache" / "keras"),
    "MPLCONFIGDIR": str(STATE / "cache" / "matplotlib"),
    "XDG_CACHE_HOME": str(STATE / "cache"),
    "XDG_CONFIG_HOME": str(STATE / "cache" / "config"),
}

# Nothing that a step uses may call home.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "FEAST_USAGE": "False",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

STEP_VARIABLES = {**_SETTINGS_FOLDERS, **NO_TELEMETRY}
