"""How the calls of the stand-in take their arguments: text goes in as UTF-8."""

Data = bytes | bytearray | str


def as_bytes(value: Data) -> bytes:
    """Bytes of a key, a value or a name."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise TypeError(f"the argument must be str or bytes, not {type(value).__name__}")
