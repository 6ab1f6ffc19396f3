"""One engine a module, each with `month(question) -> rows`."""
