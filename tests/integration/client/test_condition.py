"""A client's condition, which its health check reads: it has no port to be asked at."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedn.cli.main import run
from fedn.client.condition import check_client
from fedn.plan.settings import ClientSettings
from fedn.protocol.errors import Unavailable
from tests.integration.client.conftest import attached, running
from tests.integration.client.stand_ins import FakeReducer
from tests.support.federation import wait_for

MakeSettings = Callable[..., ClientSettings]
A_MOMENT_S = 0.0


def unwell(settings: ClientSettings, away_s: float) -> str:
    with pytest.raises(Unavailable) as caught:
        check_client(settings, away_s)
    assert caught.value.code == "does_not_serve" and caught.value.fix
    return caught.value.message


def test_an_attached_client_is_well_and_one_that_ended_is_not(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()
    assert "no client runs here" in unwell(mine, A_MOMENT_S)

    async def scenario() -> None:
        async with attached(reducer, mine) as (_, combiner, agent):
            await agent.wait_attached()
            assert check_client(mine, A_MOMENT_S) == f"attached to the combiner {combiner.name}"

    asyncio.run(scenario())
    assert "no client runs here" in unwell(mine, A_MOMENT_S)


def test_a_client_without_a_combiner_is_well_for_a_while_only(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with running(mine):
            said = "no assignment yet"
            await asyncio.to_thread(wait_for, lambda: said in unwell(mine, A_MOMENT_S), "it waits for an assignment")
            assert check_client(mine, 3600).startswith("on its way to a combiner")

    asyncio.run(scenario())


def test_a_client_that_lost_its_combiner_says_why(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (_, combiner, agent):
            await agent.wait_attached()
            reducer.places = []
            await combiner.stop()
            away = "on its way to a combiner"
            await asyncio.to_thread(wait_for, lambda: check_client(mine, 3600).startswith(away), "it is away")
            assert "no combiner for" in unwell(mine, A_MOMENT_S)

    asyncio.run(scenario())


def test_a_client_that_gives_no_sign_hangs(reducer: FakeReducer, settings: MakeSettings) -> None:
    mine = settings()

    async def scenario() -> None:
        async with attached(reducer, mine) as (_, _, agent):
            await agent.wait_attached()
            an_hour_ago = time.time() - 3600
            os.utime(mine.data_dir / "condition.json", (an_hour_ago, an_hour_ago))
            assert "no sign" in unwell(mine, 3600)

    asyncio.run(scenario())


def test_the_command_says_what_is_wrong_and_fails(
    reducer: FakeReducer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["client", "health", "--join", reducer.join, "--data-dir", str(tmp_path), "--name", "alice"]) != 0
    assert "no client runs here" in capsys.readouterr().err
