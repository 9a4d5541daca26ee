"""`njit`: numba's compiler with our defaults, and an on-disk cache that is never stale.

numba notices that a function's own file has changed, not that a file it calls into has, and knows a file by its path and its time. So the cache folder is named
after a digest of every source in `models/` and of what is compiled in `stream/`, and what is compiled of these is known by that alone: a changed model never runs as its old self,
and the same one in another place (a second checkout, an image, a reinstalled package) is not compiled again. Where nothing can be
kept (a disk that is full, or for reading only) the next start compiles again, and this one goes on. What another version left there
goes once nothing has used it for a month: it is some 12 MB, and nobody knows of it.

numba makes of each function machine code, a wrapper for Python and a file in the cache. Of our 500 a dozen are called by Python, the
others (`inline`, `apart`) by these alone: for them all that is left out, which halves the time of the first start (142 → 70 s).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching, config
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering

_BLAS = "scipy.linalg.cython_blas"
if _BLAS not in sys.modules:  # numba looks for SciPy's linear algebra, which nothing here calls: a tenth of every start
    sys.modules[_BLAS] = None  # type: ignore[assignment]  # what is None there cannot be imported
    import numba.np.arraymath

    del sys.modules[_BLAS]

F = TypeVar("F", bound=Callable[..., Any])
UNUSED = 30 * 86400.0  # seconds
_OURS = re.compile(r"compiled-[0-9a-f]{16}")


_HERE = Path(__file__).parent
_SOURCES = [
    *sorted(_HERE.glob("*.py")),
    *(
        _HERE.parent / "stream" / f"{name}.py"
        for name in ("columns", "instant", "records", "scan", "score_lines", "siphash", "tokens")
    ),
]


def _cache_folder() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(root / "strayline" / f"compiled-{digest.hexdigest()[:16]}")


class _BySource(caching._CacheLocator):  # type: ignore[misc]  # noqa: SLF001  # numba has no types
    """Where what is compiled of a source lies that the folder is named after."""

    def __init__(self, name: str) -> None:
        self._name = name

    @classmethod
    def from_function(cls, function: Any, file: str) -> _BySource | None:
        path = Path(file)
        return cls(f"{path.parent.name}-{function.__code__.co_firstlineno}") if path in _SOURCES else None

    def get_cache_path(self) -> str:
        return str(config.CACHE_DIR)

    def get_source_stamp(self) -> int:
        return 0

    def get_disambiguator(self) -> str:
        return self._name


if "NUMBA_CACHE_DIR" not in os.environ:  # else it may be anybody's, and is numba's to keep in order
    config.CACHE_DIR = _cache_folder()
    caching.CacheImpl._locator_classes = [_BySource, *caching.CacheImpl._locator_classes]  # noqa: SLF001


def _can_keep(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # what numba tries too, and then looks for another folder
    except OSError:
        return False
    return True


def _drop_unused(folder: Path) -> None:
    """Note that this cache is in use, and remove those of other versions that have not been for long."""
    if not _OURS.fullmatch(folder.name):  # NUMBA_CACHE_DIR: somebody else's folder, and what lies beside it
        return
    with suppress(OSError):
        os.utime(folder)
        now = folder.stat().st_mtime
        for other in folder.parent.iterdir():
            if _OURS.fullmatch(other.name) and now - other.stat().st_mtime > UNUSED:
                shutil.rmtree(other, ignore_errors=True)


_KEEPS = _can_keep(config.CACHE_DIR)
if _KEEPS:
    _drop_unused(Path(config.CACHE_DIR))
_save = caching.Cache.save_overload


def _save_if_there_is_room(cache: Any, signature: Any, data: Any) -> None:
    with suppress(OSError):
        _save(cache, signature, data)


caching.Cache.save_overload = _save_if_there_is_room


def njit(function: F) -> F:
    """Compile on first call, without the interpreter's lock, results cached on disk; IEEE arithmetic, no fast-math."""
    compiled: F = numba.njit(cache=_KEEPS, nogil=True, error_model="numpy")(function)
    return compiled


def inline(function: F) -> F:
    """The same for what runs within a loop: copied into its callers as machine code, and without counting references to arrays,
    which is a third of the time of small functions. So it must not allocate: the caller hands it room to work in."""
    return _part(function, forceinline=True)


def apart(function: F) -> F:
    """The same for what hardly ever runs, or is long: not copied into its callers, which it would make larger and slower to compile."""
    return _part(function)


def _part(function: F, **options: bool) -> F:
    """A function that other compiled ones call. Where Python calls it too, that is compiled for itself, when first asked for."""
    compiled: Any = numba.njit(
        nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True,
        pipeline_class=_PartCompiler, **options,
    )(function)  # fmt: skip
    alone = njit(function)

    def add_overload(result: Any) -> None:
        compiled.overloads[tuple(result.signature.args)] = (
            result  # and numba's table of what Python may call is left empty
        )

    compiled.add_overload = add_overload
    compiled._compile_for_args = lambda *_, **__: alone  # noqa: SLF001  # what Python is to call, numba asks
    return cast(F, compiled)


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]  # numba has no types
    """A part as LLVM has it before optimising: that is done once, in the whole that it is linked into, and so is machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerPart(NativeLowering):  # type: ignore[misc]  # numba has no types
    _name = "lower_part"

    def run_pass(self, state: Any) -> bool:
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        key = object()  # by which its callers find it; numba's own is a pointer to machine code
        state.targetctx.insert_user_function(key, state.cr.fndesc, [state.library])
        state.reload_init.extend(state.library._reload_init)  # noqa: SLF001
        state.cr = state.cr._replace(cfunc=key)
        return True


class _PartCompiler(CompilerBase):  # type: ignore[misc]  # numba has no types
    def define_pipelines(self) -> list[PassManager]:
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        ours = PassManager("part")
        ours.passes = [(_LowerPart if step is NativeLowering else step, what) for step, what in usual.passes]
        ours.finalize()
        return [ours]
