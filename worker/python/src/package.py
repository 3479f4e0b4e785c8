"""Imports the modules that come with the engine library, whatever else of their names is installed or lies about.

Called once by `modules.rs`, before any code of the application; what is imported by then is compiled once for all workers.
"""
import sys
from importlib.machinery import ModuleSpec


class Embedded:
    """Finds and loads them: the first entry of `sys.meta_path`."""

    def __init__(self, files):
        """`files`: {name of the module: (is it a package, path to be shown, source)}."""
        self._files = files

    def find_spec(self, name, path=None, target=None):
        if name not in self._files:
            return None
        is_package, origin, _ = self._files[name]
        return ModuleSpec(name, self, origin=origin, is_package=is_package)

    def create_module(self, spec):
        return None  # an ordinary one

    def exec_module(self, module):
        _, origin, source = self._files[module.__name__]
        exec(compile(source, origin, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name):
        """Tracebacks show the lines by this."""
        return self._files[name][2]


def install(files):
    sys.meta_path.insert(0, Embedded(files))
