"""Numbers of bytes as people read them."""

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def format_bytes(n_bytes: int) -> str:
    """Write a size in binary units, e.g. "1.2 GiB"; whole bytes below 1 KiB."""
    if abs(n_bytes) < _STEP:
        return f"{n_bytes} bytes"
    size = float(n_bytes)
    for unit in _UNITS:
        size /= _STEP
        # What would be rounded up to 1024.0 is 1.0 of the next unit.
        if round(abs(size), 1) < _STEP:
            return f"{size:.1f} {unit}"
    return f"{size:.1f} {_UNITS[-1]}"


def tell_bytes(n_bytes: int) -> str:
    """Write a size exactly and in binary units, for error texts."""
    short = format_bytes(n_bytes)
    return short if abs(n_bytes) < _STEP else f"{short} ({n_bytes} bytes)"
