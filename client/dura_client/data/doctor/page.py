"""The check as one self-contained page with drawings, without scripts and without anything from other places.

The page names patients' labels and files. It is for the data manager and stays at the site, so it is written for its
owner alone.
"""

from __future__ import annotations

from collections import defaultdict
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dura_client.data.doctor.diagnose import Diagnosis
from dura_client.data.doctor.pictures import MOST_ROWS, draw
from dura_client.data.findings.finding import Finding
from dura_client.data.findings.grade import Grade


def render(name: str, found: Diagnosis, study: str = "") -> str:
    """Return the check of a data set, against a study if one is named, as HTML text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sheet = Markup(_read("style.css"))  # noqa: S704  # a file of this package
    return environment.from_string(_read("page.html")).render(
        style=sheet,
        name=name,
        study=study,
        found=found,
        groups=_grouped(found),
        pictures=draw(found),
        most=MOST_ROWS,
    )


def _grouped(found: Diagnosis) -> list[tuple[Grade, list[tuple[Finding, list[str]]]]]:
    """Return findings by consequence, those of one cause together with all their places."""
    groups: dict[Grade, dict[tuple[str, str], tuple[Finding, list[str]]]] = {grade: {} for grade in Grade}
    places: dict[tuple[Grade, str, str], list[str]] = defaultdict(list)
    for item in found.findings:
        key = (item.grade, item.code, item.cause)
        places[key].append(item.place)
        groups[item.grade].setdefault((item.code, item.cause), (item, places[key]))
    return [(grade, list(items.values())) for grade, items in groups.items() if items]


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
