"""Environment variables of every step that runs on this machine."""

from __future__ import annotations

from platforms.local.state import STATE

# GNU OpenMP's threads spin for milliseconds where they wait for each other: beside another busy process a training
# takes ten times as long. Not to spin at all (OMP_WAIT_POLICY=PASSIVE) costs as much on a virtual machine that is
# idle, where each wait halts a core. So many turns are near the best of both.
_QUIET_THREADS = {"GOMP_SPINCOUNT": "2000"}

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

STEP_VARIABLES = {**_QUIET_THREADS, **_SETTINGS_FOLDERS, **NO_TELEMETRY}
