"""What README and docs/ say is held to the code: recipes load, commands parse, what is named is there. `make docs` builds it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from curation import cli, recipe
from curation.trainer import config
from tests.conftest import ROOT
from tests.faults import table

TEXTS = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
ROOMS = re.compile(r"(benchmarks|curation|docker|docs|requirements|schemas|tests|workflows)/[\w./-]*(::\w+)?")
LAUNCHERS = ("torchrun", "srun")
Found = list[tuple[str, str]]
"""Name of a page, and a piece of it."""


def blocks(language: str) -> Found:
    return [(name, body) for name, text in TEXTS.items() for kind, body in BLOCK.findall(text) if kind == language]


def spans() -> Found:
    """Code within a line."""
    return [(name, span.replace("\\|", "|")) for name, text in TEXTS.items() for span in SPAN.findall(BLOCK.sub("", text))]


def each(found: Found) -> list[Any]:
    return [pytest.param(text, id=f"{name}: {' '.join(text.split())[:60]}") for name, text in dict.fromkeys(found)]


def commands(script: str) -> Iterator[str]:
    """Each command of a shell script that is ours, also behind its path, an assignment or a launcher."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            place = next((i for i, w in enumerate(words) if Path(w).name in ("curation", "make")), None)
            if place is not None and (words[0] in LAUNCHERS or all("=" in w for w in words[:place])):
                yield shlex.join([Path(words[place]).name, *words[place + 1 :]])
            words = []


def form(synopsis: str) -> str:
    """One of the commands that it stands for: `inspect OUT|SHARD.tar [KEY]` → `inspect OUT KEY`."""
    return re.sub(r"\|\S+|[][…]", "", synopsis).replace(" N", " 1")


SCRIPTS = [(name, command) for name, script in blocks("bash") for command in commands(script)]
ASIDE = [(name, form(span)) for name, span in spans() if span.startswith(("curation ", "make "))]


@pytest.mark.parametrize("text", each(blocks("yaml")))
def test_a_recipe_loads(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    if "training" in yaml.safe_load(text):
        config.load(str(path))
    else:
        recipe.load(path)


@pytest.mark.parametrize("command", each([*SCRIPTS, *ASIDE]))
def test_a_command_parses(command: str) -> None:
    """By the command line's own parser, or against the Makefile; nothing is run."""
    program, *words = shlex.split(command)
    if program == "make":
        made = (ROOT / "Makefile").read_text()
        targets, variables = re.findall(r"^([\w-]+):", made, re.MULTILINE), re.findall(r"^(\w+) *\?=", made, re.MULTILINE)
        for word in words:
            name, sets, _ = word.partition("=")
            assert name in (variables if sets else targets), f"the Makefile has no {name}"
    else:
        parse(typer.main.get_command(cli.app), program, words)


def parse(command: Any, name: str, words: list[str], above: Any = None) -> None:
    """Raises what the command line would say. A command of which only the name is told (`curation run`) is not parsed."""
    if not words and above:
        return
    context = command.make_context(name, list(words), parent=above)
    if hasattr(command, "commands") and (rest := [*context._protected_args, *context.args]):
        inner, below, rest = command.resolve_command(context, rest)
        parse(below, inner, rest, context)


LOADING = [body for name, body in blocks("python") if name == "loading.md"]


@pytest.mark.parametrize("code", each([("loading.md", body) for body in LOADING]))
def test_the_shards_load_in_ten_lines(code: str, sample_run: Path, tmp_path: Path) -> None:
    tree = ast.parse(code)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in imports:
        pytest.importorskip(getattr(node, "module", None) or node.names[0].name, reason="the dev extra is not installed")
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import ", "from "))]
    assert len(lines) <= 10
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sample").symlink_to(sample_run)
    quiet = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0 and "carphone_pristine_00000" in done.stdout, done.stderr


def test_loading_shows_what_is_asked_of_it() -> None:
    asked = ("webdataset", "datasets", "duckdb", "torch")
    assert [any(re.search(rf"^(import|from) {name}\b", body, re.MULTILINE) for body in LOADING) for name in asked] == [True] * 4


@pytest.mark.parametrize("name", each([(page, span) for page, span in spans() if ROOMS.fullmatch(span)]))
def test_what_is_named_is_there(name: str) -> None:
    """A file, a folder, or a test in a file."""
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    assert not test or re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {test}"


def test_the_table_of_faults_is_that_of_the_suite():
    assert table.PAGE.read_text() == table.page(table.PAGE.read_text()), "python -m tests.faults.table writes it"


def test_the_tests_above_have_something_to_look_at() -> None:
    found = [yaml.safe_load(text) for _, text in blocks("yaml")]
    assert sum("clips" in one for one in found) > 10 and any("training" in one for one in found)
    assert len(SCRIPTS) > 20 and len(ASIDE) > 10


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    assert {page for page in TEXTS if page != "README.md"} <= set(re.findall(r": ([\w-]+\.md)$", menu, re.MULTILINE))


@pytest.mark.parametrize(
    "command", ["curation run embedded --inptu x --output y", "curation models fecth", "make curat", "make curate INPTU=x"]
)
def test_a_wrong_command_would_be_noticed(command: str) -> None:
    with pytest.raises(Exception, match=r"inptu|fecth|curat|INPTU"):
        test_a_command_parses(command)


PICKLES = {"curation/run/worker.py", "curation/run/captions.py", "curation/benchmark/released.py"}
"""What goes from the driver to workers and between them, in memory; and an unpickler that knows arrays and nothing else."""
STARTS = {"curation/store/sources.py"}
"""Starts pip and npm."""
RUNS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load", "runpy.run_path"}


@pytest.mark.parametrize("path", sorted((ROOT / "curation").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_was_read_is_never_run(path: Path) -> None:
    """docs/security.md: of what is read nothing is unpickled, unpacked or executed."""
    name = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not modules & {"pickle", "cloudpickle", "dill", "marshal", "shelve"} or name in PICKLES
            assert "subprocess" not in modules or name in STARTS
        elif isinstance(node, ast.Call):
            called, knobs = ast.unparse(node.func), {knob.arg: ast.unparse(knob.value) for knob in node.keywords}
            assert called not in RUNS and not called.endswith(".extractall"), f"line {node.lineno}: {called}"
            assert not [k for k in ("shell", "trust_remote_code", "allow_pickle") if knobs.get(k, "False") != "False"]
            assert called != "torch.load" or knobs.get("weights_only") == "True", f"line {node.lineno}: {called}"
            assert called != "yaml.load", f"line {node.lineno}: yaml.safe_load"
