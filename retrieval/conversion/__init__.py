"""Files of many kinds to text with structure. Converters run in processes of their own (pool.py)."""
