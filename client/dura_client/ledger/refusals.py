"""The ledger's reasons to refuse a draw. They depend on counters, hosts and decisions, and never on recordings."""

from __future__ import annotations

from dura_common.errors import HostError, InputError, StateError


class OldAttempt(StateError):
    """A request with this or a higher number was accepted before.

    Attributes:
        highest: the number that the next request must exceed.
    """

    def __init__(self, highest: int) -> None:
        super().__init__(
            f"a request with number {highest} was accepted before; the next number must be higher",
            hint="After a restore from a backup, or with a second coordinator, the numbers begin too low.",
        )
        self.highest = highest


class NumberTooHigh(InputError):
    """A request skips more numbers than a site that was away can have missed, or the round had too many requests."""

    def __init__(self, number: int, highest: int) -> None:
        super().__init__(
            f"a request with number {number} came after number {highest} of its round; no honest coordinator is so far",
            hint="Ask the people of the coordinator. Nothing was recorded.",
        )


class NoDrawLeft(StateError):
    """A draw that has begun was requested again, and no spare draw is left."""

    def __init__(self) -> None:
        super().__init__(
            "this draw was made before, and the study has no spare draw left",
            hint="aggregation.spare_steps and evaluation.spare_draws say how many a study has.",
        )


class Ended(StateError):
    """No budget is set aside for the study, or the study has ended here."""

    def __init__(self) -> None:
        super().__init__(
            "no budget is set aside for this study any more", hint="An approval sets the cost of the study aside."
        )


class Fenced(StateError):
    """Another process of this site serves now. This process may no longer make draws."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this site serves now, so this process no longer makes draws",
            hint="Run only one node for a home: `dura site stop`, then `dura site start`.",
        )


class OtherHost(HostError):
    """The ledger was last used on another host, where a copy of it may still be in use."""

    def __init__(self) -> None:
        super().__init__(
            "this ledger was last used on another host, and may still be in use there: both would spend one budget",
            hint="If the site has moved here permanently, stop the other host and run `dura site ledger move`.",
        )


class WithdrawnPatient(StateError):
    """The cohort contains a patient who has withdrawn."""
