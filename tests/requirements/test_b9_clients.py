"""Row B9: clients in Python and JavaScript."""

from __future__ import annotations

import inspect

import pytest
from tests.api.javascript import NODE, generator_of_routes, in_node
from tests.waiting import until

from headway.client import Headway
from headway.client_routes import Routes


@pytest.mark.row("B9")
@pytest.mark.skipif(NODE is None, reason="NO NODE HERE: the JavaScript client is not run")
def test_b9_both_clients_call_each_route_and_read_what_the_other_wrote(product, figures):
    """Python: `from headway.client import Headway` (and `AsyncHeadway`). JavaScript, for browsers
    and Node: `clients/javascript/headway.js`. Both have a method for each route of the OpenAPI
    document, come again where the service asks for it, and go on with a stream after a break.
    """
    state = "/api/v1/engine/streets/headway"
    with product.http() as http:
        until(lambda: http.get(state).json().get("junctions"))
    found = in_node("calls", {"url": product.url, "token": product.token})
    assert (found["street"], found["stored"], found["one"]) == ("headway", 2, 28.5)
    assert found["order"] in ("accepted", "applied")
    assert (found["faulty"]["status"], found["nobody"]["status"]) == (422, 401)
    with Headway(product.url, product.token) as headway:
        assert headway.records(simulation_id="JS")["total"] == 2
        junction = headway.streets()[0]["junctions"][0]["id"]
        assert headway.override("headway", junction, "release")["detail"]
    module = generator_of_routes()
    figures.add("methods, JavaScript", len(list(module.operations(module.document()))))
    public = [
        name
        for of in (Headway, Routes)
        for name, _ in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_") and name not in ("call", "close", "listen")
    ]
    figures.add("methods, Python (some call one of several routes)", len(set(public)))
