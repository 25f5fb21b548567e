"""One request for sums on its way: its number, its sessions, and what the sites answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from dura_common.messages import LEARNED, EvaluateRound, Refusal, Reply, SumRound, TrainRound
from dura_common.secagg import Opened, SessionParameters
from dura_server.rounds.ports import Replies, Sites, Vector
from dura_server.studies.store import StoredStudy
from dura_server.sums.ports import Sessions

LEAVING_SECONDS = 5.0
"""How long a site that is lost may take to say why: if it refused, its answer is on the way."""


class Asking:
    """A request, sent as soon as its first session is open: a site that comes finds it, or knows that it is over."""

    def __init__(self, sites: Sites, sessions: Sessions, request: TrainRound | EvaluateRound, vector: Vector) -> None:
        self.request = request
        self._sites = sites
        self._sessions = sessions
        self._vector = vector
        self._replies: Replies | None = None

    def sums(self, params: SessionParameters) -> Iterator[Opened]:
        """Open one session and yield its sums.

        Raises:
            Lost: the session ended early.
        """
        spare = len(params.members) - max(params.threshold, params.minimum)
        with self._sessions.run(params, stop=lambda: self._refused() > spare) as sums:
            if self._replies is None:
                self._replies = self._sites.ask(self.request.members, self.request, self._vector)
            yield from sums

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
    """The numbers of a study's requests: each is above all that its round had in any run, durably."""

    def __init__(self, stored: StoredStudy) -> None:
        self._stored = stored

    def next(self, purpose: str, number: int) -> int:
        """Return the number of the next request for a round, noted before anybody is asked."""
        attempts = dict(self._stored.read_state().attempts)
        name = f"{purpose}-{number}"
        attempts[name] = attempts.get(name, 0) + 1
        self._stored.update(attempts=attempts)
        return attempts[name]

    def learn(self, request: SumRound, answers: Mapping[str, Reply | None]) -> None:
        """Begin above the number that a site knows already: this coordinator may come from a backup.

        A site that claims a number far above is not believed: the other sites would accept no number after it.
        """
        attempts = dict(self._stored.read_state().attempts)
        name = f"{'train' if isinstance(request, TrainRound) else 'evaluate'}-{request.round}"
        own = attempts.get(name, 0)
        known = [answer.attempt or 0 for answer in answers.values() if isinstance(answer, Refusal)]
        attempts[name] = max([own, *(number for number in known if number <= own + LEARNED)])
        self._stored.update(attempts=attempts)
