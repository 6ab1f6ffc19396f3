"""How much of `requests_per_second` the cards use, against a local Stripe that answers at once or slowly.

PYTHONPATH=tests:. python tests/bench/cards.py --invoices 500 --per-second 100 --answer-ms 500
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from payments_given import Given
from stripe_fake import Stripe
from stripe_network import Network

from metering.payments.collect import charge_invoices


def serve(pipe: Connection, answer_ms: int) -> None:
    """The server, in a process of its own."""

    arrivals = []

    class Slow(Stripe):
        def call(self, method, path, params, key):
            arrivals.append(time.perf_counter())
            threading.Event().wait(answer_ms / 1000)
            return super().call(method, path, params, key)

    with Network(Slow()).serving() as network:
        pipe.send(network.url)
        pipe.recv()
        pipe.send((len(network.log), max(arrivals) - min(arrivals)))


def main() -> None:
    """Charge many invoices and print the share of the pace that was used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invoices", type=int, default=500)
    parser.add_argument("--per-second", type=int, default=100)
    parser.add_argument("--answer-ms", type=int, default=0)
    args = parser.parse_args()
    os.environ["STRIPE_API_KEY"] = "sk_test_secret"  # pragma: allowlist secret; made up
    pipe, other = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(other, args.answer_ms), daemon=True)
    server.start()
    config = (
        f'[payments]\ngateway = "stripe"\nrequests_per_second = {args.per_second}\n'
        f'[payments.stripe]\napi_base = "{pipe.recv()}"\n'
    )
    with TemporaryDirectory() as folder:
        given = Given(Path(folder) / "home", config=config)
        names = []
        for number in range(1, args.invoices + 1):
            given.account(f"acc-{number:05}", customer=f"cus_{number}")
            names.append(given.invoice(1000 + number, number=number, account=f"acc-{number:05}"))
        began = time.perf_counter()
        outcome = given.run(lambda home, run: charge_invoices(home, run, names))
        seconds = time.perf_counter() - began
    pipe.send("end")
    requests, spread = pipe.recv()
    server.join()
    rate = (requests - 1) / spread
    print(
        f"{outcome.counts['succeeded']} of {args.invoices} charged in {seconds:.1f} s: {requests} requests,"
        f" {rate:.1f} a second, {100 * rate / args.per_second:.0f} % of {args.per_second}"
    )


if __name__ == "__main__":
    main()
