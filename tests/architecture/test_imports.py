"""Who may import whom: the rules of the house, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "runtime",
    "client",
    "cli",
    "build_engines",
    "finetune",
    "benchmarks",
    "models",
    "model_repository",
)

LEAVES = ("runtime.core", "runtime.config", "runtime.errors", "runtime.bundle_files")
# package -> what it may import of duologue beside itself; the longest matching name decides.
RULES: dict[str, tuple[str, ...]] = {
    "runtime.core": (),
    "runtime.errors": (),
    "runtime.plain": ("runtime.errors",),
    "runtime.config": ("runtime.core", "runtime.errors", "runtime.plain"),
    "runtime.bundle_files": ("runtime.config", "runtime.errors"),
    "runtime.text": LEAVES,
    "runtime.lm": LEAVES,
    "runtime.audio": LEAVES,
    "runtime.backbone": (*LEAVES, "runtime.audio"),
    "runtime.codec": (*LEAVES, "runtime.audio"),
    "runtime.voices": (*LEAVES, "runtime.audio", "runtime.codec.base"),
    "runtime.places": (),
    "runtime.voice_names": ("runtime.errors",),
    "runtime.presets": (*LEAVES, "runtime.voice_names"),
    "runtime.voice_store": (
        *LEAVES,
        "runtime.audio",
        "runtime.voice_names",
        "runtime.voices",
    ),
    "runtime.keys": ("runtime.errors",),
    "runtime.stream": LEAVES,
    "runtime.passes": (*LEAVES, "runtime.lm", "runtime.text"),
    "runtime.job": (*LEAVES, "runtime.passes", "runtime.stream", "runtime.lm", "runtime.codec"),
    "runtime.planner": (
        *LEAVES,
        "runtime.job",
        "runtime.lm",
        "runtime.passes",
        "runtime.stream",
        "runtime.text",
    ),
    "runtime.codec_worker": (*LEAVES, "runtime.job", "runtime.codec"),
    "runtime.engine": (
        *LEAVES,
        "runtime.job",
        "runtime.lm",
        "runtime.backbone",
        "runtime.codec_worker",
        "runtime.device_blocks",
        "runtime.prefix_cache",
    ),
    "runtime.prefix_cache": (*LEAVES, "runtime.backbone.base"),
    "runtime.device_blocks": (*LEAVES, "runtime.backbone.device", "runtime.lm"),
    "runtime.synthesizer": ("runtime", "models"),
    "runtime.batch": (
        *LEAVES,
        "runtime.audio",
        "runtime.codec",
        "runtime.stream",
        "runtime.synthesizer",
        "runtime.text.items",
        "runtime.text.script",
        "runtime.voices",
    ),
    "runtime.serving": (
        *LEAVES,
        "runtime.synthesizer",
        "runtime.stream",
        "runtime.codec",
        "runtime.audio",
        "runtime.text.script",
        "models",
        "client.contract",
    ),
    "runtime.supervisor": (*LEAVES, "client", "models", "model_repository"),
    "runtime.diagnosis": (*LEAVES, "runtime.supervisor", "runtime.synthesizer", "models"),
    "runtime.diagnosis.speech": (
        *LEAVES,
        "models",
        "runtime.codec.registry",
        "runtime.diagnosis",
        "runtime.stream",
        "runtime.synthesizer",
    ),
    "runtime.diagnosis.selftest": ("client", "runtime.diagnosis"),
    "runtime.gateway": (
        *LEAVES,
        "client",
        "runtime.audio",
        "runtime.keys",
        "runtime.places",
        "runtime.presets",
        "runtime.text.script",
        "runtime.voice_names",
        "runtime.voice_store",
        "runtime.voices",
    ),
    "runtime": (),
    "model_repository": ("runtime.serving",),
    "models": ("runtime.errors",),
    "client.contract": (),
    "client.errors": ("client.contract",),
    "client": (),
    "build_engines": (*LEAVES, "runtime.backbone", "runtime.codec", "runtime.audio", "models"),
    "build_engines.bundle_voices": (
        *LEAVES,
        "build_engines",
        "models",
        "runtime.codec",
        "runtime.presets",
        "runtime.voices",
    ),
    "finetune": (
        *LEAVES,
        "runtime.audio",
        "runtime.backbone",
        "runtime.codec",
        "runtime.lm",
        "runtime.plain",
        "runtime.text",
        "runtime.voices",
        "build_engines",
    ),
    "finetune.evaluate": (
        *LEAVES,
        "finetune",
        "models",
        "runtime.audio",
        "runtime.codec.base",
        "runtime.presets",
        "runtime.stream",
        "runtime.synthesizer",
        "runtime.voices",
    ),
    "benchmarks": (*LEAVES, "client", "models", "runtime.synthesizer", "runtime.supervisor"),
    "benchmarks.engine": (
        *LEAVES,
        "benchmarks",
        "client.errors",
        "models",
        "runtime.backbone",
        "runtime.device_blocks",
        "runtime.lm",
    ),
    "benchmarks.engine.codec_speed": (*LEAVES, "benchmarks", "models", "runtime.codec"),
    # The floor of the door: the same requests without it.
    "benchmarks.reports.bundle_facts": (*LEAVES, "runtime.backbone.layout"),
    # Whole and streamed decodes side by side, without the rest of the house.
    "benchmarks.stream.context": (
        *LEAVES,
        "benchmarks",
        "client.errors",
        "runtime.audio",
        "runtime.codec",
        "runtime.synthesizer",
    ),
    "benchmarks.stream.in_process": (
        *LEAVES,
        "benchmarks",
        "client",
        "models",
        "runtime.audio",
        "runtime.codec",
        "runtime.stream",
        "runtime.synthesizer",
    ),
    "cli": ("",),
}
HEAVY = {"torch", "onnxruntime", "transformers", "tensorrt_llm", "tritonclient", "onnx"}


def _modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.AST, *, at_load_only: bool = False) -> set[str]:
    """Dotted names that a module imports; `from a import b` counts as a.b and as a."""
    found: set[str] = set()
    for node in _load_nodes(tree) if at_load_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _load_nodes(tree: ast.AST) -> list[ast.AST]:
    """Nodes that run when the module is loaded: not in functions, not under TYPE_CHECKING."""
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        nodes += [child, *_load_nodes(child)]
    return nodes


def _within(name: str, package: str) -> bool:
    return package == "" or name == package or name.startswith(package + ".")


def _rule(module: str) -> str:
    return max((package for package in RULES if _within(module, package)), key=len)


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_a_module_imports_only_what_its_room_may_know(path: Path) -> None:
    module = _name(path)
    room = _rule(module)
    allowed = (room, *RULES[room])
    ours = {
        name.removeprefix("duologue.")
        for name in _imports(ast.parse(path.read_text()))
        if name.startswith("duologue.")
    }
    strangers = sorted(n for n in ours if not any(_within(n, package) for package in allowed))
    assert not strangers, f"{module} (room {room}) imports {strangers}"


def test_no_circles_among_modules() -> None:
    names = {_name(path): path for path in _modules()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        wanted = _imports(ast.parse(path.read_text()), at_load_only=True)
        ours = {w.removeprefix("duologue.") for w in wanted if w.startswith("duologue.")}
        graph[name] = {
            other for w in ours for other in (w, w.rpartition(".")[0]) if other in names
        } - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert done == set(names)


def test_heavy_wheels_are_imported_only_in_files_named_after_them() -> None:
    """Loading the house must not load torch: a wheel is imported in its own sibling file."""
    doors = {"runtime.synthesizer", "runtime.engine", "runtime.backbone.registry"}
    doors |= {"runtime.codec.registry", "runtime.codec.window", "cli.main", "client.contract"}
    for path in _modules():
        if _name(path) in doors:
            wanted = _imports(ast.parse(path.read_text()), at_load_only=True)
            heavy = {name.partition(".")[0] for name in wanted} & HEAVY
            assert not heavy, f"{_name(path)} loads {sorted(heavy)}"


def test_models_of_the_repository_are_mailboxes() -> None:
    mailboxes = sorted((ROOT / "model_repository").glob("*/*/model.py"))
    assert len(mailboxes) >= 5
    for path in mailboxes:
        assert len(path.read_text().splitlines()) <= 40, f"{path} is no mailbox any more"
