"""Whole archives: shards of pictures in, Parquet of faces out."""
