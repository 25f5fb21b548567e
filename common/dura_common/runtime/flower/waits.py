"""Shorter waiting times in Flower's own loops (flwr 1.41.0, pinned exactly), for which Flower has no setting.

A message travels as a tree of objects that are fetched one by one. A process that asks a moment too early waits 1 s,
then 2 s, up to 10 s. Between the processes of one machine, or of one run, milliseconds are enough.
"""

from __future__ import annotations

from typing import Any

FIRST_PULL_SECONDS = 0.02
LONGEST_PULL_SECONDS = 0.5


def override(owner: Any, name: str, value: object) -> None:
    """Replace a name in one of Flower's modules or classes.

    Raises:
        AttributeError: there is no such name, so this is another version of Flower.
    """
    getattr(owner, name)
    setattr(owner, name, value)


def shorten_pulls(*, longest: float | None = None) -> None:
    """Make this process ask again soon for objects that have not arrived yet.

    Args:
        longest: seconds after which the process gives up on an object; Flower's default is 500 attempts.
    """
    from flwr.supercore.inflatable import inflatable_utils  # noqa: PLC0415  # Flower's import takes a second

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        if not {"initial_backoff", "backoff_cap", "max_time"} <= defaults.keys():
            raise AttributeError(f"{function.__name__} is that of another version of Flower")
        defaults.update(initial_backoff=FIRST_PULL_SECONDS, backoff_cap=LONGEST_PULL_SECONDS)
        if longest is not None:
            defaults["max_time"] = longest
