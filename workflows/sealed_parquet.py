"""Parquet files that carry the SHA-256 of their own bytes, so that no flipped bit goes unnoticed.

Parquet's page checksums cover the pages alone: neither the footer, which says where pages lie and what they mean, nor
the metadata. A sealed file is an ordinary Parquet file that any reader opens; the digest is an entry of its footer,
taken over the whole file with zeros in the digest's own place.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

_ENTRY = "ionsieve-seal"
_MARK = b"ionsieve-sha256:"
_DIGITS = 64


class SealError(ValueError):
    """The bytes are not those that were sealed: torn, damaged, or never sealed."""


def sealed(table: pa.Table) -> bytes:
    """Write a table as the bytes of a sealed Parquet file."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_ENTRY: (_MARK + b"0" * _DIGITS).decode()})
    content = sink.getvalue().to_pybytes()
    return _with_digest(content, hashlib.sha256(content).hexdigest().encode())


def unsealed(content: bytes) -> pa.Table:
    """Read the table of a sealed file.

    Raises
    ------
    SealError
        When any byte differs from what was sealed.
    """
    place = content.rfind(_MARK)
    if place < 0:
        raise SealError("the file carries no SHA-256 of itself: it is torn, or was not written by this version")
    found = content[place + len(_MARK) :][:_DIGITS]
    expected = hashlib.sha256(_with_digest(content, b"0" * _DIGITS)).hexdigest().encode()
    if found != expected:
        raise SealError(f"its bytes have SHA-256 {expected[:12].decode()}..., not {found[:12]!r}...: it is damaged")
    return pq.read_table(pa.BufferReader(content))


def _with_digest(content: bytes, digest: bytes) -> bytes:
    """Put a digest in its place: the mark's last occurrence, since the footer follows the data."""
    place = content.rindex(_MARK) + len(_MARK)
    return content[:place] + digest + content[place + _DIGITS :]
