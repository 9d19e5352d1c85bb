"""Large pools: many gangs that wait, many nodes."""

from dataclasses import replace

from stoker.core.cluster.machines import Capabilities, Machine, MachinesView
from stoker.core.cluster.view import ClusterView, Demand, Holding, ScaleView
from tests.support import build

NOW = build.T0 + 100


def views(gangs: int, nodes: int) -> dict[str, ClusterView]:
    """Pools of so many nodes, and so many gangs of 1 to 4 nodes of 20 namespaces that wait: by what they show."""
    found = {f"n{n}": build.node(f"n{n}") for n in range(nodes)}
    demands = tuple(
        Demand(
            f"uid-{n}", f"team-{n % 20}", f"job-{n}", 1, 1 + n % 4, float(n), priority=("High", "Medium", "Low")[n % 3]
        )
        for n in range(gangs)
    )
    busy = tuple(Holding(f"h{n}", 1, (f"n{n}",), namespace=f"team-{n % 20}") for n in range(nodes))
    free = ClusterView(
        build.cluster(most=nodes), found, demands, freed_at=dict.fromkeys(found, build.T0), scale=ScaleView(nodes)
    )
    listed = tuple(Machine(f"m{n}", "m", "Dedicated", "Running", build.T0 - 500, node=f"n{n}") for n in range(nodes))
    machines = MachinesView(listed, Capabilities(atomic=True), at=NOW)
    grown = replace(free, cluster=build.cluster(provider="Kwok", most=3 * nodes), scale=None, machines=machines)
    # The first in line waits for all of them: whoever comes next may go ahead on every second node.
    limited = tuple(replace(one, seconds=600.0) for one in demands)
    whole = Demand("uid-whole", "team-0", "whole", 1, nodes, 0.0, priority="High")
    ending = tuple(replace(one, ends_at=NOW + 3600.0) for one in busy[::2])
    return {
        "every node free": free,
        "every node has a job": replace(free, holdings=busy),
        "every second node free, kept for one": replace(
            free, demands=(whole, *limited), holdings=ending, first=(("uid-whole", 1),)
        ),
        "machines, to be grown to three times": grown,
    }
