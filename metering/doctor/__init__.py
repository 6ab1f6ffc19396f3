"""The doctor: looks before anything goes wrong.

Owns the checks of `metering doctor`, each a generator of findings. Only reads: it writes nothing, takes no lock and
never tells a secret. What cannot be looked at is a finding.
"""

from metering.doctor.examine import examine
from metering.doctor.finding import Finding

__all__ = ["Finding", "examine"]
