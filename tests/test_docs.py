"""The documentation names what is there, all of it, and nothing that is only here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from tests.site import strayline

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
FOLDERS = ("stream", "models", "tests", "benchmarks", "deploy")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([^`\n]+)`")
ENDINGS = ("py", "md", "toml", "txt", "yml", "yaml", "json")
# A file of ours as prose has it: with its folder, or alone with an ending that our files have.
FILE = re.compile(rf"(?:(?:{'|'.join(FOLDERS)})/)?[\w.-]+(?:/[\w.-]+)*\.(?:{'|'.join(ENDINGS)})")
ELSEWHERE = {"recipe_a.py", "recipe_b.py"}  # of the notes, not of this repository
GENERATED = re.compile(r"(?:^|/)(?:uv|package-lock|.*\.lock)$")
# Written in pieces, so that this file does not name what it looks for.
MACHINE = re.compile(
    "|".join(
        [
            r"(?<![\w.$}-])/" + r"work/",
            r"/t" + r"mp/(?!strayline)\w",
            r"/ro" + r"ot/",
            r"/ho" + r"me/\w+/",
            r"/Us" + r"ers/\w+/",
            r"index-ur" + r"l\s*=",
            r"artifact" + r"ory",
            r"https?://(?:[\w.-]+\.)?(?:interna" + r"l|loca" + r"l|cor" + r"p)(?![\w.-])",
        ]
    ),
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    """Files that are in the repository, or would be after `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def anchors(document: Path) -> set[str]:
    """Headings as GitHub links to them."""
    heads = re.findall(r"^#+\s+(.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_leads_somewhere(name):
    """To a file, and to a heading in it where it says so."""
    for target in LINK.findall((ROOT / name).read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(ROOT / (path or name)), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_is_mentioned_exists(name):
    """A map with a street that is gone costs more than none."""
    names = {path.name for path in tracked()}
    for quoted in QUOTED.findall((ROOT / name).read_text()):
        for file in FILE.findall(quoted):
            if file.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
                assert (ROOT / file).exists(), file
            elif "/" not in file and f"/{file}" not in quoted and file not in ELSEWHERE and file.endswith(".py"):
                assert file in names, file


@pytest.mark.parametrize("folder", ["stream", "models"])
def test_the_map_has_every_module(folder):
    """By its name, so that a search finds it."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = [path.name for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
    assert modules
    assert [m for m in modules if not re.search(rf"(?<![\w-]){re.escape(m)}\b", text)] == []


def test_every_make_target_that_is_mentioned_exists():
    """`make demo` is the first thing that anybody types."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in DOCUMENTS:
        quoted = re.findall(r"^```sh$.*?^```$|`[^`\n]+`", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\bmake ([a-z-]+)", "\n".join(quoted)):
            assert target in targets, (name, target)


def test_every_command_and_option_that_the_readme_shows_exists():
    """What is copied from there runs."""
    from stream.__main__ import main_group

    shown = re.findall(r"(?:^|[`\s/])strayline ([a-z]+)([^`\n#]*)", (ROOT / "README.md").read_text())
    assert shown
    for command, rest in shown:
        if command not in main_group.commands and not rest.strip().startswith("-"):
            continue  # prose
        known = {"--help", *(o for p in main_group.commands[command].params for o in p.opts)}
        assert set(re.findall(r"(?<!\w)--[a-z-]+", rest)) <= known, (command, rest)


def test_of_programs_that_the_readme_s_commands_need_it_says_that_they_are_to_be_installed():
    text = (ROOT / "README.md").read_text()
    begun = {
        line.split()[0]
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if re.match(r"[a-z]", line)
    }
    for program in begun - {"strayline", "make"} - {name for name in begun if name.startswith("kafka-")}:
        assert re.search(rf"`{program}`[^.]* to be installed", text), program
    assert begun > {"jq", "kcat"}


def test_the_alert_that_the_readme_shows_is_the_demos():
    (shown,) = re.findall(r"Alerts appear as they open:\n\n```\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown in strayline("demo").stdout


def test_the_readme_has_every_field_and_every_value_of_an_event():
    """Whoever writes a gateway reads it there."""
    from stream.codec import FIELDS, Kind, Outcome

    text = (ROOT / "README.md").read_text()
    table = text[text.index("| field | is |") : text.index("Files are UTF-8")]
    assert [name for name in (*FIELDS, *get_args(Kind), *get_args(Outcome)) if f"`{name}`" not in table] == []


def test_nothing_of_the_machine_where_it_was_written_is_in_the_repository():
    """No path and no registry of one computer."""
    found = [
        (str(path.relative_to(ROOT)), hit.group())
        for path in tracked()
        if not GENERATED.search(path.name)
        for hit in MACHINE.finditer(text_of(path))
    ]
    assert found == []
