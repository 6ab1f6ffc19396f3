"""From Python: reports as pandas DataFrames with exact decimals."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from metering.clock import Clock
from metering.errors import UsageError, wrong_value
from metering.home import Home
from metering.values import InvalidValue, Month, parse_instant

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Books:
    """What one home has to tell; reading takes no lock and changes nothing."""

    def __init__(self, path: str | Path, now: str | None = None) -> None:
        self._path = Path(path)
        self._now = now or os.environ.get("METERING_NOW")
        self._home()

    def report(
        self,
        name: str,
        *,
        month: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        account: str | None = None,
        by: str | None = None,
        billed: bool = False,
        as_of: int | None = None,
        days: int | None = None,
    ) -> pd.DataFrame:
        """A report as it stands now, filtered as `metering report` filters it.

        Columns are backed by Arrow: money, prices and GB-hours are decimals, which pandas adds exactly; times are
        in UTC. Raises `metering.errors.UsageError` for a name or a filter that there is not.
        """
        from metering.reports.ask import IDLE_DAYS, Filter, applicable, ask, report_name
        from metering.reports.catalog import reports
        from metering.reports.exact import typed

        if month and (from_ or to):
            raise UsageError("`month` names one month, `from_` and `to` name several.", remedy="Give one or the other.")
        chosen = report_name(name, by=by, billed=billed, as_of=as_of, days=days)
        days = IDLE_DAYS if days is None else days
        wanted, left_out = applicable(
            chosen, Filter(_month(month or from_), _month(month or to), account, as_of, days=days)
        )
        if left_out:
            warnings.warn(left_out, stacklevel=2)
        home = self._home()
        rows = ask(home, chosen, wanted)
        return _frame(typed(reports()[chosen], rows, home.config.billing.gigabyte_bytes))

    def sql(self, query: str) -> pd.DataFrame:
        """The rows of a SELECT over the reports, as `metering sql` gives them."""
        from metering.reports.query import query_reports

        return _frame(query_reports(self._home(), query).typed())

    def _home(self) -> Home:
        """The home as it is at this moment: a reader that lives for days must not stand still."""
        try:
            clock = Clock(parse_instant(self._now)) if self._now else Clock()
        except InvalidValue as error:
            raise wrong_value("now", error) from None
        home = Home(self._path, clock)
        home.check_fixed()
        if self._now:
            home.check_clock()
        return home


def _frame(rows: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _month(text: str | None) -> Month | None:
    try:
        return None if text is None else Month.parse(text)
    except InvalidValue as error:
        raise wrong_value("month", error) from None
