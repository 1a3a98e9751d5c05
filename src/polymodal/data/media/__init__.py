"""Reading and decoding of images, audio, videos and time series. No other package opens media files.

`source` reads the bytes behind a cell (paths that stay below the table's folder, sizes under the limit). `formats`
detects the format from the first bytes. `image`, `audio`, `video` and `time_series` decode one kind of media each.
`workers.pool` runs these decoders in processes that may crash or hang without ending the run. `metadata` reads file
headers in the same processes (`probe`).
"""
