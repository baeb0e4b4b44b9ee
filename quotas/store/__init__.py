"""The only SQL: tables, transactions, and one module per noun that reads and writes it."""
