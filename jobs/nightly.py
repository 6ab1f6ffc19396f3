"""Every night: take the inbox, look for what cannot be billed, collect, publish reports and metrics.

When: once a night, after the producers have dropped their files (see jobs/crontab). Runs `metering nightly` on
the home that METERING_HOME names.
Safe to repeat: yes, at any time. Events that are known change nothing, and no card is charged twice.
If it fails: exit 1 means that it failed or took too long; nothing is half-done, so run it again or leave it to
the next night. Exit 2: the configuration or METERING_HOME is wrong; mend it. Exit 3: done, and a person should
read the mail (quarantined lines, usage without account or price, declined cards). Exit 75: another run holds
the lock; the next night takes over.
"""

from __future__ import annotations

import sys

from bounded import main

if __name__ == "__main__":
    sys.exit(main(str(__doc__), "nightly", [["nightly"]], limit_seconds=2 * 3600))
