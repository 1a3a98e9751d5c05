"""Check that a video file is complete, from the lengths stated in its structure.

Readers of Matroska and AVI skip damage and a missing end without an error, which would drop frames.
"""

from __future__ import annotations

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
# Elements of a segment and its clusters: SeekHead, Info, Tracks, Cues, Chapters, Tags, Attachments, Void, CRC-32;
# Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup, EncryptedBlock.
_PARTS = {
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0x1941A469, 0xEC, 0xBF),
    *(0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF),
}


def is_complete(data: bytes, format_name: str) -> bool:
    """False if a file of the format `format_name` (from `formats`) is truncated or its elements are not contiguous;
    True for formats that cannot be checked."""
    if format_name == "AVI":
        return 8 + int.from_bytes(data[4:8], "little") <= len(data)
    return _matroska(data) if format_name == "Matroska" else True


def _matroska(data: bytes) -> bool:
    """Follow the elements (RFC 8794) of the segment and its clusters (RFC 9559). Lengths may be unknown, as in live
    recordings: the elements of a cluster are then followed by the next cluster."""
    position = 0
    end = len(data)
    inside = False
    while position < end:
        number, position = _number(data, position, keep_mark=True)
        length, position = _number(data, position)
        if number == _SEGMENT and not inside:
            inside = True
            if length is not None:
                end = position + length
                if end > len(data):
                    return False
        elif number == _CLUSTER and inside:
            continue
        elif length is None or (inside and number not in _PARTS):
            return False
        else:
            position += length
    return position == end


def _number(data: bytes, position: int, keep_mark: bool = False) -> tuple[int | None, int]:
    """A number of one to eight bytes, whose first set bit gives its length, and the position after it. None if all
    bits are set, which means an unknown length."""
    first = data[position] if position < len(data) else 0
    size = 9 - first.bit_length()
    if size > 8 or position + size > len(data):
        return None, len(data) + 1
    value = int.from_bytes(data[position : position + size], "big")
    if keep_mark:
        return value, position + size
    value &= (1 << 7 * size) - 1
    return (None if value == (1 << 7 * size) - 1 else value), position + size
