"""Many commands from one file, on this machine or on a Ray cluster: what `python -m engine batch` calls."""

from .jobs import Job, Jobs
from .plan import read_jobs
from .running import run, standing
from .verbs import Flag, Refused, Role, Verb, Verbs

__all__ = ["Flag", "Job", "Jobs", "Refused", "Role", "Verb", "Verbs", "read_jobs", "run", "standing"]
