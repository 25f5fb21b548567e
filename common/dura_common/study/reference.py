"""How people name a study: one rule at the coordinator and at every site.

1. The whole digest (64 hexadecimal digits).
2. The exact name.
3. The first digits of the digest, at least :data:`FEWEST_DIGITS`.

A reference that fits several studies is refused, because the wrong study would spend patients' budget. So is the name
of one study that is the beginning of another one's digest: it may have been chosen to be taken for that study.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dura_common.errors import StateError
from dura_common.study.validation import DIGEST

FEWEST_DIGITS = 6
"""Smallest number of digits: with 1000 studies, six digits fit another study by chance once in 16,000 times."""
SHORT_DIGITS = 12
"""Digits of a digest in tables and messages."""


def find_study(reference: str, known: Mapping[str, str | None], *, where: str, lister: str) -> str:
    """Return the digest of the study that a person means.

    Args:
        reference: the text that the person typed.
        known: maps the digest of every study to its name; None if the name cannot be read.
        where: what these studies are, in the plural ("submitted studies").
        lister: the command that lists them.

    Raises:
        StateError: no study fits, or more than one does.
    """
    said = reference.strip()
    hint = f"`{lister}` lists the {where} with their digests."
    if re.fullmatch(DIGEST, said):  # rule 1
        if said in known:
            return said
        raise StateError(f"none of the {where} has the digest {said}", hint=hint)
    named = sorted(digest for digest, name in known.items() if name == said)  # rule 2
    digits = re.fullmatch(r"[0-9a-f]+", said) is not None
    begun = sorted(digest for digest in known if digest.startswith(said)) if digits else []  # rule 3
    if len(said) < FEWEST_DIGITS:
        if begun and not named:
            raise StateError(
                f"{said!r} is not a name of the {where}, and too short for a digest: "
                f"give at least {FEWEST_DIGITS} digits",
                hint=hint,
            )
        begun = []
    found = sorted({*named, *begun})
    if len(found) == 1:
        return found[0]
    if not found:
        raise StateError(f"none of the {where} has the name or digest {said[:64]!r}", hint=hint)
    which = ", ".join(digest[:SHORT_DIGITS] for digest in found[:5])
    what = f"are called {said!r}" if not begun else f"have a digest that begins with {said}"
    if named and begun:
        what = "have this name or begin with these digits"
    raise StateError(f"{len(found)} of the {where} {what}: {which}", hint=f"Give more digits. {hint}")
