"""Requests for sums on their way: their numbers, their sessions, and what the sites answer."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping

from dura_common.messages import LEARNED, EvaluateRound, Refusal, Reply, SumRound, TrainRound
from dura_common.secagg import Opened, SessionParameters
from dura_server.rounds.ports import Replies, Sites, Vector
from dura_server.studies.store import StoredStudy
from dura_server.sums.ports import Sessions

LEAVING_SECONDS = 5.0
"""Time for a lost site to give its reason: if it refused, its answer is on the way."""
REQUEST_SECONDS = 60.0
"""Aim for the length of a request for several rounds: a site answers nothing else meanwhile."""
MOST_ROUNDS = 64


class Asking:
    """One request. It is sent as soon as its first session is open: a site that comes finds it, or knows it is over."""

    def __init__(self, sites: Sites, sessions: Sessions, request: TrainRound | EvaluateRound, vector: Vector) -> None:
        self.request = request
        self.left: set[str] = set()
        """Members that have not added to every sum. Once there is one, the sites end the request after the round."""
        self._sites = sites
        self._sessions = sessions
        self._vector = vector
        self._replies: Replies | None = None

    def covers(self, number: int) -> bool:
        """Tell whether the request goes on in a round."""
        last = self.request.last if isinstance(self.request, TrainRound) else None
        return not self.left and last is not None and self.request.round <= number <= last

    def sums(self, params: SessionParameters) -> Iterator[Opened]:
        """Open one session and yield its sums.

        Raises:
            Lost: the session ended early.
        """
        spare = len(params.members) - max(params.threshold, params.minimum)
        with self._sessions.run(params, stop=lambda: self._refused() > spare) as sums:
            if self._replies is None:
                self._replies = self._sites.ask(self.request.members, self.request, self._vector)
            for opened in sums:
                self.left |= set(self.request.members) - set(opened.contributors)
                yield opened

    def absent(self) -> frozenset[str]:
        """Return the members that were not connected when they were asked."""
        return frozenset() if self._replies is None else self._replies.absent()

    def answers(self, seconds: float, *, lost: Collection[str] = ()) -> Mapping[str, Reply | None]:
        """Return what sites answer: of those that are lost, what comes soon."""
        if self._replies is None:
            return {}
        if lost:
            self._replies.collect(LEAVING_SECONDS)
        return self._replies.collect(seconds, but=lost)

    def _refused(self) -> int:
        return 0 if self._replies is None else self._replies.refused()


class Numbers:
    """The numbers of a study's requests: each is above all that its rounds had in any run, durably."""

    def __init__(self, stored: StoredStudy) -> None:
        self._stored = stored

    def next(self, *parts: str) -> int:
        """Return the number of the next request for some parts of a study, noted before anybody is asked."""
        attempts = dict(self._stored.read_state().attempts)
        number = max(attempts.get(part, 0) for part in parts) + 1
        self._stored.update(attempts={**attempts, **dict.fromkeys(parts, number)})
        return number

    def learn(self, parts: Collection[str], answers: Mapping[str, Reply | None]) -> None:
        """Begin above the number that a site knows already: this coordinator may come from a backup.

        A site that claims a number far above is not believed: the other sites would accept no number after it.
        """
        attempts = dict(self._stored.read_state().attempts)
        most = max(attempts.get(part, 0) for part in parts) + LEARNED
        claims = [answer.attempt or 0 for answer in answers.values() if isinstance(answer, Refusal)]
        known = max((claim for claim in claims if claim <= most), default=0)
        if not known:
            return
        self._stored.update(attempts={**attempts, **{part: max(attempts.get(part, 0), known) for part in parts}})


def parts_of_request(request: SumRound, evaluated: Collection[int] = ()) -> list[str]:
    """Return the parts of a study that a request is about, as :class:`Numbers` names them."""
    if not isinstance(request, TrainRound):
        return [f"evaluate-{request.round}"]
    rounds = range(request.round, (request.last or request.round) + 1)
    return [f"train-{number}" for number in rounds] + [f"evaluate-{n}" for n in rounds if n in evaluated]


class Pace:
    """How many rounds a request is for: as many as take about :data:`REQUEST_SECONDS`, and at first one."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._seconds: float | None = None

    def rounds(self) -> int:
        """Return the number of rounds of the next request."""
        if self._seconds is None:
            return 1
        return min(max(int(REQUEST_SECONDS / max(self._seconds, 1e-3)), 1), MOST_ROUNDS)

    def begin(self) -> None:
        """Note that a round begins."""
        self._begun = time.monotonic()

    def end(self) -> None:
        """Note that a round has ended, its evaluation included."""
        if self._begun is not None:
            self._seconds, self._begun = time.monotonic() - self._begun, None
