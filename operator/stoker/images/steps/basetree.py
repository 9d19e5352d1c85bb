"""The folders of a base image, as its layers say: what COPY must know to leave them as they are.

A layer that adds /srv/app/x says what /srv and /srv/app are like, or their owner and mode are lost; and where one of
them is a symbolic link in the base, the file belongs where the link points.
"""

import tarfile
from dataclasses import dataclass, field
from posixpath import join, normpath
from typing import IO

from stoker.images.layers import Folder
from stoker.images.probe import unpacked

_MOST_LINKS = 40


class LinkLoop(ValueError):
    """Symbolic links of the base that lead nowhere."""


@dataclass
class BaseTree:
    """Folders and symbolic links by path without the leading slash. Read the layers in order: a later one covers."""

    folders: dict[str, Folder] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def read(self, layer: IO[bytes]) -> None:
        """Takes in one layer, packed or not, to its end."""
        with unpacked(layer) as plain, tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 16) as tar:
            for member in tar:
                self._note(member)

    def _note(self, member: tarfile.TarInfo) -> None:
        path = normpath("/" + member.name).lstrip("/")
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            self._forget(folder, itself=False)
        elif name.startswith(".wh."):
            self._forget(join(folder, name.removeprefix(".wh.")))
        elif member.isdir():
            self.links.pop(path, None)
            self.folders[path] = Folder((member.uid, member.gid), member.mode & 0o7777)
        else:
            self._forget(path)
            if member.issym():
                self.links[path] = member.linkname

    def _forget(self, path: str, *, itself: bool = True) -> None:
        if path not in self.folders and path not in self.links:
            return
        for known in (self.folders, self.links):
            for one in [one for one in known if (itself and one == path) or one.startswith(f"{path}/")]:
                del known[one]

    def resolve(self, path: str) -> str:
        """Where a path of the image lies once the links on its way are followed, its last part too. No leading slash.

        Raises LinkLoop.
        """
        left, place, followed = [part for part in path.split("/") if part], "", 0
        while left:
            part = left.pop(0)
            if part in (".", ".."):
                place = place.rpartition("/")[0] if part == ".." else place
                continue
            here = join(place, part)
            target = self.links.get(here)
            if target is None:
                place = here
                continue
            followed += 1
            if followed > _MOST_LINKS:
                raise LinkLoop(f"/{path} leads through more than {_MOST_LINKS} symbolic links in the base image")
            place = "" if target.startswith("/") else place
            left = [one for one in target.split("/") if one] + left
        return place

    def is_folder(self, path: str) -> bool:
        """Whether a resolved path is a folder of the base."""
        return path == "" or path in self.folders

    def make(self, path: str) -> None:
        """A folder and those above it, root's with mode 755 where they are not there, as WORKDIR makes them."""
        place = self.resolve(path)
        while place:
            self.folders.setdefault(place, Folder())
            place = place.rpartition("/")[0]

    def parents(self, path: str, new: Folder) -> dict[str, Folder]:
        """The folders above a resolved path: each as the base has it, else like `new`."""
        above: dict[str, Folder] = {}
        parent = path.rpartition("/")[0]
        while parent:
            above[parent] = self.folders.get(parent, new)
            parent = parent.rpartition("/")[0]
        return above
