"""All kinds of findings: a code to search for, the consequence, a name, and what mends it."""

from __future__ import annotations

from dura_client.data.findings.grade import Grade, Kind
from dura_client.data.findings.of_files import OF_FILES
from dura_client.data.findings.of_regions import OF_REGIONS
from dura_client.data.findings.of_sidecars import OF_SIDECARS
from dura_client.data.findings.of_signals import OF_SIGNALS

__all__ = ["KINDS", "Grade", "Kind"]

KINDS: dict[str, Kind] = {**OF_FILES, **OF_SIDECARS, **OF_SIGNALS, **OF_REGIONS}
"""By code. A detector may give another grade or remedy where it knows more."""
