"""Simulated sites in this very process: the same jobs and the same code, without Flower and Ray around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dura_client.node.rehearsal import answer
from dura_common.messages.rehearsal import Job, Score, check_answer

Vector = NDArray[np.float32]


class HereCrew:
    """Does one job after the other and remembers what was asked."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.finals: list[tuple[Score, Vector]] = []
        """Parameters at the end of every point of the grid, as often as they were scored."""

    def work(self, jobs: Sequence[tuple[Job, Vector | None]], on_done: Callable[[int], None]) -> list[Vector | None]:
        """Do all jobs."""
        answers = []
        for number, (job, vector) in enumerate(jobs, start=1):
            self.jobs.append(job)
            if isinstance(job, Score) and vector is not None:
                self.finals.append((job, vector))
            body, result = answer(job.model_dump_json().encode(), vector)
            check_answer(body)
            answers.append(result)
            on_done(number)
        return answers
