"""The client for asyncio: the same calls, each in a thread of its own while the event loop goes on."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from stoker.sdk import stopping
from stoker.sdk.entities.compute import AmlCompute, ComputeCluster
from stoker.sdk.entities.environment import Environment
from stoker.sdk.entities.job import Command, JobFile
from stoker.sdk.entities.run import Job
from stoker.sdk.entities.runconfig import ScriptRunConfig
from stoker.sdk.mlclient import ACTIVE, Client

T = TypeVar("T")


class AsyncClient:
    """As Client, with coroutines. Calls may overlap. A cancelled task ends its call: a stream and a download stop within
    moments and leave the run running; a call that changes something is done or not, and is waited for."""

    def __init__(self, context: str | None = None, namespace: str | None = None, *, quiet: bool = False) -> None:
        self._first = Client(context, namespace, quiet=quiet)
        self._idle = [self._first]
        self.jobs = AsyncJobOperations(self)
        self.environments = AsyncEnvironmentOperations(self)
        self.compute = AsyncComputeOperations(self)

    def __repr__(self) -> str:
        return f"Async{self._first!r}"

    async def call(self, work: Callable[[Client], T]) -> T:
        """Do work with a client that nobody else uses meanwhile."""
        client = self._idle.pop() if self._idle else self._first.another()
        stop = stopping.Stop()

        def do() -> T:
            stopping.current.set(stop)
            return work(client)

        # to_thread runs it in a copy of this context, so that the stop is this call's alone.
        doing = asyncio.ensure_future(asyncio.to_thread(do))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            stop.now()
            await asyncio.wait([doing])
            if not doing.cancelled():
                doing.exception()  # nobody is left to hear of it
            raise
        finally:
            # Of a task that is cancelled twice the call may still be under way, with its client.
            doing.add_done_callback(lambda _: self._idle.append(client))


class AsyncJobOperations:
    """As JobOperations."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create_or_update(
        self, job: Command | ScriptRunConfig | JobFile | Job, *, description: str | None = None, compute: str | None = None,
        tags: Mapping[str, str] | None = None, experiment_name: str | None = None,
    ) -> Job:  # fmt: skip
        """Start a run; for the Job of one change its tags and display name."""
        return await self._client.call(
            lambda client: client.jobs.create_or_update(
                job, description=description, compute=compute, tags=tags, experiment_name=experiment_name
            )
        )

    async def get(self, name: str | Job) -> Job:
        """A run as it stands now."""
        return await self._client.call(lambda client: client.jobs.get(name))

    async def list(self, *, list_view_type: str = ACTIVE, max_results: int | None = None) -> list[Job]:
        """The runs, the newest first."""
        return await self._client.call(
            lambda client: client.jobs.list(list_view_type=list_view_type, max_results=max_results)
        )

    async def stream(self, name: str | Job) -> None:
        """Print the run's log until it ends. Raises JobFailed."""
        await self._client.call(lambda client: client.jobs.stream(name))

    async def cancel(self, name: str | Job) -> Job:
        """Ask that a run ends."""
        return await self._client.call(lambda client: client.jobs.cancel(name))

    async def archive(self, name: str | Job) -> None:
        """Leave a run out of lists."""
        await self._client.call(lambda client: client.jobs.archive(name))

    async def restore(self, name: str | Job) -> None:
        """Show an archived run in lists again."""
        await self._client.call(lambda client: client.jobs.restore(name))

    async def download(
        self, name: str | Job, *, download_path: str | os.PathLike[str] = ".", output_name: str | None = None,
        all: bool = False,
    ) -> None:  # fmt: skip
        """Copy what a run saved."""
        await self._client.call(
            lambda client: client.jobs.download(name, download_path=download_path, output_name=output_name, all=all)
        )


class AsyncEnvironmentOperations:
    """As EnvironmentOperations."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create_or_update(self, environment: Environment) -> Environment:
        """Create an Environment, or change it."""
        return await self._client.call(lambda client: client.environments.create_or_update(environment))

    async def get(self, name: str, version: str | int | None = None, label: str | None = None) -> Environment:
        """An Environment."""
        return await self._client.call(lambda client: client.environments.get(name, version, label))

    async def list(self, name: str | None = None, *, list_view_type: str = ACTIVE) -> list[Environment]:
        """The Environments, or the versions of one name."""
        return await self._client.call(lambda client: client.environments.list(name, list_view_type=list_view_type))

    async def archive(self, name: str, version: str | int | None = None) -> None:
        """Leave an Environment out of lists."""
        await self._client.call(lambda client: client.environments.archive(name, version))

    async def restore(self, name: str, version: str | int | None = None) -> None:
        """Show an archived Environment in lists again."""
        await self._client.call(lambda client: client.environments.restore(name, version))


class AsyncComputeOperations:
    """As ComputeOperations, without pollers: a coroutine is one."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create_or_update(self, compute: AmlCompute | ComputeCluster) -> ComputeCluster:
        """Create a ComputeCluster, or change it."""
        return await self._client.call(lambda client: client.compute.begin_create_or_update(compute).result())

    async def get(self, name: str) -> ComputeCluster:
        """A pool."""
        return await self._client.call(lambda client: client.compute.get(name))

    async def list(self) -> list[ComputeCluster]:
        """The pools."""
        return await self._client.call(lambda client: client.compute.list())

    async def delete(self, name: str) -> None:
        """Delete a pool."""
        await self._client.call(lambda client: client.compute.begin_delete(name).result())
