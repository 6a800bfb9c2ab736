"""Whether the documentation's links, anchors and commands lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^\s*(```|~~~)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
ELSEWHERE = ("http://", "https://", "mailto:")
SHELLS = ("```console", "```sh", "```bash", "```shell")


def pages(repository: Path) -> list[Path]:
    """Every Markdown file that a reader is meant to open."""
    return sorted([*repository.glob("*.md"), *(repository / "docs").rglob("*.md"), *repository.glob("examples/*.md")])


def prose(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) outside fenced code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchor_of(heading: str) -> str:
    """The anchor that code hosts give a heading: lower case, punctuation dropped, spaces as hyphens."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors of a page; a heading that occurs again gets a number."""
    found: dict[str, int] = {}
    names = set()
    for _, line in prose(path.read_text("utf-8")):
        if heading := HEADING.match(line):
            name = anchor_of(heading[1])
            names.add(f"{name}-{found[name]}" if name in found else name)
            found[name] = found.get(name, 0) + 1
    return frozenset(names)


def broken_links(repository: Path) -> list[str]:
    """``file:line: …`` for every relative link whose file or anchor does not exist."""
    problems = []
    for page in pages(repository):
        for number, line in prose(page.read_text("utf-8")):
            for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if target.startswith(ELSEWHERE):
                    continue
                name, _, anchor = target.partition("#")
                place = (page.parent / name).resolve() if name else page
                where = f"{page.relative_to(repository)}:{number}: link {target!r}"
                if not place.exists():
                    problems.append(f"{where}: no such file")
                elif anchor and anchor not in anchors(place):
                    problems.append(f"{where}: no such heading")
    return problems


# --- documented commands ---------------------------------------------------------------------------------------------


def unknown_commands(repository: Path) -> list[str]:
    """``file:line: …`` for every ``shunter`` command in a shell block with a verb or option that does not exist."""
    import typer

    from shunter.cli import app

    root = typer.main.get_command(app)
    problems = []
    for page in pages(repository):
        for number, words in shell_commands(page.read_text("utf-8")):
            problem = unknown_word(root, words)
            if problem:
                problems.append(f"{page.relative_to(repository)}:{number}: {problem}")
    return problems


def shell_commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, words after ``shunter``) of every such command in a block marked as shell."""
    inside = False
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if FENCE.match(line):
            inside = not inside and line.strip() in SHELLS
            continue
        if not inside:
            continue
        first = first if pending else number
        pending += line.removeprefix("$ ")
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        command, pending = pending, ""
        for part in re.split(r"&&|\|\||;", command):
            words = shlex.split(part, comments=True)
            if words[:1] == ["shunter"]:
                yield first, words[1:]


def unknown_word(command: Any, words: list[str]) -> str | None:
    """The first verb or option that the command line does not have; None when all are known."""
    while words and hasattr(command, "commands"):
        verb, *rest = words
        if verb.startswith("-"):
            break
        if verb not in command.commands:
            return f"no command {verb!r} in {command.name!r}"
        command, words = command.commands[verb], rest
    known = {"--help", "-h"} | {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    for word in words:
        option = word.partition("=")[0]
        if re.match(r"--?[a-zA-Z]", option) and option not in known:
            return f"`shunter {command.name}` has no option {option!r}"
    return None
