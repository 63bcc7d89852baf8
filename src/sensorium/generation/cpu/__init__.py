"""Decoding in machine code: `decoder.CompiledDecoder` takes the place of `PlainDecoder` on a processor."""
