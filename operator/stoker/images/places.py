"""Where things lie in a registry of environments."""

from dataclasses import dataclass

from stoker.core.reference import Reference


@dataclass(frozen=True, slots=True)
class Place:
    """A registry as a Workspace names it: `host` or `host/path`."""

    text: str

    def repository(self, name: str) -> Reference:
        """`environments` or `packages` in it, without tag."""
        host, _, path = self.text.strip("/").partition("/")
        return Reference(host, f"{path}/{name}" if path else name)

    @property
    def environments(self) -> Reference:
        return self.repository("environments")

    @property
    def packages(self) -> Reference:
        return self.repository("packages")


def repository(text: str) -> Reference:
    """`host/path` of a repository."""
    host, _, path = text.partition("/")
    return Reference(host, path)
