"""How and where things are computed: number format, threads, kernels, processes."""
