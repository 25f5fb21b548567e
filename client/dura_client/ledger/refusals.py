"""Why the ledger says no to a draw: every reason depends on counters, hosts and decisions, none on recordings."""

from __future__ import annotations

from dura_common.errors import HostError, StateError


class OldAttempt(StateError):
    """A request of this number, or of a higher one, was taken up before.

    Attributes:
        highest: the number that the next request must exceed.
    """

    def __init__(self, highest: int) -> None:
        super().__init__(
            f"a request of number {highest} was taken up before; the next one must be higher",
            hint="A coordinator that was restored from a backup, or a second one, begins too low.",
        )
        self.highest = highest


class NoDrawLeft(StateError):
    """A draw that began before was asked for again, and no spare draw is left."""

    def __init__(self) -> None:
        super().__init__(
            "this was drawn before, and the study has no spare draw left",
            hint="aggregation.spare_steps and evaluation.spare_draws say how many a study has.",
        )


class Ended(StateError):
    """Nothing is set aside for the study, or it has ended here."""

    def __init__(self) -> None:
        super().__init__("nothing is set aside for this study any more", hint="Approving it sets its cost aside.")


class Fenced(StateError):
    """Another process of this site serves now; this one may draw nothing any more."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this site serves now, so this one draws nothing any more",
            hint="Run one node for a home; `dura site stop`, then `dura site start`.",
        )


class OtherHost(HostError):
    """The ledger was last used on another host: a copy of it may be at work there."""

    def __init__(self) -> None:
        super().__init__(
            "this ledger was last used on another host, and may be at work there still: both would spend one budget",
            hint="If the site has moved here for good, stop the other host and run `dura site ledger move`.",
        )


class WithdrawnPatient(StateError):
    """The cohort holds a patient who takes part in nothing any more."""
