"""What functions a file declares, learnt from its syntax tree: tenant code is never run on the host."""

import ast
from pathlib import Path
from typing import Any, NamedTuple

from kasoku.sdk.app import function_name
from kasoku.sdk.errors import DeclarationError, OptionError
from kasoku.sdk.options import FunctionOptions, check_name, parse_options


class Declared(NamedTuple):
    """One function of a file."""

    name: str
    handler: str
    """`module.function`, as the runner imports it."""
    options: FunctionOptions
    line: int


def read_declarations(path: Path) -> list[Declared]:
    """The functions that `path` declares with `@app.function`. Raises DeclarationError (file, line, reason)."""
    return _Reader(path).read()


def parse_file(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises DeclarationError for one that cannot be read or is not Python."""
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise DeclarationError(path.name, error.lineno, f"not valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise DeclarationError(path.name, None, f"not valid Python: {error}") from None
    except OSError as error:
        raise DeclarationError(str(path), None, error.strerror or str(error)) from None


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: set[str] = set()
        self.app_classes: set[str] = set()
        self.apps: dict[str, str] = {}
        self.constants: dict[str, ast.expr] = {}

    def fail(self, node: ast.AST, reason: str) -> DeclarationError:
        return DeclarationError(self.path.name, getattr(node, "lineno", None), reason)

    def read(self) -> list[Declared]:
        found: list[Declared] = []
        for statement in parse_file(self.path).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._note_import(statement)
            elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                self._note_assignment(statement, statement.value)
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                found.extend(self._note_function(statement))
        seen: set[str] = set()
        for declared in found:
            if declared.name in seen:
                raise DeclarationError(self.path.name, declared.line, f"function {declared.name!r} is declared twice")
            seen.add(declared.name)
        return found

    def _note_import(self, statement: ast.Import | ast.ImportFrom) -> None:
        if isinstance(statement, ast.Import):
            self.modules |= {a.asname or a.name for a in statement.names if a.name == "kasoku"}
        elif statement.module in ("kasoku", "kasoku.sdk.app"):
            self.app_classes |= {a.asname or a.name for a in statement.names if a.name == "App"}

    def _note_assignment(self, statement: ast.Assign | ast.AnnAssign, value: ast.expr) -> None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            if not isinstance(target, ast.Name):
                continue
            # A name that is assigned again is no constant: its value at the decorator would be a guess.
            self.constants[target.id] = value if target.id not in self.constants else target
            if isinstance(value, ast.Call) and self._is_app_class(value.func):
                self.apps[target.id] = self._app_name(value)

    def _is_app_class(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self.app_classes
        return (
            isinstance(node, ast.Attribute)
            and node.attr == "App"
            and isinstance(node.value, ast.Name)
            and node.value.id in self.modules
        )

    def _app_name(self, call: ast.Call) -> str:
        named = [k.value for k in call.keywords if k.arg == "name"]
        given = [*call.args, *named]
        if len(given) != 1 or len(call.keywords) != len(named):
            raise self.fail(call, "kasoku.App takes one argument, its name")
        name = self._literal(given[0], "the app's name")
        try:
            return check_name(name)
        except OptionError as error:
            raise self.fail(call, f"app {error}") from None

    def _note_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[Declared]:
        found: list[Declared] = []
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            target = call.func if call else decorator
            if not (isinstance(target, ast.Attribute) and target.attr == "function"):
                continue
            if not (isinstance(target.value, ast.Name) and target.value.id in self.apps):
                continue
            self._check_parameters(node)
            found.append(self._declare(node, self.apps[target.value.id], call))
        return found

    def _declare(self, node: ast.FunctionDef | ast.AsyncFunctionDef, app: str, call: ast.Call | None) -> Declared:
        options: dict[str, Any] = {}
        if call and call.args:
            raise self.fail(call, "options of @app.function are given by name")
        for keyword in call.keywords if call else ():
            if keyword.arg is None:
                raise self.fail(keyword.value, "options of @app.function cannot be given with **: write them out")
            options[keyword.arg] = self._literal(keyword.value, f"option {keyword.arg!r}")
        try:
            name = check_name(options.pop("name", None) or function_name(app, node.name))
            return Declared(name, f"{self.path.stem}.{node.name}", parse_options(options), node.lineno)
        except OptionError as error:
            raise self.fail(call or node, str(error)) from None

    def _check_parameters(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = node.args
        plain = [a.arg for a in arguments.posonlyargs + arguments.args]
        if arguments.vararg or (arguments.posonlyargs and plain != ["event", "context"]):
            raise self.fail(
                node, f"{node.name}: arguments arrive by name, so *args and positional-only ones cannot be used"
            )

    def _literal(self, node: ast.expr, what: str) -> Any:
        value = node
        if isinstance(value, ast.Name) and value.id in self.constants:
            value = self.constants[value.id]
        try:
            return ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise self.fail(
                node,
                f"{what} is not a literal: deploy reads the file without running it, so write a value "
                "or the name of a module-level literal that is assigned once",
            ) from None
