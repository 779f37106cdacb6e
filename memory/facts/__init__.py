"""Facts: their truth in SQL, their time line, and how they are found in turns."""
