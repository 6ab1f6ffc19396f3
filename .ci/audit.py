"""What is installed beside this package, and what must not be in the tree: one line for each finding, exit 1 if any.

    python .ci/audit.py [--advisories required] [FOLDER]

`pip check`; licences of all that users install; installed files against the hashes of their wheels; known
vulnerabilities (pip-audit); secrets (detect-secrets). Where no advisory service can be reached it says so and goes
on, unless advisories are required. A line with `pragma: allowlist secret` holds no secret: say why beside it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

PACKAGE = "metering"
NOT_SHIPPED = {"test", "dev"}
"""Extras whose packages only run beside the tests; their licences bind nobody."""
FREE = re.compile(
    r"Apache|BSD|MIT|ISC|PSF|Python Software Foundation|Zlib|CC0|Unlicense|MPL|Mozilla|LGPL|Lesser|0BSD|CNRI", re.I
)
BOUND = re.compile(r"(?<!L)GPL|(?<!Lesser )General Public|SSPL|BUSL|Commons Clause|Proprietary", re.I)
UNREAD = {".parquet", ".gz", ".zst", ".png", ".pdf"}


def consistent() -> Iterator[str]:
    """What pip finds missing or of a wrong version."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    if done.returncode:
        yield from done.stdout.splitlines()


def shipped(package: str = PACKAGE) -> list[Distribution]:
    """What users install: the package's dependencies with all of its extras but those of the tests."""
    from packaging.requirements import Requirement

    found: dict[str, Distribution] = {}
    wanted = [(package, "")]
    seen = set()
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = here
        extras = {extra} if name != package else set(here.metadata.get_all("Provides-Extra") or ()) - NOT_SHIPPED | {""}
        for text in here.requires or ():
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": one}) for one in extras):
                wanted += [(need.name, one) for one in ("", *need.extras)]
    return [found[name] for name in sorted(found) if name != package]


def licence(dist: Distribution) -> str:
    """A distribution's licence in its own words."""
    about = dist.metadata
    classifiers = [text for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    told = about.get("License-Expression") or "; ".join(text.split(" :: ")[-1] for text in classifiers)
    return told or (about.get("License") or "").strip().partition("\n")[0]


def bound(dists: Iterable[Distribution]) -> Iterator[str]:
    """Licences that bind who ships this, or that nobody knows."""
    for dist in dists:
        told = licence(dist)
        if BOUND.search(told) or not FREE.search(told):
            yield f"{dist.metadata['Name']}: licence {told or 'unknown'!r}"


def altered(dists: Iterable[Distribution]) -> Iterator[str]:
    """Installed files that are not what their wheel's record says."""
    for dist in dists:
        for file in dist.files or ():
            path = Path(str(file.locate()))
            if file.hash is None or path.suffix == ".pyc":
                continue
            if not path.exists():
                yield f"{dist.metadata['Name']}: {file} is missing"
            elif _digest(path, file.hash.mode) != file.hash.value:
                yield f"{dist.metadata['Name']}: {file} was changed after it was installed"


def _digest(path: Path, mode: str) -> str:
    with path.open("rb") as file:
        return base64.urlsafe_b64encode(hashlib.file_digest(file, mode).digest()).rstrip(b"=").decode()


def vulnerable(required: bool) -> Iterator[str]:
    """Known vulnerabilities of what is installed; says how many packages the service knows."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable"],
        capture_output=True,
        text=True,
    )
    try:
        told = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        told = []
    known = [one for one in told if "vulns" in one]
    print(f"  advisories: {len(known)} of {len(told)} packages are known to a service")
    if not known:
        print("  NOT AUDITED: no advisory service can be reached from here; run this again where one can be")
        if required:
            yield "no advisory service can be reached"
    for one in known:
        for found in one["vulns"]:
            mended = ", ".join(found["fix_versions"]) or "no version"
            yield f"{one['name']} {one['version']}: {found['id']}, mended in {mended}"


def secrets(paths: Iterable[Path]) -> Iterator[str]:
    """Lines that look like a secret; what stands there is not printed."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    with default_settings():
        for path in paths:
            found = SecretsCollection()
            found.scan_file(str(path))
            for name, secret in found:
                yield f"{name}:{secret.line_number}: {secret.type}"


def tree(folder: Path) -> list[Path]:
    """Every file that is committed, or all where there is no repository; data that is packed is left out."""
    listed = subprocess.run(["git", "-C", str(folder), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [folder / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] != ".venv"]
    return sorted(path for path in paths if path.is_file() and path.suffix not in UNREAD)


def main() -> int:
    """Print every finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advisories", choices=["required", "if reachable"], default="if reachable")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent.parent)
    asked = parser.parse_args()
    dists = shipped()
    print(f"  {len(dists)} packages are shipped")
    checks = {
        "consistent": consistent(),
        "licence": bound(dists),
        "altered": altered(dists),
        "vulnerable": vulnerable(asked.advisories == "required"),
        "secret": secrets(tree(asked.folder)),
    }
    findings = [f"{name}: {finding}" for name, found in checks.items() for finding in found]
    print("\n".join(findings) or "  nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
