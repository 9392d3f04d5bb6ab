"""The command as a module: ``python -m trunkline``."""

from trunkline.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
