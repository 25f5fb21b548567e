"""A hostile coordinator against the real site side of secure sums: frames."""

from __future__ import annotations

from tests.attacks.secagg.hostile import (
    STAGES,
    VICTIM,
    refuses,
    until,
)
from tests.support.secagg.sites import session

from dura_common.secagg import (
    Kind,
    Reason,
    max_frame,
)
from dura_common.secagg.wire import Type


def test_truncated_and_oversized_frames() -> None:
    """Every frame cut anywhere or with bytes behind it ends the session; the maximum is known before reading."""
    for kind in Kind:
        params = session(3, kind, 1)
        for wanted in STAGES[kind]:
            _, _, frames = until(params, wanted)
            sizes = range(0, len(frames[VICTIM]), 13)
            for size in sizes:
                sites, _, frames = until(params, wanted)
                refuses(sites.sites[VICTIM], frames[VICTIM][:size], Reason.MALFORMED)
            sites, _, frames = until(params, wanted)
            assert len(frames[VICTIM]) <= max_frame(params)
            refuses(sites.sites[VICTIM], frames[VICTIM] + bytes(max_frame(params)), Reason.MALFORMED)


def test_frames_of_no_known_form() -> None:
    """An unknown type, set reserved bytes, or nothing at all."""
    for kind in Kind:
        for change in (
            lambda frame: b"\0" + frame[1:],
            lambda frame: b"\x0c" + frame[1:],
            lambda frame: frame[:2] + b"\1" + frame[3:],
            lambda frame: frame[:39],
            lambda _frame: b"",
        ):
            sites, _, frames = until(session(3, kind), Type.KEYS)
            refuses(sites.sites[VICTIM], change(frames[VICTIM]), Reason.MALFORMED)
