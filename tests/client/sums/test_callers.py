"""The site's side of a secure sum: what a caller learns."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.client.sums.hostile import SHORT, run_site
from tests.support.plane.service import QUICK, SITES, Plane, expected, vector_of

from dura_client.consortium import enrolment
from dura_client.sums.driver import _Vector
from dura_client.sums.link import Frame
from dura_client.sums.session import Endpoint, SumSession
from dura_common.errors import StateError, TrustError
from dura_common.secagg import Kind
from dura_server.sums.client import open_session


def test_vectors_of_another_shape_are_refused_at_once(plane: Plane) -> None:
    """Wrong use is a ValueError before anything is sent."""
    params = plane.params(number=60)
    with SumSession(plane.site("north"), params, patience=SHORT) as sums:
        for wrong in (np.zeros(7, np.int64), np.zeros(8, np.int16), np.zeros((8, 1), np.int64), np.zeros(8)):
            with pytest.raises(ValueError, match="expected an int32 or int64 vector"):
                sums.step(wrong)  # type: ignore[arg-type]  # on purpose


def test_a_site_that_is_no_member(plane: Plane) -> None:
    """A session without this site is no session of this site."""
    params = plane.params()
    others = replace(params, members=params.members[:1] + params.members[2:], threshold=2)
    with pytest.raises(ValueError, match="north is no member"):
        SumSession(plane.site("north"), others)


def test_a_series_must_fit(plane: Plane) -> None:
    """Step sums say their number in the parameters, and nowhere else."""
    with pytest.raises(ValueError, match="do not fit"):
        SumSession(plane.site("north"), plane.params(steps=2), sums=3)
    with pytest.raises(ValueError, match="do not fit"):
        SumSession(plane.site("north"), plane.params(kind=Kind.ROUND), sums=0)


def test_more_steps_than_the_session_has(plane: Plane) -> None:
    """After the last sum there is no further one."""
    params = plane.params(number=61)
    threads = [threading.Thread(target=run_site, args=(plane, name, params)) for name in ("east", "south")]
    for thread in threads:
        thread.start()
    with open_session(plane.coordinator, params, QUICK) as session, SumSession(plane.site("north"), params) as sums:
        opened = sums.step(vector_of("north", 1, 8))
        with pytest.raises(RuntimeError, match="all sums"):
            sums.step(vector_of("north", 1, 8))
        list(session)
    for thread in threads:
        thread.join(20)
    assert np.array_equal(opened.total, expected(SITES, 1, 8))


def test_a_site_that_has_not_joined(tmp_path: Path) -> None:
    """Without a consortium there is nobody to sum with."""
    made = Plane(tmp_path)
    enrolment.init(made.site("north"), "north", None, datetime.now(UTC))
    with pytest.raises(StateError, match="not joined"):
        Endpoint.of_site(made.site("north"), datetime.now(UTC))


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    """A site does not go out with a certificate whose time is over."""
    made = Plane(tmp_path)
    made.make_all()
    with pytest.raises(TrustError, match="has expired"):
        Endpoint.of_site(made.site("north"), datetime.now(UTC) + timedelta(days=3000))


def test_keys_show_nowhere(plane: Plane) -> None:
    """No representation holds a key, a vector in the clear or a frame."""
    endpoint = Endpoint.of_site(plane.site("north"), datetime.now(UTC))
    assert b"PRIVATE" in endpoint.key
    assert "PRIVATE" not in repr(endpoint)
    assert "4711" not in repr(_Vector(0, np.full(3, 4711)))
    assert "secret" not in repr(Frame(1, b"secret"))
