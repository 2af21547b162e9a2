"""Whether the gateway in this container serves: exit code 0. Asks its operators' listener, without
curl. $VISIONGATE_HEALTH is another URL; a certificate is not verified, for it names another host.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request
from typing import Final

_SECONDS: Final = 4


def main() -> int:
    url = os.environ.get("VISIONGATE_HEALTH", "http://127.0.0.1:9090/healthz")
    anyone = ssl._create_unverified_context()  # noqa: S323  (it is ourselves that is asked)
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anyone)
    )
    try:
        with direct.open(url, timeout=_SECONDS):
            return 0
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
