"""Documents: invoices and credit notes as people get them, in JSON, HTML and PDF.

Owns what stands on a document and how it looks. Does not own a figure: it reads the ledger, the close's files and
the events that the close counted. Always holds: the three formats are made from one structure; the same document
made again is the same to the byte, as long as nothing happened to it; no text of a customer is ever markup.
"""
