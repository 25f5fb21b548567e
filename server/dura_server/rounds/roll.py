"""Who takes part: approvals as they stand, who is there for the next sum, and what each site said last."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from dura_common.consortium.chain import Link
from dura_common.consortium.envelope import verify
from dura_common.errors import DuraError, HostError, PolicyError, TrustError
from dura_common.messages import AskApproval, Offer, Refusal, RefusalReason, Reply, RoundDone, Standing
from dura_common.study.approval import APPROVAL_TYPE, parse_approval
from dura_server.rounds.asking import Asking
from dura_server.rounds.ports import Sites
from dura_server.studies.store import StoredStudy
from dura_server.sums.ports import Lost

log = logging.getLogger(__name__)

QUERY_SECONDS = 120.0
GRACE_SECONDS = 20.0
"""How long a site may take to say that a session is over."""
BACK_SECONDS = 10.0
"""How long a site that was lost may take to say that it is back, while the others are enough and wait for it."""
REJOIN_SECONDS = 300.0
"""How long a run waits for sites that are needed and gone."""
POLL_SECONDS = 2.0

_NOT_ITS_OWN = frozenset({RefusalReason.AGGREGATION, RefusalReason.REPEATED_ROUND, RefusalReason.NO_DRAW_LEFT})
"""Refusals for which a site need not be left out: others were lost, this coordinator's numbers were too low, or the
sum cannot be drawn again, which says nothing of the next one."""
_SENTENCES = {
    RefusalReason.NOT_APPROVED: "its approval was taken back",
    RefusalReason.EXPIRED: "the study or its approval has expired there",
    RefusalReason.OTHER_ROSTER: "a member of the study has left, changed keys, or is distrusted there",
    RefusalReason.POLICY: "its policy does not allow this study any more",
    RefusalReason.SITE_FAULT: "something failed inside the site, and its own log says what",
}


class Roll:
    """The sites of one study in one run."""

    def __init__(self, stored: StoredStudy, sites: Sites) -> None:
        self._stored = stored
        self._sites = sites
        self.names = tuple(sorted(stored.study.sites))
        self._needed = stored.study.aggregation.minimum_sites
        self.asked = False
        """Whether approvals were collected."""
        self._present: set[str] = set()
        self._refusing: set[str] = set()
        """Sites that said no for a reason of their own: they are not asked again in this run."""

    def offer(self, links: tuple[Link, ...]) -> None:
        """Send the study, its roster and the newest links of rosters to every site, and note what they answer."""
        self._stored.update(phase="offering")
        request = Offer(study=self._stored.study_envelope, roster=self._stored.roster_envelope, links=links)
        standing, answers = self._ask(self.names, request, QUERY_SECONDS)
        self._note(standing, answers, phase="offered", message=advice(standing))

    def collect_approvals(self) -> None:
        """Ask every site for its approval. Once a study has begun, too few answers are a reason to wait, not to end.

        Raises:
            PolicyError: too few approvals to begin.
        """
        self.asked, begun = True, bool(self._stored.read_state().attempts)
        patience = GRACE_SECONDS if begun else QUERY_SECONDS
        standing, answers = self._ask(self.names, AskApproval(study=self._stored.digest), patience)
        self._present = {name for name in self.names if standing[name] == "approved"}
        self._note(standing, answers, phase="asking", message=advice(standing))
        if len(self._present) < self._needed and not begun:
            message = f"{len(self._present)} of the {self._needed} needed sites have approved; {advice(standing)}"
            self._stored.update(phase="unapproved", message=message)
            raise PolicyError(message)

    def members(self) -> tuple[str, ...]:
        """Return who takes part next: everybody who is there, after a wait if those are too few.

        Raises:
            HostError: too few for too long.
        """
        deadline, told = time.monotonic() + REJOIN_SECONDS, False
        while True:
            absent = tuple(name for name in self.names if name not in self._present | self._refusing)
            if absent:
                self.ask_again(absent, QUERY_SECONDS if len(self._present) < self._needed else BACK_SECONDS)
            if len(self._present) >= self._needed:
                if told:
                    self._stored.update(message="")
                return tuple(sorted(self._present))
            reasons = self._why_absent()
            if time.monotonic() > deadline or len(self.names) - len(self._refusing) < self._needed:
                raise HostError(
                    f"{len(self._present)} of {self._needed} needed sites are left: {reasons}",
                    hint="Once they are back, `dura study resume` goes on from the last sum that was opened.",
                )
            self._stored.update(message=f"waits for {reasons}")
            told = True
            time.sleep(POLL_SECONDS)

    def ask_again(self, names: Collection[str], seconds: float) -> set[str]:
        """Ask sites whether they still approve; return those that do. Who has said no is out for this run."""
        standing, answers = self._ask(tuple(sorted(names)), AskApproval(study=self._stored.digest), seconds)
        back = {name for name in names if standing[name] == "approved"}
        self._present = (self._present - set(names)) | back
        self._refusing |= {name for name in names if _is_no(answers.get(name))}
        self._note({**self._stored.read_state().sites, **standing}, answers)
        return back

    def note_done(self, asking: Asking, number: int, state: str | None) -> None:
        """Note the answers to a request that is over with a round, and compare the states that sites came to.

        Sites that were lost on the way are asked whether they are back before anybody waits for them in the next sum.

        Raises:
            TrustError: a site made other steps from the same sums.
        """
        answers = asking.answers(GRACE_SECONDS, lost=asking.left)
        before = self._stored.read_state()
        standing = dict(before.sites)
        done = {name: answer for name, answer in answers.items() if isinstance(answer, RoundDone)}
        for name in self.names:
            answer = done.get(name)
            if answer is not None and (answer.study, answer.round) == (self._stored.digest, number):
                standing[name] = "approved"
                if answer.state != state:
                    raise TrustError(
                        f"{name} computed a different model from the same sums",
                        hint="Its installation differs; compare `dura --version` at all sites.",
                    )
            elif name in answers:
                standing[name] = f"round {number}: {words(answers[name], here=name not in asking.absent())}"
        silent = {
            name for name in asking.request.members if name not in done and not _is_not_its_own(answers.get(name))
        }
        self._present -= silent
        self._refusing |= {name for name in silent if _is_no(answers.get(name))}
        redraws = max([before.redraws, *(answer.redraws for answer in done.values())])
        self._note(standing, answers, redraws=redraws)

    def note_loss(self, asking: Asking, number: int, loss: Lost, answers: Mapping[str, Reply | None]) -> set[str]:
        """Note who was lost; they are asked again before the next request. Return who has no draw left."""
        fine = {name for name, answer in answers.items() if isinstance(answer, RoundDone) or _is_not_its_own(answer)}
        lost = (set(asking.request.members) - fine) | set(loss.gone)
        standing = dict(self._stored.read_state().sites)
        for name in sorted(lost):
            standing[name] = f"round {number}: {words(answers.get(name), here=name not in asking.absent())}"
        self._present -= lost
        refusing = {name for name in lost if isinstance(answers.get(name), Refusal)}
        self._refusing |= {name for name in refusing if not _is_not_its_own(answers[name])}
        self._note(standing, answers, message=f"round {number}: {loss.message}")
        log.warning("round %d was lost (%s); left out: %s", number, loss.message, ", ".join(sorted(lost)))
        return {name for name, answer in answers.items() if _is_refused(answer, RefusalReason.NO_DRAW_LEFT)}

    def _note(self, standing: Mapping[str, str], answers: Mapping[str, Reply | None], **more: object) -> None:
        now = datetime.now(UTC)
        heard = {name: now for name, answer in answers.items() if answer is not None}
        self._stored.update(sites=dict(standing), heard={**self._stored.read_state().heard, **heard}, **more)

    def _why_absent(self) -> str:
        said = self._stored.read_state().sites
        return "; ".join(f"{name} ({said.get(name, 'not asked')})" for name in self.names if name not in self._present)

    def _ask(
        self, names: tuple[str, ...], request: Offer | AskApproval, seconds: float
    ) -> tuple[dict[str, str], Mapping[str, Reply | None]]:
        """Ask sites where the study stands there; return it in words, and the answers."""
        replies = self._sites.ask(names, request, None)
        answers, absent = replies.collect(seconds), replies.absent()
        return {name: self._standing(name, answers.get(name), here=name not in absent) for name in names}, answers

    def _standing(self, name: str, reply: Reply | None, *, here: bool) -> str:
        if not isinstance(reply, Standing):
            return words(reply, here=here)
        if reply.state != "approved":
            return reply.state
        try:
            self._check_approval(name, reply.approval or "")
        except DuraError:
            return "sent an approval that does not verify"
        return "approved"

    def _check_approval(self, name: str, envelope: str) -> None:
        site = next(site for site in self._stored.roster.sites if site.name == name)
        approval = parse_approval(verify(envelope, APPROVAL_TYPE, [site.identity_key()]))
        if (approval.site, approval.study) != (name, self._stored.digest):
            raise TrustError("the approval is for another study or site")


def words(reply: Reply | None, *, here: bool) -> str:
    """Return what a reply that is not the expected one says, in words; ``here``: whether its site was connected."""
    if reply is None:
        return "connected, but has not answered" if here else "not connected"
    if not isinstance(reply, Refusal):
        return "answered out of turn"
    sentence = _SENTENCES.get(reply.reason)
    return f"refused: {reply.reason}" + (f", {sentence}" if sentence else "")


def advice(standing: Mapping[str, str]) -> str:
    """Return who has not approved."""
    missing = [f"{name} ({state})" for name, state in standing.items() if state != "approved"]
    return f"not approved: {', '.join(missing)}" if missing else "all sites have approved"


def _is_no(reply: Reply | None) -> bool:
    """Tell whether a site has decided against a study, or cannot be asked for it any more."""
    if isinstance(reply, Standing):
        return reply.state == "declined"
    return isinstance(reply, Refusal) and reply.reason is not RefusalReason.SITE_FAULT


def _is_not_its_own(reply: Reply | None) -> bool:
    return isinstance(reply, Refusal) and reply.reason in _NOT_ITS_OWN


def _is_refused(reply: Reply | None, reason: RefusalReason) -> bool:
    return isinstance(reply, Refusal) and reply.reason is reason
