"""The audit of what is installed and committed can fail, in each of its checks."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PathDistribution
from pathlib import Path
from types import ModuleType

import pytest

AUDIT = Path(__file__).parent.parent / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", AUDIT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(folder: Path, about: str) -> PathDistribution:
    """A package with one file, as an installer leaves it."""
    info = folder / "made_up-1.dist-info"
    info.mkdir()
    (folder / "made_up.py").write_text("one = 1\n")
    # The hash of `one = 1\n`, by `sha256sum | xxd -r -p | base64`.
    digest = "sha256=HkdhEfZSg6lFe3KYy3vLO3OhJcAqkSIkpeAK9ppkYz4"
    (info / "RECORD").write_text(f"made_up.py,{digest},8\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: made-up\nVersion: 1\n{about}")
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ("License-Expression: Apache-2.0 OR BSD-3-Clause\n", False),
        ("License-Expression: LGPL-3.0-only\n", False),
        ("Classifier: License :: OSI Approved :: MIT License\n", False),
        ("License-Expression: GPL-3.0-or-later\n", True),
        ("License-Expression: MIT AND AGPL-3.0-only\n", True),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3\n", True),
        ("", True),
    ],
)
def test_licences_that_bind_or_that_nobody_knows(audit: ModuleType, tmp_path: Path, about: str, found: bool) -> None:
    assert bool([*audit.bound([installed(tmp_path, about)])]) == found


def test_a_file_that_was_changed_after_it_was_installed(audit: ModuleType, tmp_path: Path) -> None:
    dist = installed(tmp_path, "")
    assert [*audit.altered([dist])] == []
    (tmp_path / "made_up.py").write_text("one = 2\n")
    assert [*audit.altered([dist])] == ["made-up: made_up.py was changed after it was installed"]
    (tmp_path / "made_up.py").unlink()
    assert [*audit.altered([dist])] == ["made-up: made_up.py is missing"]


def test_secrets_are_found_and_not_printed(audit: ModuleType, tmp_path: Path) -> None:
    """Put together here, so that this file holds none."""
    kept = {
        "cloud.toml": "AKIA" + "Z7QKX3MRTW5LBVNP",
        "card.py": 'key = "sk_live_' + '4eC39HqLyjWDarjtT1zdp7dc"',
        "key.txt": "-----BEGIN RSA PRIVATE" + " KEY-----",
    }
    for name, text in kept.items():
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "good.py").write_text("one = 1\n")
    found = [*audit.secrets(sorted(tmp_path.iterdir()))]
    assert {line.rpartition("/")[2].partition(":")[0] for line in found} == set(kept)
    assert not any(text[-12:-1] in line for text in kept.values() for line in found)


def test_what_users_install_is_not_what_tests_need(audit: ModuleType) -> None:
    names = {dist.metadata["Name"].lower() for dist in audit.shipped()}
    assert {"duckdb", "sqlalchemy", "pyarrow"} <= names
    assert not {"pytest", "beancount", "localstripe", "hypothesis"} & names
