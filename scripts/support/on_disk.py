"""Where what lies in a data directory, by docs/format.md, and flipping bits of it."""

import dataclasses
import os
import struct

BLOCK = 4096
VERSION = 2
HEADER = struct.Struct("<8sIIQ16sQQ")
"""Of a segment, without its checksum: magic, version, number, size, store, nonce, created."""
TRAILER = struct.Struct("<8sIIQQIIQQ16sQ")
"""Without its checksum: magic, version, number, nonce, where the entries start, their count and
checksum, where the records end, size, store, created."""
CHECKSUM_BYTES = 4
ENTRY_BYTES = 48
SUPERBLOCK_BYTES = 564
KIND_BLOB, KIND_TOMBSTONE = 1, 4
RECORD_MAX = (2 << 20) - BLOCK
"""Bytes of the largest blob that may be one record."""


class Segment:
    """The file of a segment: its parts, and for each the bytes that mean something."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path).removesuffix(".seg")
        with open(path, "rb") as file:
            header = HEADER.unpack(file.read(HEADER.size))
            size = file.seek(0, os.SEEK_END)
            file.seek(size - BLOCK)
            trailer = TRAILER.unpack(file.read(TRAILER.size))
        self.number = header[2]
        used = HEADER.size + CHECKSUM_BYTES
        self.parts = {"header 1": range(used), "header 2": range(BLOCK, BLOCK + used)}
        # A file that was a segment before may end with the trailer of its former life.
        same_life = (trailer[2], trailer[3]) == (header[2], header[5])
        self.is_sealed = trailer[0] == b"NABUFTR2" and same_life
        if self.is_sealed:
            entries, count = trailer[4], trailer[5]
            self.parts["entries"] = range(entries, entries + count * ENTRY_BYTES)
            used = TRAILER.size + CHECKSUM_BYTES
            self.parts["trailer"] = range(size - BLOCK, size - BLOCK + used)

    def with_padding(self, part):
        """The bytes of a part and the zeros behind them, up to the next block."""
        used = self.parts[part]
        return range(used.start, -(-used.stop // BLOCK) * BLOCK)

    def ids(self, kind):
        """The ids of which records of this kind lie here, dead ones too."""
        with open(self.path, "rb") as file:
            content = file.read()
        found, at = set(), content.find(b"NBR2", 2 * BLOCK)
        while at >= 0:
            number = int.from_bytes(content[at + 12 : at + 16], "little")
            if at % 64 == 0 and number == self.number and content[at + 4] == kind:
                found.add(content[at + 48 : at + 64].hex())
            at = content.find(b"NBR2", at + 1)
        return found


def segments(data):
    """The segments of a data directory, the oldest first. One that leaves meanwhile is left out."""
    found = []
    directory = os.path.join(data, "segments")
    for name in sorted(os.listdir(directory)):
        if name.endswith(".seg"):
            try:
                found.append(Segment(os.path.join(directory, name)))
            except FileNotFoundError:
                pass
    return found


def checkpoint_bytes(path):
    """The bytes of a checkpoint up to the end of its last section; behind it there is padding."""
    with open(path, "rb") as file:
        content = file.read()
    kind = at = 0
    while kind != 4:
        kind, length = struct.unpack_from("<II", content, at)
        at += 16 + length
    return range(at)


def refusal(superblock):
    """What a start says of a superblock of which no copy is sound."""
    says = []
    for copy in (superblock[:BLOCK], superblock[BLOCK:]):
        version = int.from_bytes(copy[8:12], "little")
        if copy[:8] != b"NABUSTOR":
            says.append((0, "is not the file of a Nabu Store data directory"))
        elif version > VERSION:
            says.append((2, f"this program knows format {VERSION} at most"))
        elif 0 < version < VERSION:
            says.append((2, f"this program reads format {VERSION} alone"))
        else:
            says.append((1, "fails its checksum; restore it from a backup of the directory"))
    return max(says, key=lambda said: said[0])[1]


@dataclasses.dataclass
class Flip:
    path: str
    offset: int
    bit: int

    def __str__(self):
        return f"bit {self.bit} of byte {self.offset} of {os.path.basename(self.path)}"

    @property
    def is_beside(self):
        """In a file beside the segments."""
        return not self.path.endswith(".seg")

    def apply(self):
        """Flips the bit; once more, and it is as before."""
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ 1 << self.bit]))
            os.fsync(file.fileno())


def plant(path, offsets, rng):
    """Flips one bit of one of these bytes of a file."""
    planted = Flip(path, rng.choice(offsets), rng.randrange(8))
    planted.apply()
    return planted
