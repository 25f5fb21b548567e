"""Answers the coordinator. Whatever goes wrong, the reply is one word from a fixed list; the reason stays here.

The code that trains is imported only when it is needed: a node that waits needs a quarter of the memory. When a study
was approved here, or the coordinator asks for an approval and there is one, the study will soon run. So the import
begins then, in a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dura_client.consortium.witness import MemberWentBack, NotHeard, ThisSiteWentBack
from dura_client.ledger.refusals import Ended, NoDrawLeft, OldAttempt
from dura_client.site.home import SiteHome
from dura_client.studies.approvals import receive_offer, receive_rosters, standing
from dura_client.sums.ports import Sums
from dura_client.sums.session import SumFailed
from dura_common.errors import DuraError, InputError, PolicyError, TrustError
from dura_common.messages import (
    AskApproval,
    AskRoster,
    Offer,
    Refusal,
    RefusalReason,
    Reply,
    RoundDone,
    TrainRound,
    decode_request,
)
from dura_common.secagg import Abort

if TYPE_CHECKING:
    from dura_client.release.gate import Gate

log = logging.getLogger(__name__)

_REASONS: tuple[tuple[type[DuraError], RefusalReason], ...] = (
    (OldAttempt, RefusalReason.REPEATED_ROUND),
    (NoDrawLeft, RefusalReason.NO_DRAW_LEFT),
    (Ended, RefusalReason.NO_DRAW_LEFT),
    (Abort, RefusalReason.AGGREGATION),
    (SumFailed, RefusalReason.AGGREGATION),
    (NotHeard, RefusalReason.AGGREGATION),
    (PolicyError, RefusalReason.POLICY),
    (MemberWentBack, RefusalReason.MEMBER_WENT_BACK),
    (ThisSiteWentBack, RefusalReason.MEMBER_WENT_BACK),
    (TrustError, RefusalReason.NOT_AUTHENTIC),
    (InputError, RefusalReason.NOT_UNDERSTOOD),
)
"""The first family that fits counts. Only a request can be invalid input here: recordings were settled at approval."""


WHAT_TRAINS = ("dura_client.release.gate", "scipy.fft", "scipy.special")
"""Seconds of importing; the accountant asks for scipy only when it composes."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SiteService:
    """Turns one request into one reply; never raises.

    Args:
        home: the site's folder.
        sums: opens secure sums.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, home: SiteHome, sums: Sums, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._home = home
        self._sums = sums
        self._clock = clock

    @cached_property
    def _gate(self) -> Gate:
        from dura_client.release.gate import Gate  # noqa: PLC0415  # see the module
        from dura_client.training.subnormals import flush_subnormals  # noqa: PLC0415  # idem

        flush_subnormals()  # in the thread that trains, before torch makes threads for it
        return Gate(self._home, self._sums, clock=self._clock)

    def answer(self, body: bytes, vector: NDArray[np.float32] | None) -> Reply:
        """Answer one request; a failure becomes a :class:`Refusal`, its text goes to the local log only."""
        try:
            return self._dispatch(body, vector)
        except DuraError as error:
            reason = _reason(error)
            log.warning("refused (%s): %s", reason, error.message)
            highest = error.highest if isinstance(error, OldAttempt) else None
            return Refusal(reason=reason, attempt=highest)
        except Exception:  # the boundary: no exception text may reach the coordinator
            log.exception("a request failed inside the site")
            return Refusal(reason=RefusalReason.SITE_FAULT)

    def _dispatch(self, body: bytes, vector: NDArray[np.float32] | None) -> Reply:
        try:
            request = decode_request(body)
        except InputError as error:
            log.warning("refused: %s", error.message)
            return Refusal(reason=RefusalReason.NOT_UNDERSTOOD)
        if isinstance(request, Offer):
            return receive_offer(self._home, request, self._clock())
        if isinstance(request, AskRoster):
            return receive_rosters(self._home, request)
        if isinstance(request, AskApproval):
            stands = standing(self._home, request.study, self._clock())
            if stands.state == "approved":
                import_what_trains()
            return stands
        if vector is None:
            return Refusal(reason=RefusalReason.NOT_UNDERSTOOD)
        done, state = request.round, None
        if isinstance(request, TrainRound):
            trained = self._gate.work_through(request, vector)
            done, state = trained.round, trained.state.digest()
        else:
            self._gate.evaluate(request, vector)
        redraws = self._gate.redraws(request.study)
        return RoundDone(study=request.study, round=done, attempt=request.attempt, state=state, redraws=redraws)


def import_what_trains() -> None:
    """Begin to import what trains, in a thread; if that fails, the request that needs it says so."""
    threading.Thread(target=_import, name="dura-import", daemon=True).start()


def _import() -> None:
    try:
        for name in WHAT_TRAINS:
            import_module(name)
    except Exception:  # the boundary of a thread
        log.exception("what trains cannot be imported")


def _reason(error: DuraError) -> RefusalReason:
    reason = getattr(error, "reason", None)
    if isinstance(reason, RefusalReason):
        return reason
    return next((word for family, word in _REASONS if isinstance(error, family)), RefusalReason.SITE_FAULT)
