"""Images: any form of cell gives the same pixels, with or without a store; bad cells are reported."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from polymodal.core.errors import DataError
from polymodal.data.media.image import resize_to_square
from polymodal.data.media.workers.pool import DecodePool
from polymodal.data.store import decode_buffer
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.sample import ColumnSample
from polymodal.modalities import media
from polymodal.modalities.image import Image
from polymodal.recipe.data import LimitOptions


def picture(seed, width=48, height=40):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BILINEAR)


def encoded(image, form="PNG"):
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def block(cells, root=None, cache=None, strict=False, limits=None, first=0):
    rows = np.arange(first, first + len(cells))
    return RowBlock({"i": cells}, rows, root, "table", CellErrors(strict), limits or LimitOptions(), cache)


def modality(**options):
    return Image(Image.Options(**{"image_size": 32, **options}), columns=["i"])


def rows(prepared):
    """Pixels of each row as bytes, None where the row is missing."""
    pixels = prepared.items.take(np.arange(len(prepared.items)))["pixels"] if len(prepared.items) else []
    return [pixels[i].tobytes() if i >= 0 else None for i in prepared.index]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(4):
        picture(seed).save(tmp_path / f"{seed}.png")
    picture(9, 300, 200).save(tmp_path / "big.jpg")
    return tmp_path


def test_every_form_of_a_cell_gives_the_same_pixels(folder):
    data = (folder / "0.png").read_bytes()
    address = "data:image/png;base64," + base64.b64encode(data).decode()
    cells = ["0.png", data, address, {"bytes": data, "path": None}, {"bytes": None, "path": "0.png"}]
    cells += [picture(0), np.array(picture(0))]
    given = block(cells, folder)
    prepared = modality().prepare(given)
    assert not given.errors.errors
    assert len(set(rows(prepared))) == 1
    assert len(prepared.items) == len(prepared.content_keys) == 2  # encoded and decoded images have keys of their own


def test_pixels_are_the_same_with_a_store_without_one_and_in_any_order(folder, monkeypatch):
    monkeypatch.setattr(media, "CHUNK_CELLS", 2)
    monkeypatch.setattr(decode_buffer, "PACK_BYTES", 2 * 32 * 32 * 3)
    cells = ["3.png", "big.jpg", None, "0.png", "3.png", "1.png", picture(7)]
    without = modality().prepare(block(cells, folder))
    stored = modality().prepare(block(cells, folder, folder / "cache"))
    again = modality().prepare(block(cells, folder, folder / "cache"))
    backwards = modality().prepare(block(cells[::-1], folder))
    assert rows(without) == rows(stored) == rows(again) == rows(backwards)[::-1]
    assert without.content_keys == stored.content_keys
    assert len(list((folder / "cache").rglob("*.keys"))) > 1
    assert without.index.tolist() == [0, 1, -1, 2, 0, 3, 4]


def test_a_stored_image_is_not_decoded_again_and_a_changed_byte_is(folder, monkeypatch):
    first = modality().prepare(block(["0.png", "1.png"], folder, folder / "cache"))
    met = []
    original = DecodePool.map
    monkeypatch.setattr(DecodePool, "map", lambda pool, jobs: original(pool, (met.append(1) or job for job in jobs)))
    modality().prepare(block(["0.png", "1.png"], folder, folder / "cache"))
    assert met == []
    picture(5).save(folder / "0.png")
    changed = modality().prepare(block(["0.png", "1.png"], folder, folder / "cache"))
    assert met == [1]
    assert rows(changed)[0] != rows(first)[0]
    assert rows(changed)[1] == rows(first)[1]


@pytest.mark.parametrize("option", [{"resize_mode": "pad"}, {"resize_mode": "stretch"}, {"image_size": 64}])
def test_another_preparation_never_shares_an_entry(folder, option):
    modality().prepare(block(["0.png"], folder, folder / "cache"))
    stored = modality(**option).prepare(block(["0.png"], folder, folder / "cache"))
    assert rows(stored) == rows(modality(**option).prepare(block(["0.png"], folder)))
    assert rows(stored) != rows(modality().prepare(block(["0.png"], folder)))


def test_fit_crops_pads_or_distorts():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = (0, 255, 0)
    wide[:, :32] = (255, 0, 0)
    image = Pillow.fromarray(wide)
    assert (resize_to_square(image, 32, "crop") == (0, 255, 0)).all()
    padded = resize_to_square(image, 96, "pad")
    assert (padded[:32] == 0).all()
    assert (padded[32:64] == wide).all()
    stretched = resize_to_square(image, 96, "stretch")
    assert (stretched[:, 10] == (255, 0, 0)).all()
    assert (stretched[0] == stretched[-1]).all()
    assert resize_to_square(Pillow.new("RGB", (1000, 1)), 32, "pad").shape == (32, 32, 3)


def test_bad_cells_are_quarantined_with_their_reason_and_change_no_other_row(folder):
    data = (folder / "0.png").read_bytes()
    (folder / "broken.png").write_bytes(data[: len(data) // 2])
    (folder / "text.png").write_text("not an image")
    bad = [
        "missing.png",
        "broken.png",
        "../up.png",
        "text.png",
        b"",
        7,
        np.zeros((2, 2, 7)),
        "data:image/png,x",
    ]
    cells = ["0.png", *bad, "1.png", "broken.png"]
    clean = ["0.png", *[None] * len(bad), "1.png", None]
    given = block(cells, folder, first=100)
    assert rows(modality().prepare(given)) == rows(modality().prepare(block(clean, folder)))
    found = given.errors.errors
    assert [fault.row for fault in found] == [*range(101, 101 + len(bad)), 102 + len(bad)]
    assert all(fault.reason and fault.column == "i" for fault in found)
    assert [fault.file for fault in found[:4]] == ["missing.png", "broken.png", "../up.png", "text.png"]
    stored = block(cells, folder, folder / "cache")
    assert rows(modality().prepare(stored)) == rows(modality().prepare(block(clean, folder)))
    with pytest.raises(DataError, match="row 1"):
        modality().prepare(block(cells, folder, strict=True))


def test_limits_are_kept(folder):
    given = block(["0.png", "big.jpg"], folder, limits=LimitOptions(megapixels=0.01))
    assert modality().prepare(given).index.tolist() == [0, -1]
    assert "megapixels" in given.errors.errors[0].reason


@pytest.mark.parametrize("cache", [True, False])
def test_a_block_without_any_image(tmp_path, cache):
    prepared = modality().prepare(block([None, "", float("nan")], tmp_path, tmp_path if cache else None))
    assert prepared.index.tolist() == [-1, -1, -1]
    assert len(prepared.items) == 0


def sample(values, root=None):
    return ColumnSample("i", values, None, len(values), len(values), 0, root)


def test_pixels_follow_the_sampled_headers(folder):
    def chosen(cells, **options):
        return Image.resolve(Image.Options(**options), [sample(cells, folder)]).image_size

    assert chosen(["0.png", "1.png"]) == 32
    assert chosen([picture(0, 100, 300)] * 3) == 64
    assert chosen([picture(0, 100, 300)] * 3, max_image_size=224) == 96
    assert chosen([picture(0, 20, 20)]) == 32
    assert chosen(["big.jpg", "nothing.png"], max_image_size=128) == 128
    assert chosen(["big.jpg"], image_size=48) == 48


def test_collate_shares_memory_and_is_channels_last(folder):
    prepared = modality().prepare(block(["0.png", "1.png"], folder))
    arrays = prepared.items.take(np.array([1, 0]))
    pixels = modality().collate(arrays)["pixels"]
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert pixels.data_ptr() == arrays["pixels"].ctypes.data
    assert pixels.is_contiguous(memory_format=torch.channels_last)


AUGMENTATIONS = [{"translate": 0.1}, {"horizontal_flip": True}, {"brightness": 0.5}, {"contrast": 0.5}]


@pytest.mark.parametrize("option", AUGMENTATIONS, ids=str)
def test_each_augmentation_has_an_effect_and_leaves_its_input_alone(folder, option):
    chosen = modality(**{"translate": 0.0, **option})
    prepared = chosen.prepare(block([f"{i % 4}.png" for i in range(16)], folder))
    data = chosen.collate(prepared.items.take(prepared.index))
    before = data["pixels"].clone()
    torch.manual_seed(0)
    one = chosen.augment(data)["pixels"]
    two = chosen.augment(data)["pixels"]
    torch.manual_seed(0)
    assert torch.equal(one, chosen.augment(data)["pixels"])
    assert torch.equal(before, data["pixels"])
    assert not torch.equal(one, before)
    assert not torch.equal(one, two)
    # one draw for each image, not one for the batch: rows of the same picture differ
    assert any(len({one[i].numpy().tobytes() for i in range(start, 16, 4)}) > 1 for start in range(4))
    assert one.dtype == torch.uint8
    assert one.shape == before.shape
    assert one.is_contiguous(memory_format=torch.channels_last)


def test_without_augmentation_nothing_changes(folder):
    chosen = modality(translate=0.0)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(chosen.augment({"pixels": pixels})["pixels"], pixels)


def test_shift_moves_whole_pixels_and_repeats_the_edge():
    from polymodal.modalities.image_augment import translate as shift

    ramp = torch.arange(32, dtype=torch.uint8).expand(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    for moved in shift(ramp, 0.1):
        by = int(moved[0, 0, 16]) - 16
        assert abs(by) <= 3
        assert moved[0, 0].tolist() == [min(31, max(0, at + by)) for at in range(32)]


def test_saved_and_loaded_prepares_the_same(folder, tmp_path):
    chosen = modality(image_size=64)
    other = Image(Image.Options(image_size=64), columns=["i"])
    other.load(tmp_path, chosen.save(tmp_path))
    assert rows(chosen.prepare(block(["big.jpg"], folder))) == rows(other.prepare(block(["big.jpg"], folder)))
    assert other.shape() == chosen.shape() == {"height": 64, "width": 64, "channels": 3}


def test_recognises_images_and_nothing_else():
    data = encoded(picture(0))
    forms = [
        ["a/b.JPG", "c.png"],
        [data],
        [picture(0)],
        [np.zeros((4, 4, 3), np.uint8)],
        [{"bytes": data, "path": None}],
    ]
    forms += [
        ["data:image/png;base64,AAAA"],
        [encoded(picture(0), "WEBP")],
        [{"bytes": None, "path": "x.gif"}],
    ]
    for values in forms:
        assert Image.match_column(sample(values)).confidence > 0.9
    for values in (["red", "blue"], [1.0], [b"plain"], ["a.wav"], ["a.txt"]):
        assert Image.match_column(sample(values)) is None
