"""The environment of a process that dura starts: the variables that are named here, and nothing else.

A site or a coordinator may be started from any folder and any shell. Python would import modules from that folder, the
loader could load libraries from it, and Flower and other libraries obey variables that an operator may not know. So a
child process gets a new environment, imports installed packages only, and runs in a folder of its own home.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PASSED = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ"),
        *("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE"),
        *("PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGCONNECT_TIMEOUT"),
        *(
            "OMP_NUM_THREADS",
            "OMP_WAIT_POLICY",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "OPENBLAS_CORETYPE",
            "OPENBLAS_L2_SIZE",
        ),
        *("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_VISIBLE_DEVICES"),
    }
)
"""User and language; the connection to a ledger in PostgreSQL; processors and GPUs."""
PASSED_PREFIXES = ("DURA_", "LC_")
"""dura's own settings, and the language. No library has a prefix here: some of its variables could load code."""
SEARCHED = frozenset({"PATH", "LD_LIBRARY_PATH", "TMPDIR"})
"""Lists of folders. Only absolute folders are passed on: an empty or a relative one would mean the current folder."""
FILES = ("FILE", "CERT", "KEY", "CRL", "DIR", "HOME")
"""Last letters of variables that hold a path. The path is made absolute, because the child runs in another folder."""
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "grpc_proxy"})
"""In lower or upper case."""
LOOPBACK = "localhost,127.0.0.1,::1"


def clean_environment(*, proxies: bool = False, source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child process.

    Args:
        proxies: whether the variables that name proxies are passed on. Only a site's connection to the coordinator may
            use a proxy; a connection within this machine never does.
        source: the environment to start from; by default that of this process.
    """
    given = os.environ if source is None else source
    clean = {name: _absolute(name, value) for name, value in given.items() if _passes(name, proxies=proxies)}
    for name in SEARCHED & set(given):
        if folders := [folder for folder in given[name].split(os.pathsep) if folder.startswith("/")]:
            clean[name] = os.pathsep.join(folders)
    programs = str(Path(sys.executable).parent)  # Flower starts its helpers by name
    clean["PATH"] = os.pathsep.join([programs, *([clean["PATH"]] if "PATH" in clean else [])])
    exceptions = (given.get("no_proxy") or given.get("NO_PROXY")) if proxies else None
    clean["no_proxy"] = clean["NO_PROXY"] = f"{exceptions},{LOOPBACK}" if exceptions else LOOPBACK
    if proxies and given.get("no_grpc_proxy"):
        clean["no_grpc_proxy"] = f"{given['no_grpc_proxy']},{LOOPBACK}"
    return {**clean, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def flower_environment(flower_home: Path, *, proxies: bool = False, **extra: str) -> dict[str, str]:
    """Return the environment of a Flower process whose own state lies in ``flower_home``.

    It has no telemetry, no update check and no installation of packages while it runs.
    """
    return {
        **clean_environment(proxies=proxies),
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        **extra,
    }


def module(name: str, *arguments: str) -> list[str]:
    """Return the command line that runs an installed module; ``-P`` keeps the current folder off the import path."""
    return [sys.executable, "-P", "-m", name, *arguments]


def _passes(name: str, *, proxies: bool) -> bool:
    return name in PASSED or name.startswith(PASSED_PREFIXES) or (proxies and name.lower() in PROXIES)


def _absolute(name: str, value: str) -> str:
    path = Path(value)
    with suppress(OSError):  # a folder that this account may not look into, or a name that is too long
        return str(path.absolute()) if value and name.endswith(FILES) and path.exists() else value
    return value
