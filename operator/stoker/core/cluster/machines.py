"""What a provider that launches and terminates single machines says, and what can go wrong there.

Seconds are since the epoch.
"""

from dataclasses import dataclass
from typing import Literal

MachineState = Literal["Booting", "Running", "Terminating", "Preempted"]
Tier = Literal["Dedicated", "Spot"]
#: Capacity: the provider has none now. Quota: the account may have no more. Auth: the credentials do not do. Config: the
#: request itself is wrong, as an unknown type. Throttled, Transient: the same request may do a little later.
LaunchFault = Literal["Capacity", "Quota", "Throttled", "Auth", "Config", "Transient"]


@dataclass(frozen=True, slots=True)
class Machine:
    """One instance at the provider.

    node: name of its Node, empty until known. token: of the launch that made it, empty where the provider cannot tell.
    """

    id: str
    instance_type: str
    tier: Tier
    state: MachineState
    launched_at: float
    node: str = ""
    zone: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do. atomic: n or none in one call. exact_delete: the machine that is named goes. warm: stopped
    machines can be kept. spot_notice: it tells before it takes a machine back. warnings: what about its settings a person
    should look at, a reason and a message each."""

    atomic: bool = False
    exact_delete: bool = True
    warm: bool = False
    spot_notice: bool = False
    warnings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MachinesView:
    """The pool's machines as the provider lists them now. problem: why they cannot be listed, a reason and a message;
    then nothing is launched or removed. warnings: what a person should look at, though it keeps nobody from working. at:
    when they were listed."""

    machines: tuple[Machine, ...] = ()
    capabilities: Capabilities = Capabilities()
    problem: tuple[str, str] | None = None
    warnings: tuple[tuple[str, str], ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """What the provider answered to the launch of this token. launched: how many machines came all the same. at: when.
    code, message: the provider's own."""

    token: str
    fault: LaunchFault
    code: str
    message: str
    at: float
    launched: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """What one pass over a pool of machines leaves for the next, in memory.

    given: when each open order was last given, by its token. listed: how many machines the provider had, and when: the
    last list that was not suddenly short. bare: since when nodes have had no machine, by name.
    """

    given: tuple[tuple[str, float], ...] = ()
    listed: tuple[int, float] = (0, 0.0)
    bare: tuple[tuple[str, float], ...] = ()
