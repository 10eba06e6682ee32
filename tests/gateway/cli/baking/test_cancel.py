"""`bread cancel`."""

from gateway.services import Services
from tests.fakes import FakeEngine
from tests.gateway.cli.conftest import Bread


def test_it_stops_the_bake_and_what_it_waits_for(bread: Bread, app_services: Services) -> None:
    engine = app_services.engine
    assert isinstance(engine, FakeEngine)
    engine.gate.clear()
    assert bread("bake", "You are Yoda.", "--name", "yoda", "--questions", "2", "--detach").code == 0
    code, out, _ = bread("cancel", "bread/yoda")
    assert (code, out.startswith("Stopped: ")) == (0, True)
    assert "rollout of yoda" in out
    assert bread.get("/v1/repo/bread/bakes/yoda")["status"] == "failed"
    engine.gate.set()
    code, _, err = bread("cancel", "bread/yoda")
    assert (code, "neither queued nor in training" in err) == (3, True)
