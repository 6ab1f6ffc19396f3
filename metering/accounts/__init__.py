"""Accounts: who pays, and the money that they have with us.

Owns the imports of accounts and funds and their rules. Does not own: what the money pays (the close, the
payments). Always holds: an import is taken whole or not at all; a reference names one sum of money for ever; an
account's versions are kept, because invoices and closes point at them.
"""
