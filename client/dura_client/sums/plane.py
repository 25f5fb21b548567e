"""The site's access to secure sums: it carries a part of a request over the aggregation plane."""

from __future__ import annotations

from dura_client.site.home import SiteHome
from dura_client.sums.ports import Part
from dura_client.sums.session import Patience, Redraw, SumSession, Vector
from dura_common.secagg import SessionParameters

PATIENCE = Patience(step=3600.0)
"""Other sites may train for a long time within a step. A coordinator that hangs or dies is noticed in seconds."""


class PlaneSums:
    """See :class:`dura_client.sums.ports.Sums`."""

    def __init__(self, home: SiteHome) -> None:
        self._home = home

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take part in one session to its end. After a loss, the part draws again and pays again.

        Raises:
            Abort: another party broke the protocol.
            TrustError: another member returned to an older state, or follows another roster.
            SumFailed: the session ended early.
            DuraError: a draw was refused.
        """

        def redraw(wanted: Redraw) -> Vector:
            return part.draw(wanted.step)

        with SumSession(self._home, params, redraw=redraw, patience=PATIENCE, peers=part.peers) as sums:
            sums.wait()
            for step in range(params.first_step, params.first_step + params.steps):
                part.opened(sums.step(part.draw(step)))
