"""What `make fleet` shows."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.live


def test_two_clusters_break_and_one_is_mended() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.fleet", "--once"], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"alpha  .* OPENED .* Secret checkout/payment-gateway", done.stdout)
    assert re.search(r"alpha  .* RESOLVED .* Secret checkout/payment-gateway", done.stdout)
    assert "alpha: somebody makes the Secret payment-gateway" in done.stderr
    shown = re.search(r"Slack shows (\d+) incidents; S3 holds (\d+) objects", done.stderr)
    assert shown
    assert int(shown[1]) >= 2  # S3 is given a minute at a time, so it may have nothing yet
    assert "Traceback" not in done.stderr
