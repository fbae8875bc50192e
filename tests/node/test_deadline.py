"""The cheap timeout: late when it is due, silent when it was cleared, one timer however often it is set."""

import asyncio

from kasoku.node.deadline import Deadline


def test_it_fires_once_and_only_if_it_was_not_cleared() -> None:
    async def scenario() -> None:
        late: list[int] = []
        deadline = Deadline(lambda: late.append(1))
        for _ in range(1000):
            deadline.set(0.05)
            deadline.clear()
        await asyncio.sleep(0.1)
        assert late == []
        deadline.set(0.05)
        await asyncio.sleep(0.03)
        deadline.clear()
        deadline.set(0.05)
        await asyncio.sleep(0.03)
        assert late == [], "the second time counts, though the timer is the first's"
        await asyncio.sleep(0.1)
        assert late == [1]
        await asyncio.sleep(0.1)
        assert late == [1]

    asyncio.run(scenario())
