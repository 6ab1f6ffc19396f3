"""In the first days of a month: close every month that has ended, issue its invoices, charge the cards.

When: every day from the 1st to the 7th, after the night's run (see jobs/crontab). Runs `metering close` on the
home that METERING_HOME names.
Safe to repeat: yes. What is closed stays closed and no invoice or charge is made twice; a close that was cut
off is finished. A day with nothing to close ends with exit 0.
If it fails: exit 1 means that it failed or took too long; nothing is half-done, the next day goes on where it
was. Exit 2: the configuration, prices.csv or METERING_HOME is wrong; the message names the line. Exit 3: either
nothing was closed, because a source in require_sources is late or a limit would be exceeded (look at
`metering close --dry-run`), or it is closed and some invoice is open or some usage could not be billed.
Exit 75: another run holds the lock; run it again later, or leave it to the next day.
"""

from __future__ import annotations

import sys

from bounded import main

if __name__ == "__main__":
    sys.exit(main(str(__doc__), "close", [["close"]], limit_seconds=6 * 3600))
