"""A stand-in API server for each test of it, and a client that sees the wire."""

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.client import Client


@pytest.fixture
def server():
    with ApiServer() as running:
        yield running


@pytest.fixture
def client(server):
    with Client(server) as caller:
        yield caller
