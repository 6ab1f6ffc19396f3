"""The ledger: who owes whom.

Owns the database: its tables (made from `schemas/`), the rule that rows are only added, the balance of every
transaction, and what each business event moves. Does not own: when to post what (the close, the payments, the
imports decide). Always holds: every transaction is balanced in its currency, what is posted never changes, and
an invoice's state is in step with its entries.

One `Book` stands for every database; what each does in its own way is in `sqlite.py` and `*.sqlite.sql`, in
`postgres.py`, `psycopg_types.py` and `*.postgresql.sql`, and nowhere else.
"""
