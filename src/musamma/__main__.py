"""Run the command: ``python -m musamma``, also under torchrun and accelerate."""

from musamma.cli.main import main

if __name__ == "__main__":
    main()
