"""Decoder compiled to machine code with numba and LLVM for CPUs: `decoder.CompiledDecoder`."""
