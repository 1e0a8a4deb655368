"""A parametric dancer, exactly known, as landmarks and as video: for tests, benchmarks and documents."""
