"""What others are told of a run: notices for the platform, metrics and pings for those who watch.

Owns `outbox/`, `metrics/` and the table `notices`. A notice is told exactly once; a metric or a ping that cannot be
told never fails the run that it is of.
"""
