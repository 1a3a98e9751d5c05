"""Reader of video files: frame times from the packets, and decoding of selected frames only."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import Any

from polymodal.core.errors import MissingExtraError
from polymodal.data.media.container_check import is_complete
from polymodal.data.media.formats import check_format
from polymodal.data.media.frame_sampling import FrameTimeline
from polymodal.data.media.source import MediaError
from polymodal.recipe.data import LimitOptions

#: Demuxers that may read a video. Demuxers that open further files (playlists) are excluded.
DEMUXERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,ogg"
#: Frames per second if unknown.
DEFAULT_FRAME_RATE = 25.0
#: Codecs that mark non-reference frames, which need no decoding unless they are selected.
NONREF_CODECS = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
DAMAGED = "the video is damaged or incomplete"


class PacketMismatch(Exception):
    """The decoder does not return the frames that the container promised."""


class VideoReader:
    """The packets of the video stream, in decoding order, and their decoder (one thread).

    timeline: when each frame is shown, from the packet times only. None if these are not enough: times are missing or
        occur twice, or the container (AVI) has only decoding times and the codec reorders frames

    Raises:
        MediaError: damaged, in another format, without images, or over a limit.
    """

    def __init__(self, data: bytes, limits: LimitOptions) -> None:
        self.limits = limits
        form = check_format("video", data)
        with translate_errors():
            self._container = open_container(data, limits)
            self._stream = video_stream(self._container)
            self._decoder = self._stream.codec_context
            self._decoder.thread_count = 1
            self._decoder.options = {"max_pixels": str(int(limits.megapixels * 1e6))}
            check_size(self._decoder.width, self._decoder.height, limits)
            if not is_complete(data, form):
                raise MediaError(DAMAGED)
            self.tick = float(self._stream.time_base)
            self.packets = self._read()
            self.timeline = self._timeline()
        if self.timeline is not None:
            check_seconds(self.timeline.seconds, limits)
        self._next = 0  # the next packet to decode

    def _read(self) -> list[Any]:
        """All packets of the video stream. Other streams are read only to find the end of the file."""
        packets: list[Any] = []
        size, end = 0, 0.0
        for packet in self._container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.time_base is not None:
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != self._stream.index or not packet.size:
                continue
            packets.append(packet)
            size += packet.size
            if len(packets) > self.limits.frames:
                raise MediaError(f"the video has more than {self.limits.frames} frames, the limit")
            if size > self.limits.megabytes * 2**20:
                raise MediaError(f"the video stream is over the limit of {self.limits.megabytes:g} MiB")
        if not packets:
            raise MediaError("the video has no frames")
        self._check_complete(len(packets), end)
        return packets

    def _check_complete(self, packets: int, end: float) -> None:
        """Check that the file has everything its header promises: a truncated file must not silently lose frames."""
        counted = {"mp4", "avi"} & set(self._container.format.name.split(","))
        promised = sum(entry.size > 0 for entry in self._stream.index_entries) if counted else 0
        if promised > packets:
            raise MediaError(f"the video is incomplete: it has {packets} of {promised} frames")
        seconds = (self._container.duration or 0) / 1e6
        there = end - (self._container.start_time or 0) / 1e6
        if self._container.duration and seconds - there > max(1.0, 0.05 * seconds):
            raise MediaError(f"the video is incomplete: it has {there:.1f} of {seconds:.1f} seconds")

    def _timeline(self) -> FrameTimeline | None:
        times = [packet.pts for packet in self.packets]
        if None in times or len(set(times)) < len(times):
            return None
        if self._container.format.name == "avi" and self._decoder.has_b_frames and times == sorted(times):
            return None
        shown = sorted((packet.pts, packet.duration or 0) for packet in self.packets if not packet.is_discard)
        if not shown:
            raise MediaError("the video has no frames")
        starts = [start for start, _ in shown]
        return FrameTimeline(starts, starts[-1] + (shown[-1][1] or self._usual(starts)), self.tick)

    def _usual(self, starts: Sequence[int]) -> int:
        """Assumed duration of the last frame if unknown: that of the frame before it."""
        if len(starts) > 1:
            return starts[-1] - starts[-2]
        return max(1, round(1 / (self.frame_rate * self.tick)))

    @property
    def frame_rate(self) -> float:
        """Frames per second, as stated in the header."""
        return float(self._stream.average_rate or self._stream.guessed_rate or DEFAULT_FRAME_RATE)

    def decode_from(self, start: int = 0, wanted: AbstractSet[int] | None = None) -> Iterator[Any]:
        """Frames in order of time, from the packet `start` to the end. Decoding is lazy.

        wanted: ticks of the frames that will be used. Other frames are skipped unless a frame refers to them

        Raises:
            MediaError: damage, or a frame over a limit.
        """
        with translate_errors():
            self._decoder.flush_buffers()
            self._decoder.skip_frame = "DEFAULT"
        self._next = start
        skipped_unless = wanted if self._decoder.name in NONREF_CODECS else None
        while self._next <= len(self.packets):
            packet = self.packets[self._next] if self._next < len(self.packets) else None
            self._next += 1
            if packet is not None and packet.is_corrupt:
                raise MediaError(DAMAGED)
            with translate_errors():
                if packet is not None and skipped_unless is not None:
                    self._decoder.skip_frame = "DEFAULT" if packet.pts in skipped_unless else "NONREF"
                frames = self._decoder.decode(packet)
            for frame in frames:
                if frame.is_corrupt:
                    raise MediaError(DAMAGED)
                check_size(frame.width, frame.height, self.limits)
                yield frame

    def decode_at(self, wanted: Sequence[int]) -> Iterator[Any]:
        """The frames shown from the ticks `wanted` (increasing). Decoding starts at the keyframe before each, or
        continues if that keyframe has been passed.

        Raises:
            PacketMismatch: the decoder returns other frames than the packets promise; decode everything instead.
            MediaError: damage in what had to be decoded.
        """
        assert self.timeline is not None
        needed = {self.timeline.starts[0], *wanted}
        frames = self.decode_from(0, needed)
        first = next(frames, None)
        if first is None or first.pts != self.timeline.starts[0]:
            raise PacketMismatch
        frames = chain([first], frames)
        position_of = {packet.pts: position for position, packet in enumerate(self.packets)}
        for tick in wanted:
            key = self._key_before(tick, position_of[tick])
            if key > self._next:
                frames = self._from_key(key, needed)
            for frame in frames:
                if frame.pts == tick:
                    yield frame
                    break
                if frame.pts is None or frame.pts > tick:
                    raise PacketMismatch
            else:
                raise PacketMismatch

    def _key_before(self, tick: int, position: int) -> int:
        """The last keyframe from which the packet at `position` can be decoded: neither decoded nor shown after it.
        (Frames that are decoded after a keyframe but shown before it may refer to earlier frames.)"""
        for key in range(position, -1, -1):
            packet = self.packets[key]
            if packet.is_keyframe and packet.pts <= tick:
                return key
        return 0

    def _from_key(self, key: int, needed: AbstractSet[int]) -> Iterator[Any]:
        """Frames from the keyframe at the packet `key`."""
        start = self.packets[key].pts
        frames = (frame for frame in self.decode_from(key, needed) if frame.pts is None or frame.pts >= start)
        first = next(frames, None)
        if first is None or first.pts != start or not first.key_frame:
            raise PacketMismatch
        return chain([first], frames)

    def keyframe_ticks(self) -> list[int]:
        """Ticks of the keyframes, in order of time."""
        return sorted(packet.pts for packet in self.packets if packet.is_keyframe and not packet.is_discard)

    def decode_keyframes(self, keys: Sequence[int]) -> Iterator[Any]:
        """The keyframes shown from the ticks `keys`, each decoded separately.

        Raises:
            PacketMismatch: the decoder does not return one of them.
            MediaError: one of them is damaged.
        """
        packet_of = {packet.pts: packet for packet in self.packets}
        for key in keys:
            with translate_errors():
                self._decoder.skip_frame = "NONKEY"
                self._decoder.flush_buffers()
                frames = [*self._decoder.decode(packet_of[key]), *self._decoder.decode(None)]
            if packet_of[key].is_corrupt or any(frame.is_corrupt for frame in frames):
                raise MediaError(DAMAGED)
            if len(frames) != 1 or frames[0].pts != key or not frames[0].key_frame:
                raise PacketMismatch
            check_size(frames[0].width, frames[0].height, self.limits)
            yield frames[0]

    def timeline_by_decoding(self) -> tuple[FrameTimeline, list[int]]:
        """The timeline of all decoded frames, and the numbers of the keyframes.

        If times are missing or do not increase, frames are assumed to follow the header's frame rate.
        """
        starts: list[Any] = []
        keys: list[int] = []
        last = 0
        for frame in self.decode_from():
            keys += [len(starts)] if frame.key_frame else []
            starts.append(frame.pts)
            last = frame.duration or 0
            if len(starts) > self.limits.frames:
                raise MediaError(f"the video has more than {self.limits.frames} frames, the limit")
        if not starts:
            raise MediaError("the video has no frames")
        if None in starts or any(late <= early for early, late in pairwise(starts)):
            timeline = FrameTimeline(range(len(starts)), len(starts), 1 / self.frame_rate)
        else:
            timeline = FrameTimeline(starts, starts[-1] + (last or self._usual(starts)), self.tick)
        check_seconds(timeline.seconds, self.limits)
        return timeline, keys


def open_container(data: bytes, limits: LimitOptions) -> Any:
    """The file as seen by the demuxer. Call within `translate_errors`.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video", "reading videos") from error
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "", "max_pixels": str(int(limits.megapixels * 1e6))}
    try:
        return av.open(io.BytesIO(data), options=options, metadata_errors="replace")
    except av.error.InvalidDataError as error:
        raise MediaError("not a video of a supported format, or its header is damaged") from error


def video_stream(container: Any) -> Any:
    """The first video stream that is not an album cover."""
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            return stream
    raise MediaError("the file has no video stream")


def check_size(width: int, height: int, limits: LimitOptions) -> None:
    if width * height == 0:
        raise MediaError(f"the frames have no size, or are over the limit of {limits.megapixels:g} megapixels")
    if width * height > limits.megapixels * 1e6:
        raise MediaError(f"frames of {width} x {height} pixels are over the limit of {limits.megapixels:g} megapixels")


def check_seconds(seconds: float, limits: LimitOptions) -> None:
    if seconds > limits.seconds:
        raise MediaError(f"the video lasts {seconds:.1f} seconds, over the limit of {limits.seconds:g}")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn any exception of the decoder, which damaged files cause, into a message for the user."""
    try:
        yield
    except (MediaError, MissingExtraError, PacketMismatch):
        raise
    except MemoryError as error:
        raise MediaError("the video does not fit into memory") from error
    except Exception as error:
        raise MediaError(DAMAGED) from error
