"""What all benchmarks share: interleaved sampling, reports, and the programs that are compared."""
