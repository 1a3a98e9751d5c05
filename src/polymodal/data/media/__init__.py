"""Media: every byte of an image, a sound, a clip or a series passes through this package.

`source` reads the bytes behind a cell (paths that stay below the table's folder, sizes under the limit), `formats`
names them by their first bytes, `image`, `audio`, `video` and `series` decode one kind each, and `pool` runs those
decoders in processes that may crash or hang without hurting the run. `metadata` asks the same processes what headers
say (`probe`), so no media are opened anywhere else.
"""
