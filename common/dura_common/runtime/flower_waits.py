"""Shorter waits in Flower's own loops (flwr 1.41.0, pinned exactly), where it has no setting for them.

A message travels as a tree of objects that are fetched one by one. Whoever asks a moment too early waits 1 s, then 2 s,
up to 10 s; between the processes of one machine, or of one run, milliseconds are enough.
"""

from __future__ import annotations

from typing import Any

FIRST_PULL_SECONDS = 0.02
LONGEST_PULL_SECONDS = 0.5


def override(owner: Any, name: str, value: object) -> None:
    """Replace a name in one of Flower's modules or classes.

    Raises:
        AttributeError: there is none, so this is another Flower.
    """
    getattr(owner, name)
    setattr(owner, name, value)


def shorten_pulls(*, longest: float | None = None) -> None:
    """Let this process ask again soon for objects that are on their way.

    Args:
        longest: seconds after which what has not come is given up; Flower's default is 500 tries.
    """
    from flwr.supercore.inflatable import inflatable_utils  # noqa: PLC0415  # Flower's import takes a second

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        if not {"initial_backoff", "backoff_cap", "max_time"} <= defaults.keys():
            raise AttributeError(f"{function.__name__} of another Flower")
        defaults.update(initial_backoff=FIRST_PULL_SECONDS, backoff_cap=LONGEST_PULL_SECONDS)
        if longest is not None:
            defaults["max_time"] = longest
