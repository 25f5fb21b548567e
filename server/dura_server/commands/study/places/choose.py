"""Where the commands of `dura study` act: at the coordinator's machine, or through a researcher's desk.

1. With ``--home`` (or ``DURA_COORDINATOR_HOME``): in that coordinator's folder, for all studies.
2. Otherwise, if this researcher has joined: at the coordinator of the roster, for the researcher's own studies.
3. Otherwise, in the folder of the coordinator that lies where it usually does.
"""

from __future__ import annotations

from pathlib import Path

from dura_server.commands.study.places.place import Place
from dura_server.desk.membership import has_joined, load_membership
from dura_server.home import CoordinatorHome
from dura_server.studies.researcher import ResearcherHome


def place_of(home: Path | None, researcher: Path, usual: Path) -> Place:
    """Return where a command acts; see the module."""
    if home is not None:  # 1
        return _at_coordinator(home)
    desk = ResearcherHome(researcher.expanduser())
    if has_joined(desk):  # 2
        from dura_server.commands.study.places.at_desk import AtDesk  # gRPC, at the desk only

        return AtDesk(load_membership(desk))
    return _at_coordinator(usual)  # 3


def _at_coordinator(home: Path) -> Place:
    from dura_server.commands.study.places.at_coordinator import AtCoordinator  # gRPC, at the coordinator only

    return AtCoordinator(CoordinatorHome(home.expanduser()))
