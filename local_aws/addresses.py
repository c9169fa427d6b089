"""Which loopback addresses one local AWS may use, so that several run side by side."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass

# Nobody listens here; holding the address's socket is the claim, and the kernel gives it up with the process.
CLAIM_PORT = 47_001
CLAIM_HOST = 254


class NoFreeAddressesError(RuntimeError):
    """Every block tried is held by another local AWS, or the machine has no 127.0.0.0/8 (Linux has)."""


@dataclass(frozen=True)
class AddressBlock:
    """A claimed /24 of the loopback range; `prefix` is "127.A.B"."""

    prefix: str
    claim: socket.socket

    def release(self) -> None:
        """Let another local AWS have the block."""
        self.claim.close()


def claim_address_block(*, attempts: int = 64) -> AddressBlock:
    """Claim a block nobody else holds. 127.0.x.x is left alone: resolvers and other tools live there."""
    problem: OSError | None = None
    for _ in range(attempts):
        # Random, so that two that start in the same moment rarely try the same block first.
        prefix = f"127.{random.randint(16, 239)}.{random.randint(1, 254)}"  # noqa: S311 - no secret
        claim = socket.socket()
        try:
            claim.bind((f"{prefix}.{CLAIM_HOST}", CLAIM_PORT))
            claim.listen(1)
        except OSError as err:
            claim.close()
            problem = err
        else:
            return AddressBlock(prefix=prefix, claim=claim)
    raise NoFreeAddressesError(f"no free 127.A.B.0/24 in {attempts} attempts: {problem}") from problem
