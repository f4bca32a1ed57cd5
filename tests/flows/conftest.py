"""Everyone of the payment request tests."""

from collections.abc import AsyncIterator

import pytest

from tests.flows.cast import Cast, assembled
from tests.world import Running, World


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast, in a world of its own."""
    async with assembled(world, running) as everyone:
        yield everyone
