"""`dura study rehearse`: the same study on simulated patients, over a grid of epsilons, at no privacy cost."""

from dura_server.rehearsal.grid import Crew, rehearse
from dura_server.rehearsal.result import RehearsalResult
from dura_server.studies.planning import RehearsalPoint

__all__ = ["Crew", "RehearsalPoint", "RehearsalResult", "rehearse"]
