"""Payments: how an invoice's remainder is charged to a saved card; see README.md."""
