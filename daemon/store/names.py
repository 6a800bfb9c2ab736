"""Parts of jobs' names: found in blocks of names instead of one by one.

A block holds the names of ``BLOCK`` consecutive ids, in lower case, a line each; ids without a job have an empty line.
It is stored with the first job beyond it. A million names are a thousand blocks: looking through all of them takes
some milliseconds, whatever is looked for, while an index of parts would cost more to keep than the job itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

BLOCK = 1024


def folded(name: str) -> str:
    """As names are compared."""
    return name.lower().replace("\n", " ")


def block_text(block: int, jobs: Iterable[tuple[int, str]]) -> str:
    """The text of a block from its (id, name), in any order."""
    lines = [""] * BLOCK
    first = block * BLOCK
    for job, name in jobs:
        lines[job - first] = folded(name)
    return "\n".join(lines)


def ids_in(block: int, text: str, part: str, before: int) -> Iterator[int]:
    """Ids of the block's jobs whose name has the folded ``part``, highest first, below ``before`` (0: no bound)."""
    first = block * BLOCK
    lines = text.split("\n")
    for place in range(BLOCK - 1, -1, -1):
        if part in lines[place] and (not before or first + place < before):
            yield first + place


def blocks_to_write(ids: Sequence[int], done: int) -> list[int]:
    """Blocks whose text has to be made after jobs were stored, lowest first.

    Args:
        ids: Of the new jobs; at least one.
        done: The first block that has no text yet.

    Returns:
        Blocks that have been left behind, and those of ids that came late.
    """
    top = max(ids) // BLOCK
    late = {job // BLOCK for job in ids if job // BLOCK < done} if min(ids) // BLOCK < done else set()
    return sorted(late.union(range(done, top)))
