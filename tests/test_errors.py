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

ROOT = Path(__file__).parents[1]
INSTALLED = Path(errors.__file__).parents[1]
GALLERY = ROOT / "schemas" / "ERRORS.md"
NOW = "2026-06-01T08:00:00Z"
TYPES = ("MeteringError", "UsageError", "NeedsPerson", "Locked", "wrong_value", "unreadable", "unwritable")

APART = "test_errors_apart.py"
ELSEWHERE = {
    "metering/api.py": {
        "`month` names one month": f"{APART}::test_a_call_that_says_two_things_or_no_time",
        "now: ": f"{APART}::test_a_call_that_says_two_things_or_no_time",
        "month: ": "test_python_api.py::test_what_there_is_not_is_refused",
    },
    "metering/cli/app.py": {
        "`--help` after the command": f"{APART}::test_wrong_use_in_a_log",
        "is no text in UTF-8": f"{APART}::test_a_word_that_is_no_text",
        "Stopped ": "test_signals.py::test_a_run_is_ended_in_order",
        "Mend the cause and run the same": "test_close_hindered.py::test_the_files_of_a_close_on_a_full_disk",
    },
    "metering/close/files.py": {
        "differ from what the close recorded": f"{APART}::test_files_of_a_close_that_come_out_otherwise"
    },
    "metering/corrections/card_refunds.py": {
        "did not say": "test_card_refunds.py::test_a_lost_answer_refunds_once",
        "refused the refund of": "test_card_refunds.py::test_a_refund_that_the_gateway_refuses_needs_a_person",
        "failed at": "test_card_refunds.py::test_a_refund_that_fails_at_the_gateway_leaves_the_money_where_it_was",
    },
    "metering/documents/pdf.py": {
        "PDF needs typst": f"{APART}::test_an_extra_that_is_missing",
        "no font of this machine has": "test_documents.py::test_a_character_without_a_font_is_no_empty_box",
    },
    "metering/documents/write.py": {
        "A PDF is nothing for a terminal": f"{APART}::test_documents_for_a_terminal_and_without_a_font",
        " documents were written, ": f"{APART}::test_documents_for_a_terminal_and_without_a_font",
    },
    "metering/events/fetched.py": {"no such object": "test_lake_s3.py::test_events_are_read_from_a_store"},
    "metering/events/ingest.py": {"The lake is as it was.": "test_close_hindered.py::test_ingest_on_a_full_disk"},
    "metering/home.py": {
        "Another run holds the lock": "test_close_hindered.py::test_a_held_lock_stops_what_writes_and_nothing_else",
        "is no IANA zone": "test_close_order.py::test_a_zone_of_a_machine_begins_no_book",
        "not mounted": "test_restore.py::test_a_disk_that_is_not_mounted",
    },
    "metering/lake/bucket.py": {
        "Another run is replacing": "test_lake_s3.py::test_without_conditions_the_ledgers_lock_is_needed",
        "could not be replaced": "test_lake_s3.py::test_a_store_that_stays_silent",
        " was changed": f"{APART}::test_an_object_that_was_changed_or_cut_off",
    },
    "metering/lake/compaction.py": {
        "was changed": "test_compaction.py::test_a_damaged_file_is_not_merged",
        "Nothing was merged.": f"{APART}::test_files_that_are_merged_joined_or_archived",
    },
    "metering/lake/objects.py": {
        "was cut off by the store": f"{APART}::test_an_object_that_was_changed_or_cut_off",
        "pip install 'metering[s3]'": "test_lake_s3.py::test_the_extra_is_named",
        "no credentials were found": "test_lake_s3.py::test_what_cannot_work_is_told",
        "There is no bucket": "test_lake_s3.py::test_what_cannot_work_is_told",
        "the store refuses it": "test_lake_s3.py::test_credentials_are_nowhere",
        "AWS_": "test_lake_s3.py::test_what_cannot_work_is_told",
    },
    "metering/lake/raw.py": {
        "does not hold the lines of batch": f"{APART}::test_files_that_are_merged_joined_or_archived",
        "was changed": f"{APART}::test_files_that_are_merged_joined_or_archived",
        "is another file than": "test_compaction.py::test_nothing_in_the_folder_is_overwritten",
    },
    "metering/lake/store.py": {"does not follow": "test_lake_s3.py::test_of_two_runs_one_counts"},
    "metering/lake/sweep.py": {
        "put back from a backup": "test_compaction.py::test_a_manifest_put_back_is_no_reason_to_remove_events"
    },
    "metering/ledger/archive.py": {
        "cannot be read: ": "test_restore.py::test_a_damaged_copy_in_the_lake_is_no_truth",
        "are not of one book": "test_restore.py::test_a_ledger_that_went_its_own_way_is_refused",
    },
    "metering/ledger/book.py": {"schema version": "test_ledger.py::test_a_ledger_of_another_version_is_not_touched"},
    "metering/ledger/postgres.py": {
        "cannot be asked whether it took place": "test_postgres.py::test_a_server_that_stays_away_after_a_commit",
        "held the ledger": "test_postgres.py::test_a_run_that_lost_its_hold_writes_no_more",
        "the schema that its search_path names does not exist": f"{APART}::test_a_database_that_cannot_hold_the_book",
        "is in ": f"{APART}::test_a_database_that_cannot_hold_the_book",
        "metering[postgres]": "test_postgres.py::test_without_the_extra_the_error_names_it",
    },
    "metering/ledger/sqlite.py": {
        "cannot be read: ": f"{APART}::test_a_file_of_the_ledger_that_cannot_be_read_or_copied",
        "cannot be copied to": f"{APART}::test_a_file_of_the_ledger_that_cannot_be_read_or_copied",
        "is damaged: ": f"{APART}::test_a_file_of_the_ledger_that_cannot_be_read_or_copied",
    },
    "metering/payments/adopt.py": {
        "payment intents that the ledger": "test_restore.py::test_a_copied_home_is_noticed_by_the_gateways_list",
        "would not come out as it was closed": "test_restore.py::test_a_number_never_goes_to_another_customer",
    },
    "metering/payments/airwallex.py": {"httpx is not installed": f"{APART}::test_an_extra_that_is_missing"},
    "metering/payments/gateway.py": {
        "this installation has no such gateway": f"{APART}::test_a_gateway_that_is_not_here"
    },
    "metering/payments/stripe.py": {"the Stripe SDK is not installed": f"{APART}::test_an_extra_that_is_missing"},
    "metering/reconcile/gateway.py": {
        "did not answer: ": "test_reconcile.py::test_a_gateway_that_does_not_answer_is_no_difference"
    },
    "metering/recovery/backup.py": {
        "files are more than one backup can name": f"{APART}::test_a_backup_of_what_is_restless_gone_or_too_much",
        "The lake lacks ": f"{APART}::test_a_backup_of_what_is_restless_gone_or_too_much",
        "The lake changed all the time": f"{APART}::test_a_backup_of_what_is_restless_gone_or_too_much",
    },
    "metering/recovery/put_back.py": {
        "another book": "test_restore.py::test_the_home_of_another_book_is_left_alone",
        "cannot be written: ": f"{APART}::test_a_restore_on_a_full_disk_and_without_an_answer",
    },
    "metering/recovery/restore.py": {
        "has no ledger": "test_restore.py::test_a_home_without_a_ledger_is_backed_up_too",
        "is damaged: ": f"{APART}::test_a_file_of_the_ledger_that_cannot_be_read_or_copied",
        "has nothing newer": "test_restore.py::test_a_lost_lake_whose_backup_is_older_than_the_ledger",
        "did not answer: ": f"{APART}::test_a_restore_on_a_full_disk_and_without_an_answer",
    },
    "metering/recovery/upgrade.py": {"version of metering": "test_upgrade.py::test_other_versions_are_refused"},
    "metering/reports/ask.py": {"no usage by": "test_python_api.py::test_what_there_is_not_is_refused"},
    "metering/reports/publish.py": {
        "could not be written": "test_published.py::test_a_file_that_cannot_be_written_does_not_stop_the_money"
    },
    "metering/reports/render.py": {
        " is nothing for a terminal": f"{APART}::test_documents_for_a_terminal_and_without_a_font"
    },
    "metering/reports/xlsx.py": {
        "Workbooks need XlsxWriter": f"{APART}::test_an_extra_that_is_missing",
        "rows; a worksheet holds ": "test_xlsx.py::test_more_rows_than_a_sheet_holds_are_refused",
    },
    "metering/spark/relations.py": {"the lake has": "test_spark.py::test_a_lake_that_the_workers_do_not_see"},
    "metering/spark/session.py": {
        "[engine] conf: ": "test_elsewhere.py::test_settings_that_figures_depend_on_cannot_be_changed",
        "has given no worker to a small job": f"{APART}::test_a_cluster_that_fails_or_has_no_worker",
        "metering[spark]": "test_elsewhere.py::test_pyspark_that_is_missing_is_named_with_its_extra",
        "needs Java": "test_elsewhere.py::test_java_that_is_missing_is_said",
        "cannot be reached": "test_elsewhere.py::test_a_cluster_that_is_not_there_is_named",
        "does not find the lake": f"{APART}::test_a_cluster_that_fails_or_has_no_worker",
        " failed: ": f"{APART}::test_a_cluster_that_fails_or_has_no_worker",
    },
    "metering/state/build.py": {
        "until the state is written": f"{APART}::test_a_state_that_cannot_be_written",
    },
    "metering/usage/meter.py": {"38 digits": "test_usage_laws.py::test_overflow_is_an_error_never_a_figure"},
}
"""Errors that need more than a command in a folder: words of each, and the test that provokes it and asks for them."""


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


def made() -> dict[str, dict[int, str]]:
    """The lines of each file on which an error is made, each with the words that it always says."""
    found: dict[str, dict[int, str]] = {}
    for path in sorted((INSTALLED / "metering").rglob("*.py")):
        if path.name != "errors.py":
            calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
            lines = {
                node.lineno: fixed_words(node)
                for node in calls
                if isinstance(node.func, ast.Name) and node.func.id in TYPES
            }
            found |= {str(path.relative_to(INSTALLED)): lines} if lines else {}
    return found


def fixed_words(call: ast.Call) -> str:
    """What the texts of an error say whatever is put into them; nothing where it passes another one's on."""
    texts = texts_of(call)
    if isinstance(call.func, ast.Name) and call.func.id.islower():
        shared = next(node for node in SHARED if isinstance(node, ast.FunctionDef) and node.name == call.func.id)
        texts = [f"{text}: " for text in texts] + texts_of(*shared.body[1:])
    return "\n".join(texts)


SHARED = ast.parse(Path(errors.__file__).read_text("utf-8")).body
"""The functions beside the classes of errors make those that several rooms say alike, most of them of a named place."""


def texts_of(*nodes: ast.AST) -> list[str]:
    """The texts that stand in some code."""
    inner = (each for node in nodes for each in ast.walk(node))
    return [each.value for each in inner if isinstance(each, ast.Constant) and isinstance(each.value, str)]


@cache
def asked_for(test: str) -> str:
    """What a test says in texts: those of the function and its decorators, and of what it names in its file."""
    file, function = test.split("::")
    body = ast.parse((ROOT / "tests" / file).read_text("utf-8")).body
    named = {name: node for node in body for name in names_of(node)}
    reached, ahead = set(), [function]
    while ahead:
        name = ahead.pop()
        if name in named and name not in reached:
            reached.add(name)
            ahead += [node.id for node in ast.walk(named[name]) if isinstance(node, ast.Name)]
    if function not in reached:
        return ""
    return "\n".join(text.replace("\\", "") for text in texts_of(*(named[name] for name in reached)))


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement of a module gives."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def unheard(left: dict[str, dict[int, str]], elsewhere: dict[str, dict[str, str]]) -> list[str]:
    """The errors whose words no test asks for, and what is said of tests that do not ask for them or of no error."""
    wrong = []
    for path, lines in left.items():
        words = elsewhere.get(path, {})
        told = {line: said for line, said in lines.items() if said}
        wrong += [f"{path}, line {line}" for line, said in told.items() if not any(each in said for each in words)]
    for path, words in elsewhere.items():
        for each, test in words.items():
            if not any(each in said for said in left.get(path, {}).values()):
                wrong.append(f"{path}: {each!r} is said by no error that the gallery leaves out")
            if each not in asked_for(test) or not asked_for(test):
                wrong.append(f"{test} does not ask for {each!r}")
    return wrong


def test_the_gallery_is_true_and_whole(tmp_path: Path) -> None:
    """In one test, because every scene serves both."""
    left = made()
    wrong = {}
    for number, scene in enumerate(scenes()):
        printed, met = played(scene, tmp_path / str(number))
        if printed != [expected for _, expected in scene[1]]:
            wrong[str(scene)] = "".join(printed)
        for path, line in met:
            left[path].pop(line, None)
    assert wrong == {}
    assert unheard(left, ELSEWHERE) == []


def test_a_scene_that_is_no_error_is_refused() -> None:
    with pytest.raises(AssertionError, match="is no error"):
        say(["--version"])
    with pytest.raises(ValueError, match="a scene cannot be set"), pytest.MonkeyPatch.context() as patch:
        play("cp a b", patch)


def test_an_error_that_no_test_asks_for_is_found() -> None:
    """One that nobody names, a test that is gone, one that asks for other words, and words of no error."""
    there = f"{APART}::test_a_state_that_cannot_be_written"
    left = {"a.py": {1: "It is full.\n"}, "b.py": {2: "until the state is written\n"}}
    assert unheard(left, {"b.py": {"until the state is written": there}}) == ["a.py, line 1"]
    gone, other, idle = {"It is full": f"{APART}::test_gone"}, {"It is full": there}, {"It is fuller": there}
    for words in (gone, other):
        (found,) = unheard({"a.py": left["a.py"]}, {"a.py": words})
        assert found.endswith("does not ask for 'It is full'")
    assert len(unheard({"a.py": left["a.py"]}, {"a.py": idle})) == 3
