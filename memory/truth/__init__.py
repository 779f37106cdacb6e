"""Sessions and turns in SQL, and what everything that lies beside them stands on."""
