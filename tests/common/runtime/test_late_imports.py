"""What a command or a waiting process must not import: libraries that take seconds, or memory that nobody uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHORT = ("torch", "scipy", "mne", "numpy", "flwr", "matplotlib", "grpc")
CASES = {
    "from dura_common.runtime.cli import build; build('site')": (*SHORT, "dura_server"),
    "from dura_common.runtime.cli import build; build('study')": (*SHORT, "dura_client"),
    "from dura_common.runtime.cli import build; build('authority')": (*SHORT, "dura_client"),
    "import dura_client.node.process": (*SHORT, "sqlalchemy"),
    "import dura_client.node.runner, dura_client.node.app": ("torch", "scipy", "mne", "sqlalchemy", "opacus"),
    "import dura_client.node.supernode_adapter": ("torch", "scipy", "mne"),
    "import dura_client.release.gate": ("mne.io", "matplotlib"),
    "import dura_server.commands.study.places.at_coordinator": ("flwr", "torch", "scipy", "matplotlib"),
    "import dura_server.rounds.app": ("torch", "scipy", "matplotlib"),
    "import dura_server.services.aggregator": ("flwr", "torch", "scipy"),
}


@pytest.mark.parametrize("statement", CASES)
def test_imports_that_cost_come_late(statement: str) -> None:
    """A command answers at once, a node that waits is small, and the first request of a study waits for little."""
    told = f"{statement}; import sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", told], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert not found & set(CASES[statement])


def test_a_command_line_loads_its_own_group_and_anything_else_loads_all() -> None:
    """`dura site ...` waits for no other group; a word that is no group gets the message that names them all."""
    from dura_common.runtime.cli import build

    assert list(build("site").commands) == ["site"]
    everything = ["authority", "coordinator", "demo", "site", "study"]
    assert [list(build(word).commands) for word in ("", "sites", "--help")] == [everything] * 3
