"""The collector alone: watches a cluster, and forgets what it says. Run as a process of its own."""

import asyncio
import sys

from analyzers import enabled
from collectors.credentials import connect
from collectors.live import LiveCollector


async def main(kubeconfig: str) -> None:
    async with await connect(kubeconfig, None) as cluster:
        async for _ in LiveCollector(cluster, enabled()).evidence():
            pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
