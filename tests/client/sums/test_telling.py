"""A site tells the coordinator that a study was approved there, on the way of the secure sums."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.plane.service import Plane

from dura_client.site.home import SiteHome
from dura_client.sums import telling
from dura_client.sums.telling import tell_approved


def test_a_member_is_heard(plane: Plane) -> None:
    """Each word is noted, and the log says of whom; the next sum is none of its business."""
    assert not plane.coordinator.approved.exists()
    before = 0
    for name in ("north", "east"):
        assert tell_approved(plane.site(name), plane.now())
        assert plane.coordinator.approved.stat().st_mtime_ns > before
        before = plane.coordinator.approved.stat().st_mtime_ns
        assert f"{name} has approved a study" in plane.log


def test_a_stranger_is_not_heard(plane: Plane, tmp_path: Path) -> None:
    """A copy of a site with another identity key is refused, and nothing is noted."""
    plane.coordinator.approved.unlink(missing_ok=True)
    home = SiteHome(tmp_path / "copy")
    shutil.copytree(plane.site("north").path, home.path)
    shutil.copy(plane.site("south").keys / "identity.pem", home.keys / "identity.pem")
    assert not tell_approved(home, plane.now())
    assert not plane.coordinator.approved.exists()


def test_a_coordinator_that_is_away_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers at its port: the site learns that it was not heard, and waits no longer for it."""
    monkeypatch.setattr(telling, "PATIENCE_SECONDS", 3.0)
    away = Plane(tmp_path)
    away.make_all()
    assert not tell_approved(away.site("north"), away.now())
