"""Take a protection out of the library, in every process that is started with this folder on PYTHONPATH.

The variable LLMCOURSE_WITHOUT names a function and what takes its place, as JSON: {"function": "module:qualified.name",
"line": ..., "instead": ...}. With `line`, that text is replaced once within the function's source; without, `instead`
is an expression for another function. Only the function's code changes, so that modules which imported it by name run
the changed code too.
"""

import __future__

import importlib.abc
import importlib.util
import inspect
import sys
import textwrap


def find_function(module, name):
    """Return the plain function of this name, below what decorators made of it."""
    found = module
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    return inspect.unwrap(getattr(found, "__func__", found))


def changed_source(function, line, instead):
    """Return the function's source with `line` replaced, which must be in it once."""
    source = inspect.getsource(function)
    if source.count(line) != 1:
        raise LookupError(f"{function.__module__}:{function.__qualname__} has {source.count(line)} times: {line}")
    return textwrap.dedent(source.replace(line, instead))


def compiled(source, function):
    """Compile a function's source in its module; in a class if it is a method, since `super()` needs one."""
    start = next(number for number, line in enumerate(source.splitlines()) if line.startswith("def "))
    source = "\n".join(source.splitlines()[start:])  # without decorators: those stay as they are
    if "." in function.__qualname__:
        source = "class _Owner:\n" + textwrap.indent(source, "    ")
    names = dict(vars(sys.modules[function.__module__]))
    # as text, since annotations may name what only a type checker imports
    flags = __future__.annotations.compiler_flag
    exec(compile(source, f"without a protection of {function.__module__}", "exec", flags), names)
    return vars(names["_Owner"])[function.__name__] if "." in function.__qualname__ else names[function.__name__]


def take_out(module, without):
    function = find_function(module, without["function"].partition(":")[2])
    if without["line"]:
        made = compiled(changed_source(function, without["line"], without["instead"]), function)
    else:
        made = eval(without["instead"], vars(module))
        function.__defaults__, function.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
    function.__code__ = made.__code__


class Finder(importlib.abc.MetaPathFinder):
    """Let others find the module, and change it as soon as it has been executed."""

    def __init__(self, without):
        self.without, self.name = without, without["function"].partition(":")[0]

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            take_out(module, self.without)

        spec.loader.exec_module = execute_and_change
        return spec
