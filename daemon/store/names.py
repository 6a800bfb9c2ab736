"""Parts of jobs' names: found in blocks of names instead of one by one.

A block holds the names of ``BLOCK`` consecutive ids, in lower case, a line each; ids without a job have an empty line.
It is stored with the first job beyond it. A million names are a thousand blocks: looking through all of them takes
some milliseconds, whatever is looked for, while an index of parts would cost more to keep than the job itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

BLOCK = 1024


def folded(name: str) -> str:
    """As names are compared."""
    return name.lower().replace("\n", " ")


def block_text(block: int, jobs: Sequence[tuple[int, str]]) -> str:
    """The text of a block from its (id, name), in any order."""
    first = block * BLOCK
    lines = [""] * BLOCK
    for job, name in jobs:
        lines[job - first] = name
    text = "\n".join(lines)
    if text.count("\n") == BLOCK - 1:
        return text.lower()
    return "\n".join([folded(name) for name in lines])


def ids_in(block: int, text: str, part: str, before: int) -> Iterator[int]:
    """Ids of the block's jobs whose name has the folded ``part``, highest first, below ``before`` (0: no bound)."""
    first = block * BLOCK
    lines = text.split("\n")
    for place in range(BLOCK - 1, -1, -1):
        if part in lines[place] and (not before or first + place < before):
            yield first + place


class Tail:
    """Names that are in no block yet, and the blocks that they fill.

    Args:
        first: The first block that has no text.
        names: (id, name) of all jobs from there on.
    """

    def __init__(self, first: int, names: list[tuple[int, str]]) -> None:
        self._first = first
        self._names = names

    def with_jobs(self, jobs: Sequence[tuple[int, str]]) -> tuple[Tail, dict[int, str], list[int]]:
        """What follows from new jobs.

        Returns:
            ``(tail, texts, late)``: the tail from now on, texts of the blocks that are full, and the blocks that have
            a text already to which a job was added.
        """
        ids = [job for job, _ in jobs]
        start = self._first * BLOCK
        late: list[int] = []
        if min(ids) < start:
            late = sorted({job // BLOCK for job in ids if job < start})
            jobs = [pair for pair in jobs if pair[0] >= start]
        names = [*self._names, *jobs]
        top = max(ids) // BLOCK
        if top <= self._first:
            return Tail(self._first, names), {}, late
        texts: dict[int, str] = {}
        by_block: dict[int, list[tuple[int, str]]] = {}
        for pair in names:
            by_block.setdefault(pair[0] // BLOCK, []).append(pair)
        rest = by_block.pop(top, [])
        for block, pairs in by_block.items():
            texts[block] = block_text(block, pairs)
        return Tail(top, rest), texts, late
