"""Whether a clip's file is all there, by the lengths that its own structure tells.

Readers of Matroska and AVI pass over damage and over a missing end in silence, which would leave frames out.
"""

from __future__ import annotations

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
# What a segment and its clusters may hold: SeekHead, Info, Tracks, Cues, Chapters, Tags, Attachments, Void, CRC-32;
# Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup, EncryptedBlock.
_PARTS = {
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0x1941A469, 0xEC, 0xBF),
    *(0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF),
}


def is_whole(data: bytes, form: str) -> bool:
    """False if a file of the format `form` (as `formats` names it) ends too early or its parts do not follow on one
    another; True for formats of which this cannot be told.
    """
    if form == "AVI":
        return 8 + int.from_bytes(data[4:8], "little") <= len(data)
    return _matroska(data) if form == "Matroska" else True


def _matroska(data: bytes) -> bool:
    """Follow the elements (RFC 8794) of the segment and its clusters (RFC 9559) from one to the next. Lengths may be
    unknown, as in live recordings: the parts of a cluster are then followed by the next cluster."""
    place = 0
    end = len(data)
    inside = False
    while place < end:
        number, place = _number(data, place, keep_mark=True)
        length, place = _number(data, place)
        if number == _SEGMENT and not inside:
            inside = True
            if length is not None:
                end = place + length
                if end > len(data):
                    return False
        elif number == _CLUSTER and inside:
            continue
        elif length is None or (inside and number not in _PARTS):
            return False
        else:
            place += length
    return place == end


def _number(data: bytes, place: int, keep_mark: bool = False) -> tuple[int | None, int]:
    """A number of one to eight bytes, whose first set bit tells how many, and the place after it; None where all bits
    are set, which stands for an unknown length."""
    first = data[place] if place < len(data) else 0
    size = 9 - first.bit_length()
    if size > 8 or place + size > len(data):
        return None, len(data) + 1
    value = int.from_bytes(data[place : place + size], "big")
    if keep_mark:
        return value, place + size
    value &= (1 << 7 * size) - 1
    return (None if value == (1 << 7 * size) - 1 else value), place + size
