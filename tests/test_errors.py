"""The gallery of errors in `schemas/ERRORS.md`: each is provoked, and said to the letter; and none is left out."""

from __future__ import annotations

import ast
import io
import os
import re
import shlex
import shutil
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from homes import Home

from metering import errors
from metering.cli.app import app
from metering.home import Home as OpenedHome
from metering.payments.gateway import open_gateway

ROOT = Path(__file__).parents[1]
INSTALLED = Path(errors.__file__).parents[1]
GALLERY = ROOT / "schemas" / "ERRORS.md"
NOW = "2026-06-01T08:00:00Z"
TYPES = ("MeteringError", "UsageError", "NeedsPerson", "Locked", "wrong_value", "unreadable", "unwritable")

ELSEWHERE = {
    "metering/api.py": "test_python_api.py: a call, not a command",
    "metering/cli/app.py": "test_signals.py, test_doors.py: signals, a full disk, words that are no text",
    "metering/close/files.py": "test_explain.py: a file of a close that was changed",
    "metering/corrections/card_refunds.py": "test_card_refunds.py: a gateway that refuses or is silent",
    "metering/documents/pdf.py": "test_documents.py: a font or an extra that is missing",
    "metering/documents/write.py": "test_documents.py",
    "metering/events/fetched.py": "test_lake_s3.py: a store",
    "metering/events/ingest.py": "test_limits.py: a full disk",
    "metering/home.py": "test_close_order.py, test_restore.py: a lock, an older lake",
    "metering/lake/bucket.py": "test_lake_s3.py: a store",
    "metering/lake/compaction.py": "test_compaction.py: files that were changed",
    "metering/lake/objects.py": "test_lake_s3.py: a store",
    "metering/lake/raw.py": "test_compaction.py: files that were changed",
    "metering/lake/store.py": "test_lake_layout.py: a manifest that was changed in between",
    "metering/lake/sweep.py": "test_restore.py: a manifest put back from a backup",
    "metering/ledger/archive.py": "test_restore.py: a copy of another book",
    "metering/ledger/book.py": "test_ledger.py: a book that is locked or lies on a full disk",
    "metering/ledger/postgres.py": "test_postgres.py: a server",
    "metering/ledger/sqlite.py": "test_restore.py: a damaged book",
    "metering/payments/adopt.py": "test_restore.py: a gateway that knows more",
    "metering/payments/airwallex.py": "test_payments_airwallex.py: httpx that is not installed",
    "metering/payments/gateway.py": "test_a_gateway_that_is_not_here: below",
    "metering/payments/stripe.py": "test_payments_stripe.py: the SDK that is not installed",
    "metering/reconcile/gateway.py": "test_reconcile.py: a gateway that is silent",
    "metering/recovery/backup.py": "test_restore.py: a lake that changes or lacks files",
    "metering/recovery/put_back.py": "test_restore.py: a full disk, another book",
    "metering/recovery/restore.py": "test_restore.py: a damaged book, a silent gateway",
    "metering/recovery/upgrade.py": "test_upgrade.py: a book of another age",
    "metering/reports/ask.py": "test_python_api.py: a call, not a command",
    "metering/reports/publish.py": "test_published.py: a full disk",
    "metering/reports/xlsx.py": "test_xlsx.py: too many rows, an extra that is missing",
    "metering/spark/relations.py": "test_spark.py: a cluster",
    "metering/spark/session.py": "test_spark.py: a cluster",
    "metering/state/build.py": "test_state.py: a full disk",
    "metering/usage/meter.py": "test_usage_laws.py: usage beyond 38 digits",
}
"""Files some of whose errors need more than a command in a folder, and where they are provoked."""


class Scene(tuple[str, tuple[tuple[str, str], ...]]):
    """A heading of the gallery with the commands of one block below it, each with what it prints."""

    def __str__(self) -> str:
        return self[1][-1][0]


def scenes() -> list[Scene]:
    """All blocks of the gallery."""
    found, heading = [], ""
    for match in re.finditer(
        r"^## ([^\n]*)$|^```console\n(.*?)^```$", GALLERY.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        heading = match[1] or heading
        if match[2]:
            said = re.split(r"^\$ (.*)\n", match[2], flags=re.MULTILINE)[1:]
            found.append(Scene((heading, tuple(zip(said[::2], said[1::2], strict=True)))))
    return found


@cache
def stage(heading: str) -> Path:
    """The folder in which the blocks below a heading are played."""
    folder = Path(mkdtemp())
    home = folder / "home"
    if heading == "Without a home":
        return folder
    with chdir(folder):
        say(["init", "home"])
    if heading == "In a home of which May 2026 is closed":
        made = Home(home)
        made.prices("snapshot.vm,,USD,0.001,2026-01-01,")
        made.accounts("acc-1,USD,0,pm_card_visa", "acc-2,USD,0,pm_card_chargeDeclined")
        made.events("2026-05-02 ready one acc=acc-1 gb=1000\n2026-05-02T10 deleted one\n")
        made.events("2026-05-02 ready two acc=acc-2 gb=1000\n2026-05-02T05 deleted two\n", "b.jsonl")
        made.run("close", exit_code=3)
    return folder


def say(words: list[str]) -> str:
    """What a command of ours prints, standard output before standard error."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app(words, prog_name="metering")
        except SystemExit as end:
            code = end.code
    assert code != 0 or words[0] == "init", f"{words} is no error: {out.getvalue()}"
    return out.getvalue() + err.getvalue()


def play(command: str, patch: pytest.MonkeyPatch) -> str:
    """What a command prints: one of ours, or one of those that set the scene."""
    words = shlex.split(command)
    match words:
        case ["metering", *rest]:
            return say(rest)
        case ["echo", text, ">" | ">>" as how, path]:
            with Path(path).open("a" if how == ">>" else "w") as file:
                file.write(text + "\n")
        case ["printf", text, ">", path]:
            Path(path).write_bytes(text.encode("latin-1").decode("unicode_escape").encode("latin-1"))
        case ["rm", pattern]:
            for found in Path().glob(pattern):
                found.unlink()
        case ["export", setting]:
            patch.setenv(*setting.split("=", 1))
        case ["unset", name]:
            patch.delenv(name)
        case _:
            raise ValueError(f"a scene cannot be set with {command!r}")
    return ""


def played(scene: Scene, there: Path) -> tuple[list[str], set[tuple[str, int]]]:
    """What the commands of a scene print, and where the errors were made that they met."""
    met: set[tuple[str, int]] = set()
    make = errors.MeteringError.__init__

    def noted(self: errors.MeteringError, *args: str, **more: str) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_filename == errors.__file__ and frame.f_back:
            frame = frame.f_back
        met.add((str(Path(frame.f_code.co_filename).relative_to(INSTALLED)), frame.f_lineno))
        make(self, *args, **more)

    shutil.copytree(stage(scene[0]), there)
    with chdir(there), pytest.MonkeyPatch.context() as patch:
        patch.setattr(errors.MeteringError, "__init__", noted)
        for name in [name for name in os.environ if name.startswith(("METERING_", "STRIPE_", "AIRWALLEX_"))]:
            patch.delenv(name)
        patch.setenv("METERING_NOW", NOW)
        if (there / "home").exists():
            patch.setenv("METERING_HOME", "home")
        said = [play(command, patch) for command, _ in scene[1]]
    return [text.replace(f"{there}/", "").replace(str(there), "/srv/billing") for text in said], met


def made() -> dict[str, set[int]]:
    """The lines of each file on which an error is made."""
    found: dict[str, set[int]] = {}
    for path in sorted((INSTALLED / "metering").rglob("*.py")):
        if path.name != "errors.py":
            calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
            lines = {node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id in TYPES}
            found |= {str(path.relative_to(INSTALLED)): lines} if lines else {}
    return found


def test_the_gallery_is_true_and_whole(tmp_path: Path) -> None:
    """In one test, because every scene serves both."""
    left = made()
    wrong = {}
    for number, scene in enumerate(scenes()):
        printed, met = played(scene, tmp_path / str(number))
        if printed != [expected for _, expected in scene[1]]:
            wrong[str(scene)] = "".join(printed)
        for path, line in met:
            left[path].discard(line)
    assert wrong == {}
    assert {path: lines for path, lines in left.items() if lines and path not in ELSEWHERE} == {}
    assert [path for path in ELSEWHERE if not left[path]] == []


def test_a_scene_that_is_no_error_is_refused() -> None:
    with pytest.raises(AssertionError, match="is no error"):
        say(["--version"])
    with pytest.raises(ValueError, match="a scene cannot be set"), pytest.MonkeyPatch.context() as patch:
        play("cp a b", patch)


def test_a_gateway_that_is_not_here(tmp_path: Path) -> None:
    made = Home(tmp_path / "home")
    with pytest.raises(errors.UsageError, match="this installation has no such gateway"):
        open_gateway(OpenedHome(made.path), "bank")


def test_what_is_elsewhere_is_there() -> None:
    named = {name for said in ELSEWHERE.values() for name in re.findall(r"test_\w+\.py", said)}
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).exists()] == []
