"""`python -m busctl`."""

from busctl.cli.main import main

if __name__ == "__main__":
    main()
