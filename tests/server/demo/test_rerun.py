"""A demo that runs again in the same folder begins a new consortium, in which nobody remembers the one before."""

from __future__ import annotations

from pathlib import Path

from dura_client.site.home import SiteHome
from dura_common.runtime.console import Output
from dura_server.demo.demo import _reset
from dura_server.demo.stage import Stage


def test_nothing_that_a_site_knew_of_others_is_left(tmp_path: Path) -> None:
    """Keys, card, name and prepared recordings stay; ledger, reports of other members and all the rest do not."""
    stage = Stage(Output(as_json=True), tmp_path, 40, 1)
    home = SiteHome(stage.site("north"))
    kept = {home.keys, home.cache, home.path / "site.toml", home.path / "north.card.json"}
    gone = {home.ledger, home.witnessed, home.people, home.policy, home.cohorts, home.offers, home.approvals, home.run}
    folders = {home.keys, home.cache, home.cohorts, home.offers, home.approvals, home.run}
    for path in kept | gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in folders:
            (path / "inside").mkdir(parents=True)
        else:
            path.touch()
    (stage.coordinator / "studies").mkdir(parents=True)
    _reset(stage)
    assert set(home.path.iterdir()) == kept
    assert (home.keys / "inside").exists()
    assert not stage.coordinator.exists()
