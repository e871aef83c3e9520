"""From the journal of one gate to closed books: uplink, ingest, ledger, publishing, reconciliation."""
