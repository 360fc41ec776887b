"""A kube-apiserver for tests: HTTPS on the loopback, with the behaviour that clients trip over.

Resource versions, a bounded history with 410, consistent pages, field selectors, watches with bookmarks and
WatchList, patches, conflicts, authentication, authorization and the node authorizer are real; `tests/wire`
holds answers of a real kube-apiserver that test_recordings.py compares it with. What a real server does
beyond that (managedFields, garbage collection, controllers, TTLs, priority and fairness) is not here.
"""

from tests.apiserver.faults import Disturbance, Fault
from tests.apiserver.record import Request
from tests.apiserver.server import ApiServer

__all__ = ["ApiServer", "Disturbance", "Fault", "Request"]
