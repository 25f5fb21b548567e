"""The report of a study: one HTML file that needs nothing else."""

from dura_server.report.render import render
from dura_server.report.result import StudyResult

__all__ = ["StudyResult", "render"]
