"""What a process that dura starts takes over from where it was started: named variables, and nothing else.

A site or a coordinator may be started from any folder and any shell. Python would import from that folder, the loader
would take libraries from it, and Flower and other libraries obey variables that nobody thinks of. So a child process
gets an environment that is built anew, imports installed packages only, and runs in a folder of its own home.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
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
"""Who one is, and in which language; the way to a ledger in PostgreSQL; processors."""
PASSED_PREFIXES = ("DURA_", "LC_")
"""dura's own settings, and the language. A prefix of a library would let names through that load code."""
SEARCHED = frozenset({"PATH", "LD_LIBRARY_PATH", "TMPDIR"})
"""Folders; only absolute ones pass, since an empty or relative one means the present folder."""
FILES = ("FILE", "CERT", "KEY", "CRL", "DIR", "HOME")
"""Ends of the names of variables that hold a path; the child runs in another folder."""
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "grpc_proxy"})
"""In small or in capital letters."""
LOOPBACK = "localhost,127.0.0.1,::1"


def clean_environment(*, proxies: bool = False, source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child process.

    Args:
        proxies: whether the variables that name proxies pass: only a site's way to the coordinator may lead through
            one. Whatever they say, what stays on this machine goes through none.
        source: the environment to take from; the present one by default.
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
    """Return the command line that runs an installed module; ``-P`` leaves the present folder off the import path."""
    return [sys.executable, "-P", "-m", name, *arguments]


def _passes(name: str, *, proxies: bool) -> bool:
    return name in PASSED or name.startswith(PASSED_PREFIXES) or (proxies and name.lower() in PROXIES)


def _absolute(name: str, value: str) -> str:
    path = Path(value)
    return str(path.absolute()) if value and name.endswith(FILES) and path.exists() else value
