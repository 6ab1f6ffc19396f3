"""The dashboard: one page that says how metering, billing and collecting stand.

Owns what is on the page and how it is drawn. Does not own a figure: each one is a sum, a count or a value of a
report, and carries the command that prints that report. Always holds: the page needs no network and no script.
"""
