"""No control character from outside reaches the terminal, by any way that a command has to it."""

import ast
import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import sync_pipeline
from sync_pipeline import logs, terminal
from sync_pipeline.cli.tables import fields, table

ATTACK = "Ad\x1b]0;title\x07\x1b[2J\u202egnp\x9b1m\r\x7f"
SHOWN = "Ad]0;title[2Jgnp1m"
# They write to the terminal for the rest; the sandbox's line is read by the command that starts it.
WRITERS = {"terminal.py", "logs.py", "sandbox/__main__.py", "webserver/roles_table.py"}


def test_say_drops_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(f"{ATTACK}\nsecond\tline")
    terminal.say(ATTACK, err=True)
    assert capsys.readouterr() == (f"{SHOWN}\nsecond\tline\n", f"{SHOWN}\n")


def test_a_line_beside_a_progress_bar_is_no_markup() -> None:
    written = io.StringIO()
    terminal.say_beside_progress(Console(file=written, force_terminal=True), f"[link=http://evil.test]{ATTACK}[/link]")
    assert written.getvalue() == f"[link=http://evil.test]{SHOWN}[/link]\n"


def test_a_cell_of_a_table_is_one_line() -> None:
    assert table(("NAME", "N"), [(f"a\n{ATTACK}", "1")]).splitlines()[1] == "a Ad ]0;title [2Jgnp 1m  1"
    assert fields({"name": "a\nb\x1b"}) == "name  a b"


def test_a_problem_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.tell(f"{ATTACK}\nerror: forged", logging.WARNING)
    assert capsys.readouterr().err == "warning: Ad ]0;title [2Jgnp 1m error: forged\n"


def test_log_lines_and_tracebacks_lose_control_characters() -> None:
    program = f"""
import logging
from sync_pipeline import logs
attack = {ATTACK!r}
early = logging.getLogger("dagster"); early.addHandler(logging.StreamHandler())
logs.configure(); logs.configure()
early.error("early %s", attack)
logging.getLogger("nobody").error("nobody %s", attack)
import dagster as dg
@dg.op
def speak(context):
    context.log.warning(attack)
    try: raise ValueError(attack)
    except ValueError: logging.getLogger("dagster").exception("caught")
@dg.job
def talk(): speak()
talk.execute_in_process()
raise RuntimeError(attack)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for line in (f"early {SHOWN}", f"nobody {SHOWN}", f"ValueError: {SHOWN}", f"RuntimeError: {SHOWN}"):
        assert line in done.stderr
    assert f"speak - {SHOWN}" in done.stderr
    for character in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\x9b", "\r", "\x7f"):
        assert character not in done.stderr


def test_everything_is_written_in_one_place() -> None:
    package = Path(sync_pipeline.__file__).parent
    found = []
    for file in package.rglob("*.py"):
        if file.relative_to(package).as_posix() in WRITERS:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in {"print", "click.echo", "click.secho", "click.prompt", "click.confirm"} or name.endswith(
                    ("stdout.write", "stderr.write", "console.print")
                ):
                    found.append(f"{file.name}:{node.lineno}: {name}")
    assert found == []
