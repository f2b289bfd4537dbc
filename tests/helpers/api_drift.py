"""Finds keywords and names that the installed libraries do not know, without running the code that uses them.

From release to release torch, transformers, peft and trl rename and remove what courses are written with:
`max_seq_length`, `SFTTrainer(tokenizer=)`, `warmup_ratio`, `torch_dtype` and `DataCollatorForCompletionOnlyLM` each
broke published notebooks (huggingface/course#1171, trl#2290, peft#2949, TransformerLens#1093, trl#3827). Cells that
need a GPU or gigabytes of weights are not run by tests: a learner would be the first to know. So this module reads the
code, follows names through imports, assignments and subclasses, and compares each keyword with what the installed
release takes; where **kwargs would swallow a typo, with the keys that the source reads. It does not see values, nor the
type of most objects: there a method is known by name (METHODS).
"""

import ast
import contextlib
import difflib
import functools
import importlib
import inspect
import json
import pkgutil
import re
from collections import ChainMap
from collections.abc import Hashable
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

LIBRARIES = "torch transformers peft trl bitsandbytes datasets accelerate safetensors sklearn huggingface_hub llmcourse"
# functions that read all of their **kwargs themselves: another key is lost, or refused at run time
CLOSED = """
    BitsAndBytesConfig GenerationConfig PreTrainedConfig.__post_init__ PreTrainedModel.save_pretrained LlamaTokenizer
    PreTrainedTokenizerBase.__init__ TokenizersBackend.__init__ PreTrainedTokenizerBase.__call__
    PeftModel.save_pretrained PreTrainedTokenizerBase.batch_decode PreTrainedTokenizerBase.apply_chat_template
    PreTrainedTokenizerBase.save_pretrained"""
# where the **kwargs of others go; here and in METHODS, names without a library are in transformers
FORWARDS = dict.fromkeys(CLOSED.split(), "") | {
    "PartialState": "torch.distributed.init_process_group",
    "PreTrainedConfig": "PreTrainedConfig.__post_init__",
    "PreTrainedConfig.from_pretrained": "LlamaConfig MistralConfig",
    "AutoConfig.from_pretrained": "PreTrainedConfig.from_pretrained",
    "AutoConfig.for_model": "LlamaConfig MistralConfig",
    "PreTrainedModel.from_pretrained": "PreTrainedConfig.from_pretrained",
    "_BaseAutoModelClass.from_pretrained": "PreTrainedModel.from_pretrained",
    "LlamaForCausalLM.forward": "utils.generic.can_return_tuple utils.generic.TransformersKwargs.__optional_keys__",
    "GenerationMixin.generate": "GenerationConfig LlamaForCausalLM.forward",
    "AutoTokenizer.from_pretrained": "PreTrainedTokenizerBase.from_pretrained",
    "PreTrainedTokenizerBase.from_pretrained": "PreTrainedTokenizerFast.__init__ PreTrainedTokenizerBase.__init__"
    " PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES LlamaTokenizer",
    "PeftConfigMixin.from_pretrained": "peft.LoraConfig huggingface_hub.hf_hub_download",
    "PeftModel.from_pretrained": "peft.PeftConfig.from_pretrained peft.PeftModel.load_adapter",
    "PeftModel.load_adapter": "huggingface_hub.hf_hub_download",
    "load_dataset": "datasets.packaged_modules.csv.csv.CsvConfig datasets.packaged_modules.json.json.JsonConfig",
}

METHODS = {  # what a call of this name is on an object of unknown type; a dot where it must be a method
    ".generate": "GenerationMixin.generate",
    ".train": "Trainer.train torch.nn.Module.train",
    ".save_pretrained": "PreTrainedModel.save_pretrained PreTrainedTokenizerBase.save_pretrained "
    "peft.PeftModel.save_pretrained",
    ".apply_chat_template": "PreTrainedTokenizerBase.apply_chat_template",
    ".batch_decode": "PreTrainedTokenizerBase.batch_decode",
    "tokenizer": "PreTrainedTokenizerBase.__call__",
    "model": "LlamaForCausalLM.forward",
}

ADVICE = {
    "tokenizer": "processing_class=",
    "max_seq_length": "SFTConfig(max_length=)",
    "warmup_ratio": "warmup_steps=, which below 1 is a share of all steps",
    "load_in_4bit": "quantization_config=BitsAndBytesConfig(load_in_4bit=True)",
    "DataCollatorForCompletionOnlyLM": "rows with prompt and completion",
}


def find(name: str):
    return pkgutil.resolve_name(name if name.split(".")[0] in LIBRARIES.split() else f"transformers.{name}")


def keys_read(function) -> set[str]:
    """The keys that a function's source takes out of its **kwargs one by one."""
    with contextlib.suppress(OSError, TypeError):  # there is no source of a dataclass's __init__
        read = r'(?<![\w.])kwargs(?:\.(?:pop|get)\(|\[)"(\w+)"|"(\w+)" in kwargs'
        return {*sum(re.findall(read, inspect.getsource(function)), ())} - {"", "torch_dtype"}  # read, with a warning
    return set()


@functools.cache
def accepted(function) -> tuple[frozenset[str], bool] | None:
    """The keywords that a callable takes, and whether these are all; None where nothing can be said."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C: torch says in the docstring what is taken, but for a few
        calls = re.findall(rf"\b{getattr(function, '__name__', '-')}\((.*?)\)\s*->", function.__doc__ or "", re.DOTALL)
        said = re.findall(r"\w+", f"{calls} axis keepdims pin_memory stable unbiased")
        return (frozenset(said), True) if calls else None
    owners = inspect.getmro(function) if inspect.isclass(function) else [function]
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    names |= keys_read(function.__init__ if inspect.isclass(function) else function)
    listed = [FORWARDS[name] for owner in owners if (name := getattr(owner, "__qualname__", "")) in FORWARDS]
    for place in map(find, " ".join(listed).split()):
        names |= set(place) if isinstance(place, list | frozenset) else accepted(place)[0]
    whole = bool(listed) or all(p.kind is not p.VAR_KEYWORD for p in parameters)
    return (frozenset(names), whole) if whole or all(p.kind is not p.VAR_POSITIONAL for p in parameters) else None


def python_of(cell: str) -> str:
    """A cell without its magics; Python that runs under one (%time, %%capture) stays."""
    if cell.startswith("%%"):
        cell = f"#{cell}" if re.match("%%(time|timeit|capture|prun)\\b", cell) else ""
    return TransformerManager().transform_cell(re.sub(r"^([ \t]*)%time +", r"\1", cell, flags=re.MULTILINE))


class Reader(ast.NodeVisitor):
    """Reads one file, or a notebook's cells one after the other: `problems`, and `checked`, the calls that it
    understood."""

    def __init__(self, path: Path):
        self.names, self.problems, self.checked = ChainMap(), [], set()
        text = path.read_text(encoding="utf-8")
        cells = json.loads(text)["cells"] if path.suffix == ".ipynb" else []
        code = {f"cell {n} ": python_of("".join(cell["source"])) for n, cell in enumerate(cells) if "outputs" in cell}
        for part, source in code.items() if cells else [("", text)]:
            self.place = f"{path.parent.name}/{path.name} {part}"
            self.visit(ast.parse(source, self.place))

    def visit(self, node):
        before, outer = len(self.problems), self.names
        match node:  # what opens a scope
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self.names = outer.new_child()
            case ast.ClassDef(_, bases):
                base = next((base for base in map(self.value, bases) if inspect.isclass(base)), None)
                self.names = outer.new_child({"super": base, "self": (base,)})
        self.generic_visit(node)
        self.names = outer
        match node:  # what binds or uses a name
            case ast.Import(aliases):
                for alias in aliases:
                    module, root = self.module(alias.name, node), alias.name.partition(".")[0]
                    outer[alias.asname or root] = module if alias.asname else self.module(root, node)
            case ast.ImportFrom(name, aliases, 0):
                for alias in aliases:
                    outer[alias.asname or alias.name] = self.attribute(self.module(name, node), alias.name, node)
            case ast.Assign(targets, value):
                outer.update({target.id: self.value(value) for target in targets if isinstance(target, ast.Name)})
            case ast.Name(name, ast.Store()) | ast.FunctionDef(name):
                outer[name] = None
            case ast.arg(name, annotation) if name != "self":
                outer[name] = (made,) if inspect.isclass(made := self.value(annotation)) else None
            case ast.ClassDef(name, body=body, decorator_list=made):  # by a decorator, or by an __init__ of its own
                outer[name] = None if made or "__init__" in [getattr(part, "name", "") for part in body] else base
            case ast.Try(handlers=handlers) if any("ImportError" in ast.dump(handler) for handler in handlers):
                del self.problems[before:]  # the code reckons with a missing name itself
            case ast.Attribute():
                self.value(node)
            case ast.Call():
                self.check(node)

    def value(self, node):
        """What an expression stands for: an object of a library, (class,) for an instance, a list for the keys of a
        dict."""
        match node:
            case ast.Name(name):
                return self.names.get(name)
            case ast.Attribute(owner, name):
                return self.attribute(self.value(owner), name, node)
            case ast.Dict(keys):
                return [key.value for key in keys if isinstance(key, ast.Constant)]
            case ast.Call(ast.Name("dict"), [], keywords):
                return [keyword.arg for keyword in keywords]
            case ast.Call(function) if inspect.isclass(made := self.value(function)):
                return (made,)

    def attribute(self, owner, name: str, node):
        inside = owner[0] if isinstance(owner, tuple) else owner
        if inspect.ismodule(inside) or inspect.isclass(inside):
            with contextlib.suppress(AttributeError, ImportError):
                return getattr(inside, name)
            with contextlib.suppress(ImportError):
                return importlib.import_module(f"{inside.__name__}.{name}")
            if inside is owner and owner is not type:  # an instance may have more attributes than its class shows
                self.report(node, f"{inside.__name__}.{name} is not there", name, dir(inside))

    def module(self, name: str, node):
        root, *parts = name.split(".")
        found = importlib.import_module(root) if root in LIBRARIES.split() else None
        return functools.reduce(lambda owner, part: self.attribute(owner, part, node), parts, found)

    def check(self, node: ast.Call) -> None:
        last = re.search(r"\.?\w*$", call := ast.unparse(node.func)).group()
        places = [self.value(node.args[0] if last.endswith("partial") and node.args else node.func)]
        if not callable(places[0]):  # self.train() is a method of our own, self.model() is not
            names = METHODS.get(last if call != f"self{last}" else "") or METHODS.get(last.lstrip("."), "")
            places = [*map(find, names.split())]
        # a method from C++ (torch's TCPStore) has no hash, and no signature either
        taken = [accepted(place) if isinstance(place, Hashable) else None for place in places]
        if not places or None in taken:
            return
        self.checked.add(call)
        known, whole = frozenset().union(*(names for names, _ in taken)), all(whole for _, whole in taken)
        given = [[word.arg] if word.arg else self.value(word.value) for word in node.keywords]
        for keyword in {key for keys in given if isinstance(keys, list) for key in keys} - known:
            if whole or not places[0].__module__.startswith("llmcourse"):
                why = "is not taken" if whole else "goes into **kwargs: say in FORWARDS where those go"
                self.report(node, f"{call}({keyword}=) {why}", keyword, known)

    def report(self, node, what: str, name: str, known) -> None:
        advice = ADVICE.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), "see the release notes")
        problem = f"{self.place}line {node.lineno}: {what}; instead: {advice}"
        self.problems += [problem] if problem not in self.problems else []
