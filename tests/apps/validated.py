"""Another application in the checks that the standard library has for PEP 3333; what breaks a rule raises. `APPLICATION` is its
file and its callable, such as `/folder/app.py:app`.
"""
import importlib
import os
import sys
import warnings
from pathlib import Path
from wsgiref.validate import WSGIWarning, validator

warnings.simplefilter("error", WSGIWarning)
path, name = os.environ["APPLICATION"].rsplit(":", 1)
sys.path.insert(0, str(Path(path).parent))
application = validator(getattr(importlib.import_module(Path(path).stem), name))
