"""`python -m dbsn` is the `dbsn` command."""

from dbsn.cli import main

if __name__ == "__main__":
    main()
