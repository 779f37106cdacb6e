"""What is derived from the truth to be searched: a dense and a lexical index a collection, kept caught up."""
