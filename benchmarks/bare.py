"""The bare limit: LISTs every kind that kubewhy reads, in pages, and decodes each page. Run as a process of its own."""

import http.client
import json
import ssl
import sys
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec

from collectors.decoding import Listing
from kubewhy.kube import KINDS

PAGE = 500


def main(kubeconfig: Path) -> None:
    settings = json.loads(kubeconfig.read_text())
    server = settings["clusters"][0]["cluster"]
    headers = {"Authorization": f"Bearer {settings['users'][0]['user']['token']}", "Accept": "application/json"}
    context = ssl.create_default_context(cafile=server["certificate-authority"])
    connection = http.client.HTTPSConnection(urlsplit(server["server"]).netloc, context=context)
    objects = 0
    for kind in KINDS:
        decoder = msgspec.json.Decoder(Listing[kind])  # type: ignore[valid-type]
        token = ""
        while True:
            query = {"limit": PAGE, **({"continue": token} if token else {})}
            connection.request("GET", f"{kind.resource.path()}?{urlencode(query)}", headers=headers)
            page = decoder.decode(connection.getresponse().read())
            objects += len(page.items or ())
            token = page.metadata.next
            if not token:
                break
    print(objects)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
