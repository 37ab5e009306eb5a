"""The collector alone: watches a cluster, counts what it says, and tells every second. Run as a process of its own."""

import asyncio
import sys
from contextlib import aclosing

from analyzers import enabled
from collectors.credentials import connect
from collectors.live import LiveCollector


async def main(kubeconfig: str) -> None:
    async with await connect(kubeconfig, None) as cluster:
        count = 0
        async with aclosing(LiveCollector(cluster, enabled()).evidence()) as records:  # type: ignore[type-var]
            async for _ in records:
                count += 1
                if count % 1000 == 0:
                    print(count, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
