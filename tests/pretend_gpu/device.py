"""Tensors that hold CPU values and claim to be on cuda:0, and the mode in which torch treats them so.

As on a GPU, such a tensor cannot be mixed with CPU tensors, become a NumPy array, or be filled from a CPU generator. The
mode counts operators, and the places where the CPU would wait for the GPU: reading a value, operators whose output size
depends on values, and copies that are not `non_blocking` in either direction.

torch's own FakeTensorMode holds no values, so training cannot run on it, and it aborts in autograd on a CPU build.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
ENGINE = str(Path(__file__).resolve().parents[2] / "engine")
# operators that wait for a value, or whose output size depends on values
WAITING = {
    "_local_scalar_dense",
    "_linalg_check_errors",
    "_unique2",
    "argwhere",
    "bincount",
    "equal",
    "histc",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
COPIES = {"_to_copy", "copy_", "lift_fresh", "lift", "_pin_memory", "pin_memory"}
# operators that do not accept CPU scalars either
STRICT = {
    "addmm",
    "bmm",
    "cat",
    "embedding",
    "gather",
    "index_copy",
    "index_select",
    "mm",
    "scatter",
    "stack",
}
# operators that only make a tensor or another view of one, and launch nothing
UNLAUNCHED = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_reshape_alias", "alias", "as_strided",
    "detach", "diagonal", "expand", "lift_fresh", "permute", "select", "slice", "split", "split_with_sizes", "squeeze",
    "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "_unsafe_view", "view_as", "_local_scalar_dense",
}  # fmt: skip


class MixedDevices(RuntimeError):
    """What torch raises where tensors of the CPU and of a GPU meet."""


class PretendTensor(torch.Tensor):
    """A tensor on the pretend GPU; `held` has its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        # the meta device, since autograd needs a guard for the real one that a CPU build does not have
        made = torch.Tensor._make_wrapper_subclass(  # pyright: ignore
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )
        made.held = held.detach()
        return made

    device = property(lambda self: GPU)  # pyright: ignore
    is_cuda = property(lambda self: True)  # pyright: ignore
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)  # pyright: ignore

    def __repr__(self, **_: Any) -> str:
        return f"PretendTensor({self.held!r})"

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def numpy(self, **_: Any) -> Any:  # pyright: ignore
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:  # pyright: ignore
        return self.numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copy: Tensor = PretendTensor(self.held.clone())
            copy.requires_grad_(self.requires_grad)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if is_parameter(self) else copy
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of the PretendGPU context.")


def is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter) or getattr(tensor, "_is_param", False)


def is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, PretendTensor) else value


def _on_gpu(value: Any) -> Any:
    return (
        PretendTensor(value) if isinstance(value, Tensor) and not isinstance(value, PretendTensor) else value
    )


class PretendGPU:
    """The context in which `device="cuda"` works.

    Args:
        calls: Operators by name, views included.
        waits: Waits of the CPU by (operator, "file:line" of the engine).
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self._open = ExitStack()

    def __enter__(self) -> PretendGPU:
        cuda = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "synchronize": lambda *_: None,
            "empty_cache": lambda: None,
            "mem_get_info": lambda *_: (8 << 30, 8 << 30),
            "_exchange_device": lambda _: 0,
            "_maybe_exchange_device": lambda _: 0,
            "is_bf16_supported": lambda *_, **__: True,
            "is_current_stream_capturing": lambda: False,
            "_lazy_init": lambda: None,
        }
        for name, stand_in in cuda.items():
            self._open.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        # also in other threads, where the modes are not active
        self._open.enter_context(mock.patch.object(torch.Tensor, "pin_memory", lambda tensor, *_: tensor))
        self._open.enter_context(_Operators(self))
        self._open.enter_context(_Calls())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def reset(self) -> None:
        """Count from zero."""
        self.calls.clear()
        self.waits.clear()

    @property
    def launches(self) -> int:
        """Operators that launch something on a GPU."""
        return sum(count for name, count in self.calls.items() if name not in UNLAUNCHED)

    def wait(self, what: str) -> None:
        """Count one wait of the CPU."""
        self.waits[what, _place()] += 1


def _place() -> str:
    """The line of the engine that is running."""
    frame = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ENGINE):
            return f"{file.removeprefix(ENGINE)[1:]}:{frame.f_lineno}"
        frame = frame.f_back
    return "tests"


class _Calls(TorchFunctionMode):
    """Calls whose device torch would look up in C++, where such tensors are on the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        special: Callable[..., Any] | None = SPECIAL.get(func)
        return func(*args, **kwargs) if special is None else special(*args, **kwargs)


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`, which returns the tensor itself where nothing changes."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    waits, copy = not kwargs.get("non_blocking", False), kwargs.get("copy", False)
    if "other" in kwargs:
        args = (kwargs["other"], *args)
    flags = [arg for arg in args if isinstance(arg, bool)]
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, torch.dtype):
            dtype = arg
        elif isinstance(arg, str | torch.device | int) and not isinstance(arg, bool):
            device = arg
    waits = waits and not (flags and flags[0])
    copy = copy or (len(flags) > 1 and flags[1])
    device = tensor.device if device is None else torch.device(device)
    dtype = tensor.dtype if dtype is None else dtype
    if device.type == tensor.device.type and dtype == tensor.dtype and not copy:
        return tensor
    kept = {"memory_format": kwargs["memory_format"]} if kwargs.get("memory_format") is not None else {}
    return torch.ops.aten._to_copy.default(tensor, dtype=dtype, device=device, non_blocking=not waits, **kept)


def _made(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that makes a tensor from Python numbers: on the CPU, then copied."""

    def made(data: Any, *args: Any, device: Any = None, requires_grad: bool = False, **kwargs: Any) -> Tensor:
        if isinstance(data, PretendTensor):
            return _to(data, **({} if device is None else {"device": device}), **kwargs)
        with torch._C.DisableTorchFunction():
            tensor = make(data, *args, **kwargs)
        tensor = _to(tensor, device=device) if device is not None else tensor
        return tensor.requires_grad_() if requires_grad else tensor

    return made


def _tolist(tensor: Tensor) -> Any:
    return _plain_tolist(_to(tensor, CPU))


def _numpy(tensor: Tensor, **kwargs: Any) -> Any:
    return tensor.numpy(**kwargs) if isinstance(tensor, PretendTensor) else _plain_numpy(tensor, **kwargs)


def _new_tensor(like: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
    return _made(torch.tensor)(data, dtype=dtype or like.dtype, device=device or like.device, **kwargs)


def _getitem(tensor: Tensor, index: Any) -> Tensor:
    return _plain_getitem(tensor, _indices(tensor, index))


def _setitem(tensor: Tensor, index: Any, value: Any) -> None:
    if isinstance(tensor, PretendTensor) and isinstance(value, bool | int | float):
        # torch fills the view
        value = PretendTensor(torch.tensor(value, dtype=tensor.dtype))
    _plain_setitem(tensor, _indices(tensor, index), value)


def _indices(tensor: Tensor, index: Any) -> Any:
    """Indices as torch's C++ takes them: lists become CPU tensors, which are then copied."""
    if not isinstance(tensor, PretendTensor):
        return index
    if isinstance(index, tuple):
        return tuple(_indices(tensor, part) for part in index)
    return torch.as_tensor(index) if isinstance(index, list) else index


_plain_getitem, _plain_setitem = torch.Tensor.__getitem__, torch.Tensor.__setitem__
_plain_tolist, _plain_numpy = torch.Tensor.tolist, torch.Tensor.numpy
SPECIAL: dict[Any, Callable[..., Any]] = {
    torch.Tensor.to: _to,
    torch.Tensor.cpu: lambda tensor, **_: _to(tensor, CPU),
    torch.Tensor.cuda: lambda tensor, *_, **__: _to(tensor, GPU),
    torch.Tensor.tolist: _tolist,
    torch.Tensor.numpy: _numpy,
    torch.Tensor.new_tensor: _new_tensor,
    torch.Tensor.__getitem__: _getitem,
    torch.Tensor.__setitem__: _setitem,
    torch.tensor: _made(torch.tensor),
    torch.as_tensor: _made(torch.as_tensor),
}


class _Operators(TorchDispatchMode):
    """Runs operators of pretend tensors on the values they hold, where a real GPU would run them."""

    def __init__(self, gpu: PretendGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        here = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
        device = kwargs.get("device")
        if not here and not is_gpu(device):
            return func(*args, **kwargs)
        name = func._schema.name.split("::")[-1]
        stays = bool(here) if device is None else is_gpu(device)
        _check_generator(func, stays, leaves)
        if name not in COPIES:
            _check_devices(func, name, args, [tensor for tensor in tensors if tensor not in _By(here)])
        self.gpu.calls[name] += 1
        waits = _waits(name, args, kwargs, stays)
        if waits:
            self.gpu.wait(waits)
        if device is not None:
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        held = tree_map(_held, args)
        if name.startswith("grid_sampler"):
            # the CPU's kernel crashes on NaN, a GPU's does not
            held = tree_map(lambda leaf: leaf.nan_to_num() if isinstance(leaf, Tensor) else leaf, held)
        made = func(*held, **tree_map(_held, kwargs))
        if func._schema.is_mutable:
            return _changed(func, args, kwargs, made, stays)
        return tree_map(_on_gpu, made) if stays else made


class _By:
    """Membership by identity, since tensors compare by value."""

    def __init__(self, tensors: list[Any]) -> None:
        self.ids = {id(tensor) for tensor in tensors}

    def __contains__(self, tensor: object) -> bool:
        return id(tensor) in self.ids


def _check_generator(func: Any, stays: bool, leaves: list[Any]) -> None:
    if stays and any(isinstance(leaf, torch.Generator) and leaf.device.type == "cpu" for leaf in leaves):
        raise RuntimeError(
            f"Expected a 'cuda' device type for generator but found 'cpu' ({func} at {_place()})"
        )


def _check_devices(func: Any, name: str, args: Any, others: list[Tensor]) -> None:
    """MixedDevices where torch refuses: CPU tensors `others` among those of the GPU."""
    if not others:
        return
    wrong = [tensor for tensor in others if tensor.ndim > 0 or name in STRICT]
    if name in INDEXING and isinstance(args[0], PretendTensor):
        # indices may be on the CPU; values may not
        wrong = [tensor for tensor in tree_leaves(args[2:]) if isinstance(tensor, Tensor) and tensor.ndim > 0]
        wrong = [tensor for tensor in wrong if not isinstance(tensor, PretendTensor)]
    if wrong:
        shapes = [tuple(tensor.shape) for tensor in wrong]
        raise MixedDevices(
            f"Expected all tensors to be on cuda:0, found CPU shapes {shapes} ({func} at {_place()})"
        )


def _waits(name: str, args: Any, kwargs: Mapping[str, Any], stays: bool) -> str:
    """For what the CPU waits in this operator; empty where it does not."""
    if name in WAITING:
        return name
    if name in ("_to_copy", "copy_"):
        source, target = (args[1], args[0]) if name == "copy_" else (args[0], None)
        to_gpu = stays if target is None else isinstance(target, PretendTensor)
        flags = [arg for arg in args[2:] if isinstance(arg, bool)]
        is_free = kwargs.get("non_blocking", False) or any(flags)
        if isinstance(source, PretendTensor) and not to_gpu:
            # a value that Python reads next is not there yet without waiting
            return "copy to the CPU"
        if not isinstance(source, PretendTensor) and to_gpu and source.device.type == "cpu" and not is_free:
            return "copy to the GPU"
    if name in INDEXING:
        indices = [index for index in args[1] if index is not None]
        if any(not isinstance(index, PretendTensor) for index in indices):
            return "index on the CPU"
        by_mask = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        # one value at a mask fills it
        fills = "put" in name and len(indices) == 1 and args[2].numel() == 1
        return "index by a mask" if by_mask and not fills else ""
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        return name
    return ""


def _changed(func: Any, args: Any, kwargs: Mapping[str, Any], made: Any, stays: bool) -> Any:
    """What an in-place operator returns: the very tensors that it changed."""
    returns = func._schema.returns
    if len(returns) == 1 and returns[0].alias_info is not None and returns[0].alias_info.is_write:
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                return kwargs[argument.name] if argument.name in kwargs else args[place]
    return tree_map(_on_gpu, made) if stays else made
