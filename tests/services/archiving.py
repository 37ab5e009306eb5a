"""Archives a fixed row of findings, life after life: `python -m tests.services.archiving STATE URL BUCKET`.

For each line that it reads it forks a life, says its process id, and how that ended.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kubewhy.buckets import BucketSettings
from kubewhy.records import Finding
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.state import SqliteState
from kubewhy.s3 import Bucket
from sinks.s3 import S3Sink
from tests.services.moto import REGION
from tests.views import DEPLOYMENT, told, view

START = datetime(2026, 3, 1, 12, 30, 0, tzinfo=UTC)
EVERY = timedelta(seconds=3)
COUNT = 1500
POSTED = "posted"
AT_ONCE = 5


def row() -> Iterator[Finding]:
    """An hour and a quarter of findings, of two clusters."""
    for number in range(COUNT):
        incident = view(told(DEPLOYMENT), id=f"i{number // 3}", cluster=f"c{number % 2}")
        yield Finding(
            id=f"f{number}", transition="updated", at=START + number * EVERY, revision=number, incident=incident
        )


async def live(path: Path, bucket: Bucket) -> None:
    """Posts what was not posted before, and delivers, until all has arrived."""
    with closing(SqliteState(path)) as state:
        delivery = Delivery({"s3": S3Sink(bucket)}, state)
        findings, posted = list(row()), int(state.get(POSTED) or b"0")
        async with delivery.running():
            while posted < COUNT:
                some = findings[posted : posted + AT_ONCE]
                posted += len(some)
                delivery.post([("s3", each) for each in some], {POSTED: str(posted).encode()})
                delivery.tick(some[-1].at)
                await asyncio.sleep(0.001)  # or what is posted would be over before the first batch is
            await delivery.end()


def main(path: Path, url: str, bucket: str) -> None:
    # The library takes long to make a client, which is none of what is tested.
    made = Bucket(BucketSettings(bucket=bucket, endpoint=url, region=REGION))
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            asyncio.run(live(path, made))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
