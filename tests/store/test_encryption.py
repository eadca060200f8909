"""Secrets on the disk: sealed always, readable with their keys, rotated at start, and never there in clear."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jota.pki.envelope import BadKeyFile, Envelope, new_line, parse
from jota.store.drivers.sqlite import Damaged, SqliteStore
from jota.store.protocol import Store
from jota.testing.store_suite import StoreSuite

KEY = "/core/secrets/default/db"
PLAIN = b'{"name":"db"}\n,"data":{"password":"aHVudGVyMg-clear"}'
OLD, NEW = ("old", b"o" * 32), ("new", b"n" * 32)


class TestSealed(StoreSuite):
    """Everything that holds for a store holds for one that seals all its values."""

    def open(self, directory: Path) -> Store:
        return SqliteStore(str(directory / "db"), Envelope([OLD], prefixes=("/",)))


def on_disk(directory: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(directory.iterdir()))


async def filled(directory: Path, cipher: Envelope | None, rounds: int = 3) -> None:
    store = SqliteStore(str(directory / "db"), cipher)
    for n in range(rounds):
        await store.put(KEY, PLAIN + b" " * n)
        await store.put("/core/configmaps/default/c", b'{"name":"c"}\n,"data":{"open":"to-all"}')
    await store.put("/core/secrets/default/gone", PLAIN)
    await store.delete("/core/secrets/default/gone")
    on_the_way = on_disk(directory)
    assert (b"hunter" in on_the_way or b"aHVudGVyMg" in on_the_way) == (cipher is None)
    await store.close()


def test_no_byte_of_a_secret_is_in_the_database_or_its_wal(tmp_path: Path) -> None:
    async def story() -> None:
        await filled(tmp_path, Envelope([OLD]))
        assert b"aHVudGVyMg" not in on_disk(tmp_path)
        assert b"to-all" in on_disk(tmp_path), "others are kept as they are"
        store = SqliteStore(str(tmp_path / "db"), Envelope([OLD]))
        entry = store.get(KEY)
        assert entry is not None
        assert entry.value == PLAIN + b"  "
        await store.close()

    asyncio.run(story())


def test_plain_rows_of_an_older_version_are_read_and_sealed(tmp_path: Path) -> None:
    async def story() -> None:
        await filled(tmp_path, None)
        store = SqliteStore(str(tmp_path / "db"), Envelope([OLD]))
        assert b"aHVudGVyMg" not in on_disk(tmp_path), "neither in rows, nor in free pages, nor in the WAL"
        entry = store.get(KEY)
        assert entry is not None
        assert entry.value == PLAIN + b"  "
        first = store.get(KEY, revision=2)
        assert first is not None
        assert first.value == PLAIN
        await store.close()

    asyncio.run(story())


def test_a_new_first_key_seals_everything_anew(tmp_path: Path) -> None:
    async def story() -> None:
        await filled(tmp_path, Envelope([OLD]))
        await SqliteStore(str(tmp_path / "db"), Envelope([NEW, OLD])).close()
        assert b"aesgcm:v1:old:" not in on_disk(tmp_path)
        store = SqliteStore(str(tmp_path / "db"), Envelope([NEW]))
        entry = store.get(KEY)
        assert entry is not None
        assert entry.value == PLAIN + b"  "
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("keys", "text"),
    [([NEW], "sealed with the key old, the key file has new"), ([("old", b"x" * 32)], "does not open it")],
)
def test_without_its_key_the_store_says_which_and_what_to_do(
    tmp_path: Path, keys: list[tuple[str, bytes]], text: str
) -> None:
    async def story() -> None:
        await filled(tmp_path, Envelope([OLD]))
        with pytest.raises(Damaged, match=text) as caught:
            SqliteStore(str(tmp_path / "db"), Envelope(keys))
        assert "/core/secrets/default/db" in str(caught.value)
        assert "pki/encryption.keys" in str(caught.value)
        await SqliteStore(str(tmp_path / "db"), Envelope([OLD])).close()

    asyncio.run(story())


def test_a_sealed_value_belongs_to_its_key() -> None:
    envelope = Envelope([OLD])
    with pytest.raises(ValueError):
        envelope.open("/core/secrets/default/other", envelope.seal(KEY, PLAIN))
    assert envelope.seal(KEY, PLAIN) != envelope.seal(KEY, PLAIN)


def test_key_files() -> None:
    text = f"# today\n{new_line(os.urandom)}\nold {'b29v' * 10}b28=  # before\n"
    first, second = parse(text)
    assert first[0].startswith("key-")
    assert (len(first[1]), second[0]) == (32, "old")
    for wrong in ("nonsense", "a !!!", "a b c"):
        with pytest.raises(BadKeyFile, match="line 1"):
            parse(wrong)
    for keys in ([], [("short", b"x")]):
        with pytest.raises(BadKeyFile):
            Envelope(keys)
