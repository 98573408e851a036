"""`python -m tests.bench`: measures, and prints one table. Needs ffmpeg and age (`make bench` sees to them)."""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench import machine, rounds, stream, table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several; the figures mean little")
    parser.add_argument("--json", action="store_true", help="everything that was measured, as JSON")
    parser.add_argument("--clip", type=Path, metavar="FILE", help="an MP4 file with H.264 without B frames, and AAC")
    parser.add_argument("--rounds", type=int, help="how often everything takes its turn")
    parser.add_argument("--folder", type=Path, default=rounds.ROOT / "build", help="on the storage to be measured")
    return parser.parse_args()


def main() -> int:
    options = _options()
    missing = [tool for tool in ("ffmpeg", "age", "age-keygen") if shutil.which(tool) is None]
    if missing:
        print(f"expected {', '.join(missing)} to be installed: run `make bench`", file=sys.stderr)
        return 2
    amount = rounds.QUICK if options.quick else rounds.Amount()
    if options.rounds is not None:
        amount = replace(amount, rounds=options.rounds)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        folder = Path(name)
        clip, origin = stream.choose(options.clip)
        described = stream.describe(clip, amount.seconds)
        sealed_on = machine.file_system(folder)
        figures = rounds.run_all(clip, described, folder, amount, lambda what: print(what, file=sys.stderr, flush=True))
    if options.json:
        print(json.dumps({"machine": machine.describe(), "stream": asdict(described), **asdict(figures)}, indent=1))
    else:
        print(table.report(figures, described, amount, origin, sealed_on))
    return 0


if __name__ == "__main__":
    sys.exit(main())
