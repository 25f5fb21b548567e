"""The report page: complete in itself, well-formed, honest about what it warns of, unmoved by hostile names."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from tests.support.pages import Page

from dura_server.report import StudyResult, render

LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action"}
HOSTILE = """<script>alert('1')</script> & "x" $\\frac{$ {{ 7*7 }}"""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def a_result(**changes: Any) -> StudyResult:
    """Return a simulated private study of three sites, varied by ``changes``."""
    data: dict[str, Any] = {
        "name": "hands",
        "question": "Left or right?",
        "digest": "ab" * 32,
        "roster": "cd" * 32,
        "created": datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
        "dura_version": "0.1.0",
        "noise": "local",
        "epsilon": 8.0,
        "delta": 1e-3,
        "rounds": 4,
        "parameters": 1234,
        "chance": 0.5,
        "warnings": (),
        "sites": tuple(
            {"site": name, "declared_patients": 40, "epsilon": 7.9, "accuracy_alone": 0.6}
            for name in ("north", "east", "south")
        ),
        "curve": tuple({"round": n, "accuracy": 0.5 + n / 20, "standard_error": 0.03} for n in (2, 4)),
        "simulation": {"federated": 0.71, "pooled": 0.78, "seconds": {"train": 61.25}},
    }
    return StudyResult.model_validate({**data, **changes})


def test_the_page_is_well_formed_and_its_ids_are_unique() -> None:
    """Every element is closed in order, and three drawings on one page do not share ids."""
    page = Page(render(a_result()))
    assert (page.faults, page.open) == ([], [])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', render(a_result()))
    assert set(targets) <= set(ids)
    assert targets


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No script, and no attribute that loads anything but a part of the page itself."""
    text = render(a_result())
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object", "embed"} & {tag for tag, _ in page.tags}
    loaded = [v for _, attributes in page.tags for key, v in attributes.items() if key in LOADING]
    assert all((value or "").startswith("#") for value in loaded)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_every_number_of_the_study_is_on_the_page() -> None:
    """Released accuracy, price, each site and the simulation's comparison can be read."""
    text = Page(render(a_result())).text
    for part in ("north", "east", "south", "0.700", "8.00", "0.001", "7.900", "0.710", "0.780", "61.2", "1234"):
        assert part in text
    assert "ab" * 32 in text
    assert "cd" * 32 in text


def test_warnings_stand_on_the_page_and_only_if_there_are_any() -> None:
    """Each warning is announced as an alert before the outcome; a study without one has no banner."""
    warned = render(a_result(warnings=("noise = none: no differential privacy", "simulated recordings")))
    alerts = [attributes for _, attributes in Page(warned).tags if attributes.get("role") == "alert"]
    assert len(alerts) == 2
    assert warned.index("noise = none") < warned.index("<h2>Outcome")
    assert 'role="alert"' not in render(a_result())


def test_a_study_without_noise_says_so_and_shows_no_epsilon() -> None:
    """Where nothing is protected the page says that, and draws no privacy spend."""
    sites = ({"site": "north", "declared_patients": 2, "epsilon": None},)
    text = render(a_result(noise="none", epsilon=None, delta=None, sites=sites, simulation=None))
    assert "no differential privacy" in text
    assert "Privacy spent" not in text
    assert "Every patient is protected" not in text


def test_a_real_study_shows_nothing_that_only_a_simulation_knows() -> None:
    """Without a simulation there is no pooled figure and no column of sites alone."""
    text = render(a_result(simulation=None))
    assert "pooled" not in text
    assert "simulation" not in text


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    """Markup, quotes, formulas and template signs in any text come out as that text."""
    site = {"site": HOSTILE, "declared_patients": 40, "epsilon": 7.9, "accuracy_alone": 0.6}
    text = render(a_result(name=HOSTILE, question=HOSTILE, warnings=(HOSTILE,), sites=(site,)))
    page = Page(text)
    assert (page.faults, page.open) == ([], [])
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.text.count(HOSTILE) >= 5  # heading, question, warning, table, drawing


def test_the_same_result_makes_the_same_page() -> None:
    """A page carries no clock and no random id, so that two copies can be compared."""
    assert render(a_result()) == render(a_result())


def test_a_page_about_shared_noise_says_what_a_broken_aggregation_would_show() -> None:
    """Both epsilons stand there, and nowhere that the coordinator is covered by the smaller one."""
    page = Page(render(a_result(noise="shared", epsilon_if_broken=21.5, sums="Each optimiser step was one sum.")))
    assert not page.faults
    assert "epsilon 21.50" in page.text
    assert "one sum" in page.text
    assert "including the coordinator" not in page.text
    assert "including the coordinator" in Page(render(a_result())).text


def test_a_study_whose_evaluations_were_lost_has_a_page() -> None:
    """Without a point of the learning curve the page says so."""
    page = Page(render(a_result(curve=(), simulation=None)))
    assert not page.faults
    assert "No evaluation was released" in page.text


def test_the_page_follows_light_and_dark() -> None:
    """Colours of text have a dark form, and drawings take theirs from the page."""
    text = render(a_result())
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    labels = [attributes.get("aria-label") for tag, attributes in Page(text).tags if tag == "figure"]
    assert labels
    assert all(labels)


GEOMETRY = """<script>
const boxes = [...document.querySelectorAll("svg text")].map(t => [t.textContent, t.getBoundingClientRect()]);
const found = [];
boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
  if (p.left < q.right - 3 && q.left < p.right - 3 && p.top < q.bottom - 3 && q.top < p.bottom - 3) found.push([a, b]);
}));
const root = document.documentElement;
document.title = JSON.stringify({texts: boxes.length, overlaps: found, wide: root.scrollWidth - root.clientWidth});
</script>"""


def browse(page: Path, *options: str) -> str:
    """Let Chromium, offline and without anybody's profile, open a page; return what it printed."""
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    arguments += [f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri()]
    done = subprocess.run([str(BROWSER), *arguments], check=True, capture_output=True, text=True, timeout=90)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("scheme", "number"), [("light", 1), ("dark", 0)])
def test_a_real_browser_draws_the_page(tmp_path: Path, scheme: str, number: int) -> None:
    """Chromium, offline, draws ink on paper, and turns both round where its user wants darkness."""
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render(a_result()))
    browse(page, f"--blink-settings=preferredColorScheme={number}", "--window-size=900,2200", f"--screenshot={picture}")
    pixels = imread(picture)[..., :3].mean(axis=2)
    paper = float(pixels[5, 5])
    ink = np.abs(pixels - paper) > 0.5
    assert (paper > 0.9) == (scheme == "light")
    assert (paper < 0.2) == (scheme == "dark")
    assert 0.005 < ink.mean() < 0.3  # headings, texts and the frames of three drawings
    assert ink[:, 100:800].any(axis=1).mean() > 0.3  # all the way down


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [900, 500])
def test_no_text_covers_another_and_the_page_fits(tmp_path: Path, width: int) -> None:
    """In the drawings as a browser lays them out no two texts overlap, and nobody has to scroll sideways."""
    text = render(a_result())
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)
    assert policy  # forbids scripts, so the copy that measures itself goes without
    page = tmp_path / "report.html"
    page.write_text(text.replace(policy[0], "").replace("</body>", GEOMETRY + "</body>"))
    title = re.search(r"<title>(.*?)</title>", browse(page, f"--window-size={width},1200", "--dump-dom"))
    assert title
    found = json.loads(html.unescape(title[1]))
    assert found["texts"] > 30
    assert found["overlaps"] == []
    assert found["wide"] <= 0
