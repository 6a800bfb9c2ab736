"""How the kernels are compiled, and how a change in any of them makes the code on disk stale.

Numba's disk cache follows the source file of the function that it compiled, not the files of the functions which that
one calls. Kernels that call one another across files would run stale code after a change. So each kernel's cache is
stamped with the contents of all kernel files as well.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _contents() -> str:
    """SHA-256 over the kernel files and what they take constants from."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    sources = (Path(__file__), here / "layout.py", here / "mig.py", here / "types.py")
    for path in (*sources, *sorted((here / "kernels").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


STAMP = _contents()


def _prepared(dispatcher: Any) -> Any:
    """The dispatcher, with a cache that counts as stale when any kernel file has changed, and one version a type.

    Numba would compile a kernel anew for each constant that another one calls it with: a third of all compiling. LLVM
    puts constants in where it inlines, with or without.
    """
    file = dispatcher._cache._cache_file
    file._source_stamp = (*file._source_stamp, STAMP)
    template_for = dispatcher.get_call_template

    def of_type(argument: Any) -> Any:
        return types.unliteral(argument)  # type: ignore[no-untyped-call]

    def get_call_template(args: Any, kws: Any) -> Any:
        return template_for([of_type(a) for a in args], {name: of_type(a) for name, a in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher


def compiled(function: Kernel) -> Kernel:
    """A kernel that makes no arrays and so needs no reference counts.

    They would cost more than the decisions: an atomic instruction for every field of ``State`` at every use. The caller
    holds all arrays for as long as a call lasts.
    """
    return _prepared(njit(cache=True, _nrt=False)(function))  # type: ignore[call-overload]


def inlined(function: Kernel) -> Kernel:
    """As ``compiled``, copied into the caller: a few lines of an inner loop, or a pass with one caller.

    On its own a pass would be optimised twice, once more inside its caller, at some seconds each.
    """
    return _prepared(njit(cache=True, _nrt=False, inline="always")(function))  # type: ignore[call-overload]


def arithmetic(function: Kernel) -> Kernel:
    """As ``compiled``, for formulas in a loop: dividing by zero gives inf or NaN, so that several are done at once."""
    return _prepared(njit(cache=True, _nrt=False, error_model="numpy")(function))  # type: ignore[call-overload]


def allocating(function: Kernel) -> Kernel:
    """A kernel that sorts or copies into arrays of its own. Said outright: a callee inherits its caller's setting."""
    return _prepared(njit(cache=True, _nrt=True)(function))  # type: ignore[call-overload]


def compiled_after(*sources: Path) -> Callable[[Kernel], Kernel]:
    """As ``compiled``, for kernels elsewhere that call kernels of other files than this folder's: name these files."""
    contents = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources)

    def wrap(function: Kernel) -> Kernel:
        dispatcher: Any = compiled(function)
        file = dispatcher._cache._cache_file
        file._source_stamp = (*file._source_stamp, *contents)
        return dispatcher

    return wrap


def is_on_disk(kernel: Any) -> bool:
    """Whether compiled code of the present kernels lies on disk; a stale or foreign one counts as absent."""
    return bool(kernel._cache._cache_file._load_index())


def _move_block(_typing: Any, values: Any, _to: Any, _source: Any, _count: Any) -> Any:
    """``move_block(values, to, source, count)``: move entries of a one-dimensional array, as ``memmove`` does.

    Numba compiles neither a loop over a shifted copy nor an overlapping slice assignment to a block move: at 1,000
    entries they take ten times as long.
    """
    signature = types.void(values, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        data = context.make_array(array_type)(context, builder, args[0]).data
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        cgutils.raw_memmove(builder, builder.gep(data, [args[1]]), builder.gep(data, [args[2]]), args[3], size)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return signature, generate


move_block: Any = intrinsic(_move_block)
