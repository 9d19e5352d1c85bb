"""Sizes of Azure's virtual machines, and what a node of one offers to jobs."""

import re
from typing import NamedTuple


class Size(NamedTuple):
    """cpus, memory in GiB, and GPUs of a machine."""

    cpus: int
    memory: int
    gpus: int = 0


#: Families whose name has the number of CPUs in it: GiB of memory for each of them.
_FAMILIES = (
    (re.compile(r"d(\d+)(?:a|d|s|as|ds|ads|ps|pds)?_v[3-6]"), 4),
    (re.compile(r"e(\d+)(?:a|d|s|as|ds|ads)?_v[3-6]"), 8),
    (re.compile(r"f(\d+)s?_v2"), 2),
)
_SIZES = {
    **{f"d{s}{n}_v2": size for s in ("", "s") for n, size in {
        "1": Size(1, 3), "2": Size(2, 7), "3": Size(4, 14), "4": Size(8, 28), "5": Size(16, 56),
        "11": Size(2, 14), "12": Size(4, 28), "13": Size(8, 56), "14": Size(16, 112), "15": Size(20, 140),
    }.items()},
    "nc6": Size(6, 56, 1), "nc12": Size(12, 112, 2), "nc24": Size(24, 224, 4), "nc24r": Size(24, 224, 4),
    "nc6s_v2": Size(6, 112, 1), "nc12s_v2": Size(12, 224, 2), "nc24s_v2": Size(24, 448, 4),
    "nc6s_v3": Size(6, 112, 1), "nc12s_v3": Size(12, 224, 2), "nc24s_v3": Size(24, 448, 4), "nc24rs_v3": Size(24, 448, 4),
    "nc4as_t4_v3": Size(4, 28, 1), "nc8as_t4_v3": Size(8, 56, 1), "nc16as_t4_v3": Size(16, 110, 1),
    "nc64as_t4_v3": Size(64, 440, 4),
    "nc24ads_a100_v4": Size(24, 220, 1), "nc48ads_a100_v4": Size(48, 440, 2), "nc96ads_a100_v4": Size(96, 880, 4),
    "nd6s": Size(6, 112, 1), "nd12s": Size(12, 224, 2), "nd24s": Size(24, 448, 4), "nd24rs": Size(24, 448, 4),
    "nd40rs_v2": Size(40, 672, 8), "nd96asr_v4": Size(96, 900, 8), "nd96amsr_a100_v4": Size(96, 1900, 8),
    "nv6": Size(6, 56, 1), "nv12": Size(12, 112, 2), "nv24": Size(24, 224, 4),
    "nv12s_v3": Size(12, 112, 1), "nv24s_v3": Size(24, 224, 2), "nv48s_v3": Size(48, 448, 4),
}  # fmt: skip
#: What the node's own processes and its kernel take, as parts of the machine: a guess on the safe side.
_MEMORY_LEFT = 0.8


def known(name: str) -> Size | None:
    """The size `Standard_DS3_v2`, in any letters; None for one that is not known here."""
    short = name.lower().removeprefix("standard_")
    if short in _SIZES:
        return _SIZES[short]
    for pattern, memory in _FAMILIES:
        if found := pattern.fullmatch(short):
            return Size(int(found[1]), int(found[1]) * memory)
    return None


def canonical(name: str) -> str:
    """The size in Azure's own letters, `Standard_NC4as_T4_v3`; what is no known size stays as it is."""
    if known(name) is None:
        return name
    letters, number, rest = re.fullmatch(r"([a-z]+)(\d+)(.*)", name.lower().removeprefix("standard_")).groups()  # type: ignore[union-attr]
    return f"Standard_{letters.upper()}{number}{rest.replace('_t4', '_T4').replace('_a100', '_A100')}"


def offered(size: Size) -> dict[str, str]:
    """What a node of a size offers to jobs, on the safe side."""
    found = {"cpu": f"{size.cpus * 1000 - 260}m", "memory": f"{int(size.memory * 1024 * _MEMORY_LEFT)}Mi"}
    return found | ({"nvidia.com/gpu": str(size.gpus)} if size.gpus else {})
