"""Puts the operator together and runs it: watches, workers, probes, kopf. If one part ends, all do."""

import asyncio
import logging
import signal
import socket
import time
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

from stoker import __version__
from stoker.api import kueue
from stoker.api.names import LABEL_BUILD, LABEL_JOB_UID, LABEL_SCRUB
from stoker.controller import kopf_front
from stoker.controller.access import Accounts
from stoker.controller.admission import Checks
from stoker.controller.answers import Answers
from stoker.controller.asking import Asking, outcome_name, question_name
from stoker.controller.buildkit import BuildKits
from stoker.controller.builds import Builds
from stoker.controller.config import Config
from stoker.controller.environment_oracle import EnvironmentOracle
from stoker.controller.executor import Executor
from stoker.controller.gate import check
from stoker.controller.image_retention import ImageRetention
from stoker.controller.ledger import Ledger
from stoker.controller.metrics import Metrics
from stoker.controller.plans import Plans
from stoker.controller.pools import Pools, Scrubber
from stoker.controller.pools_from_config import ConfiguredPools
from stoker.controller.preflight import check_cluster
from stoker.controller.probes import Probes
from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.reconciler import Reconciler
from stoker.controller.registries import Registries
from stoker.controller.registry_check import RegistryCheck
from stoker.controller.registry_push import checked, pushing
from stoker.controller.retention import Retention
from stoker.controller.routes import Routes
from stoker.controller.sweep import Sweeper
from stoker.controller.uses import Uses
from stoker.controller.views import Views
from stoker.controller.workspaces import Workspaces
from stoker.core.cluster import scrub
from stoker.core.plan import Answer, Question
from stoker.images.records import Records
from stoker.images.registry import Registry
from stoker.kube.access import from_kubeconfig, in_cluster
from stoker.kube.client import KubeClient
from stoker.kube.elector import Elector
from stoker.kube.events import Recorder
from stoker.kube.reflector import Reflector
from stoker.kube.resources import (
    ADMISSION_CHECKS,
    CLAIMS,
    CLUSTER_QUEUES,
    EVENTS,
    JOBS,
    LOCAL_QUEUES,
    NAMESPACES,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    WORKLOADS,
)
from stoker.kube.store import Key, Store
from stoker.kube.workqueue import WorkQueue

LOG = logging.getLogger(__name__)

USER_AGENT = f"stoker-operator/{__version__}"
#: The Lease in the operator's own namespace whose holder works.
LEASE = "stoker-operator"
#: A stream that is silent for so long is dead: bookmarks come about once a minute.
DEAF_SECONDS = 300.0
#: A key that waits for so long means that the workers are stuck.
STUCK_SECONDS = 300.0


class PartEnded(Exception):
    """A part of the operator that must run as long as the process has ended."""


class Operator:
    """Everything of one operator process. `run` returns when it was told to stop, and raises when a part died."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        # The Lease has a client of its own: it is what opens the gate, and no burst of writes may delay it.
        self._identity = _identity()
        self._lease_client = self._client(tries=1)
        self.gate = Elector(self._lease_client, config.namespace, LEASE, self._identity)
        self.client = self._client(before_write=lambda: check(self.gate))
        # Reviews are POSTs that change nothing: no gate holds them, and a burst of writes does not delay them.
        self._review_client = self._client(tries=2)
        self.store = Store()
        self.queue = WorkQueue(waited=self.metrics.queue_seconds.observe)
        self.registry = Registry(
            insecure=config.insecure_registries, addresses=config.registry_addresses, user_agent=USER_AGENT
        )
        self.recorder = Recorder(self.client, "stoker-operator")
        self.sweeper = Sweeper(self.client, self.store, config.job_namespaces)
        self.reflectors = tuple(self._reflectors())
        self._stop = asyncio.Event()
        self._kopf_started = asyncio.Event()
        workspaces = Workspaces(self.store, config, self.gate)
        pull_secrets = PullSecrets(self.client)
        self.registries = Registries(self.registry, USER_AGENT, config.insecure_registries, config.registry_addresses)
        environments = EnvironmentOracle(workspaces, self.client, Records(self.registries.client), pull_secrets)
        asking = Asking(workspaces, self.registry, pull_secrets, environments=environments)
        self.answers = Answers(asking, self._wake, self.gate, observe=self._answered)
        self.ledger = Ledger(self.store, self._wake, lambda key: self.reconciler.later(key))
        scrubber = Scrubber(config.agent_image, config.image_pull_secrets) if config.scratch_scrub else None
        self.pools = Pools(self.store, self.ledger, self.client, scrubber=scrubber)
        builds = Builds(self.store, self.answers, workspaces, self._wake)
        views = Views(self.store, self.answers, self.ledger, workspaces, builds, config)
        executor = Executor(self.client, self.store, self.answers, self.pools, self.recorder, self.gate, self._wake)
        self.reconciler = Reconciler(
            self.store, self.queue, views, self.pools, self.ledger, self.answers, executor, workspaces, builds,
            self.gate, self.metrics,
        )  # fmt: skip
        self.routes = Routes(self.store, self.ledger, self._wake, self.pools.clusters_of)
        images = ImageRetention(self.client, self.store, workspaces, self.registries, pull_secrets, config, self.gate)
        self.retention = Retention(self.client, self.store, workspaces, self.answers, self.gate, self._wake, images)
        self.uses = Uses(self.store, workspaces, self.gate)
        self.buildkits = BuildKits(self.client, self.store, config.buildkit, self.gate)
        secrets = tuple(filter(None, (config.registry_secret, *config.image_pull_secrets)))
        self.registry_check = RegistryCheck(
            self.client, self.gate, pushing(self.registry, PullSecrets(self.client), config.namespace, secrets),
            checked(config, secrets, __version__), secrets, config.namespace,
        )  # fmt: skip
        self.accounts = Accounts(self.client, self.store, config.job_namespaces, self.gate)
        self.checks = Checks(self.client, self.store, self.gate)
        plans = Plans(self._review_client, self.gate, views.job, self._unready)
        self.probes = Probes(self.metrics, self._troubles, self._unready, self._before_metrics, plans.routes())
        self.metrics.pools.read(lambda: self.store.all("ComputeCluster") if self.gate.open else ())
        self.metrics.count_jobs(lambda: (job.status.phase for job in self.store.all("TrainingJob")))

    def _client(self, **options: Any) -> KubeClient:
        config = self.config
        options |= {"user_agent": f"{USER_AGENT} ({self._identity})", "observe": self.metrics.api_request}
        if config.kubeconfig is not None:
            return KubeClient(from_kubeconfig(config.kubeconfig, config.context), **options)
        return KubeClient(in_cluster(), **options)

    def _reflectors(self) -> Iterator[Reflector]:
        """Only what is ours of pods, jobs and claims, and of events only why a child has no pods."""
        for namespace in self.config.job_namespaces or ("",):
            yield Reflector(self.client, PODS, self.store, namespace=namespace, label_selector=LABEL_JOB_UID)
            yield Reflector(self.client, JOBS, self.store, namespace=namespace, label_selector=LABEL_JOB_UID)
            yield Reflector(self.client, PODS, self.store, namespace=namespace, label_selector=LABEL_BUILD)
            yield Reflector(self.client, JOBS, self.store, namespace=namespace, label_selector=LABEL_BUILD)
            yield Reflector(self.client, CLAIMS, self.store, namespace=namespace, label_selector=LABEL_JOB_UID)
            yield Reflector(
                self.client,
                EVENTS,
                self.store,
                namespace=namespace,
                field_selector="involvedObject.kind=Job,reason=FailedCreate",
            )
            if self.config.kueue:
                yield Reflector(
                    self.client, WORKLOADS, self.store, namespace=namespace, label_selector=kueue.LABEL_JOB_UID
                )
                yield Reflector(self.client, LOCAL_QUEUES, self.store, namespace=namespace)
        if self.config.scratch_scrub:
            yield Reflector(self.client, PODS, self.store, namespace=scrub.NAMESPACE, label_selector=LABEL_SCRUB)
        for resource in (CLUSTER_QUEUES, ADMISSION_CHECKS, PRIORITY_CLASSES) if self.config.kueue else ():
            yield Reflector(self.client, resource, self.store)
        yield Reflector(self.client, NODES, self.store)
        if not self.config.job_namespaces:
            yield Reflector(self.client, NAMESPACES, self.store)

    def _wake(self, key: Key) -> None:
        self.reconciler.wake(key)

    def _answered(self, question: Question, answer: Answer) -> None:
        self.metrics.questions.labels(question_name(question), outcome_name(answer)).inc()

    # -- probes

    def _troubles(self) -> Iterator[str]:
        now = time.monotonic()
        for reflector in self.reflectors:
            if (silent := now - reflector.heard_at) > DEAF_SECONDS:
                yield f"the watch of {reflector.resource.plural} {reflector.namespace} is silent for {silent:.0f} s"
        key, waited, taken = self.queue.schedule.longest(time.time())
        # On a replica that does not lead keys wait for as long as that lasts.
        if (waited := min(waited, self.gate.led_seconds)) > STUCK_SECONDS:
            how = "is still worked on: its worker hangs" if taken else "waits for a worker: all of them are busy"
            yield f"{key} {how}, for {waited:.0f} s"

    def _unready(self) -> Iterator[str]:
        for reflector in self.reflectors:
            if not reflector.synced.is_set():
                yield f"{reflector.resource.plural} {reflector.namespace} are not listed yet"
        if not self.sweeper.synced.is_set():
            yield "Stoker's own kinds are not listed yet"
        if not self._kopf_started.is_set():
            yield "kopf has not started yet"

    def _before_metrics(self) -> None:
        self.metrics.leader.set(self.gate.open)
        self.metrics.queue_depth.set(len(self.queue.schedule))
        self.metrics.queue_delayed.set(self.queue.schedule.waiting)

    # -- running

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises Unfit, KubeError, or PartEnded for a part that died."""
        self._take_signals()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.registries.close)
            closing.push_async_callback(self.registry.close)
            closing.push_async_callback(self._lease_client.close)
            closing.push_async_callback(self._review_client.close)
            closing.push_async_callback(self.client.close)
            # Given back only when nothing of ours writes any more.
            closing.push_async_callback(self.gate.release)
            closing.push_async_callback(self.answers.close)
            if not await self._unless_stopped(check_cluster(self.client, kueue=self.config.kueue)):
                return
            parts = await closing.enter_async_context(_Parts())
            for reflector in self.reflectors:
                parts.start(f"watch of {reflector.resource.plural}", reflector.run())
            parts.start("probes", self.probes.run(self.config.probe_host, self.config.probe_port))
            parts.start("election", self.gate.run())
            parts.start("sweeper", self.sweeper.run())
            parts.start("kopf", self._kopf())
            parts.start("events", self.recorder.run())
            parts.start("accounts", self.accounts.run())
            if self.config.kueue:
                parts.start("checks of Kueue", self.checks.run())
            if self.config.checked_registries:
                parts.start("check of registries", self.registry_check.run())
            parts.start("retention", self.retention.run())
            parts.start("uses of images", self.uses.run())
            if self.config.buildkit.made:
                parts.start("BuildKit", self.buildkits.run())
            if self.config.compute_clusters_dir is not None:
                configured = ConfiguredPools(self.client, self.config.compute_clusters_dir, self.gate)
                parts.start("configured pools", configured.run())
            parts.start("workers", self._work())
            stop = asyncio.create_task(self._stop.wait())
            await asyncio.wait((stop, *parts.tasks), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not self._stop.is_set():
                raise parts.ended()
            LOG.info("stopping")

    def _take_signals(self) -> None:
        """A signal asks for a clean end, from the first moment on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something that ends; False when a stop was asked for before it had."""
        working, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, stop):
                task.cancel()
        await asyncio.gather(working, stop, return_exceptions=True)
        if working.cancelled():
            LOG.info("told to stop before the start")
            return False
        working.result()
        return not self._stop.is_set()

    async def _work(self) -> None:
        """Workers, once the caches are whole: a plan made of half a view could make a second child."""
        for reflector in self.reflectors:
            await reflector.synced.wait()
        await self.sweeper.synced.wait()
        LOG.info("caches are synced, %d jobs", self.store.count("TrainingJob"))
        async with asyncio.TaskGroup() as workers:
            for _ in range(self.config.workers):
                workers.create_task(self.reconciler.work())

    async def _kopf(self) -> None:
        # kopf takes the signals for itself at its start. It is one part of several: take them back.
        await kopf_front.watch(
            self.client, self.store, self.sweeper, self.config.job_namespaces, self._kopf_started, self._take_signals
        )


def _identity() -> str:
    """This process, as the Lease names it: a container that starts again in the same pod is another one."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


class _Parts:
    """Tasks that live as long as the operator; all are cancelled at its end."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(part, name=name))

    def ended(self) -> PartEnded:
        """What to raise for the parts that have ended: none may. One that was cancelled by another tells least."""
        done = sorted((task for task in self.tasks if task.done()), key=lambda task: task.cancelled())
        names = ", ".join(task.get_name() for task in done)
        error = PartEnded(f"the operator cannot go on without: {names}")
        error.__cause__ = next((task.exception() for task in done if not task.cancelled()), None)
        return error

    async def __aenter__(self) -> "_Parts":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
