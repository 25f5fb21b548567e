"""What the coordinator answers to a researcher: only about studies that this researcher has signed.

A study of somebody else is answered like a study that does not exist. What takes Flower or a picture library is done by
a process of its own (:mod:`dura_server.commands.errand`), so that the secure sums beside it stay small and quick.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dura_common.consortium.chain import MAX_LINKS
from dura_common.consortium.envelope import verify
from dura_common.consortium.roster import RosterResearcher
from dura_common.errors import DuraError, HostError, StateError, TrustError
from dura_common.runtime.environment import clean_environment, module
from dura_common.runtime.files import private_folder
from dura_common.study import STUDY_TYPE, require_unexpired
from dura_common.sums.plane import PIECE_BYTES
from dura_server.consortium.enrolment import links, read_roster
from dura_server.desk.request import Action, Request
from dura_server.desk.view import StudyView, SumsView, view_of
from dura_server.home import CoordinatorHome
from dura_server.studies.queue import wanted
from dura_server.studies.standing import phase_of
from dura_server.studies.store import StoredStudy, StudyStore
from dura_server.sums.service import RunningSessions

log = logging.getLogger(__name__)

STUDIES_EACH = 500
"""Studies that one researcher can submit before an operator clears away old ones: a few kB each on disk."""
OFFERS_EACH = 4
"""Studies of one researcher that may be in the course of being offered: each is a process of more than 100 MiB."""
BEING_OFFERED = frozenset({"starting", "offering"})
QUEUED_EACH = 8
"""Studies of one researcher in the queue, so that nobody waits behind more of them."""
WATCH_SECONDS = 0.5
ERRANDS = 2
"""Processes for researchers at a time, one of each researcher; each imports Flower."""
ERRAND_SECONDS = 180.0

Document = AsyncIterator[bytes]


class Answers:
    """See the module."""

    def __init__(self, home: CoordinatorHome, sessions: RunningSessions) -> None:
        self._home = home
        self._sessions = sessions
        self._store = StudyStore(home)
        self._errands = asyncio.Semaphore(ERRANDS)
        self._own: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Held while an errand of the researcher runs, whether or not somebody still waits for it."""

    async def to(
        self, member: RosterResearcher, request: Request, still_admitted: Callable[[], None]
    ) -> AsyncIterator[Document]:
        """Yield the documents of the answer; an answer that goes on calls ``still_admitted`` again and again.

        Raises:
            TrustError: ``still_admitted`` said so.
            StateError: this researcher has no such study, or the study is in the wrong phase.
            TrustError: the submitted study is not signed by this researcher for the current roster.
            InputError: the submitted study is not valid, or has expired.
            HostError: the machine prevents it.
        """
        if request.action == "rosters":
            known = await asyncio.to_thread(links, self._home)
            for link in known[request.serial - 1 :][:MAX_LINKS]:
                yield _text(link.model_dump_json())
        elif request.action == "list":
            for stored in await asyncio.to_thread(self._studies_of, member):
                yield _view(view_of(stored))
        elif request.action == "submit":
            stored = await asyncio.to_thread(self._submit, member, request.document or "")
            yield _text(await self._errand(member, "offer", stored.digest))
        else:
            stored = await asyncio.to_thread(self._find, member, request.study or "")
            async for document in self._about(member, stored, request.action, still_admitted):
                yield document

    async def _about(
        self, member: RosterResearcher, stored: StoredStudy, action: Action, still_admitted: Callable[[], None]
    ) -> AsyncIterator[Document]:
        if action == "watch":
            async for view in self._changes(stored, still_admitted):
                yield _view(view)
        elif action == "model":
            if stored.read_state().phase != "finished":
                raise StateError("the study has not finished, so there is no model")
            yield _file(stored.model_file)
        else:
            if action == "run":
                require_unexpired(stored.study, datetime.now(UTC))
                await asyncio.to_thread(self._require_place, member, stored)
            yield _text(await self._errand(member, {"run": "train"}.get(action, action), stored.digest))

    def _studies_of(self, member: RosterResearcher) -> list[StoredStudy]:
        found = []
        for digest in self._store.digests():
            try:
                stored = self._store.load(digest)
            except DuraError as error:
                log.warning("the study %s cannot be read: %s", digest[:12], error.message)
                continue
            if _signed_by(stored.study_envelope, member):
                found.append(stored)
        return found

    def _find(self, member: RosterResearcher, digest: str) -> StoredStudy:
        known = digest in self._store.digests()  # never a path: only what is there is opened
        stored = self._store.load(digest) if known else None
        if stored is None or not _signed_by(stored.study_envelope, member):
            raise StateError(f"this researcher has submitted no study with the digest {digest[:12]}")
        return stored

    def _require_place(self, member: RosterResearcher, stored: StoredStudy) -> None:
        """Refuse one more place in the queue to a researcher who has many; a study that has one keeps it."""
        others = (one for one in self._studies_of(member) if one.digest != stored.digest)
        if sum(wanted(one) is not None for one in others) >= QUEUED_EACH:
            raise StateError(
                f"{QUEUED_EACH} studies of this researcher are in the queue",
                hint="Run this one when another has ended, or take one out: `dura study stop`.",
            )

    def _submit(self, member: RosterResearcher, document: str) -> StoredStudy:
        if not _signed_by(document, member):
            raise TrustError("the study is not signed by the researcher who submits it")
        before = self._studies_of(member)
        if len(before) >= STUDIES_EACH:
            raise StateError(f"this researcher has submitted {STUDIES_EACH} studies; the operator can remove old ones")
        if sum(phase_of(stored) in BEING_OFFERED for stored in before) >= OFFERS_EACH:
            raise StateError(
                f"{OFFERS_EACH} studies of this researcher are being offered to their sites",
                hint="Submit this one again in a minute.",
            )
        roster, envelope = read_roster(self._home)
        study = self._store.check(document, envelope, roster)
        require_unexpired(study, datetime.now(UTC))
        return self._store.submit(document, envelope, roster)

    async def _changes(self, stored: StoredStudy, still_admitted: Callable[[], None]) -> AsyncIterator[StudyView]:
        """Yield the study at every change until nothing works on it any more, or its researcher has been removed."""
        last: StudyView | None = None
        while last is None or last.goes_on:
            still_admitted()
            view = await asyncio.to_thread(view_of, stored, sums=self._sums(stored.digest))
            if view != last:
                yield view
            last = view
            await asyncio.sleep(WATCH_SECONDS)

    def _sums(self, digest: str) -> SumsView | None:
        for session in self._sessions.all():
            if session.params.study == digest:
                missing = sorted(set(session.params.names) - set(session.attending))
                return SumsView(
                    purpose=session.params.purpose,
                    round=session.params.round,
                    opened=session.opened,
                    of=session.series.sums,
                    waits_for=tuple(missing),
                )
        return None

    async def _errand(self, member: RosterResearcher, job: str, digest: str) -> str:
        """Wait for a turn, run an errand to its end, even if nobody waits for it any more, and return its document.

        Who leaves before the turn comes leaves the line: otherwise, questions that nobody waits for would pile up.
        """
        own = self._own[member.name]
        await own.acquire()
        try:
            await self._errands.acquire()
        except BaseException:
            own.release()
            raise

        def over(_task: asyncio.Task[str]) -> None:
            self._errands.release()
            own.release()

        task = asyncio.create_task(self._run_errand(job, digest))
        task.add_done_callback(over)
        return await asyncio.shield(task)

    async def _run_errand(self, job: str, digest: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *module("dura_server.commands.errand", str(self._home.path), job, digest),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd=private_folder(self._home.run),
            env=clean_environment(),
        )
        try:
            async with asyncio.timeout(ERRAND_SECONDS):
                content, _ = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise HostError(f"the errand {job} took too long") from error
        return _checked(content, job)


def _checked(content: bytes, job: str) -> str:
    """Return the answer of an errand, or raise its error in its own family."""
    families: dict[str, Callable[..., DuraError]] = {family.code: family for family in DuraError.__subclasses__()}
    try:
        document: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise HostError(f"the errand {job} ended without an answer") from error
    if "error" in document:
        fault = document["error"]
        raise families.get(fault["code"], HostError)(fault["message"], hint=fault["hint"])
    return json.dumps(document["answer"])


def _signed_by(envelope: str, member: RosterResearcher) -> bool:
    try:
        verify(envelope, STUDY_TYPE, [member.public_key()])
    except DuraError:
        return False
    return True


def _view(view: StudyView) -> Document:
    return _text(view.for_desk().model_dump_json())


async def _text(text: str) -> Document:
    content = text.encode()
    for begin in range(0, len(content), PIECE_BYTES):
        yield content[begin : begin + PIECE_BYTES]


async def _file(path: Path) -> Document:
    try:
        with path.open("rb") as stream:
            while piece := await asyncio.to_thread(stream.read, PIECE_BYTES):
                yield piece
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error
