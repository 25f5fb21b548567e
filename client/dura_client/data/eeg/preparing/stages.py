"""Filters that a signal passes in blocks of any size, with the result of one pass over the whole.

Each stage keeps what it needs of the blocks before, so that only the stretch's own edges are edges. Blocks are arrays
(channels, samples). Output sample ``k`` of a stage stands for the time ``k / rate`` exactly. Zero-phase stages mirror
the signal at its edges (as MNE's ``reflect_limited``); causal ones hold its first value and never look ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float64]


class Stage(Protocol):
    """One step of a chain; serves one stretch of one recording."""

    def push(self, block: Block) -> Block:
        """Take the next block and return what is ready."""

    def finish(self) -> Block:
        """Return the rest after the last block."""


class Fir:
    """A filter of odd length.

    Args:
        kernel: (taps,).
        causal: whether the output at a time depends on the input up to then only; otherwise the kernel is centred.
    """

    def __init__(self, kernel: NDArray[np.float64], *, causal: bool) -> None:
        self._kernel = kernel[None, :]
        self._past, self._ahead = (len(kernel) - 1, 0) if causal else (len(kernel) // 2,) * 2
        self._edges = _Edges(self._past, self._ahead, hold=causal)
        self._held: Block | None = None

    def push(self, block: Block) -> Block:
        """Take the next block and return what is ready."""
        return self._filtered(self._edges.push(block))

    def finish(self) -> Block:
        """Return the rest."""
        return self._filtered(self._edges.finish())

    def _filtered(self, block: Block) -> Block:
        held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        taps = self._kernel.shape[1]
        self._held = held[:, max(held.shape[1] - taps + 1, 0) :]
        if held.shape[1] < taps:
            return np.zeros((held.shape[0], 0))
        from scipy.signal import oaconvolve  # noqa: PLC0415  # its import takes half a second, and training filters nothing

        found: Block = oaconvolve(held, self._kernel, mode="valid", axes=1)
        return found


class Polyphase:
    """Resampling by ``up / down``: the input with ``up - 1`` zeros between samples, filtered, every ``down``-th kept.

    Args:
        up: factor.
        down: factor.
        kernel: (taps,) at ``up`` times the input's rate, with a sum of ``up``.
        causal: whether output depends on the input up to its time only; otherwise the kernel is odd and centred.
    """

    def __init__(self, up: int, down: int, kernel: NDArray[np.float64], *, causal: bool) -> None:
        offset = 0 if causal else len(kernel) // 2
        before = -(-(len(kernel) - 1 - offset) // up)
        before = -(-before // down) * down
        ahead = -(-offset // up)
        self._up, self._down, self._offset, self._reach = up, down, offset, len(kernel) - 1 - offset
        lead = -offset % down
        self._kernel = np.concatenate([np.zeros(lead), kernel])
        self._skip = (offset + lead) // down
        self._edges = _Edges(before, ahead, hold=causal)
        self._begin = -before
        """Index of the first held input sample, a multiple of ``down``."""
        self._held: Block | None = None
        self._next = 0
        """Index of the next output sample."""

    def push(self, block: Block) -> Block:
        """Take the next block and return what is ready."""
        held = self._hold(self._edges.push(block))
        last = self._begin + held.shape[1] - 1
        return self._outputs(held, (last * self._up - self._offset) // self._down + 1)

    def finish(self) -> Block:
        """Return the rest: as many samples as begin before the input's end."""
        held = self._hold(self._edges.finish())
        return self._outputs(held, -(-self._edges.count * self._up // self._down))

    def _hold(self, block: Block) -> Block:
        self._held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        return self._held

    def _outputs(self, held: Block, end: int) -> Block:
        count = min(end, -(-self._edges.count * self._up // self._down)) - self._next
        if count <= 0:
            return np.zeros((held.shape[0], 0))
        first = self._next - self._begin * self._up // self._down + self._skip
        from scipy.signal import upfirdn  # noqa: PLC0415  # idem

        whole = upfirdn(self._kernel, held, self._up, self._down, axis=1)
        found: Block = whole[:, first : first + count]
        self._next += count
        oldest = (self._next * self._down - self._reach) // self._up - 1
        drop = max(0, min(oldest - self._begin, held.shape[1]) // self._down * self._down)
        self._held, self._begin = held[:, drop:], self._begin + drop
        return found


class AtTimes:
    """The signal at the times of another rate, by cubic interpolation between the samples beside each.

    Args:
        step: input samples between two output samples; the input must be sampled several times as fast as it varies.
        delay: input samples by which the output is late, so that it needs none after its time.
    """

    def __init__(self, step: float, *, delay: int) -> None:
        self._step, self._delay = step, delay
        self._before, self._after = 1 + delay, max(2 - delay, 0)
        self._edges = _Edges(self._before, self._after, hold=True)
        self._begin, self._next = -self._before, 0
        self._held: Block | None = None

    def push(self, block: Block) -> Block:
        """Take the next block and return what is ready."""
        return self._outputs(self._edges.push(block))

    def finish(self) -> Block:
        """Return the rest."""
        return self._outputs(self._edges.finish())

    def _outputs(self, block: Block) -> Block:
        held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        last = self._begin + held.shape[1] - 1  # the newest sample that is there
        reached = min(last - self._after + 1, self._edges.count) - 1e-9  # rounding must not decide at the very end
        end = max(self._next, int(np.ceil(reached / self._step)))
        times = np.arange(self._next, end) * self._step
        whole = np.floor(times).astype(np.int64)
        part = times - whole
        index = whole - self._delay - self._begin
        weights = (
            -part * (part - 1) * (part - 2) / 6,
            (part + 1) * (part - 1) * (part - 2) / 2,
            -(part + 1) * part * (part - 2) / 2,
            (part + 1) * part * (part - 1) / 6,
        )  # Lagrange's, for samples -1, 0, 1, 2
        top = held.shape[1] - 1
        found = np.zeros((held.shape[0], len(times)))
        for shift, weight in zip((-1, 0, 1, 2), weights, strict=True):
            found += held[:, np.minimum(index + shift, top)] * weight
        self._next = end
        drop = max(0, min(int(np.floor(end * self._step)) - self._delay - 1 - self._begin, held.shape[1]))
        self._held, self._begin = held[:, drop:], self._begin + drop
        return found


class Chain:
    """Stages one after the other."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)

    def push(self, block: Block) -> Block:
        """Take the next block and return what is ready."""
        for stage in self._stages:
            block = stage.push(block)
        return block

    def finish(self) -> Block:
        """Return the rest of all stages."""
        rest: Block | None = None
        for stage in self._stages:
            ended = stage.finish() if rest is None else np.concatenate([stage.push(rest), stage.finish()], axis=1)
            rest = ended
        return np.zeros((0, 0)) if rest is None else rest


class _Edges:
    """Continues a stretch beyond its begin and its end: mirrored through its outermost value, then zero; or held."""

    def __init__(self, before: int, after: int, *, hold: bool) -> None:
        self._before, self._after, self._hold = before, after, hold
        self._waiting: list[Block] = []
        self._last: Block | None = None
        self._begun = False
        self.count = 0
        """Samples of the stretch so far."""

    def push(self, block: Block) -> Block:
        """Return the block, before it at the begin of the stretch what continues it there."""
        self.count += block.shape[1]
        if self._begun:
            self._remember(block)
            return block
        self._waiting.append(block)
        enough = 1 if self._hold else self._before + 1
        return self._start() if self.count >= max(enough, 1) else block[:, :0]

    def finish(self) -> Block:
        """Return what waits still, and what continues the stretch at its end."""
        begin = self._start() if not self._begun and self.count else None
        if self._last is None:
            return self._waiting[0][:, :0] if self._waiting else np.zeros((0, 0))
        end = _continued(self._last[:, ::-1], self._after, hold=self._hold)[:, ::-1]
        return end if begin is None else np.concatenate([begin, end], axis=1)

    def _start(self) -> Block:
        self._begun = True
        block = np.concatenate(self._waiting, axis=1)
        self._waiting = []
        self._remember(block)
        return np.concatenate([_continued(block, self._before, hold=self._hold), block], axis=1)

    def _remember(self, block: Block) -> None:
        known = block if self._last is None else np.concatenate([self._last, block[:, -self._after - 1 :]], axis=1)
        self._last = known[:, -self._after - 1 :].copy()


def _continued(block: Block, count: int, *, hold: bool) -> Block:
    """Return ``count`` samples that come before a block."""
    if hold:
        return np.repeat(block[:, :1], count, axis=1)
    mirrored = min(count, block.shape[1] - 1)
    beyond = np.zeros((block.shape[0], count - mirrored))
    return np.concatenate([beyond, 2 * block[:, :1] - block[:, mirrored:0:-1]], axis=1)
