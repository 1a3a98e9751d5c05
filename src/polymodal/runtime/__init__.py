"""How things are computed: number format, threads, kernels."""
