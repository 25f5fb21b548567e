"""The base of all schemas, and unions whose members are told apart by one key that may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator

TAG = "="
"""Begins the tags of :func:`by_key`, so that a tag in the path of an error is not taken for a key of the file."""


class Frozen(BaseModel):
    """Base of all schemas: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def by_key(key: str, *choices: str) -> Discriminator:
    """Return the discriminator of a union whose members are tagged by :data:`TAG` and one of the ``choices``.

    An absent key means the first of them; pydantic's own tagged unions demand the key.
    """

    def tag(value: Any) -> str | None:
        found = value.get(key, choices[0]) if isinstance(value, Mapping) else getattr(value, key, None)
        return TAG + found if isinstance(found, str) else None

    return Discriminator(
        tag,
        custom_error_type="unknown_choice",
        custom_error_message=f"{key} must be one of {', '.join(choices)}",
    )
