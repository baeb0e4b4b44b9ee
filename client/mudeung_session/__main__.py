"""``python -m mudeung_session``: the command ``mudeung-session``."""

import sys

from mudeung_session.command import main

sys.exit(main())
