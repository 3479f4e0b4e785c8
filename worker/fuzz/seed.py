"""Makes the cases of tests/requests the seeds of the fuzz targets: `python3 worker/fuzz/seed.py`. What a case sends is
unescaped as its README says; targets that want settings before the bytes get some."""
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = HERE.parent.parent / "tests" / "requests"
# Larger inputs only make a fuzzer slow.
LARGEST = 4096
# Pieces of several sizes, room to write, and an application that reads and answers.
SCRIPT = bytes([3, 40, 6, 84, 63, 8, 14, 24, 255, 20, 6, 15, 0, 140, 46, 7])
PLAIN = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
ESCAPE = re.compile(r"\\(?:x(?P<hex>..)|\{(?P<part>.*?)\*(?P<count>\d+)\}|(?P<plain>[rnt0\\]))|(?P<text>[^\\]+)")


def unescape(text):
    parts = []
    for found in ESCAPE.finditer(text):
        if found["hex"]:
            parts.append(bytes.fromhex(found["hex"]))
        elif found["part"] is not None:
            parts.append(unescape(found["part"]) * int(found["count"]))
        elif found["plain"]:
            parts.append(PLAIN[found["plain"]])
        else:
            parts.append(found["text"].encode())
    return b"".join(parts)


def sent(path):
    lines = path.read_text().splitlines()
    while lines and lines[0].startswith("#"):
        del lines[0]
    return unescape("".join(lines))


def seeds(message):
    """What each target is given of one case."""
    yield "head", message
    _, _, body = message.partition(b"\r\n\r\n")
    yield "chunked", b"\xff\x00\x05\x10" + body
    yield "conn", SCRIPT + message


for case in sorted(CASES.glob("*/*.http")):
    message = sent(case)
    if len(message) > LARGEST:
        continue
    for target, seed in seeds(message):
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.parent.name}-{case.stem}").write_bytes(seed)
