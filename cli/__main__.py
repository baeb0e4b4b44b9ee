"""``python -m cli``: the same as `mudeung`, where no script is installed."""

from cli.main import app

app(prog_name="mudeung")
