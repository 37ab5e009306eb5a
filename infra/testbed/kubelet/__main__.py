"""python -m infra.testbed.kubelet KUBECONFIG PORT CERTIFICATE KEY: plays, and serves logs, until it is ended."""

import json
import logging
import sys
from pathlib import Path

from infra.testbed.api import Api
from infra.testbed.kubelet import logs
from infra.testbed.kubelet.player import Player
from infra.testbed.kubelet.plays import PLAYS


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = json.loads(Path(sys.argv[1]).read_text())
    cluster = config["clusters"][0]["cluster"]
    token = config["users"][0]["user"]["token"]
    player = Player(Api(cluster["server"], Path(cluster["certificate-authority"]), token), PLAYS)
    logs.serve(int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), player.find)
    player.run()


if __name__ == "__main__":
    main()
