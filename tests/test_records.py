"""Records of measurements: each belongs to a page, tells the revision that made it, and the page has its figures."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
ROOMS = ("benchmarks", "calibration", "docs", "export", "runtime", "tests", "training")
RECORDS = sorted(RESULTS.glob("*.json"))
# Their weights are not kept, so that nobody can make them again; each says so itself.
# Being made again.
PENDING = {"mb05_accuracy.json", "tracking.json"}
NOT_REPEATABLE = {"2dasl_ablation.json", "2dasl_accuracy.json"}


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def git(*command: str) -> str:
    return subprocess.run(["git", "-C", str(REPOSITORY), *command], capture_output=True, text=True, check=True).stdout


def has_history() -> bool:
    """True in a checkout with all of its revisions."""
    try:
        return git("rev-parse", "--is-shallow-repository").strip() == "false"
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    """Those in backticks; NAME stands for a new one."""
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if "NAME" not in name and not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("path", sorted(RESULTS.iterdir()), ids=lambda path: path.name)
def test_every_result_belongs_to_a_page(path):
    assert any(f"results/{path.stem}." in page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("path", [path for path in RECORDS if path.name not in PENDING], ids=lambda path: path.name)
def test_a_record_tells_command_and_machine(path):
    document = record(path.name)
    if path.name in NOT_REPEATABLE:
        assert document["not_repeatable"].endswith("not kept.")
    else:
        assert "not_repeatable" not in document
        assert document["command"].startswith("python -m benchmarks ")
        assert document["commit"]["dirty"] is False
        assert document["machine"]["cpu"]
        assert document["versions"]["python"]


@pytest.mark.skipif(not has_history(), reason="not all revisions are here")
@pytest.mark.parametrize(
    "path", [path for path in RECORDS if path.name not in NOT_REPEATABLE | PENDING], ids=lambda path: path.name
)
def test_a_record_names_a_revision_of_this_history_that_has_the_command(path):
    document = record(path.name)
    revision = document["commit"]["revision"]
    git("merge-base", "--is-ancestor", revision, "HEAD")  # raises if not
    command = document["command"].split()[3]
    assert f'"{command}"' in git(
        "grep", "-hE", f'add_parser\\(\\s*"{command}"|^ +"{command}"', revision, "--", "benchmarks"
    )
