"""`python -m l7fp`."""

from l7fp.cli import main

if __name__ == "__main__":
    main()
