"""What all files and messages that dura reads are made of: strict models, names, and one clear error for a fault.

:class:`Frozen` is the base of all schemas. A union whose members are told apart by a key that may be left out takes
:func:`by_key`. :func:`parse_toml` and :func:`explain_validation` turn what is wrong with a file into one sentence.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError

from dura_common.errors import InputError

SITE_NAME = r"^[a-z][a-z0-9-]{1,30}$"
DIGEST = r"^[0-9a-f]{64}$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

SiteName = Annotated[str, Field(pattern=SITE_NAME)]
Digest = Annotated[str, Field(pattern=DIGEST)]
Word = Annotated[str, Field(pattern=WORD)]

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


def explain_validation(error: ValidationError, *, what: str) -> InputError:
    """Turn a pydantic error into one clear message: the path of the first fault, what was wrong, how many more."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(TAG)) or "the file as a whole"
    reason = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InputError(f"{what}: {where}: {reason}{more}")


def parse_toml(content: bytes, *, what: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        InputError: not UTF-8 or not TOML; the message carries the position.
    """
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{what} is not valid TOML: {error}") from error


def check_site_name(name: str) -> str:
    """Return the name if it may stand on a roster.

    Raises:
        InputError: other letters than a-z, digits and hyphens, or a wrong length.
    """
    if re.fullmatch(SITE_NAME, name) is None:
        raise InputError(
            f"a name must be 2 to 31 lower-case letters, digits or hyphens and begin with a letter, got {name[:40]!r}"
        )
    return name
