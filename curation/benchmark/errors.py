"""What a user of the benchmark can mend."""


class BenchmarkError(Exception):
    """One line: which folder, file or option, and what to do."""
