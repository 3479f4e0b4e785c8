"""Makes a wheel of this folder for `pip install` (PEP 517). It is its own build backend, so that no other has to be fetched."""

import base64
import hashlib
import pathlib
import re
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("appliance", "uwsgi", "uwsgidecorators")


def _version():
    return re.search(r'^version = "(.+)"$', (HERE / "appliance/_outside.py").read_text(), re.MULTILINE)[1]


def _files():
    """{path in the wheel: contents}"""
    version = _version()
    for package in PACKAGES:
        for path in sorted((HERE / package).rglob("*")):
            if path.suffix == ".py" or path.name == "py.typed":
                yield path.relative_to(HERE).as_posix(), path.read_bytes()
    info = f"appliance-{version}.dist-info"
    yield f"{info}/METADATA", f"Metadata-Version: 2.1\nName: appliance\nVersion: {version}\nRequires-Python: >=3.10\n".encode()
    yield f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: appliance\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version = _version()
    name, record = f"appliance-{version}-py3-none-any.whl", f"appliance-{version}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, contents in _files():
            wheel.writestr(path, contents)
            digest = base64.urlsafe_b64encode(hashlib.sha256(contents).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(contents)}\n")
        wheel.writestr(record, "".join(lines) + f"{record},,\n")
    return name
