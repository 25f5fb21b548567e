"""The errors of dura: one root, one family per cause.

A message says what was expected and what came. It never contains a value of a recording, a patient identifier
or a secret. ``hint`` says what the operator can do next. Only the command line prints errors and turns them
into exit codes; wrong use of a Python interface is a ``ValueError`` or ``RuntimeError`` as everywhere.
"""

from __future__ import annotations

from typing import ClassVar

from dura_common import __version__


class DuraError(Exception):
    """Root of all errors that an operator, not a programmer, can act on. Raised only through its families."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(DuraError):
    """A file, configuration, recording or argument is not what it should be."""

    exit_code = 10
    code = "input"


class TrustError(DuraError):
    """A signature, certificate, fingerprint or digest is not valid or does not match, or something has expired."""

    exit_code = 11
    code = "trust"


class PolicyError(DuraError):
    """The site's policy forbids it, or the privacy officer's approval is missing."""

    exit_code = 12
    code = "policy"


class BudgetError(DuraError):
    """The patients' privacy budget in the ledger is not enough."""

    exit_code = 13
    code = "budget"


class StateError(DuraError):
    """The step comes in the wrong order: something is missing, is already there, or is running."""

    exit_code = 14
    code = "state"


class HostError(DuraError):
    """The machine prevents it: a port is in use, the disk is full, a process died, a peer cannot be reached."""

    exit_code = 15
    code = "host"


def install_with(extra: str) -> str:
    """Return what installs dura with an extra: its own wheel file, since a package index may have another dura."""
    return f"Install dura's wheel file with the extra: pip install './dura-{__version__}-py3-none-any.whl[{extra}]'"
