"""What every command shares: the home, the clock, how it talks, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from metering.errors import DONE, FAILED, MeteringError, UsageError, wrong_value

if TYPE_CHECKING:
    from metering.clock import Clock
    from metering.home import Home, Run


@dataclass
class Context:
    """The options that every command takes."""

    home_path: str | None = None
    now: str | None = None
    quiet: bool = False
    json_logs: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    """What every line of a JSON log says: the number of the run."""

    @property
    def path(self) -> Path:
        """Where the home is."""
        return Path(self.home_path or os.environ.get("METERING_HOME") or ".")

    def clock(self) -> Clock:
        """The engine's clock."""
        from metering.clock import Clock
        from metering.values import InvalidValue, parse_instant

        text = self.now or os.environ.get("METERING_NOW")
        if not text:
            return Clock()
        try:
            return Clock(parse_instant(text))
        except InvalidValue as error:
            raise wrong_value("--now", error) from None

    def open(self, *, checked: bool = True, charging: bool = False) -> Home:
        """The home that the command works on; a fixed clock before the last posting is refused.

        Unchecked, a home opens whatever has become of its ledger. A command that charges cards is refused here if
        the gateway cannot be opened, before it has written anything.
        """
        from metering.home import Home
        from metering.payments.gateway import open_gateway, refuse_live_key

        clock = self.clock()
        home = Home(self.path, clock)
        home.on_run = self._begin
        if not checked:
            return home
        home.check_fixed()
        if not clock.is_real:
            home.check_clock()
            refuse_live_key(home)
        if charging:
            open_gateway(home).close()
        return home

    def _begin(self, run: Run) -> None:
        """Every line of the log names the run from now on; what it found of earlier runs is said."""
        self.about.update(run=run.run)
        for sentence in run.summary:
            self.say(sentence)

    def note(self, home: Home, command: str, exit_code: int, summary: str) -> int:
        """Leave a run of a command that only looked, and give back its exit code; one that cannot be left is said."""
        why = home.note(command, exit_code, summary)
        if why:
            self.say(f"This run is not recorded: {why}.")
        return exit_code

    @contextmanager
    def job(self, home: Home, command: str, *, needs_book: bool = True) -> Iterator[Run]:
        """A run that those who watch are told of: by a ping when it begins and ends, and by metrics.

        A run that was refused before it was recorded leaves the metrics as they are: its ledger cannot be trusted.
        """
        from metering.telling.metrics import write_metrics
        from metering.telling.ping import ping

        code, recorded = FAILED, False
        ping(home.clock, "start", self.say)
        try:
            with home.run(command, needs_book=needs_book) as run:
                recorded = run.run > 0
                yield run
            code = run.exit_code
        except MeteringError as error:
            code = error.exit_code
            raise
        finally:
            if recorded:
                write_metrics(home, self.say)
            ping(home.clock, str(code), self.say)

    def say(self, sentence: str, **facts: Any) -> None:
        """Talk: to standard error, as text or as one JSON object a line."""
        if self.json_logs:
            self._log({"level": "info", "message": sentence, **facts})
        elif not self.quiet:
            click.echo(sentence, err=True)

    def done(self, run: Run, sentence: str) -> int:
        """Say what a run has done, here and in its summary; the exit code of a command that has done it all."""
        run.say(sentence)
        self.say(sentence)
        return DONE

    def complain(self, error: MeteringError) -> None:
        """Say what went wrong."""
        if self.json_logs:
            self._log({"level": "error", "message": str(error), "exit_code": error.exit_code})
        else:
            click.echo(f"metering: {error}", err=True)

    def _log(self, facts: dict[str, Any]) -> None:
        from metering.clock import Clock
        from metering.values import format_instant

        try:
            clock = self.clock()
        except UsageError:
            clock = Clock()
        line = {"time": format_instant(clock.now()), **self.about, **facts}
        click.echo(json.dumps(line, ensure_ascii=False), err=True)


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Somebody asked the process to end: no step may go on, as it might after an error of its own."""


def _heed_signals() -> None:
    """Have a signal end the run in order, and a second one at once; what is ignored (nohup) stays so."""

    def stop(number: int, _: object) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(f"by {signal.Signals(number).name}")

    heeded = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    for each in heeded:
        signal.signal(each, stop)


pass_context = click.make_pass_decorator(Context, ensure=True)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value:
            setattr(ctx.ensure_object(Context), name, value)
        return value

    return callback


_OPTIONS = (
    ("json_logs", "--json-logs", {"is_flag": True}, "Talk in JSON, one object a line."),
    ("quiet", "--quiet", {"is_flag": True}, "Only data and errors."),
    ("now", "--now", {"metavar": "TIME"}, "The engine's clock, RFC 3339 [METERING_NOW]."),
    ("home_path", "--home", {"metavar": "DIR"}, "The home [METERING_HOME, else this folder]."),
)
_SHARED = {name for name, *_ in _OPTIONS}


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that may stand before or after the command's name."""
    for name, flag, settings, help in _OPTIONS:
        decorate = click.option(flag, name, expose_value=False, callback=_keep(name), help=help, **settings)
        function = decorate(function)
    return function


def command(group: click.Group, name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of a group: it gets the Context, and what it returns is its exit code (None is 0)."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def run(context: Context, /, *args: Any, **kwargs: Any) -> None:
            _end(context, lambda: function(context, *args, **kwargs))

        made = group.command(name, **settings)(common(pass_context(run)))
        made.params.sort(key=lambda each: each.name in _SHARED)  # its own options first in its help
        return made

    return decorate


def group(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Group]:
    """A group of commands; with `invoke_without_command` its own function runs where no command is named."""

    def decorate(function: Callable[..., Any]) -> click.Group:
        @wraps(function)
        def run(context: Context, /, *args: Any, **kwargs: Any) -> None:
            if click.get_current_context().invoked_subcommand is None:
                _end(context, lambda: function(context, *args, **kwargs))

        return app.group(name, **settings)(common(pass_context(run)))

    return decorate


def _end(context: Context, work: Callable[[], int | None]) -> NoReturn:
    try:
        code = work()
    except MeteringError as error:
        context.complain(error)
        code = error.exit_code
    except BrokenPipeError:
        raise
    except Stopped as stopped:
        context.complain(
            MeteringError(
                f"Stopped {stopped}.",
                unchanged="What was committed before stands; nothing is half-done.",
                remedy="Run the same command again: it goes on where it was.",
            )
        )
        code = FAILED
    except Exception as error:
        failure = _of_the_machine(error)
        if failure is None:
            raise
        context.complain(failure)
        code = failure.exit_code
    _leave(code or 0)


def _of_the_machine(error: Exception) -> MeteringError | None:
    """What to say of an error that the machine made (disk, memory, permissions); None for one that we made."""
    import duckdb

    if isinstance(error, OSError):
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    elif isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.OutOfRangeException)):
        message = str(error).splitlines()[0]
    elif isinstance(error, UnicodeEncodeError):
        return UsageError(
            f"{error.object!r} is no text in UTF-8.", unchanged="Nothing was changed.", remedy="Write it in UTF-8."
        )
    else:
        return None
    return MeteringError(
        f"{message}.",
        unchanged="What was committed before stands; nothing is half-done.",
        remedy="Mend the cause and run the same command again.",
    )


def _leave(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


class Sections(click.Group):
    """Its help lists the commands below the docstring of the file that holds them; a report is told to be one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from metering.reports.catalog import reports

            if args[0] not in reports():
                raise
            told = f"No such command '{args[0]}'. It is a report: `metering report {args[0]}`."
            raise click.UsageError(told, ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        room = formatter.width - 6 - max(map(len, self.commands))
        for name, each in self.commands.items():
            title = sys.modules[each.callback.__module__].__doc__ or ""
            sections.setdefault(title, []).append((name, each.get_short_help_str(room)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="metering", prog_name="metering")
@common
def app() -> None:
    """Metering and billing for cloud storage: lifecycle events in, settled invoices out, every cent provable."""


class Lean(MetaPathFinder):
    """Hides what Arrow and ADBC would import if it is there, half a second each; no command needs it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in ("pandas", "polars"):
            raise ModuleNotFoundError(name, name=name)


def load_commands() -> None:
    """Import the files of commands, in the order in which the help lists them."""
    for name in ("jobs", "finance", "decisions", "operations"):
        import_module(f"metering.cli.{name}")


def main() -> None:
    """The `metering` command."""
    sys.meta_path.insert(0, Lean())
    _heed_signals()
    load_commands()
    try:
        sys.exit(app.main(prog_name="metering", standalone_mode=False))
    except click.ClickException as error:
        if "--json-logs" in sys.argv:
            Context(json_logs=True).complain(
                UsageError(error.format_message(), remedy="`--help` after the command shows what it takes.")
            )
        else:
            error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
