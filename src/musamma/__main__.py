"""``python -m musamma``: the command, also for torchrun and accelerate."""

from musamma.cli.main import main

if __name__ == "__main__":
    main()
