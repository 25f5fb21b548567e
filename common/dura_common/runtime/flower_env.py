"""The environment in which every Flower process of dura runs: no telemetry, no update check, no installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def flower_environment(flower_home: Path, **extra: str) -> dict[str, str]:
    """Return the environment of a Flower process whose own state lives in ``flower_home``."""
    programs = str(Path(sys.executable).parent)  # Flower starts its helpers by name
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")]),
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def program(name: str) -> str:
    """Return the path of a program installed beside this interpreter."""
    return str(Path(sys.executable).parent / name)
