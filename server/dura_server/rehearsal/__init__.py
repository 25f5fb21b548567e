"""`dura study rehearse`: the same study on simulated patients, over a grid of epsilons, at no privacy cost."""

from dura_server.rehearsal.grid import Crew, rehearse
from dura_server.rehearsal.result import RehearsalPoint, RehearsalResult

__all__ = ["Crew", "RehearsalPoint", "RehearsalResult", "rehearse"]
