"""Options that give pairs, such as CODE=CLASS, factors to volts, and an atlas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dura_client.data.dataset import Atlas


def pairs_of(given: list[str] | None, option: str, form: str) -> dict[str, str]:
    """Return options of the form LEFT=RIGHT as a mapping.

    Raises:
        InputError: one has another form, or one left side comes twice.
    """
    from dura_common.errors import InputError

    pairs = [item.partition("=")[::2] for item in given or ()]
    if not all(code and name for code, name in pairs):
        raise InputError(f"{option} expects {form}, got {', '.join(given or ())!r}")
    if len(dict(pairs)) != len(pairs):
        raise InputError(f"{option} gives one {form.partition('=')[0].lower()} twice; give each once")
    return dict(pairs)


def scales_of(given: list[str] | None) -> tuple[float | None, dict[str, float]]:
    """Return the factor for all recordings, if there is one, and those for places."""
    from dura_common.errors import InputError

    everywhere: list[float] = []
    places: dict[str, float] = {}
    for item in given or ():
        place, equals, text = item.rpartition("=")
        try:
            factor = float(text)
        except ValueError:
            raise InputError(f"--scale expects FACTOR or PLACE=FACTOR, got {item!r}") from None
        if not equals:
            everywhere.append(factor)
        elif not place or place in places:
            raise InputError(f"--scale expects each PLACE once, got {item!r}")
        else:
            places[place] = factor
    if len(everywhere) > 1:
        raise InputError("--scale gives several factors for all recordings; give one, or PLACE=FACTOR")
    return (everywhere[0] if everywhere else None), places


def atlas_from(given: str | None, root: Path) -> Atlas | None:
    """Return the atlas of an option NAME=FILE; the file is looked for below the data set's folder, then from here.

    Raises:
        InputError: the option has another form, or the file is no atlas.
    """
    from dura_client.data.sources.fmri.atlas import atlas_of

    if given is None:
        return None
    ((name, file),) = pairs_of([given], "--atlas", "NAME=FILE").items()
    below = root / Path(file).expanduser()
    path = (below if below.is_file() else Path(file).expanduser()).resolve()
    if not path.is_file():
        return atlas_of(root, name, file)  # which says that it was not found
    return atlas_of(root, name, str(path.relative_to(root) if path.is_relative_to(root) else path))
