"""Reports: what people read.

Owns the columns of every report (`schemas/reports.toml`), one `.sql` file each, and the formats. Does not own a
figure: it only reads, takes no lock, and can be asked during any run.
"""
