"""Where the model's programs run: WebAssembly first, bubblewrap where that is not compiled, else nowhere."""

from .bubblewrap import BubblewrapSandbox
from .choose import choose_sandbox
from .compiled import compile_module, is_compiled
from .wasm import WasmSandbox

__all__ = ["BubblewrapSandbox", "WasmSandbox", "choose_sandbox", "compile_module", "is_compiled"]
