"""The rules of the house, each with a sin that it finds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from thorough import THOROUGH

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "metering"

ORDER = [
    *("errors", "shipped", "sql", "failpoints", "durable", "schema", "values", "tabular", "columns", "clock", "config"),
    *("lake", "ledger", "events", "usage", "spark", "state", "home"),
    *("accounts", "charges", "invoices", "payments", "corrections", "close"),
    *("documents", "recovery", "reconcile", "reports", "checks", "telling", "doctor", "status", "nightly"),
    *("api", "dashboard", "setup", "story", "demo", "cli"),
]
"""The rooms, and the files beside them: each knows only those before it."""

EXACT = [
    *("accounts", "charges", "close", "corrections", "events", "invoices", "ledger", "payments"),
    *("columns", "reconcile", "reports", "state", "usage", "values"),
]
"""Where usage or money is handled."""

FOLDERS = {"Path", "folder", "inbox", "path", "root", "scratch", "target"}
"""What stands on the left of `/` where it joins paths."""

CLOCKS = re.compile(r"(time\.(time|monotonic|perf_counter)(_ns)?|(datetime\.)?(datetime|date)\.(now|utcnow|today))")

DOORS = {
    "lake/duck.py": "what stands around a relation's query in DuckDB",
    "lake/relations.py": "a query together with the relations that it reads",
    "ledger/arrow.py": "some columns of a table, by names from `schemas/`",
    "ledger/book.py": "rows into a table, by names from `schemas/`",
    "ledger/postgres.py": "the version, locks and turns of a database",
    "spark/relations.py": "what stands around a relation's query in Spark",
}
"""Where Python spells statements of SQL, and which; all others lie in `.sql` files."""

STATEMENT = re.compile(
    r"\s*((SELECT|INSERT|WITH|FROM|COPY|ATTACH|MERGE|TRUNCATE) \S|UPDATE \S+ SET|DELETE FROM|COMMENT ON"
    r"|(CREATE|DROP|ALTER) (OR REPLACE |TEMP |TEMPORARY |UNIQUE )*(TABLE|VIEW|INDEX|SCHEMA|TRIGGER|MACRO)\b)"
)

BY_OTHERS = {
    "process_bind_param": "SQLAlchemy",
    "process_result_value": "SQLAlchemy",
    "dump": "psycopg",
    "format_commands": "click",
    "resolve_command": "click",
    "format_epilog": "click",
    "redirect_request": "urllib",
    "REASONS": "test_events_lines.py: no other reason is ever given",
    "CUSTOMERS": "test_payments_cards.py: each does what is said of it",
    "ATTEMPT_STATES": "test_payments_states.py: the moves lead from state to state",
    "INTENT_STATES": "test_payments_states.py: the moves lead from state to state",
}
"""What is not called by us, and by whom."""

EXACT_DIVISIONS = {"metering/usage/names.sql": "a whole number of days, in the words that DuckDB and Spark share"}


@cache
def parsed(text: str) -> ast.Module:
    """A file's syntax."""
    return ast.parse(text)


def sources() -> Iterator[tuple[str, Path]]:
    """Each Python file with its room."""
    for path in sorted(HOUSE.rglob("*.py")):
        first = path.relative_to(HOUSE).parts[0]
        yield first.removesuffix(".py"), path


def imported(tree: ast.AST) -> Iterator[str]:
    """The rooms that a file imports, wherever it does so."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "metering"
            names = [f"metering.{alias.name}" for alias in node.names] if whole else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("metering."))


def uphill(room: str, text: str) -> list[str]:
    """The rooms that a file of a room imports although they come after it."""
    found = set(imported(parsed(text))) - {room, "__version__"}
    return sorted(other for other in found if ORDER.index(other) > ORDER.index(room))


def inexact(text: str) -> list[str]:
    """Where binary fractions come in: literals, conversions, averages, data frames, and `/` between numbers."""
    found = []
    for node in ast.walk(parsed(text)):
        sin = (
            (isinstance(node, ast.Constant) and isinstance(node.value, float))
            or (isinstance(node, ast.Call) and ast.unparse(node.func) == "float")
            or (isinstance(node, ast.Attribute) and node.attr in ("df", "fetchdf", "to_pandas", "mean", "float64"))
            or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not _joins_paths(node))
        )
        if sin:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
    return found


def _joins_paths(node: ast.BinOp) -> bool:
    left: ast.expr = node
    while isinstance(left, ast.BinOp):
        left = left.left
    if isinstance(left, ast.Call):
        left = left.func
    return (left.attr if isinstance(left, ast.Attribute) else getattr(left, "id", "")) in FOLDERS


def inexact_sql(text: str) -> list[str]:
    """Types and functions of SQL that are binary fractions."""
    words = re.findall(r"\b(?:double|float|real|avg|mean|median)\b|(?<!/)/(?![/*])", _code(text), re.IGNORECASE)
    return [str(word) for word in words]


def _code(text: str) -> str:
    return re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", text))


def spelled_statements(text: str) -> list[str]:
    """Statements of SQL that Python spells, but for transactions and settings; documentation is not looked at."""
    tree = parsed(text)
    aside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    aside |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in aside:
            said = node.value
        elif isinstance(node, ast.JoinedStr):
            said = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
        else:
            continue
        if STATEMENT.match(said):
            found.append(f"line {node.lineno}: {said}")
    return found


def looks_at_the_clock(text: str) -> list[str]:
    """Calls that ask what time it is."""
    calls = (node.func for node in ast.walk(parsed(text)) if isinstance(node, ast.Call))
    return [ast.unparse(call) for call in calls if CLOCKS.fullmatch(ast.unparse(call))]


def defined(text: str) -> Iterator[str]:
    """The functions, methods, classes and constants of a file."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            decorated = {ast.unparse(each).split("(")[0].split(".")[-1] for each in node.decorator_list}
            # A decorator of click's hands the function over; what Python or a library calls by its name is used.
            if not decorated & {"command", "group", "callback", "override"}:
                yield node.name
    for node in parsed(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def unused(files: dict[str, str]) -> list[str]:
    """Names that stand nowhere but where they are defined."""
    words: dict[str, int] = {}
    for text in files.values():
        for word in re.findall(r"\w+", text):
            words[word] = words.get(word, 0) + 1
    names = [(path, name) for path, text in files.items() if path.endswith(".py") for name in defined(text)]
    return sorted(f"{path}: {name}" for path, name in names if words[name] == 1 and not name.startswith("__"))


def test_rooms_know_only_those_before_them() -> None:
    found = {str(path): uphill(room, path.read_text()) for room, path in sources() if not room.startswith("__")}
    assert {path: rooms for path, rooms in found.items() if rooms} == {
        # The demo plays the commands, and is one.
        str(HOUSE / "demo.py"): ["cli"],
    }
    assert set(ORDER) == {room for room, _ in sources()} - {"__init__", "__main__"}


@pytest.mark.parametrize(
    "text, rooms",
    [
        ("from metering.close.run import run_close", ["close"]),
        ("def late():\n    from metering import cli", ["cli"]),
        ("import metering.reports.ask", ["reports"]),
        ("from metering.lake import Lake\nfrom metering import __version__", []),
    ],
)
def test_a_room_that_knows_a_later_one_is_found(text: str, rooms: list[str]) -> None:
    assert uphill("usage", text) == rooms


def test_usage_and_money_are_exact() -> None:
    found = {str(path.relative_to(ROOT)): inexact(path.read_text()) for room, path in sources() if room in EXACT}
    found |= {str(path.relative_to(ROOT)): inexact_sql(path.read_text()) for path in HOUSE.rglob("*.sql")}
    assert {path: sins for path, sins in found.items() if sins and path not in EXACT_DIVISIONS} == {}


@pytest.mark.parametrize(
    "text", ["a = 0.5", "a = float(b)", "a = amount_minor / 100", "con.sql(q).df()", "a = (b + c) / 2", "c.mean()"]
)
def test_a_binary_fraction_is_found(text: str) -> None:
    assert len(inexact(text)) == 1


@pytest.mark.parametrize("text", ["SELECT CAST(a AS DOUBLE)", "SELECT avg(a)", "SELECT a / 2 -- half", "a::Float"])
def test_a_binary_fraction_of_sql_is_found(text: str) -> None:
    assert len(inexact_sql(text)) == 1


@pytest.mark.parametrize("text", ["a = home.path / 'x' / y", "a = Path(b) / c", "isinstance(a, float)", "a // 2"])
def test_paths_and_refusals_are_no_fractions(text: str) -> None:
    assert inexact(text) == []


@pytest.mark.parametrize("text", ["SELECT a // 2", "SELECT '1/2', 'float'", "-- avg, a/b"])
def test_texts_and_whole_numbers_of_sql_are_no_fractions(text: str) -> None:
    assert inexact_sql(text) == []


def test_sql_lies_in_its_own_files() -> None:
    found = {str(path.relative_to(HOUSE)): spelled_statements(path.read_text()) for _, path in sources()}
    assert {path: said for path, said in found.items() if said and path not in DOORS} == {}
    assert [path for path in DOORS if not found[path]] == []


@pytest.mark.parametrize(
    "text",
    [
        "con.execute('SELECT 1')",
        "con.execute(f'INSERT INTO {table} VALUES (?)')",
        "QUERY = '\\n  WITH a AS (SELECT 1) FROM a'",
        "con.sql('FROM closes')",
        "sa.text('UPDATE accounts SET name = 1')",
        "con.execute(f'CREATE OR REPLACE TEMP VIEW {name} AS ' + query)",
    ],
)
def test_a_statement_that_python_spells_is_found(text: str) -> None:
    assert len(spelled_statements(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "'BEGIN IMMEDIATE'",
        "'Select a month.'",
        "def a():\n    'SELECT of b.'",
        "say('From May on.')",
        "sql('usage', 'ends')",
    ],
)
def test_what_is_no_statement_of_rows_is_not_found(text: str) -> None:
    assert spelled_statements(text) == []


def test_only_the_clock_knows_what_time_it_is() -> None:
    found = {str(path.relative_to(HOUSE)): looks_at_the_clock(path.read_text()) for _, path in sources()}
    assert [path for path, calls in found.items() if calls] == ["clock.py"]


@pytest.mark.parametrize("text", ["time.time()", "datetime.now(UTC)", "datetime.datetime.utcnow()", "date.today()"])
def test_a_look_at_the_clock_is_found(text: str) -> None:
    assert looks_at_the_clock(text) == [text.split("(")[0]]


def test_everything_is_used() -> None:
    kinds = (".py", ".sql", ".html", ".typ", ".toml")
    folders = [HOUSE, ROOT / "schemas", ROOT / "jobs", ROOT / ".ci"]
    here = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in kinds
    }
    here["pyproject.toml"] = (ROOT / "pyproject.toml").read_text()
    assert [each for each in unused(here) if each.split(": ")[1] not in BY_OTHERS] == []
    # A relation is read by the name of its file; every file of `checks` is a check.
    words = {word for text in here.values() for word in re.findall(r"[\w-]+", text)}
    words |= {f"written_{name}" for name in ("lifespans", "size_changes", "anomalies", "keys", "events")}
    words |= {f"focus-{name}" for name in ("billing-period", "cost-and-usage", "invoice-detail")}
    relations = [path for path in here if path.endswith(".sql") and not path.startswith("metering/checks/")]
    assert [path for path in relations if Path(path).name.split(".")[0] not in words] == []


def test_what_nobody_uses_is_found() -> None:
    files = {"a.py": "MOST = 3\ndef used(): ...\ndef idle(): ...\nclass Gone: ...", "b.py": "used()"}
    assert unused(files) == ["a.py: Gone", "a.py: MOST", "a.py: idle"]


def named(text: str) -> list[str]:
    """The files that a guide names."""
    return [name for name in re.findall(r"`([\w/.-]+\.(?:py|sql|toml|json|md))`", text) if "NAME" not in name]


def test_the_guide_leads_to_what_is_there() -> None:
    guide = (HOUSE / "README.md").read_text()
    missing = [
        name
        for name in named(guide)
        if not any((place / name).exists() for place in (HOUSE, ROOT, HOUSE / "usage", HOUSE / "ledger"))
    ]
    assert named(guide) and missing == []
    rooms = guide.partition("Each room says")[0]
    assert [room for room in ORDER if f"`{room}`" not in rooms] == []


def test_a_table_of_a_rooms_files_is_whole() -> None:
    tables = {path.parent: path.read_text().partition("| file |")[2] for path in HOUSE.glob("*/README.md")}
    whole = {room: {path.name for path in room.glob("*.py")} - {"__init__.py"} for room, text in tables.items() if text}
    assert whole and {room: {*re.findall(r"`(\w+\.py)`", tables[room])} for room in whole} == whole


def left_out(file: str, text: str) -> list[str]:
    """The patterns of what the default suite leaves out of a file that fit none of its tests."""
    tests = [name for name in defined(text) if name.startswith("test_")]
    patterns = {pattern: pattern.partition("[[]")[0] for pattern in THOROUGH[file]}
    return [pattern for pattern, name in patterns.items() if not any(fnmatchcase(test, name) for test in tests)]


def test_what_is_left_out_by_default_is_there() -> None:
    assert {file: gone for file in THOROUGH if (gone := left_out(file, (ROOT / f"tests/{file}.py").read_text()))} == {}
    assert left_out("test_rehearsal", "def a(): ...") == ["*"]
