"""What is known of all instances of all replicas. Shows and hints; never an authority."""

from collections.abc import Collection
from typing import Protocol

from maruntime.domain.instance import InstanceRecord


class SlotRegistry(Protocol):
    """Where replicas put the records of their slots.

    A record that is not put again within `ttl` vanishes, so that the slots of a
    dead replica do.
    """

    async def generation(self) -> str:
        """A mark that changes when the registry was wiped; whoever finds none sets one.

        Raises:
            Unavailable: the registry cannot be reached.
        """
        ...

    async def write(self, put: Collection[InstanceRecord], removed: Collection[str]) -> None:
        """Store records and forget others.

        Raises:
            Unavailable: the registry cannot be reached.
        """
        ...

    async def all(self) -> list[InstanceRecord]:
        """Every record, by instance id.

        Raises:
            Unavailable: the registry cannot be reached.
        """
        ...
