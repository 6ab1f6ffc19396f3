"""Usage: relations make lifespans of events, and exact GB-hours of lifespans; see README.md."""
