"""Ledgers as earlier versions of the schema had them."""

from sqlalchemy import Connection


def forget_settlements(connection: Connection) -> None:
    """Make the tables what they were before settlements: schema 9."""
    for table in ("settlement", "completion", "edition"):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    for trigger in ("delete", "replace", "update"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS posting_no_{trigger}")
    connection.exec_driver_sql("DROP INDEX posting_by_settlement")
    connection.exec_driver_sql(
        "CREATE TABLE old (id INTEGER NOT NULL PRIMARY KEY, device VARCHAR(64), epoch BIGINT, seq BIGINT, "
        "sale BIGINT REFERENCES sale (id), account VARCHAR(32) NOT NULL, product_id BIGINT, unit VARCHAR(8) NOT NULL, "
        "amount BIGINT NOT NULL, FOREIGN KEY (device, epoch, seq) REFERENCES tap (device, epoch, seq), "
        "CHECK ((sale IS NULL) <> (device IS NULL)), CHECK (amount <> 0))"
    )
    names = "id, device, epoch, seq, sale, account, product_id, unit, amount"
    connection.exec_driver_sql(f"INSERT INTO old SELECT {names} FROM posting")
    connection.exec_driver_sql("DROP TABLE posting")
    connection.exec_driver_sql("ALTER TABLE old RENAME TO posting")
    connection.exec_driver_sql("CREATE INDEX posting_by_tap ON posting (device, epoch, seq)")
    connection.exec_driver_sql("CREATE INDEX posting_by_sale ON posting (sale)")
    connection.exec_driver_sql(
        "CREATE TRIGGER posting_no_update BEFORE UPDATE ON posting BEGIN SELECT RAISE(ABORT, 'append-only'); END"
    )
