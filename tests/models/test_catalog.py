"""The catalog names each model once, with what is needed to trust it."""

from __future__ import annotations

import re

import pytest
from localsmith.core.errors import ModelNotFoundError
from localsmith.models.catalog.catalog import (
    HubSource,
    PackageSource,
    catalog,
    catalog_entry,
    entry_of_sha256,
)


def test_every_entry_can_be_verified_and_has_a_licence_and_two_sources() -> None:
    for entry in catalog().values():
        assert re.fullmatch(r"[a-z0-9.-]+", entry.name)
        assert entry.licence and entry.description.endswith(".") and entry.n_ctx_train > 0
        assert [type(source) for source in entry.sources] == [HubSource, PackageSource]
        for file in entry.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256), file
            assert file.size_bytes > 0
            assert not file.path.startswith("/") and ".." not in file.path
        for source in entry.sources:
            if isinstance(source, HubSource):
                assert re.fullmatch(r"[0-9a-f]{40}", source.revision), "a branch would move under the hash"


def test_hashes_are_those_of_the_published_files() -> None:
    # Source: the files' LFS object ids at the revisions in catalog.toml.
    published = {
        "qwen2.5-coder-1.5b": "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "qwen2.5-coder-0.5b": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "smollm2-135m": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "all-minilm-l6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    }
    assert {name: entry.sha256 for name, entry in catalog().items()} == published


def test_an_unknown_name_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        catalog_entry("Qwen2.5-coder-1.5")
    assert "Qwen2.5-coder-1.5" in str(caught.value)
    assert "qwen2.5-coder-1.5b" in caught.value.hint


def test_a_hash_finds_its_entry() -> None:
    entry = catalog_entry("smollm2-135m")
    assert entry_of_sha256(entry.sha256) is entry
    assert entry_of_sha256("0" * 64) is None
