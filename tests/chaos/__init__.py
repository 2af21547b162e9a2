"""The ledger's promises under faults: real workers, a real store, a provider that keeps books."""
