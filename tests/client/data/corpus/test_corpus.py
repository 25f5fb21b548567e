"""Every defect that is planted in a sound data set is told, with its place, its cause and a remedy; nothing crashes."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.data.corpus.defect import Defect
from tests.client.data.corpus.every import DEFECTS
from tests.client.data.corpus.outcome import Outcome, examine, sound
from tests.client.data.corpus.page import FINDINGS, PAGE, findings_page, rows_of
from tests.client.data.corpus.tree import write_tree

from dura_client.data.findings.grade import Grade
from dura_client.data.findings.kinds import KINDS

KINDS_OF_TREES = ("edf", "bdf", "brainvision", "eeglab")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the sound tree of a kind, written once."""
    root = tmp_path_factory.mktemp("sound")

    def tree(kind: str) -> Path:
        if not (root / kind).exists():
            write_tree(root / kind, kind)
        return root / kind

    return tree


@pytest.mark.parametrize("kind", KINDS_OF_TREES)
def test_a_sound_data_set_is_called_sound(trees: Callable[[str], Path], kind: str) -> None:
    """Without a defect nothing stops a study and nothing is lost, with and without a study."""
    for contract in (None, {}):
        found = sound(trees(kind), contract)
        assert [item for item in found.findings if item.grade is not Grade.KNOW] == []
        assert {item.code for item in found.findings} <= {"SIZE-SMALL"}
        assert found.readable == 5


def chosen() -> list[object]:
    """Return the first defect of each code, and all others for the long run."""
    seen: set[str] = set()
    cases = []
    for defect in DEFECTS:
        marks = [pytest.mark.long] if defect.code in seen else []
        seen.add(defect.code)
        cases.append(pytest.param(defect, marks=marks, id=re.sub(r"\W+", "-", defect.name)))
    return cases


@pytest.mark.parametrize("defect", chosen())
def test_no_defect_is_accepted_in_silence(trees: Callable[[str], Path], tmp_path: Path, defect: Defect) -> None:
    """The expected finding names the file, says why, and says what to do; the other recordings are still read."""
    outcome: Outcome = examine(defect, trees(defect.kind), tmp_path / "tree")
    named = [item for item in outcome.new if item.code == defect.code]
    assert named, f"expected {defect.code}, got {[(item.code, item.place, item.cause) for item in outcome.new]}"
    assert any(defect.place in item.place or defect.place in item.cause for item in named)
    for item in outcome.new:
        assert len(item.cause) > 5
        assert item.remedy.strip().endswith((".", "`."))
        assert "Error" not in item.cause
    assert outcome.diagnosis.readable >= 4 or "every" in defect.name


def test_the_corpus_is_large_and_names_are_distinct() -> None:
    """At least 500 single defects, each with a name of its own."""
    names = [defect.name for defect in DEFECTS]
    assert len(names) >= 500
    assert len(set(names)) == len(names)


def test_every_kind_of_finding_is_planted_and_known() -> None:
    """No kind stands in the list that no defect reaches, and no detector speaks of a kind that is not in the list."""
    source = Path(__file__).parents[4] / "client" / "dura_client" / "data"
    said = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"[A-Z]+-[A-Z0-9]+", node.value)
            ):
                said.add(node.value)
    assert {code for code in said if code.split("-")[0] in {code.split("-")[0] for code in KINDS}} - set(
        KINDS
    ) <= NO_CODES
    assert set(KINDS) - {defect.code for defect in DEFECTS} == UNPLANTED | ELSEWHERE
    data = Path(__file__).parents[1]
    tests = "".join(
        path.read_text() for part in ("eeg", "importing", "sources", "fmri") for path in (data / part).glob("test_*.py")
    )
    assert {code for code in ELSEWHERE if f'"{code}"' not in tests} == set()


NO_CODES = {"EV-", "EDF-D"}
"""Words of the same form that are no codes."""
ELSEWHERE = {
    *("HYP-PAIR", "HYP-USED", "IMP-LIST"),
    *("CH-BAD", "CH-LACK", "FILE-SPLIT", "MEG-SHIELD", "MEG-STATE"),
    *("ANS-COL", "ANS-NONE", "CUT-LOST", "CUT-RULE", "CUT-SPAN"),
    *("ROI-FLAT", "ROI-KIND", "ROI-ORDER", "ROI-SAME", "ROI-SHORT", "ROI-NONE", "ROI-ATLAS"),
    *("ROI-SPACE", "ROI-TWO", "ROI-LOST", "ROI-GRID", "ROI-NAN", "ROI-TIME", "ROI-CONF"),
}
"""Kinds that the tests of importing, of MEG and of sources bring about."""
UNPLANTED = {"FILE-DENIED", "FILE-READ", "READER-SAID"}
"""Kinds that no file alone brings about: permissions, and what only unknown versions of a reader say."""


def test_the_page_lists_the_corpus() -> None:
    """The published page has a row for every defect, with the code that it expects."""
    listed = dict(re.findall(r"^\| (.+?) \| `([A-Z0-9-]+)`", PAGE.read_text(), flags=re.MULTILINE))
    assert listed == {defect.name: defect.code for defect in DEFECTS}
    assert FINDINGS.read_text() == findings_page()


@pytest.mark.long
def test_the_page_says_what_the_check_says(trees: Callable[[str], Path], tmp_path: Path) -> None:
    """Each row of the published page is what the check answers today."""
    rows = rows_of(
        [examine(defect, trees(defect.kind), tmp_path / str(number)) for number, defect in enumerate(DEFECTS)]
    )
    shutil.rmtree(tmp_path)
    assert [row for row in rows if row not in PAGE.read_text().splitlines()] == []
