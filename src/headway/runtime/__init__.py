"""Time: pacing without drift, and the supervision of a worker process. It knows nothing of traffic."""

from headway.runtime.pacing import Pacer, Pacing
from headway.runtime.supervisor import Supervisor, WorkerError

__all__ = ["Pacer", "Pacing", "Supervisor", "WorkerError"]
