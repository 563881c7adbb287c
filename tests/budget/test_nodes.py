"""The call nodes are looked at, asked for and cleared."""

from __future__ import annotations

from itertools import cycle

from cluster.budget.fleet import Fleet
from cluster.messages import Admitted
from tests.budget.fakes import call_request
from tests.budget.house import House, until


async def test_the_cluster_is_asked_for_what_is_wanted_and_only_for_that(house: House) -> None:
    """Two parked actors and one in reserve; nothing new; after a minute again, to be sure; and with a call more."""
    await until(lambda: house.nodes.requested == [3] and not house.desk._nodes._tasks)
    await house.pass_time(1)
    await house.pass_time(59)
    await until(lambda: house.nodes.requested == [3, 3])
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)
    await until(lambda: house.desk.statistics()["parked"] == 2)
    await house.pass_time(1)
    await until(lambda: house.nodes.requested == [3, 3, 4])


async def test_a_draining_node_gets_no_call_and_keeps_no_parked_actor(house: House) -> None:
    """The call that runs there goes on; others are parked elsewhere, and lent."""
    await house.desk.admit(call_request(1))
    serving = await house.serving("call-1")
    await until(lambda: house.desk.statistics()["parked"] == 2)
    house.actors.nodes = cycle(["other"])
    house.nodes.now = Fleet({"node": 8, "other": 8}, frozenset({"node"}))
    await house.pass_time(1)
    await until(lambda: house.desk.statistics()["leaving_nodes"] == ["node"])
    await until(lambda: {actor.node for actor in house.actors.alive.values() if actor.state == "parked"} == {"other"})
    await until(lambda: house.desk.statistics()["parked"] == 2)
    assert list(house.actors.avoided.values())[-1] == {"node"}
    await house.desk.admit(call_request(2))
    assert (await house.serving("call-2")).node == "other"
    assert serving.state == "busy"
    assert serving.lost is None
    serving.end()
    await until(lambda: serving.released)


async def test_a_node_that_is_not_needed_is_cleared_for_the_autoscaler(house: House) -> None:
    """Two parked actors on two nodes gather on one."""
    house.actors.nodes = cycle(["other", "node"])
    house.nodes.now = Fleet({"node": 8, "other": 8})
    await house.pass_time(1)
    await until(lambda: house.desk.statistics()["leaving_nodes"] == ["other"])
    assert {actor.node for actor in house.actors.alive.values()} == {"node"}
    await until(lambda: house.nodes.without == {"other"})


async def test_while_the_cluster_does_not_answer_everything_stays(house: House) -> None:
    """What was known last holds, and it is asked again."""
    house.nodes.now = Fleet({"node": 8, "other": 8}, frozenset({"other"}))
    await house.pass_time(1)
    await until(lambda: house.desk.statistics()["leaving_nodes"] == ["other"])
    await until(lambda: not house.desk._nodes._tasks)
    house.nodes.away = True
    await house.pass_time(1)
    await until(lambda: not house.desk._nodes._tasks)
    assert house.desk.statistics()["leaving_nodes"] == ["other"]
    assert not await house.desk.drain_node("node")
    house.nodes.away = False
    house.nodes.now = Fleet({"node": 8})
    await house.pass_time(1)
    await until(lambda: house.desk.statistics()["leaving_nodes"] == [])


async def test_a_node_is_drained_by_name(house: House) -> None:
    """One that is not there is not."""
    assert await house.desk.drain_node("node")
    assert not await house.desk.drain_node("nowhere")
    assert house.nodes.drained == ["node", "nowhere"]
