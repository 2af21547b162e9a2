"""Redis or Valkey: keys, the ledger, usage. Everything here may raise StoreUnavailable."""
